//! Reads typed values out of a mapping; every complaint names the key, what it should be, what it
//! is and how to write it.

use super::Located;
use super::yaml::{Content, Entry, Node, shortened};
use crate::diagnostic::{Diagnostic, Diagnostics, Span, did_you_mean, listed};
use std::collections::HashMap;

/// A mapping of which duplicates and keys that are no words have been refused.
pub(super) struct Table<'a> {
    /// `layer `conv1``, `the spec`.
    pub(super) what: &'a str,
    entries: Vec<(&'a str, &'a Entry)>,
    span: Span,
    /// Keys that unknown ones were probably meant to be: nobody misses them twice.
    meant: Vec<String>,
}

impl<'a> Table<'a> {
    pub(super) fn new(
        node: &'a Node,
        what: &'a str,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let Content::Map(map) = &node.content else {
            diagnostics.push(
                Diagnostic::error(format!(
                    "{what} is a mapping of keys to values, not {}",
                    node.kind()
                ))
                .at(node.span, ""),
            );
            return None;
        };
        let mut entries: Vec<(&str, &Entry)> = Vec::new();
        let mut first: HashMap<&str, Span> = HashMap::new();
        for entry in map {
            let Some(key) = entry.key.text() else {
                diagnostics.push(
                    Diagnostic::error(format!("{what}: a key is a word, not {}", entry.key.kind()))
                        .at(entry.key.span, ""),
                );
                continue;
            };
            if let Some(&first) = first.get(key) {
                diagnostics.push(
                    Diagnostic::error(format!("{what}: `{}` is given twice", shortened(key)))
                        .at(entry.key.span, "again here")
                        .also(first, "first here")
                        .help("keep one of them"),
                );
                continue;
            }
            first.insert(key, entry.key.span);
            entries.push((key, entry));
        }
        Some(Table { what, entries, span: node.span, meant: Vec::new() })
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, entry)| &entry.value)
    }

    /// All keys and where their values stand.
    pub(super) fn places(&self) -> Vec<(String, Span)> {
        self.entries.iter().map(|(key, entry)| ((*key).to_owned(), entry.value.span)).collect()
    }

    pub(super) fn field<'b>(&'b self, key: &'b str) -> Field<'b> {
        Field { what: self.what, key }
    }

    /// The value of a key that must be there.
    pub(super) fn required(&self, key: &str, diagnostics: &mut Diagnostics) -> Option<&'a Node> {
        let found = self.get(key);
        if found.is_none() {
            self.miss(self.missing(key), key, diagnostics);
        }
        found
    }

    /// Tells that a key is missing, unless an unknown one was taken for it.
    pub(super) fn miss(&self, missing: Diagnostic, key: &str, diagnostics: &mut Diagnostics) {
        if !self.meant.iter().any(|meant| meant == key) {
            diagnostics.push(missing);
        }
    }

    pub(super) fn missing(&self, key: &str) -> Diagnostic {
        // The caret points at the mapping's beginning, not at all of it.
        let end = self.entries.first().map_or(self.span.end, |(_, entry)| entry.key.span.end);
        let span = Span { end: end.max(self.span.start), ..self.span };
        Diagnostic::error(format!("{}: `{key}` is missing", self.what)).at(span, "")
    }

    /// Complains of every key that is not in `valid`; `synonyms` are names of other tools.
    pub(super) fn refuse_unknown(
        &mut self,
        valid: &[&str],
        synonyms: &[(&str, &str)],
        diagnostics: &mut Diagnostics,
    ) {
        for (key, entry) in &self.entries {
            if valid.contains(key) {
                continue;
            }
            let meant = synonyms
                .iter()
                .find(|(synonym, meant)| synonym == key && valid.contains(meant))
                .map(|(_, meant)| *meant)
                .or_else(|| did_you_mean(key, valid.iter().copied()));
            let mut diagnostic =
                Diagnostic::error(format!("{}: unknown key `{}`", self.what, shortened(key)))
                    .at(entry.key.span, "")
                    .note(match valid {
                        [only] => format!("the only key is `{only}`"),
                        _ => format!("the keys are {}", listed(valid.iter().copied())),
                    });
            if let Some(meant) = meant {
                diagnostic = diagnostic.help(format!("did you mean `{meant}`?"));
                self.meant.push(meant.to_owned());
            }
            if *key == "<<" {
                diagnostic = diagnostic.help("`<<` merges mappings: give it an alias of one");
            }
            diagnostics.push(diagnostic);
        }
    }
}

/// A key whose value is read.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) what: &'a str,
    pub(super) key: &'a str,
}

type Read<T> = Result<T, Diagnostic>;

impl Field<'_> {
    /// `node` should be `wanted`.
    pub(super) fn wrong(&self, node: &Node, wanted: &str) -> Diagnostic {
        let Field { what, key } = self;
        let message = match &node.content {
            Content::Null => format!("{what}: `{key}` has no value; it should be {wanted}"),
            _ => format!("{what}: `{key}` should be {wanted}, not {}", node.kind()),
        };
        Diagnostic::error(message).at(node.span, "")
    }

    /// A whole number in `least..=most`.
    pub(super) fn whole(&self, node: &Node, least: usize, most: usize) -> Read<usize> {
        let wanted = format!("a whole number of at least {least}");
        match &node.content {
            Content::Int(value) => match usize::try_from(*value) {
                Ok(value) if value > most => Err(self.too_large(node, most)),
                Ok(value) if value >= least => Ok(value),
                Err(_) if *value > 0 => Err(self.too_large(node, most)),
                _ => Err(self.wrong(node, &wanted)),
            },
            Content::Float(value) if value.fract() == 0.0 && *value >= 0.0 && *value <= 1e9 => {
                Err(self.wrong(node, &wanted).help(format!("write {value:.0}")))
            }
            Content::Float(value) if *value > 1e9 => Err(self.too_large(node, most)),
            Content::Text(text) if text.trim().parse::<usize>().is_ok() => {
                let number = text.trim().trim_start_matches('0');
                let number = if number.is_empty() { "0" } else { number };
                Err(self.wrong(node, &wanted).help(format!("write {number}, without quotes")))
            }
            _ => Err(self.wrong(node, &wanted)),
        }
    }

    fn too_large(&self, node: &Node, most: usize) -> Diagnostic {
        let Field { what, key } = self;
        Diagnostic::error(format!(
            "{what}: `{key}` is {}, but may be at most {most}",
            written(node)
        ))
        .at(node.span, "")
    }

    /// One whole number for both axes, or `[h, w]`.
    pub(super) fn pair(&self, node: &Node, least: usize, most: usize) -> Read<[usize; 2]> {
        match &node.content {
            Content::List(list) => match list.as_slice() {
                [h, w] => Ok([self.whole(h, least, most)?, self.whole(w, least, most)?]),
                _ => Err(self.wrong(node, "one number or [h, w]").note(count(list.len()))),
            },
            Content::Map(_) => Err(self.wrong(node, "one number or [h, w]")),
            _ => self.whole(node, least, most).map(|size| [size; 2]),
        }
    }

    /// A finite number that `accepts` holds for; `wanted` says which.
    pub(super) fn number(
        &self,
        node: &Node,
        wanted: &str,
        accepts: impl Fn(f64) -> bool,
    ) -> Read<f64> {
        let value = match &node.content {
            Content::Int(value) => *value as f64,
            Content::Float(value) => *value,
            Content::Text(text) if text.trim().parse::<f64>().is_ok() => {
                let help = format!("write {}, without quotes", text.trim());
                return Err(self.wrong(node, wanted).help(help));
            }
            _ => return Err(self.wrong(node, wanted)),
        };
        if value.is_finite() && accepts(value) { Ok(value) } else { Err(self.wrong(node, wanted)) }
    }

    pub(super) fn flag(&self, node: &Node) -> Read<bool> {
        let wanted = "true or false";
        match &node.content {
            Content::Bool(value) => Ok(*value),
            Content::Text(text) => {
                let error = self.wrong(node, wanted);
                Err(match text.to_lowercase().as_str() {
                    "yes" | "on" | "y" | "true" => error.help("write true"),
                    "no" | "off" | "n" | "false" => error.help("write false"),
                    _ => error,
                })
            }
            Content::Int(0) => Err(self.wrong(node, wanted).help("write false")),
            Content::Int(1) => Err(self.wrong(node, wanted).help("write true")),
            _ => Err(self.wrong(node, wanted)),
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&self, node: &Node) -> Read<Located<String>> {
        match &node.content {
            Content::Text(text) if text.trim().is_empty() => Err(self.wrong(node, "a text")),
            Content::Text(text) => Ok(Located { value: text.clone(), span: node.span }),
            Content::Int(_) | Content::Float(_) | Content::Bool(_) => {
                Err(self.wrong(node, "a text").help(format!("write \"{}\"", written(node))))
            }
            _ => Err(self.wrong(node, "a text")),
        }
    }

    /// A name: letters, digits, `_`, `-`, `.` and the characters of `more`; not beginning with `-`
    /// or `.`.
    pub(super) fn name(&self, node: &Node, more: &str) -> Read<Located<String>> {
        const LONGEST: usize = 200;
        let name = self.text(node)?;
        let valid = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c) || more.contains(c);
        if name.value.len() > LONGEST {
            let Field { what, key } = self;
            let message = format!("{what}: `{key}` is longer than {LONGEST} characters");
            return Err(Diagnostic::error(message).at(node.span, ""));
        }
        if !name.value.chars().all(valid) || name.value.starts_with(['-', '.']) {
            let characters: Vec<String> =
                "_-.".chars().chain(more.chars()).map(String::from).collect();
            return Err(self.wrong(node, "a name").note(format!(
                "a name has the letters a-z and A-Z, digits and {}, and does not begin with `-` \
                 or `.`",
                listed(characters.iter().map(String::as_str))
            )));
        }
        Ok(name)
    }

    /// A list of whole numbers of at least 1.
    pub(super) fn dims(&self, node: &Node, most: usize) -> Read<Vec<usize>> {
        match &node.content {
            Content::List(list) => list.iter().map(|dim| self.whole(dim, 1, most)).collect(),
            _ => Err(self.wrong(node, "a list of sizes, such as [3, 224, 224]")),
        }
    }
}

/// `it has 3 numbers`.
pub(super) fn count(items: usize) -> String {
    format!("it has {items} {}", if items == 1 { "number" } else { "numbers" })
}

/// A scalar as a message repeats it.
fn written(node: &Node) -> String {
    match &node.content {
        Content::Bool(value) => value.to_string(),
        Content::Int(value) => value.to_string(),
        Content::Float(value) => format!("{value:?}"),
        Content::Text(text) => shortened(text),
        Content::Null | Content::List(_) | Content::Map(_) => node.kind(),
    }
}
