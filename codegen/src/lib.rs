//! alexc's Kernel IR with its verifier, text form and interpreter, and the emitters that turn it
//! into machine code. See `ir` for what a kernel is.
#![forbid(unsafe_code)]

pub mod builder;
pub mod clif;
pub mod footprint;
pub mod interp;
pub mod ir;
pub mod mma;
pub mod object;
pub mod opencl;
pub mod part;
mod pieces;
pub mod stats;
mod streams;
pub mod target;
pub mod text;
pub mod verify;
pub mod x86;
