//! How much a kernel computes and touches, for profiles and dumps.

use crate::footprint;
use crate::ir::{Binary, Buffer, Inst, Kernel, Nonzero, Reduce, Stmt, Unary, Var};
use crate::mma;
use crate::pieces::Pieces;
use crate::verify::Verified;
use std::collections::BTreeMap;
use std::ops::Range;

/// One run of a kernel's whole parallel space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Arithmetic on elements: add, subtract, multiply, divide, square root 1, fused
    /// multiply-add 2. Lanes and channels that only pad are counted: they take as long.
    pub flops: u64,
    /// For each buffer of the kernel.
    pub buffers: Vec<Footprint>,
}

/// Bytes of a buffer that a kernel touches, each counted once however often it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footprint {
    /// Bytes that are loaded.
    pub loaded_bytes: u64,
    /// Bytes that are stored.
    pub stored_bytes: u64,
}

/// Counts a kernel. A footprint of more than a million separate pieces is given as the distance
/// from its first to its last byte; where accesses are conditional, what is loaded may be less.
pub fn stats(kernel: &Verified) -> Stats {
    let flops = flops(kernel);
    let touched = touched(kernel);
    let buffers = kernel.buffers.iter().zip(touched.loads.iter().zip(&touched.stores));
    let bytes = |ranges: &[Range<usize>], size: usize| {
        ranges.iter().map(|range| (range.len() * size) as u64).sum()
    };
    let footprint = |(buffer, (loads, stores)): (&Buffer, (&Vec<_>, &Vec<_>))| Footprint {
        loaded_bytes: bytes(loads, buffer.dtype.bytes()),
        stored_bytes: bytes(stores, buffer.dtype.bytes()),
    };
    Stats { flops, buffers: buffers.map(footprint).collect() }
}

/// See [`Stats::flops`].
pub fn flops(kernel: &Kernel) -> u64 {
    let mut flops = 0_u64;
    kernel.for_each_inst(&mut |inst, times| {
        flops = flops.saturating_add(times.saturating_mul(flops_of(kernel, inst)));
    });
    flops
}

/// The elements that a kernel touches, for each buffer as ranges in order and apart from one
/// another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// Loaded.
    pub loads: Vec<Vec<Range<usize>>>,
    /// Stored.
    pub stores: Vec<Vec<Range<usize>>>,
    /// No range of stores holds an element that is not stored. Loads may be fewer than it says.
    pub stores_exact: bool,
}

/// Whether a body stores to memory.
fn stores(body: &[Stmt]) -> bool {
    body.iter().any(|stmt| match stmt {
        Stmt::Inst(inst) => matches!(inst, Inst::Store { .. }),
        Stmt::For { body, .. } | Stmt::Nonzero(Nonzero { body, .. }) => stores(body),
        Stmt::Let { .. } | Stmt::Barrier => false,
    })
}

/// What one run of a kernel's whole parallel space touches.
pub fn touched(kernel: &Kernel) -> Touched {
    if !kernel.is_plain() {
        return match footprint::stored(kernel, &[]) {
            Some(stored) => {
                let (loads, stores) = (footprint::loads(kernel), stored.whole);
                Touched { loads, stores, stores_exact: true }
            }
            None => whole_buffers(kernel),
        };
    }
    let counts = kernel.trip_counts();
    let mut exact = true;
    // Accesses that differ by a constant (unrolled loops) are shifted by loops all alike.
    let mut alike: BTreeMap<Alike<'_>, Pieces> = BTreeMap::new();
    kernel.for_each_inst(&mut |inst, _| {
        let (addr, lanes, stored) = match inst {
            Inst::Load { addr, dst } => (addr, kernel.lanes(*dst), false),
            Inst::Splat { addr, .. } => (addr, 1, false),
            Inst::Store { addr, src } => (addr, kernel.lanes(*src), true),
            _ => return,
        };
        let buffer = usize::from(addr.buffer.0);
        let pieces = alike.entry((buffer, stored, &addr.terms)).or_default();
        pieces.0.push((addr.offset, addr.offset + i64::from(lanes)));
    });
    kernel.for_each_nonzero(&mut |Nonzero { from, count, body, .. }| {
        let pieces = alike.entry((usize::from(from.buffer.0), false, &from.terms)).or_default();
        pieces.0.push((from.offset, from.offset + i64::from(*count)));
        // What it stores is stored only if there is an element that is not zero.
        exact &= !stores(body);
    });
    let mut touched: BTreeMap<(usize, bool), Pieces> = BTreeMap::new();
    for ((buffer, stored, terms), pieces) in alike {
        let mut terms: Vec<_> =
            terms.iter().map(|&(var, c)| (c, counts[usize::from(var.0)])).collect();
        // Short strides first: their pieces grow together before the long ones repeat them.
        terms.sort_by_key(|t| t.0.unsigned_abs());
        let all = terms.iter().fold(pieces.joined(), |p, &(by, count)| {
            exact &= !stored || p.is_repeated_exactly(by, count);
            p.repeated(by, count)
        });
        touched.entry((buffer, stored)).or_default().0.extend(all.0);
    }
    let none = vec![Vec::new(); kernel.buffers.len()];
    let (mut loads, mut stores) = (none.clone(), none);
    for ((buffer, stored), pieces) in touched {
        let list = if stored { &mut stores } else { &mut loads };
        let ranges = pieces.joined().0;
        // A proved kernel touches nothing in front of its buffers.
        list[buffer] = ranges.iter().map(|&(low, high)| low as usize..high as usize).collect();
    }
    Touched { loads, stores, stores_exact: exact }
}

/// All of each buffer that a kernel loads or stores.
pub(crate) fn whole_buffers(kernel: &Kernel) -> Touched {
    let none = vec![Vec::new(); kernel.buffers.len()];
    let mut touched = Touched { loads: none.clone(), stores: none, stores_exact: false };
    kernel.for_each_inst(&mut |inst, _| {
        let Some(addr) = inst.addr() else { return };
        let index = usize::from(addr.buffer.0);
        let list = match inst {
            Inst::Prefetch { .. } => return,
            Inst::Store { .. } => &mut touched.stores,
            _ => &mut touched.loads,
        };
        list[index] = std::iter::once(0..kernel.buffers[index].len).collect();
    });
    touched
}

/// Buffer, whether stored, terms of the address.
type Alike<'k> = (usize, bool, &'k [(Var, i64)]);

fn flops_of(kernel: &Kernel, inst: &Inst) -> u64 {
    match *inst {
        Inst::Fma { dst, .. } => 2 * u64::from(kernel.lanes(dst)),
        // An item's part.
        Inst::Mma { .. } => (2 * mma::ROWS * mma::COLUMNS * mma::DEPTH / mma::WARP) as u64,
        Inst::Binary { op: Binary::Max | Binary::Min | Binary::SubQuarter, .. } => 0,
        Inst::Binary { dst, .. } | Inst::Unary { op: Unary::Sqrt, dst, .. } => {
            u64::from(kernel.lanes(dst))
        }
        Inst::Reduce { op: Reduce::Add, src, .. } => u64::from(kernel.lanes(src)) - 1,
        _ => 0,
    }
}
