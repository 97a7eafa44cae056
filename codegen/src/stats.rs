//! How much a kernel computes and touches, for profiles and dumps.

use crate::ir::{Binary, Inst, Reduce, Unary, Var};
use crate::pieces::Pieces;
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
/// from its first to its last byte; where accesses are conditional, all of the buffer counts.
pub fn stats(kernel: &Verified) -> Stats {
    let mut flops = 0_u64;
    kernel.for_each_inst(&mut |inst, times| {
        flops = flops.saturating_add(times.saturating_mul(flops_of(kernel, inst)));
    });

    if !kernel.is_plain() {
        return Stats { flops, buffers: whole_buffers(kernel) };
    }
    let counts = kernel.trip_counts();
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

/// Of a kernel with conditional accesses: all of each buffer that it loads or stores.
fn whole_buffers(kernel: &Verified) -> Vec<Footprint> {
    let mut buffers = vec![Footprint::default(); kernel.buffers.len()];
    kernel.for_each_inst(&mut |inst, _| {
        let Some(addr) = inst.addr() else { return };
        let index = usize::from(addr.buffer.0);
        let buffer = &kernel.buffers[index];
        let bytes = (buffer.len * buffer.dtype.bytes()) as u64;
        match inst {
            Inst::Store { .. } => buffers[index].stored_bytes = bytes,
            Inst::Prefetch { .. } => {}
            _ => buffers[index].loaded_bytes = bytes,
        }
    });
    buffers
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
