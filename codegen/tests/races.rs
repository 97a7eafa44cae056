//! Races that the verifier reports, against running through all iterations.

mod common;

use alexc_codegen::ir::{Access, Addr, Inst, Kernel, Nonzero, Stmt, Var};
use alexc_codegen::text::parse;
use alexc_codegen::verify::{Problem, verify};
use proptest::prelude::*;
use std::collections::HashMap;

fn reported(kernel: Kernel) -> bool {
    match verify(kernel) {
        Ok(_) => false,
        Err(errors) => {
            let races = |e: &_| matches!(e, Problem::Race { .. });
            assert!(errors.iter().all(|e| races(&e.problem)), "{errors:?}");
            true
        }
    }
}

/// Which elements each iteration stores and loads; true if one touches what another stores.
fn races(kernel: &Kernel) -> bool {
    fn walk(
        kernel: &Kernel,
        body: &[Stmt],
        vars: &mut [i64],
        touch: &mut impl FnMut(u16, bool, i64),
    ) {
        for stmt in body {
            let (addr, lanes, stored): (&Addr, u8, bool) = match stmt {
                Stmt::For { var: Var(var), count, body } => {
                    for value in 0..*count {
                        vars[usize::from(*var)] = i64::from(value);
                        walk(kernel, body, vars, touch);
                    }
                    continue;
                }
                Stmt::Nonzero(nonzero) => {
                    common::each_finding(nonzero, vars, &mut |vars| {
                        walk(kernel, &nonzero.body, vars, touch);
                    });
                    (&nonzero.from, nonzero.count as u8, false)
                }
                Stmt::Inst(Inst::Load { dst, addr }) => (addr, kernel.lanes(*dst), false),
                Stmt::Inst(Inst::Splat { addr, .. }) => (addr, 1, false),
                Stmt::Inst(Inst::Store { src, addr }) => (addr, kernel.lanes(*src), true),
                Stmt::Inst(_) => continue,
                Stmt::Let { .. } | Stmt::Barrier => continue,
            };
            if matches!(
                kernel.buffers[usize::from(addr.buffer.0)].access,
                Access::Write | Access::ReadWrite
            ) {
                let terms = addr.terms.iter().map(|&(Var(v), c)| c * vars[usize::from(v)]);
                let first = addr.offset + terms.sum::<i64>();
                for lane in 0..i64::from(lanes) {
                    touch(addr.buffer.0, stored, first + lane);
                }
            }
        }
    }
    // Of each element: the iterations that touch it, and whether one stores it.
    let mut touched: HashMap<(u16, i64), (Vec<u64>, bool)> = HashMap::new();
    for iteration in 0..kernel.extent() {
        let mut vars = vec![0; kernel.vars.len()];
        let mut rest = iteration;
        for dim in kernel.parallel.iter().rev() {
            vars[usize::from(dim.var.0)] = (rest % u64::from(dim.count)) as i64;
            rest /= u64::from(dim.count);
        }
        walk(kernel, &kernel.body, &mut vars, &mut |buffer, stored, element| {
            let (iterations, any_stored) = touched.entry((buffer, element)).or_default();
            if iterations.last() != Some(&iteration) {
                iterations.push(iteration);
            }
            *any_stored |= stored;
        });
    }
    touched.values().any(|(iterations, stored)| *stored && iterations.len() > 1)
}

/// Changes the strides of the parallel variables in every access of an output, in all of them
/// alike or by choice. None becomes larger than it was, so nothing leaves its buffer.
fn shrink_strides(kernel: &mut Kernel, choices: &[u8], alike: bool) {
    fn walk(body: &mut [Stmt], visit: &mut impl FnMut(&mut Addr)) {
        for stmt in body {
            match stmt {
                Stmt::For { body, .. } => walk(body, visit),
                Stmt::Nonzero(Nonzero { from, body, .. }) => {
                    visit(from);
                    walk(body, visit);
                }
                Stmt::Inst(Inst::Load { addr, .. } | Inst::Store { addr, .. }) => visit(addr),
                Stmt::Inst(_) => {}
                Stmt::Let { .. } | Stmt::Barrier => {}
            }
        }
    }
    let outputs: Vec<_> = kernel
        .buffers
        .iter()
        .map(|b| matches!(b.access, Access::Write | Access::ReadWrite))
        .collect();
    let dims = kernel.parallel.clone();
    let mut next = 0;
    walk(&mut kernel.body, &mut |addr| {
        if !outputs[usize::from(addr.buffer.0)] {
            return;
        }
        // Each iteration had 96 elements of its own.
        let mut inner = 1;
        for (index, dim) in dims.iter().enumerate().rev() {
            let choice = choices[if alike { index } else { next } % choices.len()];
            next += 1;
            let part = [96, 95, 88, 80, 16, 8, 1, 0][usize::from(choice % 8)];
            if let Some(term) = addr.terms.iter_mut().find(|t| t.0 == dim.var) {
                term.1 = part * if choice & 8 == 0 { inner } else { 1 };
            }
            inner *= i64::from(dim.count);
        }
        addr.terms.retain(|t| t.1 != 0);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// With the same strides everywhere the search is complete.
    #[test]
    fn just_the_races_are_reported(
        kernel in common::kernels(),
        choices in any::<[u8; 3]>(),
    ) {
        let mut kernel = kernel;
        shrink_strides(&mut kernel, &choices, true);
        prop_assert_eq!(reported(kernel.clone()), races(&kernel), "{}", kernel);
    }

    #[test]
    fn no_race_is_reported_that_is_none(
        kernel in common::kernels(),
        choices in proptest::collection::vec(any::<u8>(), 1..9),
    ) {
        let mut kernel = kernel;
        shrink_strides(&mut kernel, &choices, false);
        if reported(kernel.clone()) {
            prop_assert!(races(&kernel), "{}", kernel);
        }
    }
}

/// Tiles of a large map: far more elements than steps of the search.
#[test]
fn large_tiled_kernels_are_decided() {
    let kernel = |row_stride: usize| {
        format!(
            "kernel tiles {{
               buffer y: f32[100000000] write
               parallel n in 0..16, c in 0..24, row in 0..55 {{
                 for tile in 0..9 {{
                   v0:f32x16 = const 0.0
                   for x in 0..6 {{
                     store y[1200000*n + 49280*c + {row_stride}*row + 96*tile + 16*x + 912], v0
                   }}
                 }}
               }}
             }}"
        )
    };
    assert!(!reported(parse(&kernel(896)).unwrap()));
    // The last tile of a row and the first of the next share one element.
    assert!(reported(parse(&kernel(863)).unwrap()));
    assert!(!reported(parse(&kernel(864)).unwrap()));
}
