//! What the verifier says: where in a kernel something is wrong, and what.

use super::{MAX_GROUP, MAX_LOOP_DEPTH};
use crate::ir::{Access, DType};
use std::fmt::{self, Display, Formatter};

/// Which part of a kernel an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The kernel as a whole.
    Kernel,
    /// Index into [`Kernel::buffers`](crate::ir::Kernel::buffers).
    Buffer(usize),
    /// Index into [`Kernel::regs`](crate::ir::Kernel::regs).
    Register(usize),
    /// Index into [`Kernel::parallel`](crate::ir::Kernel::parallel).
    Parallel(usize),
    /// A statement of the body.
    Statement {
        /// Number of the statement, counted as the text form is read: a loop before its body.
        number: usize,
        /// The loops around it, outermost first, as `name in 0..count`.
        loops: Vec<String>,
        /// The statement in the text form; of a loop its head.
        text: String,
    },
}

/// A rule that a kernel breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyError {
    /// Name of the kernel.
    pub kernel: String,
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub problem: Problem,
}

impl std::error::Error for VerifyError {}

impl Display for VerifyError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}: ", self.kernel)?;
        if let Place::Statement { loops, text, .. } = &self.place {
            write!(f, "`{text}`")?;
            if !loops.is_empty() {
                write!(f, " (for {})", loops.join(", "))?;
            }
            f.write_str(": ")?;
        }
        write!(f, "{}", self.problem)
    }
}

/// What can be wrong with a kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A name that no C program could use.
    #[error("{what} `{name}` is not a C identifier")]
    NotIdentifier {
        /// Kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Two things of the same name.
    #[error("two {what}s are called `{name}`")]
    DuplicateName {
        /// Kind of thing.
        what: &'static str,
        /// Their name.
        name: String,
    },
    /// A buffer of no elements.
    #[error("buffer `{buffer}` has no elements")]
    EmptyBuffer {
        /// Its name.
        buffer: String,
    },
    /// More bytes than an address can reach.
    #[error("buffer `{buffer}` of {len} elements is larger than an address can reach")]
    HugeBuffer {
        /// Its name.
        buffer: String,
        /// Its length in elements.
        len: usize,
    },
    /// A lane count that registers do not have.
    #[error("v{register} has {lanes} lanes; registers have 1, 4, 8 or 16")]
    LaneCount {
        /// Number of the register.
        register: u32,
        /// Its lanes.
        lanes: u8,
    },
    /// No parallel dimension.
    #[error("the parallel space has no dimension")]
    NoParallel,
    /// The iterations cannot be counted.
    #[error("more than 2^63 iterations")]
    HugeExtent,
    /// A loop that runs zero times.
    #[error("`{var}` takes no value: loops run at least once")]
    EmptyLoop {
        /// Its variable.
        var: String,
    },
    /// Loops in loops, more than `MAX_LOOP_DEPTH` deep.
    #[error("more than {MAX_LOOP_DEPTH} loops inside one another")]
    TooDeep,
    /// Variables out of order, in two loops, or in none.
    #[error(
        "loop variable number {found} opens where number {expected} is next (each variable \
         belongs to one loop, numbered in the order in which the loops open)"
    )]
    VarOrder {
        /// The variable's index.
        found: u16,
        /// The index that is next.
        expected: usize,
    },
    /// More items than a work-group has anywhere.
    #[error("{items} items are more than the {MAX_GROUP} of a group")]
    LargeGroup {
        /// Their number.
        items: u64,
    },
    /// Something between the items of a group where there are none.
    #[error("{what} needs a group of items")]
    NoGroup {
        /// What it is.
        what: &'static str,
    },
    /// A product of a warp's items in a group without, or with a part of a warp.
    #[error("a product of matrices is the work of 32 items together; the group has {items}")]
    NoWarps {
        /// Items of the group.
        items: u64,
    },
    /// A register that must have four lanes.
    #[error("v{register} has {lanes} lanes where four are needed")]
    NotFourLanes {
        /// Number of the register.
        register: u32,
        /// Its lanes.
        lanes: u8,
    },
    /// Scratch of one item among several.
    #[error("`{buffer}` is the scratch of one item: groups have shared buffers")]
    GroupScratch {
        /// Its name.
        buffer: String,
    },
    /// A division by zero or of a negative number.
    #[error("a division of {low}..={high} by {by}: it takes numbers from 0, and not by 0")]
    Division {
        /// Lowest value.
        low: i128,
        /// Highest value.
        high: i128,
        /// Divisor.
        by: u32,
    },
    /// Variables without a loop.
    #[error("loop variable `{var}` belongs to no loop")]
    UnusedVar {
        /// Its name.
        var: String,
    },
    /// An index into a table of the kernel that leads nowhere.
    #[error("there is no {what} number {index}")]
    NoSuch {
        /// Kind of thing.
        what: &'static str,
        /// The index.
        index: u32,
    },
    /// A variable outside of its loop.
    #[error("loop variable `{var}` is used outside of its loop")]
    OutOfScope {
        /// Its name.
        var: String,
    },
    /// An address whose terms are not in the agreed form.
    #[error("the terms of the address are not sorted by variable, each once")]
    UnsortedTerms,
    /// A term that adds nothing.
    #[error("the coefficient of `{var}` is zero")]
    ZeroTerm {
        /// Its variable.
        var: String,
    },
    /// An address that does not fit 64 bits.
    #[error("the address overflows 64 bits")]
    AddressOverflow,
    /// An access outside of its buffer.
    #[error("reaches elements {low}..={high} of `{buffer}`, which has 0..={}", len - 1)]
    OutOfBounds {
        /// Name of the buffer.
        buffer: String,
        /// Lowest element.
        low: i128,
        /// Highest element.
        high: i128,
        /// Elements of the buffer.
        len: usize,
    },
    /// A load from a `Write` buffer or a store to a `Read` one.
    #[error("cannot {verb} `{buffer}`, whose access is {}", access.name())]
    Access {
        /// What was tried: "load from" or "store to".
        verb: &'static str,
        /// Name of the buffer.
        buffer: String,
        /// Its access.
        access: Access,
    },
    /// A store to a buffer of a narrow type.
    #[error("cannot store to `{buffer}` of {}: stores are f32 only", dtype.name())]
    StoreType {
        /// Name of the buffer.
        buffer: String,
        /// Its element type.
        dtype: DType,
    },
    /// Registers that must have the same lanes.
    #[error("v{a} has {a_lanes} lanes and v{b} {b_lanes}")]
    LanesDiffer {
        /// Number of a register.
        a: u32,
        /// Its lanes.
        a_lanes: u8,
        /// Number of the other.
        b: u32,
        /// Its lanes.
        b_lanes: u8,
    },
    /// A register that must have one lane.
    #[error("v{register} has {lanes} lanes where one is needed")]
    NotOneLane {
        /// Number of the register.
        register: u32,
        /// Its lanes.
        lanes: u8,
    },
    /// Two iterations of the parallel space in each other's way.
    #[error(
        "another iteration of the parallel space {verb} elements of `{buffer}` that this one \
         stores: `{other}`"
    )]
    Race {
        /// Name of the buffer.
        buffer: String,
        /// "stores" or "loads".
        verb: &'static str,
        /// The other instruction, perhaps the same one.
        other: String,
    },
    /// Two items of a group in each other's way.
    #[error(
        "another item of the group {verb} elements of `{buffer}` that this one stores, without a \
         barrier between: `{other}`"
    )]
    ItemRace {
        /// Name of the buffer.
        buffer: String,
        /// "stores" or "loads".
        verb: &'static str,
        /// The other instruction, perhaps the same one.
        other: String,
    },
    /// Two items that may be in each other's way.
    #[error(
        "no proof that no other {who} {verb} elements of `{buffer}` that this one stores: \
         `{other}`"
    )]
    NotApart {
        /// Whose item it is.
        who: &'static str,
        /// Name of the buffer.
        buffer: String,
        /// "stores" or "loads".
        verb: &'static str,
        /// The other instruction, perhaps the same one.
        other: String,
    },
    /// A list of nonzero elements that is too short, or is not scratch, or that others use.
    #[error(
        "`{buffer}` lists nonzero elements: it must be f32 scratch of at least {needed} elements \
         that one loop names and nothing else does"
    )]
    List {
        /// Its name.
        buffer: String,
        /// Elements that the list takes.
        needed: usize,
    },
    /// A loop over nonzero elements among items or conditions.
    #[error("loops over nonzero elements stand in kernels without groups and conditions only")]
    ConditionalNonzero,
    /// Nonzero elements of a narrow type.
    #[error("looks for zeros among {}: they are looked for in f32 only", dtype.name())]
    NonzeroType {
        /// The element type.
        dtype: DType,
    },
    /// A loop over nonzero elements without elements, or without an index for each.
    #[error("{values} elements at a time with {found} indices: at least 1, and an index for each")]
    FewFound {
        /// Registers.
        values: usize,
        /// Variables.
        found: usize,
    },
    /// A register read too early.
    #[error("v{register} is read before it is written")]
    Unwritten {
        /// Number of the register.
        register: u32,
    },
}
