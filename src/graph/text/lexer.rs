//! Text to tokens with their places.

use super::ParseError;
use std::borrow::Cow;

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    /// From 1.
    pub(super) line: usize,
    /// From 1, in characters.
    pub(super) column: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind<'a> {
    /// Letters, digits and `_ . - / +` as they stand.
    Word(&'a str),
    /// A name in quotes.
    Quoted(String),
    /// One of `: = ( ) [ ] ,`.
    Mark(char),
    /// `->`.
    Arrow,
    /// End of the text.
    End,
}

impl Kind<'_> {
    /// How messages name it.
    pub(super) fn describe(&self) -> Cow<'static, str> {
        match self {
            Kind::Word(word) => format!("`{word}`").into(),
            Kind::Quoted(name) => format!("{name:?}").into(),
            Kind::Mark(mark) => format!("`{mark}`").into(),
            Kind::Arrow => "`->`".into(),
            Kind::End => "the end of the text".into(),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | '+')
}

/// True for names that need no quotes.
pub(super) fn is_bare(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_word)
}

/// All tokens, [`Kind::End`] last.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, ParseError> {
    let mut tokens = Vec::new();
    let (mut line, mut line_start) = (1, 0);
    let mut chars = text.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        let column = text[line_start..start].chars().count() + 1;
        let error = |what: &str| ParseError { line, column, what: what.to_owned() };
        let kind = match c {
            '\n' => {
                (line, line_start) = (line + 1, start + 1);
                continue;
            }
            c if c.is_whitespace() => continue,
            '#' => {
                while chars.next_if(|&(_, c)| c != '\n').is_some() {}
                continue;
            }
            ':' | '=' | '(' | ')' | '[' | ']' | ',' => Kind::Mark(c),
            '-' if chars.next_if(|&(_, c)| c == '>').is_some() => Kind::Arrow,
            '"' => {
                let mut name = String::new();
                loop {
                    let place = match chars.next() {
                        Some((_, '"')) => break,
                        Some((_, '\n')) | None => {
                            return Err(error("this quoted name does not end on its line"));
                        }
                        Some((_, '\\')) => chars.next(),
                        Some((_, c)) => {
                            name.push(c);
                            continue;
                        }
                    };
                    let escaped = match place {
                        Some((_, c @ ('"' | '\\'))) => Some(c),
                        Some((_, 'n')) => Some('\n'),
                        Some((_, 't')) => Some('\t'),
                        Some((at, 'u')) => {
                            let digits = text[at + 1..]
                                .strip_prefix('{')
                                .and_then(|rest| rest.split_once('}').map(|(digits, _)| digits));
                            let c = digits
                                .filter(|digits| digits.len() <= 6)
                                .and_then(|digits| u32::from_str_radix(digits, 16).ok())
                                .and_then(char::from_u32);
                            if c.is_some() {
                                while chars.next_if(|&(_, c)| c != '}').is_some() {}
                                chars.next();
                            }
                            c
                        }
                        _ => None,
                    };
                    name.push(escaped.ok_or_else(|| {
                        error("this name has an escape other than \\\" \\\\ \\n \\t \\u{..}")
                    })?);
                }
                Kind::Quoted(name)
            }
            c if is_word(c) => {
                let mut end = start + c.len_utf8();
                while let Some(&(at, c)) = chars.peek() {
                    if !is_word(c) || text[at..].starts_with("->") {
                        break;
                    }
                    end = at + c.len_utf8();
                    chars.next();
                }
                Kind::Word(&text[start..end])
            }
            c => return Err(error(&format!("unexpected character {c:?}"))),
        };
        tokens.push(Token { kind, line, column });
    }
    let column = text[line_start..].chars().count() + 1;
    tokens.push(Token { kind: Kind::End, line, column });
    Ok(tokens)
}
