//! The interpreter against arithmetic by hand, and against a second one that walks the tree.

mod common;

use alexc_codegen::builder::Builder;
use alexc_codegen::interp::{Data, InterpError, run};
use alexc_codegen::ir::{Access, Addr, Binary, DType, Inst, Kernel, Nonzero, Reduce, Stmt, Unary};
use alexc_codegen::text::parse;
use alexc_codegen::verify::{Verified, verify};
use proptest::prelude::*;

fn verified(text: &str) -> Verified {
    verify(parse(text).unwrap()).unwrap()
}

/// A kernel over `x` (4 elements), `y` (4 elements) and the result `out` (4 elements).
fn on_four(body: &str, x: [f32; 4], y: [f32; 4]) -> Vec<f32> {
    let kernel = verified(&format!(
        "kernel four {{
           buffer x: f32[4] read
           buffer y: f32[4] read
           buffer out: f32[4] write
           parallel once in 0..1 {{
             v0:f32x4 = load x[0]
             v1:f32x4 = load y[0]
             {body}
             store out[0], v2
           }}
         }}"
    ));
    let mut buffers = [Data::F32(x.into()), Data::F32(y.into()), Data::F32(vec![0.0; 4])];
    run(&kernel, &mut buffers, 0..1).unwrap();
    let [_, _, Data::F32(out)] = buffers else { unreachable!() };
    out
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

const ZEROS: [f32; 4] = [0.0; 4];

#[test]
fn fma_rounds_once() {
    // (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24, whose last term one rounding of the product loses.
    let a = 1.0 + 2f32.powi(-12);
    let out = on_four(
        "v3:f32x4 = fma v0, v0, v1
         v2:f32x4 = copy v3",
        [a; 4],
        [-1.0 - 2f32.powi(-11); 4],
    );
    assert_eq!(out, [2f32.powi(-24); 4]);
    let out = on_four(
        "v3:f32x4 = mul v0, v0
         v2:f32x4 = add v3, v1",
        [a; 4],
        [-1.0 - 2f32.powi(-11); 4],
    );
    assert_eq!(out, ZEROS);
}

#[test]
fn max_and_min_give_the_second_argument_unless_the_first_wins() {
    let (x, y) = ([f32::NAN, 1.0, -0.0, 3.0], [1.0, f32::NAN, 0.0, 2.0]);
    let out = on_four("v2:f32x4 = max v0, v1", x, y);
    assert_eq!(bits(&out), bits(&[1.0, f32::NAN, 0.0, 3.0]));
    let out = on_four("v2:f32x4 = min v0, v1", x, y);
    assert_eq!(bits(&out), bits(&[1.0, f32::NAN, 0.0, 2.0]));
    let out = on_four("v2:f32x4 = max v1, v0", x, y);
    assert_eq!(bits(&out), bits(&[f32::NAN, 1.0, -0.0, 3.0]));
}

#[test]
fn ties_round_to_even() {
    let out = on_four("v2:f32x4 = round v0", [0.5, 1.5, -2.5, -0.5], ZEROS);
    assert_eq!(bits(&out), bits(&[0.0, 2.0, -2.0, -0.0]));
}

#[test]
fn pow2_is_exact_where_it_is_specified() {
    let out = on_four("v2:f32x4 = pow2 v0", [-126.0, 127.0, 0.0, -1.0], ZEROS);
    assert_eq!(out, [f32::MIN_POSITIVE, 2f32.powi(127), 1.0, 0.5]);
    let out = on_four("v2:f32x4 = pow2 v0", [-127.0, 128.0, 0.5, f32::INFINITY], ZEROS);
    assert!(out.iter().all(|v| v.is_nan()), "{out:?}");
}

#[test]
fn one_register_functions() {
    let x = [4.0, -0.0, -2.25, f32::INFINITY];
    assert_eq!(bits(&on_four("v2:f32x4 = neg v0", x, ZEROS)), bits(&x.map(|v| -v)));
    assert_eq!(bits(&on_four("v2:f32x4 = abs v0", x, ZEROS)), bits(&[4.0, 0.0, 2.25, x[3]]));
    let out = on_four("v2:f32x4 = sqrt v0", x, ZEROS);
    assert_eq!(bits(&out[..2]), bits(&[2.0, -0.0]));
    assert!(out[2].is_nan() && out[3] == f32::INFINITY);
}

#[test]
fn reductions_go_by_halves() {
    // From left to right the first 1 would be lost.
    let x = [1e8, 1.0, -1e8, 1.0];
    let reduce = |op| format!("v3:f32 = {op} v0\nv2:f32x4 = broadcast v3");
    assert_eq!(on_four(&reduce("reduce_add"), x, ZEROS), [2.0; 4]);
    assert_eq!(on_four(&reduce("reduce_max"), x, ZEROS), [1e8; 4]);
    // The high half wins where the low one is NaN, and the other way it is lost.
    let out = on_four(&reduce("reduce_max"), [f32::NAN, 1.0, 2.0, 0.0], ZEROS);
    assert_eq!(out, [2.0; 4]);
    let out = on_four(&reduce("reduce_max"), [2.0, 1.0, f32::NAN, 0.0], ZEROS);
    assert_eq!(out, [1.0; 4]);
}

#[test]
fn narrow_types_widen_exactly() {
    let kernel = verified(
        "kernel widen {
           buffer h: f16[4] read
           buffer b: bf16[4] read
           buffer q: i8[4] read
           buffer out: f32[12] write
           parallel once in 0..1 {
             v0:f32x4 = load h[0]
             store out[0], v0
             v0:f32x4 = load b[0]
             store out[4], v0
             v0:f32x4 = load q[0]
             store out[8], v0
           }
         }",
    );
    let mut buffers = [
        Data::F16(vec![0x3c00, 0x0001, 0xfc00, 0xc248]),
        Data::Bf16(vec![0x3f80, 0x0001, 0xff80, 0xc049]),
        Data::I8(vec![0, 1, -128, 127]),
        Data::F32(vec![0.0; 12]),
    ];
    run(&kernel, &mut buffers, 0..1).unwrap();
    let Data::F32(out) = &buffers[3] else { unreachable!() };
    // The last f16 is -(1 + 0x248 / 2^10) * 2^1, the last bf16 -(1 + 0x49 / 2^7) * 2^1.
    let tiny = f32::from_bits(0x0001_0000);
    let inf = f32::INFINITY;
    assert_eq!(
        out,
        &[
            1.0,
            2f32.powi(-24),
            -inf,
            -3.140625,
            1.0,
            tiny,
            -inf,
            -3.140625,
            0.0,
            1.0,
            -128.0,
            127.0
        ]
    );
}

#[test]
fn loops_advance_addresses() {
    // out[p][i][j] = x[2p + 3i - j + 2]
    let kernel = verified(
        "kernel walk {
           buffer x: f32[14] read
           buffer out: f32[24] write
           parallel p in 0..2, q in 0..2 {
             for i in 0..2 {
               for j in 0..3 {
                 v0:f32 = splat x[4*p + 2*q + 3*i - j + 2]
                 store out[12*p + 6*q + 3*i + j], v0
               }
             }
           }
         }",
    );
    let mut buffers = [Data::F32((0_u8..14).map(f32::from).collect()), Data::F32(vec![-1.0; 24])];
    run(&kernel, &mut buffers, 1..3).unwrap();
    let Data::F32(out) = &buffers[1] else { unreachable!() };
    let untouched = [-1.0; 6];
    assert_eq!(out[..6], untouched);
    assert_eq!(out[6..18], [4.0, 3.0, 2.0, 7.0, 6.0, 5.0, 6.0, 5.0, 4.0, 9.0, 8.0, 7.0]);
    assert_eq!(out[18..], untouched);
}

#[test]
fn scratch_is_nan_when_an_iteration_begins() {
    let kernel = verified(
        "kernel scratch {
           buffer t: f32[2] local
           buffer out: f32[4] write
           parallel p in 0..2 {
             v0:f32 = const 1.0
             store t[0], v0
             v1:f32 = load t[0]
             store out[2*p], v1
             v1:f32 = load t[1]
             store out[2*p + 1], v1
             store t[1], v0
           }
         }",
    );
    let mut buffers = [Data::F32(vec![5.0; 2]), Data::F32(vec![5.0; 4])];
    run(&kernel, &mut buffers, 0..2).unwrap();
    let Data::F32(out) = &buffers[1] else { unreachable!() };
    assert_eq!([out[0], out[2]], [1.0; 2]);
    assert!(out[1].is_nan() && out[3].is_nan());
}

#[test]
fn calls_that_do_not_fit_are_errors() {
    let kernel = verified(
        "kernel k {
           buffer x: f16[4] read
           parallel p in 0..3 {
           }
         }",
    );
    let message =
        |buffers: &mut [Data], range| run(&kernel, buffers, range).unwrap_err().to_string();
    assert_eq!(message(&mut [], 0..1), "kernel k has 1 buffers, not 0");
    assert_eq!(
        message(&mut [Data::Bf16(vec![0; 4])], 0..1),
        "kernel k: buffer `x` is f16[4], not bf16[4]"
    );
    assert_eq!(
        message(&mut [Data::F16(vec![0; 5])], 0..1),
        "kernel k: buffer `x` is f16[4], not f16[5]"
    );
    let mut fitting = [Data::F16(vec![0; 4])];
    assert_eq!(message(&mut fitting, 2..4), "kernel k has the iterations 0..3, not 2..4");
    assert_eq!(run(&kernel, &mut fitting, 0..3), Ok::<(), InterpError>(()));
}

/// A second interpreter, by the book and slow.
struct Walk<'a> {
    kernel: &'a Kernel,
    vars: Vec<i64>,
    regs: Vec<Vec<f32>>,
    buffers: &'a mut [Data],
}

impl Walk<'_> {
    fn run(kernel: &Kernel, buffers: &mut [Data]) {
        for iteration in 0..kernel.extent() {
            for (data, buffer) in buffers.iter_mut().zip(&kernel.buffers) {
                if buffer.access == Access::Local {
                    *data = Data::F32(vec![f32::NAN; buffer.len]);
                }
            }
            let mut vars = vec![0; kernel.vars.len()];
            let mut after: i64 = 1;
            for dim in kernel.parallel.iter().rev() {
                vars[usize::from(dim.var.0)] = iteration as i64 / after % i64::from(dim.count);
                after *= i64::from(dim.count);
            }
            let regs = kernel.regs.iter().map(|&l| vec![f32::NAN; usize::from(l)]).collect();
            Walk { kernel, vars, regs, buffers: &mut *buffers }.body(&kernel.body);
        }
    }

    fn body(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Inst(inst) => self.inst(inst),
                Stmt::For { var, count, body } => {
                    for value in 0..*count {
                        self.vars[usize::from(var.0)] = i64::from(value);
                        self.body(body);
                    }
                }
                Stmt::Nonzero(nonzero) => self.nonzero(nonzero),
                Stmt::Let { .. } | Stmt::Barrier => {}
            }
        }
    }

    fn nonzero(&mut self, nonzero: &Nonzero) {
        let elements = (0..nonzero.count).map(|i| (i, self.element(&nonzero.from, i as usize)));
        let kept: Vec<(u32, f32)> = elements.filter(|&(_, x)| x != 0.0).collect();
        for first in (0..kept.len()).step_by(nonzero.values.len()) {
            let entry = |slot: usize| kept.get(first + slot).copied().unwrap_or((0, 0.0));
            for (slot, var) in nonzero.found.iter().enumerate() {
                self.vars[usize::from(var.0)] = i64::from(entry(slot).0);
            }
            for (slot, reg) in nonzero.values.iter().enumerate() {
                self.regs[reg.0 as usize].fill(entry(slot).1);
            }
            self.body(&nonzero.body);
        }
    }

    fn at(&self, addr: &Addr) -> usize {
        let of = |&(var, c): &(alexc_codegen::ir::Var, i64)| c * self.vars[usize::from(var.0)];
        (addr.offset + addr.terms.iter().map(of).sum::<i64>()) as usize
    }

    fn element(&self, addr: &Addr, plus: usize) -> f32 {
        let at = self.at(addr) + plus;
        match &self.buffers[usize::from(addr.buffer.0)] {
            Data::F32(v) => v[at],
            Data::F16(v) => half::f16::from_bits(v[at]).to_f32(),
            Data::Bf16(v) => f32::from_bits(u32::from(v[at]) << 16),
            Data::I16(v) => f32::from(v[at]),
            Data::I8(v) => v[at] as f32,
        }
    }

    fn inst(&mut self, inst: &Inst) {
        let lanes = inst.dst().map_or(0, |dst| usize::from(self.kernel.lanes(dst)));
        let reg = |r: alexc_codegen::ir::Reg| &self.regs[r.0 as usize];
        let higher = |a: f32, b: f32| if a > b { a } else { b };
        let result: Vec<f32> = match *inst {
            Inst::Const { value, .. } => vec![value; lanes],
            Inst::Load { ref addr, .. } => (0..lanes).map(|i| self.element(addr, i)).collect(),
            Inst::Splat { ref addr, .. } => vec![self.element(addr, 0); lanes],
            Inst::Broadcast { src, .. } => vec![reg(src)[0]; lanes],
            Inst::Unary { op, src, .. } => reg(src)
                .iter()
                .map(|&x| match op {
                    Unary::Copy => x,
                    Unary::Neg => -x,
                    Unary::Abs => x.abs(),
                    Unary::Sqrt => x.sqrt(),
                    Unary::Round => x.round_ties_even(),
                    Unary::Pow2 => x.exp2(),
                })
                .collect(),
            Inst::Binary { op, a, b, .. } => (0..lanes)
                .map(|i| (reg(a)[i], reg(b)[i]))
                .map(|(a, b)| match op {
                    Binary::Add => a + b,
                    Binary::Sub => a - b,
                    Binary::Mul => a * b,
                    Binary::Div => a / b,
                    Binary::Max => higher(a, b),
                    Binary::Min => -higher(-a, -b),
                    Binary::SubQuarter => f32::from_bits(a.to_bits().wrapping_sub(b.to_bits() / 4)),
                })
                .collect(),
            Inst::Fma { a, b, c, .. } => {
                (0..lanes).map(|i| reg(a)[i].mul_add(reg(b)[i], reg(c)[i])).collect()
            }
            Inst::Reduce { op, src, .. } => {
                let mut list = reg(src).clone();
                while list.len() > 1 {
                    let high = list.split_off(list.len() / 2);
                    for (low, high) in list.iter_mut().zip(high) {
                        *low = match op {
                            Reduce::Add => *low + high,
                            Reduce::Max => higher(*low, high),
                        };
                    }
                }
                list
            }
            Inst::Store { ref addr, src } => {
                let (at, values) = (self.at(addr), reg(src).clone());
                let Data::F32(v) = &mut self.buffers[usize::from(addr.buffer.0)] else {
                    panic!("stores are f32")
                };
                v[at..at + values.len()].copy_from_slice(&values);
                return;
            }
            Inst::Prefetch { .. }
            | Inst::Lane { .. }
            | Inst::Join { .. }
            | Inst::Tf32 { .. }
            | Inst::Mma { .. } => return,
        };
        if let Some(dst) = inst.dst() {
            self.regs[dst.0 as usize] = result;
        }
    }
}

/// Bits, except that a NaN is a NaN.
fn comparable(buffers: &[Data]) -> Vec<Vec<u32>> {
    let of = |v: f32| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() };
    let list = |data: &Data| match data {
        Data::F32(v) => v.iter().map(|&v| of(v)).collect(),
        _ => Vec::new(),
    };
    buffers.iter().map(list).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn agrees_with_the_walk_over_the_tree_in_any_order_of_iterations(
        kernel in common::kernels(),
        seed in any::<u32>(),
    ) {
        let kernel = verify(kernel).unwrap();
        let input = common::data(&kernel, seed);
        let scratch: Vec<_> =
            kernel.buffers.iter().map(|b| b.access == Access::Local).collect();
        let results = |mut buffers: Vec<Data>| {
            for (data, &scratch) in buffers.iter_mut().zip(&scratch) {
                if scratch {
                    *data = Data::zeros(DType::F32, 0);
                }
            }
            comparable(&buffers)
        };

        let mut expected = input.clone();
        Walk::run(&kernel, &mut expected);
        let expected = results(expected);

        let mut whole = input.clone();
        run(&kernel, &mut whole, 0..kernel.extent()).unwrap();
        prop_assert_eq!(&results(whole), &expected, "{}", *kernel);

        let mut reversed = input;
        for iteration in (0..kernel.extent()).rev() {
            run(&kernel, &mut reversed, iteration..iteration + 1).unwrap();
        }
        prop_assert_eq!(&results(reversed), &expected, "{}", *kernel);
    }
}

/// Not a test of time, but of being able to run 10^7 instructions in one.
#[test]
fn runs_ten_million_instructions() {
    let mut b = Builder::new("long");
    let x = b.buffer("x", 1024, Access::Read);
    let out = b.buffer("out", 8, Access::Write);
    let _ = b.parallel("p", 1);
    let sum = b.constant(8, 0.0);
    let one = b.constant(8, 1.0);
    b.repeat("again", 40_000, |b, _| {
        b.repeat("i", 128, |b, i| {
            let v = b.load(8, x, i * 8);
            b.fma_into(sum, v, one, sum);
        });
    });
    b.store(out, 0_usize, sum);
    let kernel = verify(b.finish()).unwrap();
    let mut buffers = [Data::F32(vec![0.25; 1024]), Data::F32(vec![0.0; 8])];
    run(&kernel, &mut buffers, 0..1).unwrap();
    assert_eq!(buffers[1], Data::F32(vec![0.25 * 40_000.0 * 128.0; 8]));
}
