//! Diagnostics for scripts. Keys are stable; places count from 1, columns in characters.

use super::{Diagnostic, Diagnostics, Label};
use serde_json::{Value, json};

impl Diagnostics {
    /// `{"errors": [...], "omitted": n}`; each error has `severity`, `message`, `file`, `line`,
    /// `column`, `end_line`, `end_column`, `labels`, `notes` and `help`.
    pub fn to_json(&self) -> Value {
        let errors: Vec<Value> = self.items.iter().map(|item| self.item(item)).collect();
        json!({ "errors": errors, "omitted": self.omitted })
    }

    fn item(&self, item: &Diagnostic) -> Value {
        let mut object = json!({ "severity": item.severity.word(), "message": item.message });
        match &item.place {
            Some(place) => merge(&mut object, self.place(place)),
            None => merge(&mut object, json!({ "file": item.file, "line": null, "column": null })),
        }
        let others: Vec<Value> = item.others.iter().map(|label| self.place(label)).collect();
        let rest = json!({ "labels": others, "notes": item.notes, "help": item.helps });
        merge(&mut object, rest);
        object
    }

    fn place(&self, label: &Label) -> Value {
        let Some(source) = self.sources.get(label.span) else {
            return json!({ "file": null, "line": null, "column": null });
        };
        let start = source.position(label.span.start);
        let end = source.position(label.span.end);
        json!({
            "file": source.name(),
            "line": start.line,
            "column": start.column,
            "end_line": end.line,
            "end_column": end.column,
            "text": label.text,
        })
    }
}

fn merge(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}
