//! alexc: a static-graph compiler for convolutional nets of AlexNet's family.
//!
//! A YAML layer spec goes through a graph whose every size is checked, into fused kernels that
//! run on the CPU or on OpenCL devices. See `docs/architecture.md` for the way of the data.
#![forbid(unsafe_code)]

pub mod algorithm;
pub mod arrays;
pub mod artifact;
pub mod build;
pub mod cli;
pub mod compile;
pub mod diagnostic;
pub mod embed;
pub mod graph;
pub mod input_file;
pub mod layout;
pub mod lower;
pub mod npy;
#[cfg(feature = "opencl")]
pub mod opencl;
pub mod output_file;
pub mod pass;
pub mod picture;
pub mod plan;
pub mod reference;
pub mod report;
pub mod session;
pub mod shape;
pub mod spec;
pub mod split;
pub mod tune;
pub mod weights;
pub mod winograd;
