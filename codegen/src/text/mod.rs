//! The text form of kernels: what `alexc dump --stage kernel` prints, and what `parse` reads back.
//!
//! ```text
//! kernel scale {
//!   buffer input: f32[64] read
//!   buffer output: f32[64] write
//!
//!   parallel row in 0..4 {
//!     for i in 0..2 {
//!       v0:f32x8 = load input[16*row + 8*i]
//!       v1:f32x8 = mul v0, v0
//!       store output[16*row + 8*i], v1
//!     }
//!   }
//! }
//! ```
//!
//! Kernels for groups of items say `items i in 0..256` behind the parallel space, `barrier`,
//! `let q = [p + 3] / 13` (or `%`, or the sum alone) and, behind an address, `if q < 13`.
//!
//! Loop variables are numbered in the order in which their loops open, registers by their names.
//! A register's type stands wherever it is written; registers never written are declared above
//! the body (`register v7:f32x8`). `;` begins a comment.

mod lex;
mod parse;
mod print;

pub use print::InstText;
pub(crate) use print::{LetText, NonzeroText};

use crate::ir::Kernel;
use crate::verify::Place;

/// A text that is not a kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {what}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub what: String,
}

/// A kernel and the lines of its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The kernel, not verified yet.
    pub kernel: Kernel,
    line: usize,
    buffer_lines: Vec<usize>,
    /// Of each register the line that types it first.
    register_lines: Vec<usize>,
    parallel_line: usize,
    /// In the order of [`Place::Statement`]'s numbers.
    statement_lines: Vec<usize>,
}

impl Parsed {
    /// The line, counted from 1, that a verifier's error is about.
    pub fn line(&self, place: &Place) -> usize {
        let line = match *place {
            Place::Kernel => None,
            Place::Buffer(index) => self.buffer_lines.get(index).copied(),
            Place::Register(index) => self.register_lines.get(index).copied(),
            Place::Parallel(_) => Some(self.parallel_line),
            Place::Statement { number, .. } => self.statement_lines.get(number).copied(),
        };
        line.unwrap_or(self.line)
    }
}

/// Reads a text of one kernel.
pub fn parse(text: &str) -> Result<Kernel, ParseError> {
    let mut kernels = parse_all(text)?;
    match (kernels.pop(), kernels.pop()) {
        (Some(parsed), None) => Ok(parsed.kernel),
        (None, _) => Err(ParseError { line: 1, column: 1, what: "no kernel".to_owned() }),
        (Some(second), Some(_)) => Err(ParseError {
            line: second.line,
            column: 1,
            what: "a second kernel where one is expected".to_owned(),
        }),
    }
}

/// Reads a text of any number of kernels, such as a dump of a whole net.
pub fn parse_all(text: &str) -> Result<Vec<Parsed>, ParseError> {
    parse::parse_all(text)
}
