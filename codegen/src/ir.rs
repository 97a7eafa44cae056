//! The Kernel IR: one loop nest over named buffers, for one fused operator.
//!
//! A kernel is a `parallel` index space (split over threads by the runtime), and under it a tree
//! of counted loops and instructions on virtual vector registers. Everything is known: trip
//! counts are constants (but for [`Nonzero`], whose indices are bounded all the same), addresses are
//! affine in the loop variables, so `verify` can prove every access inside its buffer. Registers are mutable (an accumulator is written again and again in
//! a loop); a register must be written on every path before it is read.
//!
//! An iteration may be the work of a group of items that run side by side, as on a GPU: see
//! [`Kernel::items`]. Only the OpenCL emitter and the interpreter take such kernels.
//!
//! Nothing here knows a convolution: lowerings in the compiler spell tiles, panels and transforms
//! out in these instructions; emitters only allocate registers and choose machine instructions.

/// Element type of a buffer in memory. In registers everything is f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16, widened when loaded.
    F16,
    /// bfloat16, widened when loaded.
    Bf16,
    /// Signed 16-bit integer, converted when loaded.
    I16,
    /// Signed 8-bit integer, converted when loaded.
    I8,
}

impl DType {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::Bf16 | DType::I16 => 2,
            DType::I8 => 1,
        }
    }

    /// Name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::I16 => "i16",
            DType::I8 => "i8",
        }
    }
}

/// What a kernel may do with a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Load only.
    Read,
    /// Store only.
    Write,
    /// Load and store.
    ReadWrite,
    /// Scratch of one thread: contents are undefined when an iteration of the parallel space
    /// begins.
    Local,
    /// Memory of a group: all items of an iteration load and store it. Contents are undefined
    /// when an iteration begins.
    Shared,
}

/// A buffer parameter. Distinct parameters never overlap, except two `Read` ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Buffer {
    /// Unique in the kernel.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Length in elements.
    pub len: usize,
    /// Allowed accesses.
    pub access: Access,
}

/// Index into [`Kernel::buffers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u16);

/// Index into [`Kernel::vars`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Var(pub u16);

/// Index into [`Kernel::regs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(pub u32);

/// A position in a buffer, in elements: `offset + sum of coefficient * variable`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Addr {
    /// The buffer.
    pub buffer: BufferId,
    /// Constant part.
    pub offset: i64,
    /// Loop variables with their (nonzero) coefficients, sorted by variable, each at most once.
    pub terms: Vec<(Var, i64)>,
    /// The access takes place only where all of these hold; elsewhere a load gives zeros and a
    /// store does nothing.
    pub guards: Vec<Guard>,
}

/// `0 <= var < count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guard {
    /// The variable.
    pub var: Var,
    /// One more than its largest value.
    pub count: u32,
}

/// The value of a variable that [`Stmt::Let`] names: a function of
/// `offset + sum of coefficient * variable`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Index {
    /// Constant part.
    pub offset: i64,
    /// As in [`Addr::terms`].
    pub terms: Vec<(Var, i64)>,
    /// The function.
    pub op: IndexOp,
}

/// See [`Index`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IndexOp {
    /// The sum itself.
    Sum,
    /// Divided by a constant, rounded down; the sum is never negative.
    Div(u32),
    /// The remainder of that division.
    Rem(u32),
}

/// Functions of one register, lane by lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unary {
    /// Plain copy.
    Copy,
    /// Sign flipped.
    Neg,
    /// Absolute value.
    Abs,
    /// Correctly rounded square root.
    Sqrt,
    /// To the nearest integer, ties to even.
    Round,
    /// `2^x` for an integral `x` in -126..=127 (other values: unspecified, but no trap).
    Pow2,
}

/// Functions of two registers of the same lane count, lane by lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binary {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// a * b
    Mul,
    /// a / b, correctly rounded.
    Div,
    /// `if a > b { a } else { b }`: b where either is NaN (x86's maxps).
    Max,
    /// `if a < b { a } else { b }`: b where either is NaN (x86's minps).
    Min,
    /// The bits of a minus a quarter of the bits of b (rounded down), both unsigned integers, modulo
    /// 2^32. The bits of a float are about its logarithm: with 5/4 of the bits of 1.0 as `a` this
    /// guesses the fourth root of 1 / b. The constant is an operand so that it stays in a register.
    SubQuarter,
}

/// Functions of all lanes of a register; the result has one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reduce {
    /// Sum by halves: lanes i and i + n/2 first, then again until one is left.
    Add,
    /// Maximum by halves, each step as [`Binary::Max`] of (low half, high half).
    Max,
}

/// Products of matrices by the 32 items of a warp together: 16 by 16 times 16 by 8, with sums in
/// f32. [`crate::mma`] says which item has which elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mma {
    /// Operands count as tf32: the lower 13 bits do not matter.
    Tf32,
    /// Operands are rounded to f16, ties to even.
    F16,
}

/// Instructions.
#[derive(Debug, Clone, PartialEq)]
pub enum Inst {
    /// All lanes of `dst` become `value`.
    Const {
        /// Result.
        dst: Reg,
        /// The value (kept bit for bit in the text form).
        value: f32,
    },
    /// Consecutive elements, as many as `dst` has lanes; no alignment needed.
    Load {
        /// Result.
        dst: Reg,
        /// First element.
        addr: Addr,
    },
    /// One element into all lanes.
    Splat {
        /// Result.
        dst: Reg,
        /// The element.
        addr: Addr,
    },
    /// One-lane register into all lanes of `dst`.
    Broadcast {
        /// Result.
        dst: Reg,
        /// One-lane source.
        src: Reg,
    },
    /// One lane of a register. Like groups, for OpenCL only.
    Lane {
        /// One-lane result.
        dst: Reg,
        /// Source.
        src: Reg,
        /// Which lane.
        lane: u8,
    },
    /// Four one-lane registers as the lanes of one. Like groups, for OpenCL only.
    Join {
        /// Four-lane result.
        dst: Reg,
        /// Its lanes.
        src: [Reg; 4],
    },
    /// Consecutive elements, as many as `src` has lanes. F32 buffers only.
    Store {
        /// First element.
        addr: Addr,
        /// Value.
        src: Reg,
    },
    /// See [`Unary`].
    Unary {
        /// Function.
        op: Unary,
        /// Result.
        dst: Reg,
        /// Argument, same lanes.
        src: Reg,
    },
    /// See [`Binary`].
    Binary {
        /// Function.
        op: Binary,
        /// Result.
        dst: Reg,
        /// First argument, same lanes.
        a: Reg,
        /// Second argument, same lanes.
        b: Reg,
    },
    /// `dst = a * b + c`, rounded once where the target has fused multiply-add.
    Fma {
        /// Result.
        dst: Reg,
        /// Factor.
        a: Reg,
        /// Factor.
        b: Reg,
        /// Addend.
        c: Reg,
    },
    /// To the nearest tf32, ties away from zero, lane by lane. For OpenCL only.
    Tf32 {
        /// Result.
        dst: Reg,
        /// Argument, same lanes.
        src: Reg,
    },
    /// `dst = a * b + c`, see [`Mma`]. For groups of whole warps only.
    Mma {
        /// Operands' type.
        kind: Mma,
        /// Four sums.
        dst: Reg,
        /// Four elements of the left matrix's first eight columns, and four of the others.
        a: [Reg; 2],
        /// Four elements of the right matrix.
        b: Reg,
        /// Four addends.
        c: Reg,
    },
    /// See [`Reduce`].
    Reduce {
        /// Function.
        op: Reduce,
        /// One-lane result.
        dst: Reg,
        /// Argument.
        src: Reg,
    },
    /// Hint: the cache line of this element will be read soon. The address may lie outside the
    /// buffer and is never dereferenced.
    Prefetch {
        /// The element.
        addr: Addr,
    },
}

impl Inst {
    /// The register it writes.
    pub fn dst(&self) -> Option<Reg> {
        match *self {
            Inst::Const { dst, .. }
            | Inst::Load { dst, .. }
            | Inst::Splat { dst, .. }
            | Inst::Broadcast { dst, .. }
            | Inst::Lane { dst, .. }
            | Inst::Join { dst, .. }
            | Inst::Unary { dst, .. }
            | Inst::Binary { dst, .. }
            | Inst::Fma { dst, .. }
            | Inst::Tf32 { dst, .. }
            | Inst::Mma { dst, .. }
            | Inst::Reduce { dst, .. } => Some(dst),
            Inst::Store { .. } | Inst::Prefetch { .. } => None,
        }
    }

    /// The registers it reads, in order.
    pub fn uses(&self) -> impl Iterator<Item = Reg> + use<> {
        let list = match *self {
            Inst::Const { .. } | Inst::Load { .. } | Inst::Splat { .. } | Inst::Prefetch { .. } => {
                [None; 4]
            }
            Inst::Broadcast { src, .. }
            | Inst::Lane { src, .. }
            | Inst::Store { src, .. }
            | Inst::Unary { src, .. }
            | Inst::Tf32 { src, .. }
            | Inst::Reduce { src, .. } => [Some(src), None, None, None],
            Inst::Binary { a, b, .. } => [Some(a), Some(b), None, None],
            Inst::Fma { a, b, c, .. } => [Some(a), Some(b), Some(c), None],
            Inst::Join { src, .. } => src.map(Some),
            Inst::Mma { a, b, c, .. } => [Some(a[0]), Some(a[1]), Some(b), Some(c)],
        };
        list.into_iter().flatten()
    }

    /// The memory operand, if there is one.
    pub fn addr(&self) -> Option<&Addr> {
        match self {
            Inst::Load { addr, .. }
            | Inst::Splat { addr, .. }
            | Inst::Store { addr, .. }
            | Inst::Prefetch { addr } => Some(addr),
            _ => None,
        }
    }
}

/// A statement of a body.
#[derive(Debug, Clone, PartialEq)]
pub enum Stmt {
    /// One instruction.
    Inst(Inst),
    /// `body` for `var` = 0, 1, ... `count` - 1; `count` is at least 1.
    For {
        /// The loop variable, used by this loop only.
        var: Var,
        /// Trip count.
        count: u32,
        /// What is repeated.
        body: Vec<Stmt>,
    },
    /// `var` is `value` from here to the end of the block.
    Let {
        /// The variable, named by this statement only.
        var: Var,
        /// Its value.
        value: Index,
    },
    /// No item of the group goes on before all are here and see what the others stored in shared
    /// buffers. Nothing around one is conditional, so all items meet the same barriers.
    Barrier,
    /// A loop over the elements of memory that are not zero.
    Nonzero(Nonzero),
}

/// `body` for the elements `0..count` of a run of memory that are not zero (a NaN is not), in
/// ascending order and several at a time, all known before the first ones' turn. It may run zero
/// times: a register that it writes counts as unwritten behind it.
///
/// What ReLU leaves is zero in many places, and a product with zero need not be computed, nor its
/// other factor be loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Nonzero {
    /// The first of them, f32, not conditional.
    pub from: Addr,
    /// How many there are; at least 1.
    pub count: u32,
    /// Scratch of [`Nonzero::list_len`] elements that nothing else names: the values that were
    /// found, then in the other half their indices.
    pub list: BufferId,
    /// Indices, below `count`: of the elements whose turn it is, as many as `values`, then of those
    /// whose turn comes next. Where there are no more, 0.
    pub found: Vec<Var>,
    /// The elements whose turn it is, each in all lanes of a register. Where there are no more,
    /// zero.
    pub values: Vec<Reg>,
    /// What is done with them.
    pub body: Vec<Stmt>,
}

impl Nonzero {
    /// Elements that the list of a loop over `count` elements with `found` indices must have: two
    /// halves, each with room behind the last entry for those that are missing.
    pub fn list_len(count: usize, found: usize) -> usize {
        2 * (count + found)
    }

    /// Where the indices begin in its list.
    pub fn half_list(&self) -> usize {
        Self::list_len(self.count as usize, self.found.len()) / 2
    }

    /// Times that the body runs if no element is zero.
    pub fn most_times(&self) -> u32 {
        self.count.div_ceil(self.values.len().max(1) as u32)
    }
}

/// One dimension of the parallel index space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParallelDim {
    /// Its variable.
    pub var: Var,
    /// Values 0..count; at least 1.
    pub count: u32,
}

/// A kernel. Its entry runs the iterations `begin..end` of the parallel space, numbered with the
/// last dimension fastest. Iterations are independent: any split over threads gives the same
/// bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// Name, a C identifier.
    pub name: String,
    /// Parameters.
    pub buffers: Vec<Buffer>,
    /// Names of the loop variables, unique.
    pub vars: Vec<String>,
    /// Lane counts of the registers: 1, 4, 8 or 16.
    pub regs: Vec<u8>,
    /// The parallel space, outermost first; at least one dimension.
    pub parallel: Vec<ParallelDim>,
    /// The items of a group, outermost first: each iteration of the parallel space runs the body
    /// once for each of them, side by side. None: an iteration is one item.
    pub items: Vec<ParallelDim>,
    /// What each iteration does.
    pub body: Vec<Stmt>,
}

impl Kernel {
    /// Iterations of the parallel space.
    pub fn extent(&self) -> u64 {
        self.parallel.iter().map(|d| u64::from(d.count)).product()
    }

    /// Items of a group.
    pub fn group(&self) -> u64 {
        self.items.iter().map(|d| u64::from(d.count)).product()
    }

    /// Whether it is nothing but loops and unconditional accesses: what CPU emitters take.
    pub fn is_plain(&self) -> bool {
        fn plain(body: &[Stmt]) -> bool {
            body.iter().all(|stmt| match stmt {
                Stmt::Inst(
                    Inst::Lane { .. } | Inst::Join { .. } | Inst::Tf32 { .. } | Inst::Mma { .. },
                ) => false,
                Stmt::Inst(inst) => inst.addr().is_none_or(|addr| addr.guards.is_empty()),
                Stmt::For { body, .. } | Stmt::Nonzero(Nonzero { body, .. }) => plain(body),
                Stmt::Let { .. } | Stmt::Barrier => false,
            })
        }
        self.items.is_empty()
            && self.buffers.iter().all(|buffer| buffer.access != Access::Shared)
            && plain(&self.body)
    }

    /// Lanes of a register.
    pub fn lanes(&self, reg: Reg) -> u8 {
        self.regs[reg.0 as usize]
    }

    /// How many values each loop variable takes; 1 for the variables of [`Stmt::Let`].
    pub fn trip_counts(&self) -> Vec<u32> {
        fn walk(body: &[Stmt], counts: &mut [u32]) {
            for stmt in body {
                match stmt {
                    Stmt::For { var, count, body } => {
                        counts[usize::from(var.0)] = *count;
                        walk(body, counts);
                    }
                    Stmt::Nonzero(Nonzero { count, found, body, .. }) => {
                        found.iter().for_each(|var| counts[usize::from(var.0)] = *count);
                        walk(body, counts);
                    }
                    Stmt::Inst(_) | Stmt::Let { .. } | Stmt::Barrier => {}
                }
            }
        }
        let mut counts = vec![1; self.vars.len()];
        for dim in self.parallel.iter().chain(&self.items) {
            counts[usize::from(dim.var.0)] = dim.count;
        }
        walk(&self.body, &mut counts);
        counts
    }

    /// Whether it passes over elements that are zero.
    pub fn has_nonzero(&self) -> bool {
        let mut has = false;
        self.for_each_nonzero(&mut |_| has = true);
        has
    }

    /// Calls `visit` on every loop over elements that are not zero.
    pub fn for_each_nonzero<'a>(&'a self, visit: &mut impl FnMut(&'a Nonzero)) {
        fn walk<'a>(body: &'a [Stmt], visit: &mut impl FnMut(&'a Nonzero)) {
            for stmt in body {
                match stmt {
                    Stmt::For { body, .. } => walk(body, visit),
                    Stmt::Nonzero(nonzero) => {
                        visit(nonzero);
                        walk(&nonzero.body, visit);
                    }
                    Stmt::Inst(_) | Stmt::Let { .. } | Stmt::Barrier => {}
                }
            }
        }
        walk(&self.body, visit);
    }

    /// Calls `visit` on every instruction with the number of times that one run of the whole
    /// parallel space executes it, by all items: at most, for what is done with elements that are
    /// not zero.
    pub fn for_each_inst<'a>(&'a self, visit: &mut impl FnMut(&'a Inst, u64)) {
        fn walk<'a>(body: &'a [Stmt], times: u64, visit: &mut impl FnMut(&'a Inst, u64)) {
            for stmt in body {
                match stmt {
                    Stmt::Inst(inst) => visit(inst, times),
                    Stmt::For { count, body, .. } => walk(body, times * u64::from(*count), visit),
                    Stmt::Nonzero(nonzero) => {
                        walk(&nonzero.body, times * u64::from(nonzero.most_times()), visit);
                    }
                    Stmt::Let { .. } | Stmt::Barrier => {}
                }
            }
        }
        walk(&self.body, self.extent() * self.group(), visit);
    }
}
