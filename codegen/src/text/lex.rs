//! Words of the text form.

use super::ParseError;

/// A place in a text, both counted from 1; columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Position {
    pub(super) fn error(self, what: impl Into<String>) -> ParseError {
        ParseError { line: self.line, column: self.column, what: what.into() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// Letters, digits and underscores, not beginning with a digit.
    Word(&'a str),
    /// Begins with a digit; not checked further.
    Number(&'a str),
    /// One of `{ } [ ] ( ) : , = * + - < / %`.
    Sign(char),
    /// `..`
    Range,
    End,
}

impl Token<'_> {
    /// As a message quotes it.
    pub(super) fn quoted(&self) -> String {
        match self {
            Token::Word(text) | Token::Number(text) => format!("`{text}`"),
            Token::Sign(c) => format!("`{c}`"),
            Token::Range => "`..`".to_owned(),
            Token::End => "the end of the text".to_owned(),
        }
    }
}

/// Where the first character that `inside` refuses stands.
fn prefix(text: &str, inside: impl Fn(char) -> bool) -> usize {
    text.find(|c| !inside(c)).unwrap_or(text.len())
}

fn word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Length of the number at the beginning of `text`: `12`, `0x7f`, `1.5e-7`, but of `0..4` only
/// the `0`.
fn number_length(text: &str) -> usize {
    let mut length = prefix(text, word_char);
    let after = &text[length..];
    if after.starts_with('.') && after[1..].starts_with(|c: char| c.is_ascii_digit()) {
        length += 1 + prefix(&after[1..], word_char);
    }
    let exponent = text[..length].ends_with(['e', 'E']) && !text.starts_with("0x");
    if exponent && text[length..].starts_with(['+', '-']) {
        length += 1 + prefix(&text[length + 1..], word_char);
    }
    length
}

/// Splits a text into tokens; the last one is `End`.
pub(super) fn tokens(text: &str) -> Result<Vec<(Position, Token<'_>)>, ParseError> {
    let mut tokens = Vec::new();
    let mut line = 0;
    for content in text.lines() {
        line += 1;
        let mut column = 1;
        let mut rest = content;
        while let Some(first) = rest.chars().next() {
            let position = Position { line, column };
            let (length, token) = match first {
                ';' => break,
                c if c.is_whitespace() => (c.len_utf8(), None),
                c if c.is_ascii_digit() => {
                    let length = number_length(rest);
                    (length, Some(Token::Number(&rest[..length])))
                }
                c if word_char(c) => {
                    let length = prefix(rest, word_char);
                    (length, Some(Token::Word(&rest[..length])))
                }
                '.' if rest.starts_with("..") => (2, Some(Token::Range)),
                '{' | '}' | '[' | ']' | '(' | ')' | ':' | ',' | '=' | '*' | '+' | '-' | '<'
                | '/' | '%' => (1, Some(Token::Sign(first))),
                c => return Err(position.error(format!("{c:?} has no meaning here"))),
            };
            tokens.extend(token.map(|token| (position, token)));
            // All tokens are ASCII, and one space is one column.
            column += rest[..length].chars().count();
            rest = &rest[length..];
        }
    }
    tokens.push((Position { line: line + 1, column: 1 }, Token::End));
    Ok(tokens)
}
