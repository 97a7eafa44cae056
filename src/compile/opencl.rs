//! A net as OpenCL C: the same graph, prepared for a device that is described in a few numbers.

use super::{CompileError, Options, Prepared, Shape, prepare, told};
use crate::algorithm::Math;
use crate::graph::Graph;
use crate::lower::Vectors;
use crate::lower::gpu::Parameters;
use alexc_codegen::ir::Mma;
use alexc_codegen::opencl::{self, MultiplyAdd, Source, Warps};
use std::fmt;
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
    /// Floats that fit its registers: OpenCL's `NATIVE_VECTOR_WIDTH_FLOAT`.
    pub vector_width: usize,
    /// It has an instruction for fused multiply-add: `FP_FMA` among its capabilities.
    pub fma: bool,
    /// How a GPU's kernels are shaped.
    pub parameters: Parameters,
    /// How its warps multiply matrices, if they can. Unused but for [`Math::Tf32`] and
    /// [`Math::F16`].
    pub warps: Option<Warps>,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.schedule {
            Schedule::Cpu => write!(f, "OpenCL C, {} floats a vector", self.vectors().lanes),
            Schedule::Gpu => {
                f.write_str("OpenCL C, work-groups")?;
                match self.parameters.mma {
                    None => Ok(()),
                    Some(Mma::Tf32) => f.write_str(", tensor cores in tf32"),
                    Some(Mma::F16) => f.write_str(", tensor cores in f16"),
                }
            }
        }
    }
}

impl Device {
    /// A CPU with 256-bit vectors, which `dump` shows source for.
    pub const CPU: Device = Device {
        schedule: Schedule::Cpu,
        vector_width: 8,
        fma: true,
        parameters: Parameters::LARGE,
        warps: None,
    };

    /// A large GPU with tensor cores.
    pub const GPU: Device =
        Device { schedule: Schedule::Gpu, vector_width: 1, warps: Some(Warps::Ptx), ..Device::CPU };

    /// How products are multiplied by tensor cores, where `math` asks for that and the device can.
    pub fn mma(self, math: Math) -> Option<Mma> {
        let kind = match math {
            Math::Strict | Math::Fast => None,
            Math::Tf32 => Some(Mma::Tf32),
            Math::F16 => Some(Mma::F16),
        };
        kind.filter(|_| self.schedule == Schedule::Gpu && self.warps.is_some())
    }

    /// Other shapes of kernels that may be faster on the same device, with names; itself first.
    pub fn candidates(self) -> Vec<(String, Device)> {
        match self.schedule {
            Schedule::Cpu => {
                let narrower = [16, 8, 4].into_iter().filter(|&width| width < self.vector_width);
                let narrower = narrower.map(|vector_width| Device { vector_width, ..self });
                let all = [self].into_iter().chain(narrower);
                all.map(|d| (format!("vectors of {}", d.vectors().lanes), d)).collect()
            }
            Schedule::Gpu => {
                let all = self.parameters.candidates().into_iter();
                all.map(|(name, parameters)| (name, Device { parameters, ..self })).collect()
            }
        }
    }

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
        let work_group = match self.schedule {
            Schedule::Cpu => options.work_group,
            Schedule::Gpu => self.parameters.single_items,
        };
        let warps = self.warps.unwrap_or(options.warps);
        opencl::Options { multiply_add, work_group, warps, ..options }
    }
}

/// A net as source.
#[derive(Debug)]
pub struct OpenClNet {
    /// The stages in front of the emitter: calls, places in memory, packed weights.
    pub net: Prepared,
    /// One for each of [`Prepared::kernels`].
    pub sources: Vec<Source>,
    /// The device, with what of it the kernels use.
    pub device: Device,
    /// How they round.
    pub math: Math,
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
    let mma = device.mma(options.math);
    let device = Device { parameters: Parameters { mma, ..device.parameters }, ..device };
    let math = match mma {
        None if options.math.wants_tensor_cores() => Math::Fast,
        _ => options.math,
    };
    let shape = match device.schedule {
        Schedule::Cpu => Shape::Vectors(device.vectors()),
        Schedule::Gpu => Shape::Groups(device.parameters),
    };
    let mut net = prepare(graph, &Options { math, ..options.clone() }, shape)?;
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
    Ok(OpenClNet { net, sources, device, math })
}
