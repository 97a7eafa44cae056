//! Random kernels as OpenCL C, on a device, against the interpreter, bit for bit: as for machine
//! code in `codegen/tests/emitters.rs`, whose kernels these are.
//!
//! Needs a device: PoCL (Debian: `apt-get install pocl-opencl-icd`) makes the CPU one, and
//! `tests/run` installs it where it may. Devices without fused multiply-add are left out.
#![cfg(feature = "opencl")]

mod common;
#[path = "../codegen/tests/common/mod.rs"]
mod kernels;

use alexc::opencl::launch;
use alexc_codegen::interp::{self, Data};
use alexc_codegen::ir::{Access, Kernel};
use alexc_codegen::opencl::{Options, Warps, emit, prelude};
use alexc_codegen::text::{parse, parse_all};
use alexc_codegen::verify::{Verified, verify};
use alexc_runtime::cpu::Arch;
use alexc_runtime::memory::Buffer;
use alexc_runtime::opencl::{Build, Device, Net, Session, choose};
use alexc_runtime::program::{Base, Binding, KernelCode, Program, Step};
use alexc_runtime::weights::Weights;
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

/// A device that rounds as the interpreter does. Asked for once: PoCL finds none while another
/// thread is asking.
fn device() -> Option<&'static Device> {
    static DEVICE: LazyLock<Device> =
        LazyLock::new(|| choose("0").unwrap_or_else(|error| panic!("{error}")));
    if !DEVICE.about.fma {
        common::left_out(format_args!("{} has no fused multiply-add", *DEVICE));
    }
    DEVICE.about.fma.then_some(&*DEVICE)
}

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

/// Runs a kernel on a device: what it stores comes from the program's input and goes to its output.
fn on_device(kernel: &Verified, data: &[Data], options: &Options, device: &Device) -> Vec<f32> {
    let (mut weights, mut input, mut params) = (Vec::new(), Vec::new(), Vec::new());
    let mut local_bytes = 0;
    for (buffer, data) in kernel.buffers.iter().zip(data) {
        let writes = buffer.access != Access::Read;
        let (base, offset_bytes) = match buffer.access {
            Access::Read => {
                weights.resize(weights.len().next_multiple_of(64), 0);
                let first = weights.len();
                weights.extend(bytes_of(data));
                (Base::Weights, first)
            }
            Access::Write | Access::ReadWrite => {
                let first = 4 * input.len();
                input.extend(floats(data));
                (Base::Arena, first)
            }
            // Not parameters, but apart from one another.
            Access::Local | Access::Shared => {
                let first = local_bytes;
                local_bytes += 4 * buffer.len;
                (Base::Local, first)
            }
        };
        let len_bytes = buffer.len * buffer.dtype.bytes();
        params.push(Binding { base, offset_bytes, len_bytes, writes });
    }
    let len = input.len();
    let whole = |base, writes| Binding { base, offset_bytes: 0, len_bytes: 4 * len, writes };
    let all = [copy("take", len), kernel.clone(), copy("give", len)];
    let bindings = [
        vec![whole(Base::Input, false), whole(Base::Arena, true)],
        params,
        vec![whole(Base::Arena, false), whole(Base::Output, true)],
    ];
    let sources = all.each_ref().map(|kernel| emit(kernel, options).unwrap());
    let launches = all
        .iter()
        .zip(&sources)
        .map(|(kernel, source)| launch(source, |buffer| kernel.buffers[buffer].dtype.bytes()));
    let step = |(index, params): (usize, Vec<Binding>)| Step {
        name: all[index].name.clone(),
        kernel: index,
        extent: all[index].extent(),
        barrier: true,
        params,
    };
    let program = Program {
        name: "test".to_owned(),
        arch: Arch::OpenCl,
        features: Vec::new(),
        kernels: all
            .iter()
            .zip(&sources)
            .map(|(kernel, source)| KernelCode {
                name: kernel.name.clone(),
                bytes: source.text.clone().into_bytes(),
                align: 1,
            })
            .collect(),
        steps: bindings.into_iter().enumerate().map(step).collect(),
        input_dims: vec![1, len],
        output_dims: vec![1, len],
        arena_bytes: 4 * len,
        weights_bytes: weights.len(),
        local_bytes,
        weights_key: 0,
    };
    let net = Net {
        program,
        prelude: prelude(&sources),
        launches: launches.collect(),
        most_registers: None,
    };
    let mut buffer = Buffer::zeroed(weights.len()).unwrap();
    buffer.as_mut_bytes().copy_from_slice(&weights);
    let mut session =
        Session::new(&net, &Arc::new(Weights::from(buffer)), device, &Build::default())
            .unwrap_or_else(|error| panic!("{error}\n{}", net.source()));
    let mut output = vec![0.0; len];
    session.run(&input, &mut output).unwrap();
    output
}

/// Bits, except that a NaN is a NaN: which one comes out of an operation is the device's choice.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| if v.is_nan() { f32::NAN } else { *v }.to_bits()).collect()
}

fn agrees(mut kernel: Kernel, seed: u32, options: &Options) -> Result<(), TestCaseError> {
    let Some(device) = device() else { return Ok(()) };
    if kernel.items.is_empty() {
        kernels::define_scratch(&mut kernel);
    }
    let data = kernels::data(&kernel, seed);
    let verified = verify(kernel).unwrap();
    let mut expected = data.clone();
    interp::run(&verified, &mut expected, 0..verified.extent()).unwrap();
    let stored = verified.buffers.iter().zip(&expected);
    let stored = stored.filter(|(b, _)| matches!(b.access, Access::Write | Access::ReadWrite));
    let expected: Vec<f32> = stored.flat_map(|(_, data)| floats(data).to_vec()).collect();
    let output = on_device(&verified, &data, options, device);
    prop_assert!(bits(&output) == bits(&expected), "{}", &*verified);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(16),
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn random_kernels_agree(
        kernel in kernels::kernels(),
        seed in any::<u32>(),
        group in 1..5_usize,
        sliced in any::<bool>(),
    ) {
        let private_bytes = if sliced { 0 } else { Options::CPU.private_bytes };
        let options = Options { work_group: group, private_bytes, ..Options::CPU };
        agrees(kernel, seed, &options)?;
    }
}

/// The fragments' layouts, as another compiler understands them.
#[test]
fn products_of_warps() {
    let options = Options { warps: Warps::Emulated, ..Options::GPU };
    for parsed in parse_all(include_str!("../codegen/tests/kernels/warps.kir")).unwrap() {
        for seed in 0..3 {
            agrees(parsed.kernel.clone(), seed, &options).unwrap();
        }
    }
}

#[test]
fn every_instruction_and_a_group() {
    for text in [
        include_str!("../codegen/tests/kernels/every_instruction.kir"),
        include_str!("../codegen/tests/kernels/group.kir"),
    ] {
        for seed in 0..3 {
            agrees(parse(text).unwrap(), seed, &Options::GPU).unwrap();
        }
    }
}
