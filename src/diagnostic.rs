//! Every message to the user that concerns input: what is wrong, where it stands in the file, the
//! arithmetic behind it and how to mend it. `render` draws them for people, `json` for scripts.
//!
//! Nothing here knows what a layer is.

mod json;
mod render;
mod source;

pub use source::{Source, Sources, Span};

use std::fmt;
use std::sync::Arc;

/// Diagnostics that are kept; a file with more is beyond reading them all.
const KEPT: usize = 1000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The input cannot be used.
    Error,
    /// The input can be used, but probably not as its author thinks.
    Warning,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// A place with a remark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The text that is meant.
    pub span: Span,
    /// The remark; may be empty.
    pub text: String,
}

/// One message. Built as `Diagnostic::error("...").at(span, "...").note("...").help("...")`.
/// Boxed, because it travels in results whose other side is small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic(Box<Parts>);

/// What a [`Diagnostic`] holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// The file, where the place in it is not known or it is no text.
    pub file: Option<String>,
    /// Where it is.
    pub place: Option<Label>,
    /// Other places that matter, such as the first of two equal names.
    pub others: Vec<Label>,
    /// Facts: the arithmetic, the valid keys.
    pub notes: Vec<String>,
    /// How to mend it.
    pub helps: Vec<String>,
}

impl std::ops::Deref for Diagnostic {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl std::ops::DerefMut for Diagnostic {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.0
    }
}

impl Diagnostic {
    /// An error.
    pub fn error(message: impl Into<String>) -> Self {
        Diagnostic(Box::new(Parts {
            severity: Severity::Error,
            message: message.into(),
            file: None,
            place: None,
            others: Vec::new(),
            notes: Vec::new(),
            helps: Vec::new(),
        }))
    }

    /// A warning.
    pub fn warning(message: impl Into<String>) -> Self {
        let mut diagnostic = Diagnostic::error(message);
        diagnostic.severity = Severity::Warning;
        diagnostic
    }

    /// The place, with a remark that is drawn beside the caret (may be empty).
    pub fn at(mut self, span: Span, remark: impl Into<String>) -> Self {
        self.place = Some(Label { span, text: remark.into() });
        self
    }

    /// The file, where no place in it can be shown.
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// One more place that matters.
    pub fn also(mut self, span: Span, remark: impl Into<String>) -> Self {
        self.others.push(Label { span, text: remark.into() });
        self
    }

    /// A fact, such as the arithmetic.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// How to mend it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.helps.push(help.into());
        self
    }
}

/// All messages of one run over one input, with the texts they point into.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    sources: Arc<Sources>,
    items: Vec<Diagnostic>,
    omitted: usize,
}

impl Diagnostics {
    /// None yet; spans point into `sources`.
    pub fn new(sources: Arc<Sources>) -> Self {
        Diagnostics { sources, items: Vec::new(), omitted: 0 }
    }

    /// The texts that the spans point into.
    pub fn sources(&self) -> &Arc<Sources> {
        &self.sources
    }

    /// Adds one. Of very many, only the first thousand are kept and the rest is counted.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.items.len() < KEPT {
            self.items.push(diagnostic);
        } else {
            self.omitted += 1;
        }
    }

    /// The messages; after [`Diagnostics::sort`] in the order of the file.
    pub fn items(&self) -> &[Diagnostic] {
        &self.items
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// True where one is an error.
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(|item| item.severity == Severity::Error)
    }

    /// Orders the messages as they stand in the file; those without a place come first.
    pub fn sort(&mut self) {
        self.items.sort_by_key(|item| item.place.as_ref().map(|place| place.span));
    }

    /// `Err` where there is an error, sorted.
    pub fn or<T>(mut self, value: T) -> Result<T, Diagnostics> {
        if self.has_errors() {
            self.sort();
            return Err(self);
        }
        Ok(value)
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        let mut diagnostics = Diagnostics::default();
        diagnostics.push(diagnostic);
        diagnostics
    }
}

/// Without colour.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&anstream::adapter::strip_str(&self.styled()).to_string())
    }
}

impl std::error::Error for Diagnostics {}

/// Why a file could not be read or written, in plain words.
pub fn io_reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::StorageFull => "no space left".to_owned(),
        _ => error.to_string(),
    }
}

/// The item of `known` that `word` was probably meant to be.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Long words are no misspelling of anything, and comparing them takes quadratic time.
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= 64)
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `a`, `b` and `c`: a list as a sentence has it, each item in backquotes.
pub fn listed<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = items.into_iter().map(|item| format!("`{item}`")).collect();
    match quoted.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [firsts @ .., last] => format!("{} and {last}", firsts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings() {
        let keys = ["kernel_size", "stride", "padding", "p"];
        assert_eq!(did_you_mean("kernelsize", keys), Some("kernel_size"));
        assert_eq!(did_you_mean("Stride", keys), Some("stride"));
        assert_eq!(did_you_mean("sterid", keys), Some("stride"));
        assert_eq!(did_you_mean("banana", keys), None);
        assert_eq!(did_you_mean(&"stride".repeat(1000), keys), None);
    }

    #[test]
    fn lists() {
        assert_eq!(listed([]), "none");
        assert_eq!(listed(["a"]), "`a`");
        assert_eq!(listed(["a", "b", "c"]), "`a`, `b` and `c`");
    }

    #[test]
    fn too_many_are_counted() {
        let mut all = Diagnostics::default();
        for index in 0..KEPT + 5 {
            all.push(Diagnostic::error(format!("number {index}")));
        }
        assert_eq!((all.items().len(), all.omitted), (KEPT, 5));
    }
}
