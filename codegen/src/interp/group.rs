//! Kernels for groups of items. All items of a group do a statement before any does the next one;
//! nothing is conditional, so that is one of the orders that a device may choose. That the others
//! give the same is checked: no two items may touch an element that one of them stores, unless,
//! in a group's own memory, a barrier is between them.

use super::{Data, InterpError, Lanes, WIDTH, arithmetic, compute, load};
use crate::ir::{Access, Addr, IndexOp, Inst, Kernel, Mma, ParallelDim, Reg, Stmt, Var};
use crate::mma::{WARP, multiply};
use crate::text::InstText;
use std::ops::Range;

/// Runs a call that fits the kernel.
pub(super) fn run(
    kernel: &Kernel,
    buffers: &mut [Data],
    range: Range<u64>,
) -> Result<(), InterpError> {
    // Fits: there are at most 1024.
    let items = kernel.group() as usize;
    let marks = kernel.buffers.iter().map(|b| vec![Marks::default(); b.len]).collect();
    let mut group = Group {
        kernel,
        buffers,
        regs: vec![vec![[f32::NAN; WIDTH]; kernel.regs.len()]; items],
        vars: vec![vec![0; kernel.vars.len()]; items],
        first: 0,
        phase: 0,
        marks,
    };
    for iteration in range {
        group.begin(iteration);
        group.body(&kernel.body)?;
    }
    Ok(())
}

/// Who touched an element last: numbers of items over all iterations, from 1, with the phase in
/// which they did.
#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    stored: (u64, u64),
    loaded: (u64, u64),
    /// More than one item loaded it in that phase.
    shared: bool,
}

struct Group<'k, 'd> {
    kernel: &'k Kernel,
    buffers: &'d mut [Data],
    /// Of each item its registers and variables.
    regs: Vec<Vec<Lanes>>,
    vars: Vec<Vec<i64>>,
    /// Number of the group's first item.
    first: u64,
    /// Counts barriers.
    phase: u64,
    /// Of each buffer its elements'.
    marks: Vec<Vec<Marks>>,
}

impl Group<'_, '_> {
    fn begin(&mut self, iteration: u64) {
        let kernel = self.kernel;
        let items = self.regs.len() as u64;
        self.first = 1 + iteration * items;
        self.phase += 1;
        for (data, buffer) in self.buffers.iter_mut().zip(&kernel.buffers) {
            if let (Data::F32(values), Access::Local | Access::Shared) = (data, buffer.access) {
                values.fill(f32::NAN);
            }
        }
        for (item, (regs, vars)) in self.regs.iter_mut().zip(&mut self.vars).enumerate() {
            regs.fill([f32::NAN; WIDTH]);
            place(&kernel.parallel, iteration, vars);
            place(&kernel.items, item as u64, vars);
        }
    }

    fn body(&mut self, body: &[Stmt]) -> Result<(), InterpError> {
        for stmt in body {
            match stmt {
                Stmt::Inst(inst) => self.inst(inst)?,
                Stmt::For { var, count, body } => {
                    for value in 0..*count {
                        let index = usize::from(var.0);
                        self.vars.iter_mut().for_each(|vars| vars[index] = i64::from(value));
                        self.body(body)?;
                    }
                }
                Stmt::Let { var, value } => {
                    for vars in &mut self.vars {
                        let sum = sum(value.offset, &value.terms, vars);
                        vars[usize::from(var.0)] = match value.op {
                            IndexOp::Sum => sum,
                            IndexOp::Div(by) => sum / i64::from(by),
                            IndexOp::Rem(by) => sum % i64::from(by),
                        };
                    }
                }
                Stmt::Barrier => self.phase += 1,
                // In plain kernels only, which do not come here.
                Stmt::Nonzero(_) => {}
            }
        }
        Ok(())
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), InterpError> {
        if let Inst::Mma { kind, dst, a, b, c } = *inst {
            self.regs.chunks_mut(WARP).for_each(|warp| mma(warp, kind, dst, (a, b, c)));
            return Ok(());
        }
        let op = arithmetic(self.kernel, inst);
        for item in 0..self.regs.len() {
            match (&op, inst) {
                (Some(op), _) => compute(op, &mut self.regs[item]),
                (None, Inst::Load { dst, addr }) => {
                    let lanes = usize::from(self.kernel.lanes(*dst));
                    let value = self.load(item, inst, addr, lanes)?;
                    self.regs[item][dst.0 as usize] = value;
                }
                (None, Inst::Splat { dst, addr }) => {
                    let value = self.load(item, inst, addr, 1)?[0];
                    self.regs[item][dst.0 as usize] = [value; WIDTH];
                }
                (None, Inst::Store { addr, src }) => {
                    let lanes = usize::from(self.kernel.lanes(*src));
                    let value = self.regs[item][src.0 as usize];
                    if let Some(at) = self.at(item, addr) {
                        self.mark(item, inst, addr, at..at + lanes, true)?;
                        if let Data::F32(values) = &mut self.buffers[usize::from(addr.buffer.0)] {
                            values[at..at + lanes].copy_from_slice(&value[..lanes]);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn load(
        &mut self,
        item: usize,
        inst: &Inst,
        addr: &Addr,
        lanes: usize,
    ) -> Result<Lanes, InterpError> {
        let mut value = [0.0; WIDTH];
        if let Some(at) = self.at(item, addr) {
            self.mark(item, inst, addr, at..at + lanes, false)?;
            let data = &self.buffers[usize::from(addr.buffer.0)];
            match lanes {
                1 => load::<1>(&mut value, data, at),
                4 => load::<4>(&mut value, data, at),
                8 => load::<8>(&mut value, data, at),
                _ => load::<16>(&mut value, data, at),
            }
        }
        Ok(value)
    }

    /// The first element, if the guards hold; inside the buffer, as the verifier has proved.
    fn at(&self, item: usize, addr: &Addr) -> Option<usize> {
        let vars = &self.vars[item];
        let holds = addr
            .guards
            .iter()
            .all(|guard| (0..i64::from(guard.count)).contains(&vars[usize::from(guard.var.0)]));
        holds.then(|| sum(addr.offset, &addr.terms, vars) as usize)
    }

    /// Notes an access and finds what is in its way.
    fn mark(
        &mut self,
        item: usize,
        inst: &Inst,
        addr: &Addr,
        elements: Range<usize>,
        stores: bool,
    ) -> Result<(), InterpError> {
        let index = usize::from(addr.buffer.0);
        let buffer = &self.kernel.buffers[index];
        let phase = match buffer.access {
            Access::Read | Access::Local => return Ok(()),
            Access::Shared => self.phase,
            // No barrier reaches the other groups; a group's own accesses are held apart too.
            Access::Write | Access::ReadWrite => 0,
        };
        let me = self.first + item as u64;
        for element in elements {
            let marks = &mut self.marks[index][element];
            let others = |(who, when): (u64, u64)| who != 0 && who != me && when == phase;
            let mixed = stores && marks.shared && marks.loaded.1 == phase;
            if others(marks.stored) || (stores && (others(marks.loaded) || mixed)) {
                return Err(InterpError::Race {
                    kernel: self.kernel.name.clone(),
                    buffer: buffer.name.clone(),
                    element,
                    instruction: InstText { kernel: self.kernel, inst }.to_string(),
                });
            }
            if stores {
                marks.stored = (me, phase);
            } else {
                marks.shared = others(marks.loaded) || (marks.shared && marks.loaded.1 == phase);
                marks.loaded = (me, phase);
            }
        }
        Ok(())
    }
}

/// A product of a warp; the verifier lets whole warps through.
fn mma(warp: &mut [Vec<Lanes>], kind: Mma, dst: Reg, (a, b, c): ([Reg; 2], Reg, Reg)) {
    let four = |item: usize, reg: Reg| -> [f32; 4] {
        std::array::from_fn(|lane| warp[item][reg.0 as usize][lane])
    };
    let mut sums: [[f32; 4]; WARP] = std::array::from_fn(|item| four(item, c));
    multiply(kind, |item, half| four(item, a[half]), |item| four(item, b), &mut sums);
    for (regs, sums) in warp.iter_mut().zip(&sums) {
        regs[dst.0 as usize][..4].copy_from_slice(sums);
    }
}

/// Sets the variables of a space of dimensions, the last one fastest.
fn place(dims: &[ParallelDim], mut rest: u64, vars: &mut [i64]) {
    for dim in dims.iter().rev() {
        vars[usize::from(dim.var.0)] = (rest % u64::from(dim.count)) as i64;
        rest /= u64::from(dim.count);
    }
}

fn sum(offset: i64, terms: &[(Var, i64)], vars: &[i64]) -> i64 {
    offset + terms.iter().map(|&(var, by)| by * vars[usize::from(var.0)]).sum::<i64>()
}
