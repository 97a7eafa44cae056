//! Random kernels that the verifier accepts, for property tests.
//!
//! Every instruction occurs, loops nest, addresses are affine in several variables. Iterations of
//! the parallel space keep to ranges of their own in what they store. Registers may hold anything,
//! infinities and NaN included.

use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::interp::Data;
use alexc_codegen::ir::{
    Access, Addr, Binary, BufferId, DType, Inst, Kernel, Nonzero, Reduce, Reg, Stmt, Unary,
};
use proptest::prelude::*;

const LANES: [u8; 4] = [1, 4, 8, 16];

/// A kernel out of choices that shrink well: zeros choose the simplest.
pub(crate) fn kernels() -> impl Strategy<Value = Kernel> {
    kernels_of(16)
}

/// Likewise, of registers of at most `lanes` lanes.
pub(crate) fn kernels_of(lanes: u8) -> impl Strategy<Value = Kernel> {
    proptest::collection::vec(any::<u32>(), 1..400).prop_map(move |choices| kernel(&choices, lanes))
}

/// The choices in order; zeros when they run out.
struct Choices<'a>(std::slice::Iter<'a, u32>);

impl Choices<'_> {
    fn below(&mut self, count: usize) -> usize {
        self.0.next().map_or(0, |&c| c as usize % count)
    }

    fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn exhausted(&self) -> bool {
        self.0.len() == 0
    }
}

/// A loop variable and its trip count.
type Loop = (Affine, usize);

struct Generator<'a> {
    choices: Choices<'a>,
    lanes: Vec<u8>,
    /// Read-only ones, one of each type, then scratch.
    inputs: Vec<BufferId>,
    /// `Write`, `ReadWrite` and `Local`.
    outputs: Vec<(BufferId, Access)>,
    /// Number of the parallel iteration.
    iteration: Affine,
    loops: Vec<Loop>,
    written: Vec<Reg>,
    in_nonzero: bool,
    /// Lists of nonzero elements so far.
    lists: usize,
}

/// Elements of an output that belong to one iteration.
const OWN: usize = 96;

fn kernel(choices: &[u32], most_lanes: u8) -> Kernel {
    let mut choices = Choices(choices.iter());
    let mut b = Builder::new("random");
    let parallel: Vec<usize> = (0..1 + choices.below(3)).map(|_| 1 + choices.below(4)).collect();
    let extent: usize = parallel.iter().product();

    // Lengths are set when the addresses are known.
    let dtypes = [DType::F32, DType::F16, DType::Bf16, DType::I16, DType::I8];
    let inputs = dtypes
        .into_iter()
        .map(|dtype| b.typed_buffer(&format!("in_{}", dtype.name()), dtype, 1, Access::Read))
        .collect();
    let outputs = vec![
        (b.buffer("out", OWN * extent, Access::Write), Access::Write),
        (b.buffer("inout", OWN * extent, Access::ReadWrite), Access::ReadWrite),
        (b.buffer("scratch", OWN, Access::Local), Access::Local),
    ];
    let mut iteration = Affine::default();
    let mut loops = Vec::new();
    for (index, &count) in parallel.iter().enumerate() {
        let var = b.parallel(&format!("p{index}"), count);
        iteration = iteration * count + &var;
        loops.push((var, count));
    }
    let lanes = LANES.into_iter().filter(|&lanes| lanes <= most_lanes).collect();
    let mut generator = Generator {
        lanes,
        choices,
        inputs,
        outputs,
        iteration,
        loops,
        written: Vec::new(),
        in_nonzero: false,
        lists: 0,
    };
    generator.body(&mut b, 0);
    let mut kernel = b.finish();
    fit_inputs(&mut kernel);
    kernel
}

impl Generator<'_> {
    fn body(&mut self, b: &mut Builder, depth: usize) {
        for _ in 0..1 + self.choices.below(8) {
            if depth < 4 && self.choices.below(4) == 1 {
                // Walks in tests go through all values that its many variables could have.
                if !self.in_nonzero && self.choices.below(3) == 1 {
                    self.nonzero(b, depth);
                    continue;
                }
                let count = 1 + self.choices.below(4);
                b.repeat("i", count, |b, i| {
                    self.loops.push((i, count));
                    self.body(b, depth + 1);
                    self.loops.pop();
                });
            } else {
                self.inst(b);
            }
            if self.choices.exhausted() {
                break;
            }
        }
    }

    /// A loop over what is not zero in an input, or in what the iteration itself has stored.
    fn nonzero(&mut self, b: &mut Builder, depth: usize) {
        let count = 1 + self.choices.below(4);
        let values: Vec<Reg> = (0..1 + self.choices.below(2))
            .map(|_| {
                let lanes = self.choices.one_of(&self.lanes);
                self.result(b, lanes)
            })
            .collect();
        let (buffer, at) = match self.choices.below(3) {
            2 => {
                let (buffer, access) = self.choices.one_of(&self.outputs[1..]);
                (buffer, self.own(access, count as u8))
            }
            _ => (self.inputs[0], self.anywhere()),
        };
        let list_len = Builder::list_len(count, values.len());
        let list = b.buffer(&format!("list{}", self.lists), list_len, Access::Local);
        self.lists += 1;
        let outside = (self.loops.len(), self.written.clone());
        self.in_nonzero = true;
        b.nonzero("k", (buffer, &at), count, list, &values, |b, now, next| {
            self.loops.extend(now.iter().chain(next).map(|k| (k.clone(), count)));
            self.body(b, depth + 1);
        });
        self.in_nonzero = false;
        self.loops.truncate(outside.0);
        // What is written inside may not be.
        self.written = outside.1;
        self.written.retain(|reg| !values.contains(reg));
    }

    /// A written register of a lane count; a constant where there is none.
    fn source(&mut self, b: &mut Builder, lanes: u8) -> Reg {
        let fitting: Vec<_> =
            self.written.iter().copied().filter(|&r| b.lanes(r) == lanes).collect();
        if fitting.is_empty() || self.choices.below(6) == 1 {
            let bits = self.choices.one_of(&[0x3f80_0000, 0x8000_0000, 0x7f80_0000, 0x7fc0_1234]);
            let value = match self.choices.below(3) {
                0 => f32::from_bits(bits),
                _ => f32::from_bits(self.choices.0.next().copied().unwrap_or(0)),
            };
            let reg = b.constant(lanes, value);
            self.written.push(reg);
            return reg;
        }
        self.choices.one_of(&fitting)
    }

    /// Where a result goes: a new register, or sometimes one that is written again.
    fn result(&mut self, b: &mut Builder, lanes: u8) -> Reg {
        let fitting: Vec<_> =
            self.written.iter().copied().filter(|&r| b.lanes(r) == lanes).collect();
        let reg = if !fitting.is_empty() && self.choices.below(2) == 1 {
            self.choices.one_of(&fitting)
        } else {
            b.reg(lanes)
        };
        self.written.push(reg);
        reg
    }

    /// A position in an input; any sign, any variables.
    fn anywhere(&mut self) -> Affine {
        let mut at = Affine::from(self.choices.below(20));
        for (var, _) in self.loops.clone() {
            let coefficient = self.choices.one_of(&[0, 1, 8, 3, 16, 40]);
            at = match self.choices.below(4) {
                1 => at + Affine::from(200_usize) + negative(&var, coefficient),
                _ => at + &var * coefficient,
            };
        }
        at
    }

    /// A position in an output, with room for `lanes` elements in the iteration's own part.
    fn own(&mut self, access: Access, lanes: u8) -> Affine {
        let mut room = OWN - usize::from(lanes);
        let mut at = match access {
            Access::Local => Affine::default(),
            _ => &self.iteration * OWN,
        };
        let inner = self.loops.len() - self.choices.below(self.loops.len() + 1);
        for (var, count) in self.loops.clone().into_iter().skip(inner) {
            let coefficient = self.choices.one_of(&[0, 1, 4, 8, 16]);
            let reach = coefficient * (count - 1);
            if reach <= room {
                room -= reach;
                at = at + var * coefficient;
            }
        }
        at + self.choices.below(room + 1)
    }

    fn inst(&mut self, b: &mut Builder) {
        let lanes = self.choices.one_of(&self.lanes);
        match self.choices.below(12) {
            0 | 1 => {
                let (input, at) = (self.choices.one_of(&self.inputs), self.anywhere());
                let dst = self.result(b, lanes);
                if self.choices.below(2) == 0 {
                    b.load_into(dst, input, at);
                } else {
                    b.splat_into(dst, input, at);
                }
            }
            2 => {
                let (buffer, access) = self.choices.one_of(&self.outputs[1..]);
                let at = self.own(access, lanes);
                let dst = self.result(b, lanes);
                b.load_into(dst, buffer, at);
            }
            3 | 4 => {
                let src = self.source(b, lanes);
                let (buffer, access) = self.choices.one_of(&self.outputs);
                let at = self.own(access, lanes);
                b.store(buffer, at, src);
            }
            5 => {
                let op = self.choices.one_of(&Unary::ALL);
                let mut src = self.source(b, lanes);
                if op == Unary::Pow2 {
                    src = self.exponent(b, lanes, src);
                }
                let dst = b.unary(op, src);
                self.written.push(dst);
            }
            6..=8 => {
                let op = self.choices.one_of(&Binary::ALL);
                let (x, y) = (self.source(b, lanes), self.source(b, lanes));
                let dst = self.result(b, lanes);
                if op == Binary::SubQuarter {
                    // Of any two registers it would make NaNs of every kind, whose bits no
                    // arithmetic keeps.
                    let guess = if self.choices.below(2) == 0 { dst } else { b.reg(lanes) };
                    b.set_constant(guess, f32::from_bits(0x4f58_4000));
                    b.binary_into(op, dst, guess, y);
                } else {
                    b.binary_into(op, dst, x, y);
                }
            }
            9 => {
                let (x, y) = (self.source(b, lanes), self.source(b, lanes));
                let z = self.source(b, lanes);
                let dst = self.result(b, lanes);
                b.fma_into(dst, x, y, z);
            }
            10 => {
                let src = self.source(b, lanes);
                let op = self.choices.one_of(&Reduce::ALL);
                let dst = b.reduce(op, src);
                self.written.push(dst);
            }
            _ => {
                let src = self.source(b, 1);
                let dst = b.broadcast(lanes, src);
                self.written.push(dst);
                let at = self.anywhere();
                b.prefetch(self.inputs[0], at);
            }
        }
    }

    /// A whole number that Pow2 is specified for.
    fn exponent(&mut self, b: &mut Builder, lanes: u8, src: Reg) -> Reg {
        let (low, high) = (b.constant(lanes, -126.0), b.constant(lanes, 127.0));
        // Max and Min give the second argument where the first is NaN.
        let raised = b.binary(Binary::Max, src, low);
        let inside = b.binary(Binary::Min, raised, high);
        b.unary(Unary::Round, inside)
    }
}

fn negative(var: &Affine, coefficient: usize) -> Affine {
    // Affine has no minus: times 2^64 - c wraps to -c when it becomes an i64.
    var * coefficient.wrapping_neg()
}

/// Shifts and sizes the inputs so that every load fits exactly.
fn fit_inputs(kernel: &mut Kernel) {
    fn walk(
        body: &mut [Stmt],
        counts: &mut Vec<i64>,
        visit: &mut impl FnMut(&mut Addr, Option<Reg>, i64, &[i64]),
    ) {
        for stmt in body {
            match stmt {
                Stmt::Inst(Inst::Load { dst, addr } | Inst::Splat { dst, addr }) => {
                    visit(addr, Some(*dst), 0, counts);
                }
                Stmt::Inst(_) => {}
                Stmt::Nonzero(Nonzero { from, count, found, body, .. }) => {
                    visit(from, None, i64::from(*count), counts);
                    counts.extend(found.iter().map(|_| i64::from(*count)));
                    walk(body, counts, visit);
                }
                Stmt::For { count, body, .. } => {
                    counts.push(i64::from(*count));
                    walk(body, counts, visit);
                }
                Stmt::Let { .. } | Stmt::Barrier => {}
            }
        }
    }
    let regs = kernel.regs.clone();
    let mut ends = vec![1; kernel.buffers.len()];
    // Variables are numbered in the order in which loops open, so the n-th count is the n-th's.
    let mut counts: Vec<_> = kernel.parallel.iter().map(|d| i64::from(d.count)).collect();
    walk(&mut kernel.body, &mut counts, &mut |addr, reg, count, counts| {
        let width = reg.map_or(count, |reg| i64::from(regs[reg.0 as usize]));
        if kernel.buffers[usize::from(addr.buffer.0)].access != Access::Read {
            return;
        }
        let furthest = |&(var, c): &(_, i64)| {
            let alexc_codegen::ir::Var(var) = var;
            c * (counts[usize::from(var)] - 1)
        };
        let low: i64 = addr.terms.iter().map(|t| furthest(t).min(0)).sum();
        let high: i64 = addr.terms.iter().map(|t| furthest(t).max(0)).sum();
        addr.offset = addr.offset.max(-low);
        let end = &mut ends[usize::from(addr.buffer.0)];
        *end = (*end).max(addr.offset + high + width);
    });
    for (buffer, end) in kernel.buffers.iter_mut().zip(ends) {
        if buffer.access == Access::Read {
            buffer.len = end as usize;
        }
    }
}

/// Calls `visit` with the variables of a loop over nonzero elements at all values that they could
/// have, whatever is found.
#[allow(dead_code, reason = "not every test file follows addresses")]
pub(crate) fn each_finding(nonzero: &Nonzero, vars: &mut [i64], visit: &mut dyn FnMut(&mut [i64])) {
    for number in 0..nonzero.count.pow(nonzero.found.len() as u32) {
        let mut rest = number;
        for var in &nonzero.found {
            vars[usize::from(var.0)] = i64::from(rest % nonzero.count);
            rest /= nonzero.count;
        }
        visit(vars);
    }
}

/// Scratch begins undefined; in these kernels it begins as NaN, as in the interpreter.
#[allow(dead_code, reason = "not every test file runs kernels")]
pub(crate) fn define_scratch(kernel: &mut Kernel) {
    const LANES: usize = 8;
    let nan = Reg(kernel.regs.len() as u32);
    kernel.regs.push(LANES as u8);
    // Only their loops name the lists of nonzero elements.
    let mut lists = Vec::new();
    kernel.for_each_nonzero(&mut |nonzero| lists.push(usize::from(nonzero.list.0)));
    let mut start = vec![Stmt::Inst(Inst::Const { dst: nan, value: f32::NAN })];
    for (id, buffer) in kernel.buffers.iter().enumerate() {
        if buffer.access == Access::Local && !lists.contains(&id) {
            start.extend((0..buffer.len as i64).step_by(LANES).map(|offset| {
                let buffer = BufferId(id as u16);
                let addr = Addr { buffer, offset, terms: Vec::new(), guards: Vec::new() };
                Stmt::Inst(Inst::Store { addr, src: nan })
            }));
        }
    }
    kernel.body.splice(0..0, start);
}

/// Contents for a kernel's buffers: any bits at all in the narrow ones, f32 with some specials.
#[allow(dead_code, reason = "not every test file runs kernels")]
pub(crate) fn data(kernel: &Kernel, seed: u32) -> Vec<Data> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let mut f32s = |len: usize| -> Vec<f32> {
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-40, f32::MAX];
        (0..len)
            .map(|_| match next() {
                n if n % 32 == 0 => special[n as usize / 32 % special.len()],
                n if n % 4 == 1 => 0.0,
                n => n as f32 * 2f32.powi(-22) - 2.0,
            })
            .collect()
    };
    let contents = |buffer: &alexc_codegen::ir::Buffer| match buffer.dtype {
        DType::F32 => Data::F32(f32s(buffer.len)),
        DType::F16 => {
            Data::F16(f32s(buffer.len).iter().map(|v| (v.to_bits() >> 8) as u16).collect())
        }
        DType::Bf16 => {
            Data::Bf16(f32s(buffer.len).iter().map(|v| (v.to_bits() >> 16) as u16).collect())
        }
        DType::I16 => {
            Data::I16(f32s(buffer.len).iter().map(|v| (v.to_bits() >> 6) as i16).collect())
        }
        DType::I8 => Data::I8(f32s(buffer.len).iter().map(|v| (v.to_bits() >> 4) as i8).collect()),
    };
    kernel.buffers.iter().map(contents).collect()
}
