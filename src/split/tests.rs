use super::*;
use crate::compile::{Options, opencl};
use crate::graph::build::{self, BuildOptions};
use alexc_codegen::target::Target;

fn prepared(spec: &str) -> Prepared {
    let (_, graph) = build::load("net.yaml", spec, &BuildOptions::default()).unwrap();
    let options = Options { halves: true, ..Options::new(Target::host().unwrap()) };
    opencl::compile(&graph, &options, opencl::Device::CPU).unwrap().net
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

#[test]
fn groups_stay_where_they_are() {
    let net = prepared(GROUPED);
    let split = split(&net).unwrap();
    let crossing: Vec<&str> = split
        .transfers
        .iter()
        .map(|transfer| net.steps[transfer.before].name.split('.').next().unwrap())
        .collect();
    assert!(!crossing.is_empty());
    assert!(crossing.iter().all(|node| ["e", "output"].contains(node)), "{}", split.text(&net));
    // Half of the weights each, but for what rounding to lines of 64 bytes adds.
    for part in &split.parts {
        let half = net.plan.weights_bytes / 2;
        assert!(part.weights_bytes < half + half / 10 + 4096, "{}", split.text(&net));
    }
}

#[test]
fn what_is_loaded_is_there() {
    let net = prepared(GROUPED);
    let Split { parts, transfers, shares } = split(&net).unwrap();
    // Played by hand: for every byte of the arena, who wrote it last and who has that.
    let mut version = vec![0_usize; net.plan.arena_bytes];
    let mut has = [version.clone(), version.clone()];
    for number in 0..shares.len() {
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
