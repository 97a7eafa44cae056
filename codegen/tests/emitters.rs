//! Machine code of random kernels against the interpreter, bit for bit.
//!
//! Every emitter makes code for every kernel; where this machine's CPU cannot run it the code is
//! only made. With ALEXC_REQUIRE_CPU=x86-64-v4 (or another level) in the environment, a CPU that
//! cannot run code of that level is a failure.

mod common;

use alexc_codegen::interp::{Data, run};
use alexc_codegen::ir::{Access, DType, Kernel};
use alexc_codegen::target::Target;
use alexc_codegen::text::parse;
use alexc_codegen::verify::{Verified, verify};
use alexc_codegen::{clif, x86};
use alexc_runtime::cpu::{Arch, Cpu, Level};
use alexc_runtime::memory::Buffer;
use alexc_runtime::network::Network;
use alexc_runtime::program::{Base, Binding, KernelCode, Program, Step};
use alexc_runtime::session::Session;
use alexc_runtime::weights::Weights;
use proptest::prelude::*;
use std::sync::Arc;

/// A kernel that copies the first of its two buffers to the second.
fn copy(name: &str, len: usize) -> Verified {
    let text = format!(
        "kernel {name} {{
           buffer from: f32[{len}] read
           buffer to: f32[{len}] write
           parallel i in 0..{len} {{
             v0:f32 = load from[i]
             store to[i], v0
           }}
         }}"
    );
    verify(parse(&text).unwrap()).unwrap()
}

fn bytes_of(data: &Data) -> Vec<u8> {
    match data {
        Data::F32(v) => v.iter().flat_map(|v| v.to_ne_bytes()).collect(),
        Data::F16(v) | Data::Bf16(v) => v.iter().flat_map(|v| v.to_ne_bytes()).collect(),
        Data::I16(v) => v.iter().flat_map(|v| v.to_ne_bytes()).collect(),
        Data::I8(v) => v.iter().flat_map(|v| v.to_ne_bytes()).collect(),
    }
}

fn floats(data: &Data) -> &[f32] {
    match data {
        Data::F32(v) => v,
        _ => &[],
    }
}

/// A program of one kernel: what it reads lies in the weights; what it stores is copied from the
/// program's input to the arena, and at the end to the program's output.
struct Harness {
    program: Program,
    weights: Vec<u8>,
    input: Vec<f32>,
}

impl Harness {
    fn new(kernel: &Kernel, data: &[Data], emit: &dyn Fn(&Verified) -> KernelCode) -> Self {
        let mut weights = Vec::new();
        let mut input = Vec::new();
        let mut local_bytes = 0;
        let mut params = Vec::new();
        for (buffer, data) in kernel.buffers.iter().zip(data) {
            let len_bytes = buffer.len * buffer.dtype.bytes();
            let (base, offset_bytes) = match buffer.access {
                Access::Read => {
                    weights.resize(weights.len().next_multiple_of(64), 0);
                    (Base::Weights, weights.len())
                }
                Access::Write | Access::ReadWrite => (Base::Arena, 4 * input.len()),
                Access::Local | Access::Shared => (Base::Local, local_bytes),
            };
            match buffer.access {
                Access::Read => weights.extend(bytes_of(data)),
                Access::Write | Access::ReadWrite => input.extend(floats(data)),
                Access::Local | Access::Shared => local_bytes += len_bytes,
            }
            let writes = buffer.access != Access::Read;
            params.push(Binding { base, offset_bytes, len_bytes, writes });
        }
        let len = input.len();
        let whole = |base, writes| Binding { base, offset_bytes: 0, len_bytes: 4 * len, writes };
        let step = |name: &str, kernel, extent, params| Step {
            name: name.to_owned(),
            kernel,
            extent,
            barrier: true,
            params,
        };
        let verified = verify(kernel.clone()).unwrap();
        let kernels = [&copy("take", len), &verified, &copy("give", len)].map(emit);
        let program = Program {
            name: "test".to_owned(),
            arch: Arch::host().expect("a machine that alexc knows"),
            features: Vec::new(),
            kernels: kernels.to_vec(),
            steps: vec![
                step(
                    "take",
                    0,
                    len as u64,
                    vec![whole(Base::Input, false), whole(Base::Arena, true)],
                ),
                step("kernel", 1, kernel.extent(), params),
                step(
                    "give",
                    2,
                    len as u64,
                    vec![whole(Base::Arena, false), whole(Base::Output, true)],
                ),
            ],
            input_dims: vec![1, len],
            output_dims: vec![1, len],
            arena_bytes: 4 * len,
            weights_bytes: weights.len(),
            local_bytes,
            weights_key: 0,
        };
        Harness { program, weights, input }
    }

    fn run(self, threads: usize) -> Vec<f32> {
        let mut buffer = Buffer::zeroed(self.weights.len()).unwrap();
        buffer.as_mut_bytes().copy_from_slice(&self.weights);
        let network = Network::new(self.program, Weights::from(buffer)).unwrap();
        let mut session = Session::new(&Arc::new(network), threads).unwrap();
        let mut output = vec![0.0; self.input.len()];
        session.run(&self.input, &mut output).unwrap();
        output
    }
}

/// Bits, except that a NaN is a NaN: which one comes out of an operation is the CPU's choice.
fn bits(values: &[f32]) -> Vec<u32> {
    let of = |v: &f32| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() };
    values.iter().map(of).collect()
}

fn assert_agrees(
    mut kernel: Kernel,
    seed: u32,
    runs: bool,
    emit: &dyn Fn(&Verified) -> KernelCode,
) -> Result<(), TestCaseError> {
    common::define_scratch(&mut kernel);
    let data = common::data(&kernel, seed);
    let harness = Harness::new(&kernel, &data, emit);
    if !runs {
        return Ok(());
    }
    let mut expected = data;
    let verified = verify(kernel.clone()).unwrap();
    run(&verified, &mut expected, 0..kernel.extent()).unwrap();
    let stored = kernel.buffers.iter().zip(&expected).filter(|(buffer, _)| {
        matches!(buffer.access, Access::Write | Access::ReadWrite) && buffer.dtype == DType::F32
    });
    let expected: Vec<f32> = stored.flat_map(|(_, data)| floats(data).to_vec()).collect();
    let output = harness.run(1 + seed as usize % 3);
    prop_assert_eq!(bits(&output), bits(&expected), "{}", kernel);
    Ok(())
}

/// Whether the CPU runs code of a level.
fn runs(level: Level) -> bool {
    let has = Cpu::detect().level().is_some_and(|has| has >= level);
    let required = std::env::var("ALEXC_REQUIRE_CPU").ok();
    let required: Option<Level> =
        required.map(|text| text.parse().expect("a level in ALEXC_REQUIRE_CPU"));
    assert!(has || required.is_none_or(|r| r < level), "this CPU cannot run {level} code");
    has
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn cranelift_agrees(kernel in common::kernels(), seed in any::<u32>()) {
        let target = Target::host().unwrap();
        let emit = |kernel: &Verified| clif::emit(kernel, &target, false).unwrap().code;
        // Without the instruction, the IR lets a fused multiply-add round twice.
        assert_agrees(kernel, seed, target.has_fma(), &emit)?;
    }
}

#[cfg(target_arch = "x86_64")]
proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn avx2_agrees(kernel in common::kernels_of(8), seed in any::<u32>()) {
        let emit = |kernel: &Verified| x86::emit(kernel, Level::V3).unwrap();
        assert_agrees(kernel, seed, runs(Level::V3), &emit)?;
    }

    #[test]
    fn avx512_agrees(kernel in common::kernels(), seed in any::<u32>()) {
        let emit = |kernel: &Verified| x86::emit(kernel, Level::V4).unwrap();
        assert_agrees(kernel, seed, runs(Level::V4), &emit)?;
    }
}
