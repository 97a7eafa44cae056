//! Spelling kernels in Rust: loops as closures, addresses as affine expressions of loop indices.
//! Lowerings use this; the result still has to pass `verify`.

use crate::ir::{
    Access, Addr, Binary, Buffer, BufferId, DType, Guard, Index, IndexOp, Inst, Kernel, Mma,
    Nonzero, ParallelDim, Reduce, Reg, Stmt, Unary, Var,
};
use std::ops::{Add, Mul, Sub};

/// An affine expression of loop variables: a loop index or a position in a buffer, in elements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Affine {
    offset: i64,
    terms: Vec<(Var, i64)>,
}

impl Affine {
    fn variable(var: Var) -> Self {
        Affine { offset: 0, terms: vec![(var, 1)] }
    }

    fn plus(mut self, other: &Affine) -> Self {
        self.offset += other.offset;
        for &(var, coefficient) in &other.terms {
            match self.terms.binary_search_by_key(&var, |t| t.0) {
                Ok(at) => {
                    self.terms[at].1 += coefficient;
                    if self.terms[at].1 == 0 {
                        self.terms.remove(at);
                    }
                }
                Err(at) => self.terms.insert(at, (var, coefficient)),
            }
        }
        self
    }
}

impl From<usize> for Affine {
    fn from(offset: usize) -> Self {
        Affine { offset: offset as i64, terms: Vec::new() }
    }
}

impl From<i64> for Affine {
    fn from(offset: i64) -> Self {
        Affine { offset, terms: Vec::new() }
    }
}

impl From<&Affine> for Affine {
    fn from(affine: &Affine) -> Self {
        affine.clone()
    }
}

impl<T: Into<Affine>> Add<T> for Affine {
    type Output = Affine;
    fn add(self, other: T) -> Affine {
        self.plus(&other.into())
    }
}

impl<T: Into<Affine>> Add<T> for &Affine {
    type Output = Affine;
    fn add(self, other: T) -> Affine {
        self.clone().plus(&other.into())
    }
}

impl Sub<&Affine> for Affine {
    type Output = Affine;
    fn sub(self, other: &Affine) -> Affine {
        let terms = other.terms.iter().map(|&(var, coefficient)| (var, -coefficient)).collect();
        self.plus(&Affine { offset: -other.offset, terms })
    }
}

impl Mul<usize> for &Affine {
    type Output = Affine;
    fn mul(self, factor: usize) -> Affine {
        let factor = factor as i64;
        if factor == 0 {
            return Affine::default();
        }
        Affine {
            offset: self.offset * factor,
            terms: self.terms.iter().map(|&(v, c)| (v, c * factor)).collect(),
        }
    }
}

impl Mul<usize> for Affine {
    type Output = Affine;
    fn mul(self, factor: usize) -> Affine {
        &self * factor
    }
}

/// A position with the conditions of the access.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct At {
    affine: Affine,
    guards: Vec<Guard>,
}

impl<T: Into<Affine>> From<T> for At {
    fn from(affine: T) -> Self {
        At { affine: affine.into(), guards: Vec::new() }
    }
}

impl At {
    /// Another position under the same conditions.
    pub fn alike(&self, at: impl Into<Affine>) -> At {
        At { affine: at.into(), guards: self.guards.clone() }
    }

    /// Accessed only where `0 <= var < count`; the variable is a single one, as [`Builder::var`]
    /// gives it. A constant inside the bounds needs no condition.
    pub fn within(mut self, var: &Affine, count: usize) -> At {
        debug_assert!(var.terms.is_empty() || (var.offset == 0 && var.terms.len() == 1));
        if let [(var, 1)] = var.terms[..] {
            self.guards.push(Guard { var, count: count as u32 });
        }
        self
    }
}

/// A kernel being written.
#[derive(Debug)]
pub struct Builder {
    kernel: Kernel,
    open: Vec<Vec<Stmt>>,
}

impl Builder {
    /// A kernel without buffers, loops or instructions.
    pub fn new(name: &str) -> Self {
        Builder {
            kernel: Kernel {
                name: name.to_owned(),
                buffers: Vec::new(),
                vars: Vec::new(),
                regs: Vec::new(),
                parallel: Vec::new(),
                items: Vec::new(),
                body: Vec::new(),
            },
            open: vec![Vec::new()],
        }
    }

    /// Declares an f32 buffer of `len` elements.
    pub fn buffer(&mut self, name: &str, len: usize, access: Access) -> BufferId {
        self.typed_buffer(name, DType::F32, len, access)
    }

    /// Declares a buffer of `len` elements of any type.
    pub fn typed_buffer(
        &mut self,
        name: &str,
        dtype: DType,
        len: usize,
        access: Access,
    ) -> BufferId {
        let id = BufferId(self.kernel.buffers.len() as u16);
        self.kernel.buffers.push(Buffer { name: name.to_owned(), dtype, len, access });
        id
    }

    fn new_var(&mut self, name: &str) -> Var {
        let var = Var(self.kernel.vars.len() as u16);
        // Several loops of a kernel may go by the same name in the lowering.
        let taken = |n: &str| self.kernel.vars.iter().any(|v| v == n);
        let mut unique = name.to_owned();
        let mut count = 1;
        while taken(&unique) {
            count += 1;
            unique = format!("{name}_{count}");
        }
        self.kernel.vars.push(unique);
        var
    }

    /// The next dimension of the parallel space; all of them come before the first statement.
    /// A dimension of one iteration is left out.
    pub fn parallel(&mut self, name: &str, count: usize) -> Affine {
        if count == 1 {
            return Affine::default();
        }
        let var = self.new_var(name);
        self.kernel.parallel.push(ParallelDim { var, count: count as u32 });
        Affine::variable(var)
    }

    /// Where every parallel dimension had one iteration, one such dimension stands for them. Its
    /// variable is numbered before those of the loops.
    fn complete_parallel(&mut self) {
        if self.kernel.parallel.is_empty() {
            let var = self.new_var("once");
            self.kernel.parallel.push(ParallelDim { var, count: 1 });
        }
    }

    /// A loop. One iteration needs no loop, none needs no body.
    pub fn repeat(&mut self, name: &str, count: usize, body: impl FnOnce(&mut Self, Affine)) {
        match count {
            0 => {}
            1 => body(self, Affine::default()),
            _ => {
                self.complete_parallel();
                let var = self.new_var(name);
                self.open.push(Vec::new());
                body(self, Affine::variable(var));
                let body = self.open.pop().unwrap_or_default();
                self.push(Stmt::For { var, count: count as u32, body });
            }
        }
    }

    /// A loop over those of `count` elements from `from` on that are not zero, `values.len()` at a
    /// time; see [`Nonzero`], whose list has [`Builder::list_len`] elements. The body gets the
    /// indices of the elements whose turn it is and then of those whose turn is next, as many again.
    pub fn nonzero(
        &mut self,
        name: &str,
        (from, at): (BufferId, &Affine),
        count: usize,
        list: BufferId,
        values: &[Reg],
        body: impl FnOnce(&mut Self, &[Affine], &[Affine]),
    ) {
        self.complete_parallel();
        let found: Vec<Var> = (0..2 * values.len()).map(|_| self.new_var(name)).collect();
        self.open.push(Vec::new());
        let indices: Vec<Affine> = found.iter().map(|&var| Affine::variable(var)).collect();
        let (now, next) = indices.split_at(values.len());
        body(self, now, next);
        let body = self.open.pop().unwrap_or_default();
        self.push(Stmt::Nonzero(Nonzero {
            from: Self::addr(from, at.clone()),
            count: count as u32,
            list,
            found,
            values: values.to_vec(),
            body,
        }));
    }

    /// Elements of the list of [`Builder::nonzero`].
    pub fn list_len(count: usize, values: usize) -> usize {
        Nonzero::list_len(count, 2 * values)
    }

    /// The next dimension of a group's items; all of them come behind the parallel space and
    /// before the first statement.
    pub fn item(&mut self, name: &str, count: usize) -> Affine {
        self.complete_parallel();
        let var = self.new_var(name);
        self.kernel.items.push(ParallelDim { var, count: count as u32 });
        Affine::variable(var)
    }

    fn index(&mut self, name: &str, value: Affine, op: IndexOp) -> Affine {
        self.complete_parallel();
        let var = self.new_var(name);
        let Affine { offset, terms } = value;
        self.push(Stmt::Let { var, value: Index { offset, terms, op } });
        Affine::variable(var)
    }

    /// Names an affine expression, so that it can stand in a condition.
    pub fn var(&mut self, name: &str, value: impl Into<Affine>) -> Affine {
        self.index(name, value.into(), IndexOp::Sum)
    }

    /// `value / by`, rounded down, of a value that is not negative.
    pub fn div(&mut self, name: &str, value: &Affine, by: usize) -> Affine {
        if by == 1 {
            return value.clone();
        }
        self.index(name, value.clone(), IndexOp::Div(by as u32))
    }

    /// `value % by`, of a value that is not negative.
    pub fn rem(&mut self, name: &str, value: &Affine, by: usize) -> Affine {
        if by == 1 {
            return Affine::default();
        }
        self.index(name, value.clone(), IndexOp::Rem(by as u32))
    }

    /// Waits for the other items of the group.
    pub fn barrier(&mut self) {
        self.push(Stmt::Barrier);
    }

    fn push(&mut self, stmt: Stmt) {
        if let Some(body) = self.open.last_mut() {
            body.push(stmt);
        }
    }

    fn inst(&mut self, inst: Inst) {
        self.push(Stmt::Inst(inst));
    }

    /// A new register.
    pub fn reg(&mut self, lanes: u8) -> Reg {
        let reg = Reg(self.kernel.regs.len() as u32);
        self.kernel.regs.push(lanes);
        reg
    }

    fn addr(buffer: BufferId, at: impl Into<At>) -> Addr {
        let At { affine: Affine { offset, terms }, guards } = at.into();
        Addr { buffer, offset, terms, guards }
    }

    /// A new register holding a constant in all lanes.
    pub fn constant(&mut self, lanes: u8, value: f32) -> Reg {
        let dst = self.reg(lanes);
        self.set_constant(dst, value);
        dst
    }

    /// Overwrites a register with a constant.
    pub fn set_constant(&mut self, dst: Reg, value: f32) {
        self.inst(Inst::Const { dst, value });
    }

    /// Loads consecutive elements into a new register.
    pub fn load(&mut self, lanes: u8, buffer: BufferId, at: impl Into<At>) -> Reg {
        let dst = self.reg(lanes);
        self.load_into(dst, buffer, at);
        dst
    }

    /// Loads consecutive elements into a register.
    pub fn load_into(&mut self, dst: Reg, buffer: BufferId, at: impl Into<At>) {
        self.inst(Inst::Load { dst, addr: Self::addr(buffer, at) });
    }

    /// Loads one element into all lanes of a new register.
    pub fn splat(&mut self, lanes: u8, buffer: BufferId, at: impl Into<At>) -> Reg {
        let dst = self.reg(lanes);
        self.splat_into(dst, buffer, at);
        dst
    }

    /// Loads one element into all lanes of a register.
    pub fn splat_into(&mut self, dst: Reg, buffer: BufferId, at: impl Into<At>) {
        self.inst(Inst::Splat { dst, addr: Self::addr(buffer, at) });
    }

    /// One-lane register into all lanes of a new one.
    pub fn broadcast(&mut self, lanes: u8, src: Reg) -> Reg {
        let dst = self.reg(lanes);
        self.inst(Inst::Broadcast { dst, src });
        dst
    }

    /// Stores consecutive elements.
    pub fn store(&mut self, buffer: BufferId, at: impl Into<At>, src: Reg) {
        self.inst(Inst::Store { addr: Self::addr(buffer, at), src });
    }

    /// Hints that an element will be read.
    pub fn prefetch(&mut self, buffer: BufferId, at: impl Into<At>) {
        self.inst(Inst::Prefetch { addr: Self::addr(buffer, at) });
    }

    /// One-register function into a new register.
    pub fn unary(&mut self, op: Unary, src: Reg) -> Reg {
        let dst = self.reg(self.kernel.lanes(src));
        self.inst(Inst::Unary { op, dst, src });
        dst
    }

    /// Overwrites a register with another.
    pub fn copy_into(&mut self, dst: Reg, src: Reg) {
        self.inst(Inst::Unary { op: Unary::Copy, dst, src });
    }

    /// Two-register function into a new register.
    pub fn binary(&mut self, op: Binary, a: Reg, b: Reg) -> Reg {
        let dst = self.reg(self.kernel.lanes(a));
        self.binary_into(op, dst, a, b);
        dst
    }

    /// Two-register function into a register.
    pub fn binary_into(&mut self, op: Binary, dst: Reg, a: Reg, b: Reg) {
        self.inst(Inst::Binary { op, dst, a, b });
    }

    /// `a * b + c` into a new register.
    pub fn fma(&mut self, a: Reg, b: Reg, c: Reg) -> Reg {
        let dst = self.reg(self.kernel.lanes(a));
        self.fma_into(dst, a, b, c);
        dst
    }

    /// `dst = a * b + c`.
    pub fn fma_into(&mut self, dst: Reg, a: Reg, b: Reg, c: Reg) {
        self.inst(Inst::Fma { dst, a, b, c });
    }

    /// To the nearest tf32, into a new register.
    pub fn tf32(&mut self, src: Reg) -> Reg {
        let dst = self.reg(self.kernel.lanes(src));
        self.inst(Inst::Tf32 { dst, src });
        dst
    }

    /// Adds a product of a warp to its sums.
    pub fn mma_into(&mut self, kind: Mma, sums: Reg, a: [Reg; 2], b: Reg) {
        self.inst(Inst::Mma { kind, dst: sums, a, b, c: sums });
    }

    /// All lanes into a new one-lane register.
    pub fn reduce(&mut self, op: Reduce, src: Reg) -> Reg {
        let dst = self.reg(1);
        self.inst(Inst::Reduce { op, dst, src });
        dst
    }

    /// One lane of a register into a new one-lane register.
    pub fn lane(&mut self, src: Reg, lane: u8) -> Reg {
        let dst = self.reg(1);
        self.inst(Inst::Lane { dst, src, lane });
        dst
    }

    /// Four one-lane registers into a new one.
    pub fn join(&mut self, src: [Reg; 4]) -> Reg {
        let dst = self.reg(4);
        self.inst(Inst::Join { dst, src });
        dst
    }

    /// Lanes of a register.
    pub fn lanes(&self, reg: Reg) -> u8 {
        self.kernel.lanes(reg)
    }

    /// The finished kernel.
    pub fn finish(mut self) -> Kernel {
        self.complete_parallel();
        self.kernel.body = self.open.pop().unwrap_or_default();
        self.kernel
    }
}
