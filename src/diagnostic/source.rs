//! Texts and places in them.

use std::ops::Range;

/// Bytes `start..end` of one of several texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Which text: index into [`Sources`].
    pub source: usize,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// A text with its name.
#[derive(Debug, Clone)]
pub struct Source {
    name: String,
    text: String,
    /// First byte of every line.
    lines: Vec<usize>,
}

/// The texts of a run: the spec, then each `--set`.
#[derive(Debug, Clone, Default)]
pub struct Sources(Vec<Source>);

/// Line and column as editors count them: from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Source {
    /// A text, kept without its byte order mark; `name` is a path, or what else the user knows it
    /// by.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let mut text = text.into();
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        let mut lines = vec![0];
        let bytes = text.as_bytes();
        for (index, byte) in bytes.iter().enumerate() {
            // A lone carriage return ends a line of YAML too.
            let ends = *byte == b'\n' || (*byte == b'\r' && bytes.get(index + 1) != Some(&b'\n'));
            if ends {
                lines.push(index + 1);
            }
        }
        Source { name: name.into(), text, lines }
    }

    /// What the user knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Index of the line that holds byte `offset`.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.lines.partition_point(|&start| start <= offset).saturating_sub(1)
    }

    /// Bytes of a line, without its end.
    pub(super) fn line(&self, index: usize) -> Range<usize> {
        let start = self.lines.get(index).copied().unwrap_or(self.text.len());
        let end = self.lines.get(index + 1).copied().unwrap_or(self.text.len());
        let text = self.text.get(start..end).unwrap_or_default();
        start..start + text.trim_end_matches(['\n', '\r']).len()
    }

    /// Line and column of byte `offset`.
    pub fn position(&self, offset: usize) -> Position {
        let line = self.line_of(offset);
        let start = self.lines.get(line).copied().unwrap_or(0);
        let before = self.text.get(start..self.floor(offset)).unwrap_or_default();
        Position { line: line + 1, column: before.chars().count() + 1 }
    }

    /// The nearest character boundary at or before `offset`.
    pub(super) fn floor(&self, offset: usize) -> usize {
        self.text.floor_char_boundary(offset)
    }
}

impl Sources {
    /// Adds a text and gives its index.
    pub fn add(&mut self, source: Source) -> usize {
        self.0.push(source);
        self.0.len() - 1
    }

    /// The text of a span.
    pub fn get(&self, span: Span) -> Option<&Source> {
        self.0.get(span.source)
    }

    /// What stands at the span.
    pub fn text(&self, span: Span) -> &str {
        self.get(span).and_then(|source| source.text.get(span.start..span.end)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_yaml_says() {
        let source = Source::new("f", "ab\r\ncé\rd\n");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.position(4), Position { line: 2, column: 1 });
        assert_eq!(source.position(7), Position { line: 2, column: 3 });
        assert_eq!(source.position(8), Position { line: 3, column: 1 });
        assert_eq!(source.position(999), Position { line: 4, column: 1 });
        // Inside a character, as a damaged offset might be.
        assert_eq!(source.position(6), Position { line: 2, column: 2 });
        assert_eq!(&source.text[source.line(0)], "ab");
        assert_eq!(&source.text[source.line(1)], "cé");
        assert_eq!(source.line(77), 10..10);
    }
}
