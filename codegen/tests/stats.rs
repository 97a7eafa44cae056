//! Counts against counting by hand, and against marking every element.

mod common;

use alexc_codegen::ir::{Inst, Stmt, Var};
use alexc_codegen::stats::{Footprint, stats};
use alexc_codegen::text::parse;
use alexc_codegen::verify::{Verified, verify};
use proptest::prelude::*;
use std::collections::HashSet;

fn verified(text: &str) -> Verified {
    verify(parse(text).unwrap()).unwrap()
}

#[test]
fn a_small_convolution_counted_by_hand() {
    // 3 taps over 10 inputs give 8 outputs.
    let kernel = verified(
        "kernel conv {
           buffer x: f32[10] read
           buffer w: f16[3] read
           buffer y: f32[8] write
           parallel half in 0..2 {
             v0:f32x4 = const 0.0
             for k in 0..3 {
               v1:f32x4 = load x[4*half + k]
               v2:f32x4 = splat w[k]
               v0:f32x4 = fma v1, v2, v0
             }
             v3:f32 = reduce_add v0
             v4:f32x4 = broadcast v3
             v0:f32x4 = div v0, v4
             v0:f32x4 = max v0, v4
             prefetch x[100]
             store y[4*half], v0
           }
         }",
    );
    let stats = stats(&kernel);
    // Each half: 3 fma of 4 lanes, 3 additions, 4 divisions.
    assert_eq!(stats.flops, 2 * (3 * 4 * 2 + 3 + 4));
    let expected = [(40, 0), (6, 0), (0, 32)]
        .map(|(loaded_bytes, stored_bytes)| Footprint { loaded_bytes, stored_bytes });
    assert_eq!(stats.buffers, expected);
}

#[test]
fn a_matrix_too_large_to_enumerate() {
    let kernel = verified(
        "kernel huge {
           buffer x: i8[1073741824] read
           parallel row in 0..32768 {
             for column in 0..2048 {
               v0:f32x16 = load x[32768*row + 16*column]
             }
           }
         }",
    );
    assert_eq!(stats(&kernel).buffers[0].loaded_bytes, 1 << 30);
}

/// Every element that the kernel touches, found by running through all its loops.
fn touched(kernel: &Verified) -> Vec<Footprint> {
    fn walk(
        kernel: &Verified,
        body: &[Stmt],
        vars: &mut [i64],
        mark: &mut impl FnMut(usize, bool, i64),
    ) {
        for stmt in body {
            let (stored, addr, lanes) = match stmt {
                Stmt::Let { .. } | Stmt::Barrier => continue,
                Stmt::Nonzero(nonzero) => {
                    common::each_finding(nonzero, vars, &mut |vars| {
                        walk(kernel, &nonzero.body, vars, mark);
                    });
                    (false, &nonzero.from, nonzero.count as u8)
                }
                Stmt::For { var: Var(var), count, body } => {
                    for value in 0..*count {
                        vars[usize::from(*var)] = i64::from(value);
                        walk(kernel, body, vars, mark);
                    }
                    continue;
                }
                Stmt::Inst(inst) => match inst {
                    Inst::Load { dst, addr } => (false, addr, kernel.lanes(*dst)),
                    Inst::Splat { addr, .. } => (false, addr, 1),
                    Inst::Store { addr, src } => (true, addr, kernel.lanes(*src)),
                    _ => continue,
                },
            };
            let terms = addr.terms.iter().map(|&(Var(v), c)| c * vars[usize::from(v)]);
            let first = addr.offset + terms.sum::<i64>();
            for lane in 0..i64::from(lanes) {
                mark(usize::from(addr.buffer.0), stored, first + lane);
            }
        }
    }
    // The parallel dimensions are loops like the others here.
    let mut body = kernel.body.clone();
    for dim in kernel.parallel.iter().rev() {
        body = vec![Stmt::For { var: dim.var, count: dim.count, body }];
    }
    let mut seen = HashSet::new();
    let mut counts = vec![Footprint::default(); kernel.buffers.len()];
    walk(kernel, &body, &mut vec![0; kernel.vars.len()], &mut |buffer, stored, element| {
        if seen.insert((buffer, stored, element)) {
            let bytes = kernel.buffers[buffer].dtype.bytes() as u64;
            let count = &mut counts[buffer];
            *if stored { &mut count.stored_bytes } else { &mut count.loaded_bytes } += bytes;
        }
    });
    counts
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn footprints_count_each_element_once(kernel in common::kernels()) {
        let kernel = verify(kernel).unwrap();
        prop_assert_eq!(stats(&kernel).buffers, touched(&kernel), "{}", *kernel);
    }
}
