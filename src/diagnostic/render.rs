//! Draws diagnostics for people: the message, the line of the file with a caret under the node,
//! the facts and the remedy.

use super::{Diagnostic, Diagnostics, Label, Severity, Source};
use anstyle::{AnsiColor, Style};
use std::fmt::Write as _;
use unicode_width::UnicodeWidthChar;

/// Messages that are drawn; the rest is counted.
const DRAWN: usize = 50;
/// Widest piece of a line that is drawn.
const WIDTH: usize = 110;
/// Characters of a cut line that are kept before the place.
const BEFORE: usize = 40;

const BOLD: Style = Style::new().bold();
const ERROR: Style = AnsiColor::BrightRed.on_default().bold();
const WARNING: Style = AnsiColor::BrightYellow.on_default().bold();
const FRAME: Style = AnsiColor::BrightBlue.on_default().bold();
const HELP: Style = AnsiColor::BrightGreen.on_default().bold();

/// A marker under a line of the file.
struct Mark<'a> {
    label: &'a Label,
    primary: bool,
}

impl Diagnostics {
    /// The drawing with ANSI styles; printing through `anstream` drops them where the reader is no
    /// terminal.
    pub fn styled(&self) -> String {
        let mut out = String::new();
        for (index, item) in self.items.iter().take(DRAWN).enumerate() {
            if index > 0 {
                out.push('\n');
            }
            self.draw(&mut out, item);
        }
        let rest = self.items.len().saturating_sub(DRAWN) + self.omitted;
        if rest > 0 {
            let noun = if rest == 1 { "message" } else { "messages" };
            let _ = writeln!(out, "\n{BOLD}and {rest} more {noun}{BOLD:#}");
        }
        out
    }

    fn draw(&self, out: &mut String, item: &Diagnostic) {
        let style = match item.severity {
            Severity::Error => ERROR,
            Severity::Warning => WARNING,
        };
        let word = item.severity.word();
        let message = printable(&item.message);
        let _ = writeln!(out, "{style}{word}{style:#}{BOLD}: {message}{BOLD:#}");
        let marks: Vec<Mark<'_>> = item
            .place
            .iter()
            .map(|label| Mark { label, primary: true })
            .chain(item.others.iter().map(|label| Mark { label, primary: false }))
            .collect();
        let widest = marks
            .iter()
            .filter_map(|mark| {
                let source = self.sources.get(mark.label.span)?;
                Some(source.line_of(mark.label.span.start) + 1)
            })
            .max()
            .unwrap_or(0);
        let gutter = if widest == 0 { 1 } else { widest.to_string().len() };
        self.draw_places(out, &marks, gutter);
        if let (None, Some(file)) = (&item.place, &item.file) {
            let _ = writeln!(out, "{:gutter$}{FRAME}-->{FRAME:#} {}", "", printable(file));
        }
        for (style, word, texts) in [(BOLD, "note", &item.notes), (HELP, "help", &item.helps)] {
            for text in texts {
                let head = format!("{:gutter$} {FRAME}={FRAME:#} {style}{word}{style:#}: ", "");
                // Further lines of a text are indented to stand under its first.
                let indent = format!("\n{:width$}", "", width = gutter + 5 + word.len());
                let text: Vec<String> = text.lines().map(printable).collect();
                let _ = writeln!(out, "{head}{}", text.join(&indent));
            }
        }
    }

    fn draw_places(&self, out: &mut String, marks: &[Mark<'_>], gutter: usize) {
        let mut order: Vec<&Mark<'_>> = marks.iter().collect();
        // The primary place opens the drawing, so that `-->` names it.
        order.sort_by_key(|mark| {
            let line = self.sources.get(mark.label.span).map(|s| s.line_of(mark.label.span.start));
            let first = marks.first().map(|first| first.label.span.source);
            (Some(mark.label.span.source) != first, mark.label.span.source, line, !mark.primary)
        });
        let mut last: Option<(usize, usize)> = None;
        if let Some(primary) = marks.first().filter(|mark| mark.primary)
            && let Some(source) = self.sources.get(primary.label.span)
        {
            header(out, source, primary.label, gutter, "-->");
            last = Some((primary.label.span.source, usize::MAX));
        }
        let mut index = 0;
        while let Some(mark) = order.get(index) {
            let span = mark.label.span;
            let Some(source) = self.sources.get(span) else {
                index += 1;
                continue;
            };
            let line = source.line_of(span.start);
            if last.is_none_or(|(drawn, _)| drawn != span.source) {
                header(out, source, mark.label, gutter, ":::");
            } else if last.is_some_and(|(_, before)| before < line && before + 1 != line) {
                let _ = writeln!(out, "{FRAME}...{FRAME:#}");
            }
            let same = order[index..]
                .iter()
                .take_while(|mark| {
                    let other = mark.label.span;
                    other.source == span.source && source.line_of(other.start) == line
                })
                .count();
            draw_line(out, source, line, &order[index..index + same], gutter);
            last = Some((span.source, line));
            index += same;
        }
    }
}

fn header(out: &mut String, source: &Source, label: &Label, gutter: usize, arrow: &str) {
    let position = source.position(label.span.start);
    let name = printable(source.name());
    let _ = writeln!(
        out,
        "{:gutter$}{FRAME}{arrow}{FRAME:#} {name}:{}:{}",
        "", position.line, position.column
    );
    let _ = writeln!(out, "{:gutter$} {FRAME}|{FRAME:#}", "");
}

/// The line and a row of carets for each mark.
fn draw_line(out: &mut String, source: &Source, line: usize, marks: &[&Mark<'_>], gutter: usize) {
    let range = source.line(line);
    let first = marks.iter().map(|mark| mark.label.span.start).min().unwrap_or(range.start);
    let excerpt = Excerpt::new(source.text(), range, source.floor(first));
    let text = format!(" {}", excerpt.text);
    let _ = writeln!(out, "{FRAME}{:>gutter$} |{FRAME:#}{}", line + 1, text.trim_end());
    for mark in marks {
        let style = if mark.primary { ERROR } else { FRAME };
        let sign = if mark.primary { "^" } else { "-" };
        let start = excerpt.column(mark.label.span.start);
        let end = excerpt.column(mark.label.span.end).max(start + 1);
        let carets = sign.repeat(end - start);
        let remark = printable(&mark.label.text);
        let space = if remark.is_empty() { "" } else { " " };
        let _ = writeln!(
            out,
            "{:gutter$} {FRAME}|{FRAME:#} {:start$}{style}{carets}{space}{remark}{style:#}",
            "", ""
        );
    }
}

/// A piece of a line as it is drawn.
struct Excerpt {
    text: String,
    /// Byte offset in the source and display column of every character, and of the end.
    columns: Vec<(usize, usize)>,
}

impl Excerpt {
    fn new(text: &str, line: std::ops::Range<usize>, place: usize) -> Self {
        let place = place.clamp(line.start, line.end);
        let before = text.get(line.start..place).unwrap_or_default();
        let whole = text.get(line.clone()).unwrap_or_default();
        let mut start = line.start;
        // Only lines that are too wide are cut, and only so much that the place is in view.
        let wide = whole.len() > WIDTH && whole.chars().count() > WIDTH;
        if wide && let Some((offset, _)) = before.char_indices().rev().nth(BEFORE - 1) {
            start = line.start + offset;
        }
        let mut excerpt = Excerpt { text: String::new(), columns: Vec::new() };
        let mut column = 0;
        if start > line.start {
            excerpt.text.push('…');
            column = 1;
        }
        let shown = text.get(start..line.end).unwrap_or_default();
        for (offset, character) in shown.char_indices() {
            if column >= WIDTH {
                excerpt.text.push('…');
                excerpt.columns.push((start + offset, column));
                return excerpt;
            }
            excerpt.columns.push((start + offset, column));
            let before = excerpt.text.len();
            push_printable(&mut excerpt.text, character);
            column += excerpt.text[before..].chars().filter_map(|c| c.width()).sum::<usize>();
        }
        excerpt.columns.push((line.end, column));
        excerpt
    }

    /// Display column of a byte of the source.
    fn column(&self, offset: usize) -> usize {
        let index = self.columns.partition_point(|&(start, _)| start < offset);
        let found = self.columns.get(index).or(self.columns.last());
        found.map_or(0, |&(_, column)| column)
    }
}

/// The text with nothing in it that would move the cursor or turn the direction of writing.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|character| push_printable(&mut out, character));
    out
}

fn push_printable(out: &mut String, character: char) {
    match character {
        '\t' => out.push_str("    "),
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            out.push('\u{fffd}');
        }
        c if c.is_control() || c == '\u{feff}' => out.push('\u{fffd}'),
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests;
