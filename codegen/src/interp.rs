//! The interpreter: what a kernel means, as plain Rust. Emitters are tested against it.
//!
//! A kernel is first flattened: a list of operations on slots of one register file, loops as
//! jumps, and every distinct sum of loop variables (a *stride sum*) kept as one running number
//! that loops advance. Tests run 10^8 instructions through this.

mod group;

use crate::ir::{Access, Addr, Binary, DType, Inst, Kernel, Nonzero, Reduce, Reg, Stmt, Unary};
use crate::mma::round_tf32;
use crate::verify::InBounds;
use std::collections::HashMap;
use std::ops::Range;

/// Contents of a buffer.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// IEEE binary32.
    F32(Vec<f32>),
    /// Bits of IEEE binary16.
    F16(Vec<u16>),
    /// Bits of bfloat16.
    Bf16(Vec<u16>),
    /// Signed 16-bit integers.
    I16(Vec<i16>),
    /// Signed 8-bit integers.
    I8(Vec<i8>),
}

impl Data {
    /// Zeros of a type.
    pub fn zeros(dtype: DType, len: usize) -> Self {
        match dtype {
            DType::F32 => Data::F32(vec![0.0; len]),
            DType::F16 => Data::F16(vec![0; len]),
            DType::Bf16 => Data::Bf16(vec![0; len]),
            DType::I16 => Data::I16(vec![0; len]),
            DType::I8 => Data::I8(vec![0; len]),
        }
    }

    /// Its element type.
    pub fn dtype(&self) -> DType {
        match self {
            Data::F32(_) => DType::F32,
            Data::F16(_) => DType::F16,
            Data::Bf16(_) => DType::Bf16,
            Data::I16(_) => DType::I16,
            Data::I8(_) => DType::I8,
        }
    }

    /// Elements.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(v) => v.len(),
            Data::F16(v) | Data::Bf16(v) => v.len(),
            Data::I16(v) => v.len(),
            Data::I8(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A call that does not fit the kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InterpError {
    /// Too many or too few buffers.
    #[error("kernel {kernel} has {expected} buffers, not {found}")]
    BufferCount {
        /// Its name.
        kernel: String,
        /// Buffers of the kernel.
        expected: usize,
        /// Buffers given.
        found: usize,
    },
    /// A buffer of another type or length.
    #[error(
        "kernel {kernel}: buffer `{buffer}` is {}[{expected_len}], not {}[{len}]",
        expected.name(), found.name()
    )]
    Buffer {
        /// The kernel's name.
        kernel: String,
        /// The buffer's name.
        buffer: String,
        /// Type in the kernel.
        expected: DType,
        /// Length in the kernel.
        expected_len: usize,
        /// Type given.
        found: DType,
        /// Length given.
        len: usize,
    },
    /// Two items touch an element, one stores it, and no barrier is between them.
    #[error("kernel {kernel}: two items meet at element {element} of `{buffer}`: `{instruction}`")]
    Race {
        /// The kernel's name.
        kernel: String,
        /// The buffer's name.
        buffer: String,
        /// Index into the buffer.
        element: usize,
        /// The second one's access.
        instruction: String,
    },
    /// Iterations that the parallel space does not have.
    #[error("kernel {kernel} has the iterations 0..{extent}, not {begin}..{end}")]
    Range {
        /// The kernel's name.
        kernel: String,
        /// Its iterations.
        extent: u64,
        /// First iteration asked for.
        begin: u64,
        /// The one after the last.
        end: u64,
    },
}

/// Runs the iterations `range` of a kernel's parallel space. `buffers[i]` is the i-th buffer.
///
/// Scratch (`Local` buffers) and registers are filled with NaN when an iteration begins, and
/// `Pow2` of a number that it is not specified for is NaN: results that depend on either show it.
pub fn run(kernel: &InBounds, buffers: &mut [Data], range: Range<u64>) -> Result<(), InterpError> {
    if kernel.is_plain() {
        return Flat::new(kernel).run(buffers, range);
    }
    check(kernel, buffers, &range)?;
    group::run(kernel, buffers, range)
}

/// A kernel made flat, to be run many times: a plain one, see [`Kernel::is_plain`].
#[derive(Debug)]
pub struct Flat<'k> {
    kernel: &'k Kernel,
    ops: Vec<Op>,
    /// Advances of stride sums by loops and parallel dimensions; each has a range of these.
    steps: Vec<Step>,
    /// Of each parallel dimension its steps, outermost first.
    parallel: Vec<Range<usize>>,
    sums: usize,
    /// The loops over nonzero elements.
    nonzero: Vec<Turns<'k>>,
}

/// A loop over nonzero elements.
#[derive(Debug)]
struct Turns<'k> {
    of: &'k Nonzero,
    /// For each index of [`Nonzero::found`] its steps.
    steps: Vec<Range<usize>>,
}

/// Where such a loop is.
#[derive(Debug, Clone, Default)]
struct Found {
    values: Vec<(u32, f32)>,
    /// The first of those whose turn is next.
    next: usize,
    /// The values that the variables have.
    vars: Vec<i64>,
}

/// A loop's next iteration adds `by` to a stride sum.
#[derive(Debug, Clone, Copy)]
struct Step {
    sum: usize,
    by: i64,
}

/// Registers are numbers of slots in the register file, all 16 lanes wide.
///
/// Of a loop over nonzero elements `Find` lists them, `Turn` takes the next ones or goes on behind
/// the loop, and `Again` goes back to that.
#[derive(Debug, Clone)]
enum Op {
    Const { dst: Reg, value: f32 },
    Load { dst: Reg, lanes: u8, from: Memory },
    Splat { dst: Reg, from: Memory },
    Broadcast { dst: Reg, src: Reg },
    Lane { dst: Reg, src: Reg, lane: u8 },
    Join { dst: Reg, src: [Reg; 4] },
    Store { src: Reg, lanes: u8, to: Memory },
    Unary { op: Unary, lanes: u8, dst: Reg, src: Reg },
    Binary { op: Binary, lanes: u8, dst: Reg, a: Reg, b: Reg },
    Fma { lanes: u8, dst: Reg, a: Reg, b: Reg, c: Reg },
    Reduce { op: Reduce, lanes: u8, dst: Reg, src: Reg },
    Tf32 { lanes: u8, dst: Reg, src: Reg },
    Find { nonzero: usize, from: Memory },
    Turn { nonzero: usize, behind: usize },
    Again { turn: usize },
    Begin { count: u32, depth: usize },
    End { depth: usize, body: usize, count: u32, steps: Range<usize> },
}

/// An address: a stride sum and a constant.
#[derive(Debug, Clone, Copy)]
struct Memory {
    buffer: usize,
    sum: usize,
    offset: i64,
}

const WIDTH: usize = 16;
type Lanes = [f32; WIDTH];

impl<'k> Flat<'k> {
    /// Flattens a kernel.
    pub fn new(kernel: &'k InBounds) -> Self {
        let kernel: &'k Kernel = kernel;
        let mut flattening =
            Flattening { kernel, ops: Vec::new(), sums: HashMap::new(), nonzero: Vec::new() };
        flattening.body(&kernel.body, 0);
        let Flattening { mut ops, sums, nonzero, .. } = flattening;

        // Only now are all sums known, and with them what each loop advances.
        let mut steps_of = vec![Vec::new(); kernel.vars.len()];
        for (terms, &sum) in &sums {
            for &(var, by) in *terms {
                steps_of[usize::from(var.0)].push(Step { sum, by });
            }
        }
        let mut steps = Vec::new();
        let ranges: Vec<_> = steps_of
            .into_iter()
            .map(|of| {
                let start = steps.len();
                steps.extend(of);
                start..steps.len()
            })
            .collect();
        for op in &mut ops {
            if let Op::End { steps, .. } = op {
                // Until here the range held the variable.
                *steps = ranges[steps.start].clone();
            }
        }
        let parallel =
            kernel.parallel.iter().map(|d| ranges[usize::from(d.var.0)].clone()).collect();
        let steps_of =
            |of: &Nonzero| of.found.iter().map(|var| ranges[usize::from(var.0)].clone()).collect();
        let nonzero = nonzero.into_iter().map(|of| Turns { of, steps: steps_of(of) }).collect();
        Flat { kernel, ops, steps, parallel, sums: sums.len(), nonzero }
    }

    /// See [`run`].
    pub fn run(&self, buffers: &mut [Data], range: Range<u64>) -> Result<(), InterpError> {
        check(self.kernel, buffers, &range)?;
        let mut state = State {
            regs: vec![[f32::NAN; WIDTH]; self.kernel.regs.len()],
            sums: vec![0; self.sums],
            left: Vec::new(),
            found: vec![Found::default(); self.nonzero.len()],
        };
        for iteration in range {
            state.regs.fill([f32::NAN; WIDTH]);
            for (data, buffer) in buffers.iter_mut().zip(&self.kernel.buffers) {
                if let (Data::F32(values), Access::Local) = (data, buffer.access) {
                    values.fill(f32::NAN);
                }
            }
            state.sums.fill(0);
            let mut rest = iteration;
            for (dim, steps) in self.kernel.parallel.iter().zip(&self.parallel).rev() {
                // Below a u32's count, so it fits.
                let value = (rest % u64::from(dim.count)) as i64;
                rest /= u64::from(dim.count);
                for step in &self.steps[steps.clone()] {
                    state.sums[step.sum] += step.by * value;
                }
            }
            self.iteration(&mut state, buffers);
        }
        Ok(())
    }

    fn iteration(&self, state: &mut State, buffers: &mut [Data]) {
        let mut next = 0;
        while let Some(op) = self.ops.get(next) {
            next += 1;
            match *op {
                Op::Begin { count, depth } => {
                    state.left.resize(depth, 0);
                    state.left.push(count);
                }
                Op::End { depth, body, count, ref steps } => {
                    let steps = &self.steps[steps.clone()];
                    state.left[depth] -= 1;
                    if state.left[depth] > 0 {
                        next = body;
                        steps.iter().for_each(|s| state.sums[s.sum] += s.by);
                    } else {
                        let back = i64::from(count - 1);
                        steps.iter().for_each(|s| state.sums[s.sum] -= s.by * back);
                    }
                }
                Op::Find { nonzero, from } => {
                    let (at, of) = (state.at(from), self.nonzero[nonzero].of);
                    let found = &mut state.found[nonzero];
                    found.values.clear();
                    // The verifier lets only f32 be looked through.
                    if let Data::F32(values) = &buffers[from.buffer] {
                        let all = (0..of.count).zip(values[at..].iter().copied());
                        found.values.extend(all.filter(|&(_, value)| value != 0.0));
                    }
                    found.next = 0;
                    found.vars = vec![0; of.found.len()];
                }
                Op::Turn { nonzero, behind } => {
                    if !self.turn(nonzero, state) {
                        next = behind;
                    }
                }
                Op::Again { turn } => next = turn,
                Op::Load { dst, lanes, from } => {
                    let at = state.at(from);
                    let out = &mut state.regs[dst.0 as usize];
                    let data = &buffers[from.buffer];
                    match lanes {
                        1 => load::<1>(out, data, at),
                        4 => load::<4>(out, data, at),
                        8 => load::<8>(out, data, at),
                        _ => load::<16>(out, data, at),
                    }
                }
                Op::Splat { dst, from } => {
                    let mut first = [0.0; WIDTH];
                    load::<1>(&mut first, &buffers[from.buffer], state.at(from));
                    state.regs[dst.0 as usize] = [first[0]; WIDTH];
                }
                Op::Store { src, lanes, to } => {
                    let at = state.at(to);
                    let lanes = usize::from(lanes);
                    // The verifier lets stores reach f32 buffers only.
                    if let Data::F32(values) = &mut buffers[to.buffer] {
                        values[at..at + lanes]
                            .copy_from_slice(&state.regs[src.0 as usize][..lanes]);
                    }
                }
                ref op => compute(op, &mut state.regs),
            }
        }
    }
}

impl Flat<'_> {
    /// Gives the indices and values of a loop over nonzero elements those of its next turn; false
    /// if there is none.
    fn turn(&self, number: usize, state: &mut State) -> bool {
        let Turns { of, steps } = &self.nonzero[number];
        let State { regs, sums, found, .. } = state;
        let found = &mut found[number];
        let goes_on = found.next < found.values.len();
        for (slot, steps) in steps.iter().enumerate() {
            let entry = found.values.get(found.next + slot).filter(|_| goes_on);
            let (index, value) = entry.copied().unwrap_or((0, 0.0));
            let by = i64::from(index) - found.vars[slot];
            self.steps[steps.clone()].iter().for_each(|step| sums[step.sum] += step.by * by);
            found.vars[slot] = i64::from(index);
            if let Some(reg) = of.values.get(slot).filter(|_| goes_on) {
                regs[reg.0 as usize] = [value; WIDTH];
            }
        }
        found.next += of.values.len();
        goes_on
    }
}

/// An instruction that touches no memory.
fn arithmetic(kernel: &Kernel, inst: &Inst) -> Option<Op> {
    Some(match *inst {
        Inst::Const { dst, value } => Op::Const { dst, value },
        Inst::Broadcast { dst, src } => Op::Broadcast { dst, src },
        Inst::Lane { dst, src, lane } => Op::Lane { dst, src, lane },
        Inst::Join { dst, src } => Op::Join { dst, src },
        Inst::Unary { op, dst, src } => Op::Unary { op, lanes: kernel.lanes(dst), dst, src },
        Inst::Binary { op, dst, a, b } => Op::Binary { op, lanes: kernel.lanes(dst), dst, a, b },
        Inst::Fma { dst, a, b, c } => Op::Fma { lanes: kernel.lanes(dst), dst, a, b, c },
        Inst::Reduce { op, dst, src } => Op::Reduce { op, lanes: kernel.lanes(src), dst, src },
        Inst::Tf32 { dst, src } => Op::Tf32 { lanes: kernel.lanes(dst), dst, src },
        // `group` does it for a warp at once.
        Inst::Mma { .. } => return None,
        Inst::Load { .. } | Inst::Splat { .. } | Inst::Store { .. } | Inst::Prefetch { .. } => {
            return None;
        }
    })
}

/// What an operation that touches no memory does.
#[inline(always)]
fn compute(op: &Op, regs: &mut [Lanes]) {
    match *op {
        Op::Const { dst, value } => regs[dst.0 as usize] = [value; WIDTH],
        Op::Broadcast { dst, src } => {
            regs[dst.0 as usize] = [regs[src.0 as usize][0]; WIDTH];
        }
        Op::Lane { dst, src, lane } => {
            regs[dst.0 as usize][0] = regs[src.0 as usize][usize::from(lane)];
        }
        Op::Join { dst, src } => {
            let lanes = src.map(|src| regs[src.0 as usize][0]);
            regs[dst.0 as usize][..4].copy_from_slice(&lanes);
        }
        Op::Unary { op, lanes, dst, src } => {
            let src = regs[src.0 as usize];
            let out = &mut regs[dst.0 as usize];
            match op {
                Unary::Copy => *out = src,
                Unary::Neg => each(lanes, out, |i| -src[i]),
                Unary::Abs => each(lanes, out, |i| src[i].abs()),
                Unary::Sqrt => each(lanes, out, |i| src[i].sqrt()),
                Unary::Round => each(lanes, out, |i| src[i].round_ties_even()),
                Unary::Pow2 => each(lanes, out, |i| pow2(src[i])),
            }
        }
        Op::Binary { op, lanes, dst, a, b } => {
            let (a, b) = (regs[a.0 as usize], regs[b.0 as usize]);
            let out = &mut regs[dst.0 as usize];
            match op {
                Binary::Add => each(lanes, out, |i| a[i] + b[i]),
                Binary::Sub => each(lanes, out, |i| a[i] - b[i]),
                Binary::Mul => each(lanes, out, |i| a[i] * b[i]),
                Binary::Div => each(lanes, out, |i| a[i] / b[i]),
                Binary::Max => each(lanes, out, |i| max(a[i], b[i])),
                Binary::Min => each(lanes, out, |i| if a[i] < b[i] { a[i] } else { b[i] }),
                Binary::SubQuarter => each(lanes, out, |i| {
                    f32::from_bits(a[i].to_bits().wrapping_sub(b[i].to_bits() >> 2))
                }),
            }
        }
        Op::Fma { lanes, dst, a, b, c } => {
            let (a, b) = (regs[a.0 as usize], regs[b.0 as usize]);
            let c = regs[c.0 as usize];
            each(lanes, &mut regs[dst.0 as usize], |i| a[i].mul_add(b[i], c[i]));
        }
        Op::Tf32 { lanes, dst, src } => {
            let src = regs[src.0 as usize];
            each(lanes, &mut regs[dst.0 as usize], |i| round_tf32(src[i]));
        }
        Op::Reduce { op, lanes, dst, src } => {
            let mut values = regs[src.0 as usize];
            let mut half = usize::from(lanes) / 2;
            while half > 0 {
                for i in 0..half {
                    let (low, high) = (values[i], values[i + half]);
                    values[i] = match op {
                        Reduce::Add => low + high,
                        Reduce::Max => max(low, high),
                    };
                }
                half /= 2;
            }
            regs[dst.0 as usize][0] = values[0];
        }
        Op::Load { .. }
        | Op::Splat { .. }
        | Op::Store { .. }
        | Op::Find { .. }
        | Op::Turn { .. }
        | Op::Again { .. }
        | Op::Begin { .. }
        | Op::End { .. } => {}
    }
}

/// Whether a call fits the kernel.
fn check(of: &Kernel, buffers: &[Data], range: &Range<u64>) -> Result<(), InterpError> {
    let kernel = || of.name.clone();
    let expected = of.buffers.len();
    if buffers.len() != expected {
        let found = buffers.len();
        return Err(InterpError::BufferCount { kernel: kernel(), expected, found });
    }
    for (buffer, data) in of.buffers.iter().zip(buffers) {
        if buffer.dtype != data.dtype() || buffer.len != data.len() {
            return Err(InterpError::Buffer {
                kernel: kernel(),
                buffer: buffer.name.clone(),
                expected: buffer.dtype,
                expected_len: buffer.len,
                found: data.dtype(),
                len: data.len(),
            });
        }
    }
    let extent = of.extent();
    if range.end > extent {
        let Range { start: begin, end } = *range;
        return Err(InterpError::Range { kernel: kernel(), extent, begin, end });
    }
    Ok(())
}

struct State {
    regs: Vec<Lanes>,
    sums: Vec<i64>,
    /// Iterations left of the open loops, outermost first.
    left: Vec<u32>,
    /// For each loop over nonzero elements.
    found: Vec<Found>,
}

impl State {
    /// In the buffer, as the verifier has proved.
    fn at(&self, memory: Memory) -> usize {
        (self.sums[memory.sum] + memory.offset) as usize
    }
}

struct Flattening<'k> {
    kernel: &'k Kernel,
    ops: Vec<Op>,
    /// Numbers of the stride sums.
    sums: HashMap<&'k [(crate::ir::Var, i64)], usize>,
    nonzero: Vec<&'k Nonzero>,
}

impl<'k> Flattening<'k> {
    fn memory(&mut self, addr: &'k Addr) -> Memory {
        let count = self.sums.len();
        let sum = *self.sums.entry(&addr.terms).or_insert(count);
        Memory { buffer: usize::from(addr.buffer.0), sum, offset: addr.offset }
    }

    fn body(&mut self, body: &'k [Stmt], depth: usize) {
        for stmt in body {
            match stmt {
                Stmt::Inst(inst) => self.inst(inst),
                Stmt::For { var, count, body } => {
                    self.ops.push(Op::Begin { count: *count, depth });
                    let start = self.ops.len();
                    self.body(body, depth + 1);
                    let var = usize::from(var.0);
                    let (count, steps) = (*count, var..var);
                    self.ops.push(Op::End { depth, body: start, count, steps });
                }
                Stmt::Nonzero(of) => {
                    let nonzero = self.nonzero.len();
                    self.nonzero.push(of);
                    let from = self.memory(&of.from);
                    self.ops.push(Op::Find { nonzero, from });
                    let turn = self.ops.len();
                    self.ops.push(Op::Turn { nonzero, behind: 0 });
                    self.body(&of.body, depth);
                    self.ops.push(Op::Again { turn });
                    let behind = self.ops.len();
                    self.ops[turn] = Op::Turn { nonzero, behind };
                }
                // `run` gives kernels with these to `group`.
                Stmt::Let { .. } | Stmt::Barrier => {}
            }
        }
    }

    fn inst(&mut self, inst: &'k Inst) {
        let kernel = self.kernel;
        let op = match *inst {
            Inst::Load { dst, ref addr } => {
                Op::Load { dst, lanes: kernel.lanes(dst), from: self.memory(addr) }
            }
            Inst::Splat { dst, ref addr } => Op::Splat { dst, from: self.memory(addr) },
            Inst::Store { ref addr, src } => {
                Op::Store { src, lanes: kernel.lanes(src), to: self.memory(addr) }
            }
            _ => match arithmetic(kernel, inst) {
                Some(op) => op,
                None => return,
            },
        };
        self.ops.push(op);
    }
}

/// One function for each width, so that the compiler unrolls it.
#[inline(always)]
fn each(lanes: u8, out: &mut Lanes, value: impl Fn(usize) -> f32) {
    match lanes {
        1 => out[0] = value(0),
        4 => (0..4).for_each(|i| out[i] = value(i)),
        8 => (0..8).for_each(|i| out[i] = value(i)),
        _ => (0..16).for_each(|i| out[i] = value(i)),
    }
}

fn load<const N: usize>(out: &mut Lanes, data: &Data, at: usize) {
    let out = &mut out[..N];
    match data {
        Data::F32(v) => out.copy_from_slice(&v[at..at + N]),
        Data::F16(v) => {
            out.iter_mut().zip(&v[at..at + N]).for_each(|(o, &bits)| *o = f16(bits));
        }
        Data::Bf16(v) => {
            out.iter_mut().zip(&v[at..at + N]).for_each(|(o, &bits)| *o = bf16(bits));
        }
        Data::I16(v) => out.iter_mut().zip(&v[at..at + N]).for_each(|(o, &i)| *o = f32::from(i)),
        Data::I8(v) => out.iter_mut().zip(&v[at..at + N]).for_each(|(o, &i)| *o = f32::from(i)),
    }
}

fn f16(bits: u16) -> f32 {
    half::f16::from_bits(bits).to_f32()
}

fn bf16(bits: u16) -> f32 {
    half::bf16::from_bits(bits).to_f32()
}

/// As the IR defines it: `f32::max` treats NaN otherwise.
fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

fn pow2(exponent: f32) -> f32 {
    if (-126.0..=127.0).contains(&exponent) && exponent.fract() == 0.0 {
        // 1..=254, the exponent's field.
        f32::from_bits(((exponent as i32 + 127) as u32) << 23)
    } else {
        f32::NAN
    }
}
