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
//! Loop variables are numbered in the order in which their loops open, registers by their names.
//! A register's type stands wherever it is written; registers never written are declared above
//! the body (`register v7:f32x8`). `;` begins a comment.

mod print;

pub use print::InstText;
