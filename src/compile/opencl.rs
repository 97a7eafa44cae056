//! A net as OpenCL C: the same graph, prepared for a device that is described in a few numbers.

use super::{CompileError, Options, Prepared, prepare, told};
use crate::graph::Graph;
use crate::lower::Vectors;
use alexc_codegen::opencl::{self, MultiplyAdd, Source};
use std::ops::Deref;
use std::time::Instant;

/// What kernels for a device look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// One work-item a register tile, vectors, no local memory.
    Cpu,
    /// Tiles in local memory, shared by work-groups.
    Gpu,
}

/// The device that source is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// Shape of the kernels.
    pub schedule: Schedule,
    /// Floats that it likes in a vector: OpenCL's `PREFERRED_VECTOR_WIDTH_FLOAT`.
    pub vector_width: usize,
    /// It has an instruction for fused multiply-add: `FP_FMA` among its capabilities.
    pub fma: bool,
}

impl Device {
    /// A CPU with 256-bit vectors, which `dump` shows source for.
    pub const CPU: Device = Device { schedule: Schedule::Cpu, vector_width: 8, fma: true };

    /// What lowerings tile for.
    pub fn vectors(self) -> Vectors {
        match self.vector_width {
            ..8 => Vectors::SSE,
            8..16 => Vectors { lanes: 8, registers: 16 },
            16.. => Vectors { lanes: 16, registers: 32 },
        }
    }

    /// How kernels are printed.
    pub fn printing(self) -> opencl::Options {
        let multiply_add = if self.fma { MultiplyAdd::Fused } else { MultiplyAdd::Any };
        let options = match self.schedule {
            Schedule::Cpu => opencl::Options::CPU,
            Schedule::Gpu => opencl::Options::GPU,
        };
        opencl::Options { multiply_add, ..options }
    }
}

/// A net as source.
#[derive(Debug)]
pub struct OpenClNet {
    /// The stages in front of the emitter: calls, places in memory, packed weights.
    pub net: Prepared,
    /// One for each of [`Prepared::kernels`].
    pub sources: Vec<Source>,
    /// The device.
    pub device: Device,
}

impl Deref for OpenClNet {
    type Target = Prepared;
    fn deref(&self) -> &Prepared {
        &self.net
    }
}

impl OpenClNet {
    /// The text of the whole program.
    pub fn program(&self) -> String {
        opencl::program(&self.sources)
    }
}

/// Compiles a checked graph to source; of `options` the target does not matter.
pub fn compile(
    graph: &Graph,
    options: &Options,
    device: Device,
) -> Result<OpenClNet, CompileError> {
    let mut net = prepare(graph, options, device.vectors())?;
    let start = Instant::now();
    let printing = device.printing();
    let sources: Vec<Source> = net
        .kernels
        .iter()
        .map(|kernel| opencl::emit(kernel, &printing))
        .collect::<Result<_, _>>()?;
    net.timings.emit = start.elapsed();
    let bytes: usize = sources.iter().map(|source| source.text.len()).sum();
    told("emit", net.timings.emit, format_args!("{bytes} bytes of OpenCL C"));
    Ok(OpenClNet { net, sources, device })
}
