//! alexc's runtime: loads a compiled net and runs it. All unsafe code of alexc lives here, each
//! block with the reason why it is sound.

pub mod cpu;
pub mod mapped;
pub mod memory;
pub mod parallel;
pub mod program;
pub mod weights;
