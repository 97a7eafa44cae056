//! Nets on OpenCL devices. A program's kernels are OpenCL C here (`Arch::OpenCl`); everything else
//! about it is as for processors: steps over one arena, packed weights, checked before it is built.
//!
//! Needs libOpenCL where the cargo feature `opencl` is on; without it only the files of built
//! programs are known.

#[cfg(feature = "opencl")]
mod api;
#[cfg(feature = "opencl")]
mod build;
#[cfg(feature = "opencl")]
mod devices;
pub mod kept;
#[cfg(feature = "opencl")]
mod pair;
mod rect;
#[cfg(feature = "opencl")]
mod session;

pub use self::rect::Rect;

#[cfg(feature = "opencl")]
pub use self::{
    api::{CallError, Status},
    build::{Build, Store, takes_ptx},
    devices::{About, Device, DeviceError, DeviceKind, Driver, choose, drivers},
    pair::{PairNet, PairPart, PairSession, PairTransfer},
    session::{Arg, Launch, Net, RunError, Session, SetupError},
};
