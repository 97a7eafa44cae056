//! Nets on OpenCL devices: what the compiler must know of a device, and from source to a session.

mod pair;
mod store;
pub mod tune;

pub use pair::{pair_net, part_weights};
pub use store::Programs;

use crate::compile::identifier;
use crate::compile::opencl::{Device as Target, OpenClNet, Schedule};
use crate::lower::gpu::Parameters;
use crate::session::runs;
use alexc_codegen::opencl::{self as source, Source, Warps, prelude};
use alexc_runtime::cpu::Arch;
use alexc_runtime::opencl::{self, Arg, Device, DeviceKind, Launch, Net};
use alexc_runtime::program::{KernelCode, Program};

/// What the compiler makes source for on a device; whether it has tensor cores is asked by
/// [`with_tensor_cores`].
pub fn target(device: &Device) -> Target {
    let about = &device.about;
    Target {
        schedule: match about.kind {
            DeviceKind::Cpu => Schedule::Cpu,
            DeviceKind::Gpu | DeviceKind::Accelerator => Schedule::Gpu,
        },
        vector_width: usize::try_from(about.vector_width).unwrap_or(1),
        fma: about.fma,
        parameters: Parameters::of(&about.name, usize::try_from(about.units).unwrap_or(1)),
        warps: None,
    }
}

/// The target with the tensor cores that the device's driver takes kernels for.
pub fn with_tensor_cores(target: Target, device: &Device) -> Target {
    let wanted = target.schedule == Schedule::Gpu;
    let warps = (wanted && opencl::takes_ptx(device, &source::probe())).then_some(Warps::Ptx);
    Target { warps, ..target }
}

/// A compiled net as the runtime takes it.
pub fn net(compiled: &OpenClNet) -> Net {
    let prepared = &compiled.net;
    let kernels = prepared.kernels.iter().zip(&compiled.sources).map(|(kernel, source)| {
        KernelCode { name: kernel.name.clone(), bytes: source.text.clone().into_bytes(), align: 1 }
    });
    let program = Program {
        name: identifier(&prepared.fused.name),
        arch: Arch::OpenCl,
        features: Vec::new(),
        kernels: kernels.collect(),
        steps: prepared.steps.clone(),
        input_dims: prepared.dims(prepared.fused.input),
        output_dims: prepared.dims(prepared.fused.output),
        arena_bytes: prepared.plan.arena_bytes,
        weights_bytes: prepared.plan.weights_bytes,
        local_bytes: prepared.plan.local_bytes,
        weights_key: prepared.weights_key(),
    };
    let launches = prepared.kernels.iter().zip(&compiled.sources);
    let launches = launches
        .map(|(kernel, source)| launch(source, |buffer| kernel.buffers[buffer].dtype.bytes()));
    Net {
        program,
        prelude: prelude(&compiled.sources),
        launches: launches.collect(),
        most_registers: most_registers(compiled),
    }
}

/// Two groups of 256 work-items share the 65536 registers of NVIDIA's processors. Its compiler
/// gives one group a few more than half of them if it may.
fn most_registers(compiled: &OpenClNet) -> Option<u32> {
    let tensor_cores = compiled.sources.iter().any(|source| source.warps == Some(Warps::Ptx));
    tensor_cores.then_some(128)
}

/// How a kernel is started; `element_bytes` gives the size of an element of its buffers.
pub fn launch(source: &Source, element_bytes: impl Fn(usize) -> usize) -> Launch {
    let arg = |&arg: &source::Arg| match arg {
        source::Arg::Base(buffer) => Arg::Base(buffer),
        source::Arg::First(buffer) => Arg::First { buffer, element_bytes: element_bytes(buffer) },
        source::Arg::Scratch => Arg::Scratch,
    };
    Launch {
        function: source.kernel_name.clone(),
        args: source.args.iter().map(arg).collect(),
        global: source.global,
        local: source.local.unwrap_or([1; 3]),
        scratch_bytes: source.scratch_bytes,
    }
}

runs!(opencl::Session, program());
