//! Nets on two devices: the split, as the runtime takes it.

use super::launch;
use crate::compile::opencl::{Device as Target, OpenClNet};
use crate::compile::{CompileError, identifier};
use crate::session::runs;
use crate::split::{Part, Split};
use alexc_codegen::opencl::{self as source, prelude};
use alexc_runtime::cpu::Arch;
use alexc_runtime::memory::Buffer;
use alexc_runtime::opencl::{Net, PairNet, PairPart, PairSession, PairTransfer};
use alexc_runtime::program::{KernelCode, Program};
use alexc_runtime::weights::Weights;
use std::io;

/// A compiled net and its split as the runtime takes them; `whole` is the net on one device, and
/// `fma` says which of the devices have an instruction for fused multiply-add.
pub fn pair_net(
    compiled: &OpenClNet,
    whole: &Net,
    split: &Split,
    fma: [bool; 2],
) -> Result<PairNet, CompileError> {
    let of = |index: usize| {
        let printing = Target { fma: fma[index], ..compiled.device }.printing();
        part(&printing, &whole.program, &split.parts[index])
    };
    let transfers = split.transfers.iter().map(|transfer| PairTransfer {
        from: transfer.from,
        after: transfer.after,
        before: transfer.before,
        replaced: transfer.replaced,
        rects: transfer.rects.clone(),
    });
    Ok(PairNet {
        program: whole.program.clone(),
        parts: [of(0)?, of(1)?],
        transfers: transfers.collect(),
    })
}

fn part(
    printing: &source::Options,
    whole: &Program,
    part: &Part,
) -> Result<PairPart, CompileError> {
    let sources: Vec<source::Source> = part
        .kernels
        .iter()
        .map(|kernel| source::emit(kernel, printing))
        .collect::<Result<_, _>>()?;
    let prelude = prelude(&sources);
    let mut kernels = Vec::with_capacity(sources.len());
    let mut launches = Vec::with_capacity(sources.len());
    for (kernel, source) in part.kernels.iter().zip(sources) {
        launches.push(launch(&source, |buffer| kernel.buffers[buffer].dtype.bytes()));
        let bytes = source.text.into_bytes();
        kernels.push(KernelCode { name: kernel.name.clone(), bytes, align: 1 });
    }
    let program = Program {
        name: identifier(&whole.name),
        arch: Arch::OpenCl,
        features: Vec::new(),
        kernels,
        steps: part.steps.clone(),
        weights_bytes: part.weights_bytes,
        ..whole.clone()
    };
    Ok(PairPart {
        net: Net { program, prelude, launches, most_registers: None },
        numbers: part.numbers.clone(),
        stores: part.stores.iter().map(|stores| stores.list().to_vec()).collect(),
    })
}

/// The packed weights that one device needs.
pub fn part_weights(part: &Part, packed: &Weights) -> io::Result<Weights> {
    let mut buffer = Buffer::zeroed(part.weights_bytes)?;
    let (from, to) = (packed.as_bytes(), buffer.as_mut_bytes());
    for (bytes, at) in &part.weights {
        to[*at..*at + bytes.len()].copy_from_slice(&from[bytes.clone()]);
    }
    Ok(buffer.into())
}

runs!(PairSession, program());
