//! How much a kernel computes and touches, for profiles and dumps.

use crate::ir::{Binary, Inst, Reduce, Stmt, Unary, Var};
use crate::verify::Verified;
use std::collections::BTreeMap;

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
/// from its first to its last byte.
pub fn stats(kernel: &Verified) -> Stats {
    let mut flops = 0_u64;
    kernel.for_each_inst(&mut |inst, times| {
        flops = flops.saturating_add(times.saturating_mul(flops_of(kernel, inst)));
    });

    let mut counts = vec![1; kernel.vars.len()];
    for dim in &kernel.parallel {
        counts[usize::from(dim.var.0)] = dim.count;
    }
    trip_counts(&kernel.body, &mut counts);

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
    let mut touched: BTreeMap<(usize, bool), Pieces> = BTreeMap::new();
    for ((buffer, stored, terms), pieces) in alike {
        let mut terms: Vec<_> =
            terms.iter().map(|&(var, c)| (c, counts[usize::from(var.0)])).collect();
        // Short strides first: their pieces grow together before the long ones repeat them.
        terms.sort_by_key(|t| t.0.unsigned_abs());
        let all = terms.iter().fold(pieces.joined(), |p, &(by, count)| p.repeated(by, count));
        touched.entry((buffer, stored)).or_default().0.extend(all.0);
    }
    let mut buffers = vec![Footprint::default(); kernel.buffers.len()];
    for ((buffer, stored), pieces) in touched {
        let bytes = pieces.joined().length() * kernel.buffers[buffer].dtype.bytes() as u64;
        let footprint = &mut buffers[buffer];
        *if stored { &mut footprint.stored_bytes } else { &mut footprint.loaded_bytes } = bytes;
    }
    Stats { flops, buffers }
}

/// Buffer, whether stored, terms of the address.
type Alike<'k> = (usize, bool, &'k [(Var, i64)]);

fn flops_of(kernel: &Verified, inst: &Inst) -> u64 {
    match *inst {
        Inst::Fma { dst, .. } => 2 * u64::from(kernel.lanes(dst)),
        Inst::Binary { op: Binary::Max | Binary::Min, .. } => 0,
        Inst::Binary { dst, .. } | Inst::Unary { op: Unary::Sqrt, dst, .. } => {
            u64::from(kernel.lanes(dst))
        }
        Inst::Reduce { op: Reduce::Add, src, .. } => u64::from(kernel.lanes(src)) - 1,
        _ => 0,
    }
}

fn trip_counts(body: &[Stmt], counts: &mut [u32]) {
    for stmt in body {
        if let Stmt::For { var, count, body } = stmt {
            counts[usize::from(var.0)] = *count;
            trip_counts(body, counts);
        }
    }
}

/// A set of elements, as half-open ranges.
#[derive(Debug, Default)]
struct Pieces(Vec<(i64, i64)>);

impl Pieces {
    const LIMIT: u64 = 1_000_000;

    /// Sorted, apart from one another.
    fn joined(mut self) -> Self {
        self.0.sort_unstable();
        self.0.dedup_by(|next, last| {
            let joins = next.0 <= last.1;
            if joins {
                last.1 = last.1.max(next.1);
            }
            joins
        });
        self
    }

    /// With its copies shifted by `by`, `2 * by`, ... Takes and gives joined pieces.
    fn repeated(self, by: i64, count: u32) -> Self {
        let (Some(&(low, _)), Some(&(_, high))) = (self.0.first(), self.0.last()) else {
            return self;
        };
        let furthest = by * i64::from(count - 1);
        let hull = (low + furthest.min(0), high + furthest.max(0));
        let whole = self.0.len() == 1 && by.abs() <= high - low;
        if whole || self.0.len() as u64 * u64::from(count) > Self::LIMIT {
            return Pieces(vec![hull]);
        }
        let copies = (0..i64::from(count))
            .flat_map(|k| self.0.iter().map(move |&(low, high)| (low + k * by, high + k * by)));
        Pieces(copies.collect()).joined()
    }

    fn length(&self) -> u64 {
        self.0.iter().map(|&(low, high)| (high - low) as u64).sum()
    }
}
