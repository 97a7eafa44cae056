//! Products of matrices by warps: layouts against the PTX ISA's figures, products against plain
//! loops, rounding against arithmetic by hand, and the text for NVIDIA's devices.

use alexc_codegen::interp::{Data, run};
use alexc_codegen::ir::{Kernel, Mma};
use alexc_codegen::mma::round_tf32;
use alexc_codegen::opencl::{Options, Warps, emit, prelude, probe, program};
use alexc_codegen::text::{parse, parse_all};
use alexc_codegen::verify::verify;
use std::collections::HashSet;

const KERNELS: &str = include_str!("kernels/warps.kir");

fn kernels() -> [(Mma, Kernel); 2] {
    let [tf32, f16] = parse_all(KERNELS).unwrap().try_into().unwrap();
    [(Mma::Tf32, tf32.kernel), (Mma::F16, f16.kernel)]
}

/// Of the PTX ISA's figures the boxes of some items, copied by hand: `(row, column)` of a0, a1 and
/// so on. Of tf32 those of one `mma.m16n8k8`; the second one's are eight columns further.
const TF32_LEFT: &[(usize, [(usize, usize); 4])] = &[
    (0, [(0, 0), (8, 0), (0, 4), (8, 4)]),
    (1, [(0, 1), (8, 1), (0, 5), (8, 5)]),
    (3, [(0, 3), (8, 3), (0, 7), (8, 7)]),
    (4, [(1, 0), (9, 0), (1, 4), (9, 4)]),
    (18, [(4, 2), (12, 2), (4, 6), (12, 6)]),
    (31, [(7, 3), (15, 3), (7, 7), (15, 7)]),
];
/// b0 and b1.
const TF32_RIGHT: &[(usize, [(usize, usize); 2])] = &[
    (0, [(0, 0), (4, 0)]),
    (1, [(1, 0), (5, 0)]),
    (4, [(0, 1), (4, 1)]),
    (18, [(2, 4), (6, 4)]),
    (31, [(3, 7), (7, 7)]),
];
/// Of `mma.m16n8k16` a0 to a7.
const F16_LEFT: &[(usize, [(usize, usize); 8])] = &[
    (0, [(0, 0), (0, 1), (8, 0), (8, 1), (0, 8), (0, 9), (8, 8), (8, 9)]),
    (1, [(0, 2), (0, 3), (8, 2), (8, 3), (0, 10), (0, 11), (8, 10), (8, 11)]),
    (4, [(1, 0), (1, 1), (9, 0), (9, 1), (1, 8), (1, 9), (9, 8), (9, 9)]),
    (31, [(7, 6), (7, 7), (15, 6), (15, 7), (7, 14), (7, 15), (15, 14), (15, 15)]),
];
/// b0 to b3.
const F16_RIGHT: &[(usize, [(usize, usize); 4])] = &[
    (0, [(0, 0), (1, 0), (8, 0), (9, 0)]),
    (1, [(2, 0), (3, 0), (10, 0), (11, 0)]),
    (4, [(0, 1), (1, 1), (8, 1), (9, 1)]),
    (31, [(6, 7), (7, 7), (14, 7), (15, 7)]),
];
/// c0 to c3 of both.
const SUMS: &[(usize, [(usize, usize); 4])] = &[
    (0, [(0, 0), (0, 1), (8, 0), (8, 1)]),
    (1, [(0, 2), (0, 3), (8, 2), (8, 3)]),
    (4, [(1, 0), (1, 1), (9, 0), (9, 1)]),
    (31, [(7, 6), (7, 7), (15, 6), (15, 7)]),
];

#[test]
fn layouts_are_those_of_the_figures() {
    for (item, places) in TF32_LEFT {
        for (lane, &(row, column)) in places.iter().enumerate() {
            for half in 0..2 {
                assert_eq!(Mma::Tf32.left(*item, half, lane), (row, column + 8 * half));
            }
        }
    }
    for (item, places) in TF32_RIGHT {
        for (lane, &(row, column)) in places.iter().enumerate() {
            assert_eq!(Mma::Tf32.right(*item, lane), (row, column));
            assert_eq!(Mma::Tf32.right(*item, lane + 2), (row + 8, column));
        }
    }
    for (item, places) in F16_LEFT {
        for (lane, &place) in places.iter().enumerate() {
            assert_eq!(Mma::F16.left(*item, lane / 4, lane % 4), place);
        }
    }
    for (item, places) in F16_RIGHT {
        for (lane, &place) in places.iter().enumerate() {
            assert_eq!(Mma::F16.right(*item, lane), place);
        }
    }
    for (item, places) in SUMS {
        for (lane, &place) in places.iter().enumerate() {
            assert!(Mma::ALL.iter().all(|kind| kind.sum(*item, lane) == place));
        }
    }
}

#[test]
fn every_element_is_one_items() {
    for kind in Mma::ALL {
        let lanes = || (0..32).flat_map(|item| (0..4).map(move |lane| (item, lane)));
        let left: HashSet<_> = lanes()
            .flat_map(|(item, lane)| [0, 1].map(|half| kind.left(item, half, lane)))
            .collect();
        let right: HashSet<_> = lanes().map(|(item, lane)| kind.right(item, lane)).collect();
        let sums: HashSet<_> = lanes().map(|(item, lane)| kind.sum(item, lane)).collect();
        assert_eq!((left.len(), right.len(), sums.len()), (256, 128, 128));
        assert!(left.iter().all(|&(row, k)| row < 16 && k < 16));
        assert!(right.iter().all(|&(k, column)| k < 16 && column < 8));
        assert!(sums.iter().all(|&(row, column)| row < 16 && column < 8));
    }
}

/// Small whole numbers: exact in every type and order.
#[test]
fn products_of_whole_numbers() {
    for (kind, kernel) in kernels() {
        let kernel = verify(kernel).unwrap();
        let numbers = |count: usize, by: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * by) % 17) as f32 - 8.0).collect()
        };
        let (a, b, c) = (numbers(512, 7), numbers(256, 5), numbers(256, 3));
        let mut data = [Data::F32(a.clone()), Data::F32(b.clone()), Data::F32(c.clone())];
        run(&kernel, &mut data, 0..1).unwrap();
        let element = |i: usize| {
            let (warp, row, column) = (i / 128, i / 8 % 16, i % 8);
            let product = |k: usize| a[256 * warp + 16 * row + k] * b[128 * warp + 8 * k + column];
            c[i] + (0..16).map(product).sum::<f32>()
        };
        let expected: Vec<f32> = (0..256).map(element).collect();
        assert_eq!(data[2], Data::F32(expected), "{kind:?}");
    }
}

#[test]
fn to_the_nearest_tf32() {
    let step = 2.0_f32.powi(-10);
    for (value, rounded) in [
        (1.0, 1.0),
        (1.0 + step / 2.0, 1.0 + step),
        (1.0 + step / 2.0 - 2.0_f32.powi(-23), 1.0),
        (-1.0 - step / 2.0, -1.0 - step),
        (2.0 - 2.0_f32.powi(-23), 2.0),
        (1.0 + step, 1.0 + step),
        (0.0, 0.0),
        (f32::MAX, f32::INFINITY),
        (f32::NEG_INFINITY, f32::NEG_INFINITY),
    ] {
        assert_eq!(round_tf32(value), rounded, "{value}");
    }
    assert!(round_tf32(f32::from_bits(0x7fff_ffff)).is_nan());
    assert!(round_tf32(f32::from_bits(0x7f80_0001)).is_nan());
}

/// What is not rounded before counts without its lower bits, and f16 rounds to even.
#[test]
fn operands() {
    assert_eq!(
        Mma::Tf32.operand(1.0 + 2.0_f32.powi(-10) + 2.0_f32.powi(-11)),
        1.0 + 2.0_f32.powi(-10)
    );
    assert_eq!(Mma::F16.operand(1.0 + 2.0_f32.powi(-11)), 1.0);
    assert_eq!(Mma::F16.operand(1.0 + 3.0 * 2.0_f32.powi(-11)), 1.0 + 2.0_f32.powi(-9));
    assert_eq!(Mma::F16.operand(65520.0), f32::INFINITY);
}

#[test]
fn the_text_form_reads_back() {
    for (_, kernel) in kernels() {
        assert_eq!(parse(&kernel.to_string()).unwrap(), kernel);
    }
}

#[test]
fn the_texts_for_devices() {
    for warps in [Warps::Ptx, Warps::Emulated] {
        let options = Options { warps, ..Options::GPU };
        let sources =
            kernels().map(|(_, kernel)| emit(&verify(kernel).unwrap(), &options).unwrap());
        let text = program(&sources);
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        assert_eq!(text.matches("float4 alexc_mma_tf32(").count(), 1);
        assert_eq!(text.contains("mma.sync"), warps == Warps::Ptx);
        assert_eq!(text.contains("reqd_work_group_size(64, 1, 1)"), warps != Warps::Ptx);
        let exchange = "local float alexc_exchange[768];";
        assert_eq!(text.matches(exchange).count(), if warps == Warps::Ptx { 0 } else { 2 });
        assert!(text.contains("v7 = alexc_mma_tf32(v4, v8, v6, v7"));
    }
    assert!(!prelude(&[]).contains("mma"));
    assert!(probe().contains("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"));
}
