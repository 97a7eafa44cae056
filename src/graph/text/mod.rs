//! The graph as text that a person can read and [`parse`] reads back.
//!
//! ```text
//! graph alexnet
//! input: 1x3x224x224
//!
//! conv1 -> pool1: 1x96x27x27 = conv(input)
//!   kernel 11x11, stride 4x4, padding [1, 1, 2, 2], out_channels 96
//!   weight features.0.weight [96, 3, 11, 11]
//!   bias features.0.bias [96]
//!   then relu
//!   then lrn(size 5, alpha 0.0001, beta 0.75, k 2.0, alpha_scaling sum)
//!   then max_pool(kernel 3x3, stride 2x2)
//!   from [conv1, relu1, norm1, pool1]
//!
//! output pool1
//! ```
//!
//! An item begins at the left margin, what belongs to it is indented. `conv1 -> pool1` is a node
//! and the value it makes; one name where both are called alike. Padding is top, left, bottom,
//! right. Left out are dilation 1, groups 1, padding 0, no ceil_mode, count_include_pad, and
//! `from` where the node's name alone is its source. Names with other characters than letters,
//! digits and `_ . - /` stand in quotes. `#` begins a comment.

mod lexer;
mod parse;
mod print;

pub use parse::{ParseError, parse};

#[cfg(test)]
mod tests;
