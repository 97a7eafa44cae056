//! alexc's runtime: loads a compiled net and runs it. All unsafe code of alexc lives here, each
//! block with the reason why it is sound.

#[cfg(feature = "ndarray")]
pub mod arrays;
pub mod caches;
pub mod check;
mod code;
mod codec;
pub mod container;
pub mod cpu;
mod float_env;
pub mod limits;
pub mod machine_memory;
pub mod mapped;
pub mod memory;
pub mod module;
pub mod network;
pub mod opencl;
pub mod parallel;
pub mod pool;
pub mod preprocess;
pub mod program;
pub mod session;
mod shares;
pub mod weights;
