use super::*;
use crate::compile::{Options, opencl};
use crate::graph::build::{self, BuildOptions};
use alexc_codegen::interp::Data;
use alexc_codegen::ir::Access;
use alexc_codegen::part::halves;
use alexc_codegen::target::Target;
use alexc_codegen::verify::verify;

const CPU: opencl::Device = opencl::Device::CPU;

fn gpu() -> opencl::Device {
    let parameters = opencl::Device::GPU.parameters.of_two();
    opencl::Device { parameters, ..opencl::Device::GPU }
}

fn prepared(spec: &str, device: opencl::Device) -> Prepared {
    let (_, graph) = build::load("net.yaml", spec, &BuildOptions::default()).unwrap();
    let options = Options { halves: true, ..Options::new(Target::host().unwrap()) };
    opencl::compile(&graph, &options, device).unwrap().net
}

const GROUPED: &str = "
name: grouped
input: {shape: [1, 3, 20, 20]}
layers:
  - {name: a, type: conv, out_channels: 64, kernel_size: 3, padding: 1}
  - {name: b, type: conv, out_channels: 64, kernel_size: 3, padding: 1, groups: 2}
  - {name: c, type: max_pool, kernel_size: 2}
  - {name: d, type: conv, out_channels: 64, kernel_size: 3, padding: 1, groups: 2}
  - {name: e, type: linear, out_features: 1000}
";

/// As the net of 2012 begins: normalisation across all channels between grouped convolutions.
const NORMALISED: &str = "
name: normalised
input: {shape: [2, 3, 19, 19]}
layers:
  - {name: a, type: conv, out_channels: 64, kernel_size: 5, padding: 1}
  - {name: norm_a, type: lrn, size: 5, alpha: 1.0e-4, beta: 0.75, k: 2.0, alpha_scaling: sum}
  - {name: pool_a, type: max_pool, kernel_size: 3, stride: 2}
  - {name: b, type: conv, out_channels: 64, kernel_size: 3, padding: 1, groups: 2}
  - {name: norm_b, type: lrn, size: 3, alpha: 1.0e-4, beta: 0.75, k: 2.0, alpha_scaling: sum}
  - {name: c, type: conv, out_channels: 32, kernel_size: 3, groups: 2}
  - {name: d, type: linear, out_features: 20}
";

/// What crosses before the steps of a node, to either side.
fn crossing(net: &Prepared, split: &Split, node: &str) -> [usize; 2] {
    [0, 1].map(|from| {
        let mine = split.transfers.iter().filter(|transfer| {
            transfer.from == from && net.lowered.calls[transfer.before].node == node
        });
        mine.map(Transfer::bytes).sum()
    })
}

#[test]
fn groups_stay_where_they_are() {
    for device in [CPU, gpu()] {
        let net = prepared(GROUPED, device);
        let split = split(&net).unwrap();
        assert!(!split.transfers.is_empty());
        for transfer in &split.transfers {
            let node = net.lowered.calls[transfer.before].node.as_str();
            assert!(["e", "output"].contains(&node), "{}", split.text(&net));
        }
        // Half of the weights each, but for what rounding to lines of 64 bytes adds.
        for part in &split.parts[..if device == CPU { 2 } else { 0 }] {
            let half = net.plan.weights_bytes / 2;
            assert!(part.weights_bytes < half + half / 10 + 4096, "{}", split.text(&net));
        }
    }
}

/// Of a map that is normalised the channels cross that a window of the other half reaches into, and
/// nothing else.
#[test]
fn normalisation_wants_its_nearest_channels() {
    for device in [CPU, gpu()] {
        let net = prepared(NORMALISED, device);
        let split = split(&net).unwrap();
        let text = split.text(&net);
        // Two images of 17 x 17 pixels, two channels each way; then 8 x 8 and one channel.
        assert_eq!(crossing(&net, &split, "a"), [2 * 17 * 17 * 2 * 4; 2], "{text}");
        assert_eq!(crossing(&net, &split, "b"), [2 * 8 * 8 * 4; 2], "{text}");
        assert_eq!(crossing(&net, &split, "c"), [0; 2], "{text}");
        // Images apart, and yet by few copies.
        assert!(split.transfers.iter().all(|transfer| transfer.rects.len() <= 2), "{text}");
    }
}

#[test]
fn what_is_loaded_is_there() {
    for device in [CPU, gpu()] {
        for spec in [GROUPED, NORMALISED] {
            is_there(&prepared(spec, device));
        }
    }
}

fn is_there(net: &Prepared) {
    let Split { parts, transfers, shares } = split(net).unwrap();
    // Played by hand: for every byte of the arena, who wrote it last and who has that.
    let mut version = vec![0_usize; net.plan.arena_bytes];
    let mut has = [version.clone(), version.clone()];
    for number in 0..shares.len() {
        // What nobody has written yet is the same to both.
        for slot in net.plan.slots.iter().filter(|slot| slot.lifetime.first == number) {
            let place = slot.offset_bytes..slot.offset_bytes + slot.bytes;
            version[place.clone()].fill(0);
            has.iter_mut().for_each(|has| has[place.clone()].fill(0));
        }
        for transfer in transfers.iter().filter(|transfer| transfer.before == number) {
            assert!(transfer.after < number);
            for at in transfer.ranges().list().iter().cloned().flatten() {
                has[1 - transfer.from][at] = has[transfer.from][at];
            }
        }
        for (device, part) in parts.iter().enumerate() {
            let Some(index) = part.numbers.iter().position(|&n| n == number) else { continue };
            let step = &part.steps[index];
            let kernel = &part.kernels[step.kernel];
            let touched = alexc_codegen::stats::touched(kernel);
            for (param, list) in step.params.iter().zip(&touched.loads) {
                if param.base == Base::Arena {
                    for range in list {
                        let bytes = param.offset_bytes + range.start * 4
                            ..param.offset_bytes + range.end * 4;
                        for at in bytes {
                            assert_eq!(has[device][at], version[at], "step {number}, byte {at}");
                        }
                    }
                }
            }
        }
        for (device, part) in parts.iter().enumerate() {
            let Some(index) = part.numbers.iter().position(|&n| n == number) else { continue };
            for at in part.stores[index].list().iter().cloned().flatten() {
                version[at] = number + 1;
                has[device][at] = number + 1;
            }
        }
    }
}

/// A number between -1 and 1 for each element.
fn numbers(seed: usize, len: usize) -> Vec<f32> {
    let one = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0;
    (0..len).map(one).collect()
}

/// Nothing that a kernel computes of those.
const NOTHING: f32 = 12345.0;

/// Halves of kernels by the interpreter: they store the elements that they are said to store, what
/// the whole kernel stores there, and what they are not said to load they do not need.
#[test]
fn halves_touch_what_is_said() {
    let (mut conditional, mut halves) = (0, 0);
    for device in [CPU, gpu()] {
        for spec in [GROUPED.replace("20, 20", "9, 7"), NORMALISED.replace("19, 19", "11, 9")] {
            for kernel in &prepared(&spec, device).kernels {
                let found = touches_what_is_said(kernel);
                halves += found;
                conditional += if kernel.is_plain() { 0 } else { found };
            }
        }
    }
    assert!(conditional > 20 && halves > 100, "{conditional} of {halves}");
}

/// Gives how many halves that pass the verifier do.
fn touches_what_is_said(kernel: &Verified) -> usize {
    let mut found = 0;
    let data = || -> Vec<Data> {
        let buffers = kernel.buffers.iter().enumerate();
        buffers.map(|(seed, buffer)| Data::F32(numbers(seed, buffer.len))).collect()
    };
    let mut whole = data();
    alexc_codegen::interp::run(kernel, &mut whole, 0..kernel.extent()).unwrap();
    let dims = kernel.parallel.iter().enumerate().filter(|(_, dim)| dim.count > 1);
    let cuts: Vec<_> = dims.map(|(dim, d)| (dim, d.count.div_ceil(2))).collect();
    for (cut, halves) in cuts.iter().zip(halves(kernel, &cuts).cuts) {
        for (half, touched) in halves {
            assert!(touched.stores_exact);
            let Ok(half) = verify(half) else { continue };
            found += 1;
            let mut mine = data();
            for ((buffer, data), loads) in half.buffers.iter().zip(&mut mine).zip(&touched.loads) {
                let Data::F32(values) = data else { panic!() };
                for (at, value) in values.iter_mut().enumerate() {
                    match buffer.access {
                        Access::Write => *value = NOTHING,
                        _ if loads.iter().any(|range| range.contains(&at)) => {}
                        _ => *value = f32::NAN,
                    }
                }
            }
            alexc_codegen::interp::run(&half, &mut mine, 0..half.extent()).unwrap();
            let buffers = half.buffers.iter().zip(mine.iter().zip(&whole)).zip(&touched.stores);
            for ((buffer, (mine, whole)), stores) in buffers {
                let (Data::F32(mine), Data::F32(whole)) = (mine, whole) else { panic!() };
                if !matches!(buffer.access, Access::Write | Access::ReadWrite) {
                    continue;
                }
                for (at, (mine, whole)) in mine.iter().zip(whole).enumerate() {
                    let place = || format!("{}, {}, {cut:?}: {at}", kernel.name, buffer.name);
                    if stores.iter().any(|range| range.contains(&at)) {
                        assert_eq!(mine.to_bits(), whole.to_bits(), "{}", place());
                    } else {
                        assert!(mine.is_nan() || *mine == NOTHING, "{}", place());
                    }
                }
            }
        }
    }
    found
}
