//! Which bytes a kernel touches, and a proof that two kernels touch different ones.
//!
//! The zeros around a map and the map itself interleave in memory row by row, so comparing whole
//! buffers is too coarse to see that a kernel that clears a halo may run beside the kernel that
//! fills the map.

use alexc_codegen::ir::{Access, BufferId, Inst, Kernel, Stmt};

/// Pairs of accesses that are looked at before two kernels count as dependent.
const MOST_PAIRS: usize = 100_000;

/// One access of a kernel over all its iterations: `run` bytes at
/// `start + sum of step * i`, `i` in `0..count` for each dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Strided {
    start: i64,
    run: i64,
    /// (step, count), both positive, count at least 2.
    dims: Vec<(i64, i64)>,
    writes: bool,
}

impl Strided {
    /// From the first to past the last byte, of the dimensions whose step is no multiple of
    /// `modulus`.
    fn reach(&self, modulus: i64) -> i64 {
        self.dims
            .iter()
            .filter(|(step, _)| step % modulus != 0)
            .map(|(step, count)| step * (count - 1))
            .sum::<i64>()
            + self.run
    }

    /// True only where no byte is in both. Where all bytes of both, taken modulo some number,
    /// lie in two intervals that do not meet on the circle, no byte can be in both.
    fn apart(&self, other: &Strided) -> bool {
        let moduli = self.dims.iter().chain(&other.dims).map(|&(step, _)| step);
        std::iter::once(i64::MAX).chain(moduli).any(|modulus| {
            let (mine, theirs) = (self.reach(modulus), other.reach(modulus));
            let ahead = (other.start - self.start).rem_euclid(modulus);
            mine <= ahead && theirs <= modulus - ahead
        })
    }
}

/// The bytes of one block of memory that a kernel's buffer touches.
#[derive(Debug, Clone)]
pub(super) struct Footprint {
    /// First byte and past the last byte that the buffer reaches.
    range: (usize, usize),
    writes: bool,
    accesses: Vec<Strided>,
}

impl Footprint {
    /// Of a buffer of `kernel` that starts at `offset_bytes`.
    pub(super) fn new(kernel: &Kernel, buffer: BufferId, offset_bytes: usize) -> Self {
        let parameter = &kernel.buffers[usize::from(buffer.0)];
        let element = parameter.dtype.bytes() as i64;
        let mut counts = vec![1i64; kernel.vars.len()];
        for dim in &kernel.parallel {
            counts[usize::from(dim.var.0)] = i64::from(dim.count);
        }
        loop_counts(&kernel.body, &mut counts);
        let mut accesses: Vec<Strided> = Vec::new();
        kernel.for_each_inst(&mut |inst, _| {
            let (addr, lanes, writes) = match inst {
                Inst::Load { dst, addr } => (addr, kernel.lanes(*dst), false),
                Inst::Splat { addr, .. } => (addr, 1, false),
                Inst::Store { addr, src } => (addr, kernel.lanes(*src), true),
                _ => return,
            };
            if addr.buffer != buffer {
                return;
            }
            let mut start = addr.offset * element + offset_bytes as i64;
            let mut dims = Vec::with_capacity(addr.terms.len());
            for &(var, coefficient) in &addr.terms {
                let (step, count) = (coefficient * element, counts[usize::from(var.0)]);
                if step < 0 {
                    start += step * (count - 1);
                }
                if step != 0 && count > 1 {
                    dims.push((step.abs(), count));
                }
            }
            let access = Strided { start, run: i64::from(lanes) * element, dims, writes };
            if !accesses.contains(&access) {
                accesses.push(access);
            }
        });
        Footprint {
            range: (offset_bytes, offset_bytes + parameter.len * parameter.dtype.bytes()),
            writes: matches!(parameter.access, Access::Write | Access::ReadWrite),
            accesses,
        }
    }

    /// False only where no byte that one of the two stores is touched by the other.
    pub(super) fn conflicts(&self, other: &Footprint) -> bool {
        if !self.writes && !other.writes {
            return false;
        }
        if self.range.0 >= other.range.1 || other.range.0 >= self.range.1 {
            return false;
        }
        if self.accesses.len() * other.accesses.len() > MOST_PAIRS {
            return true;
        }
        self.accesses.iter().any(|mine| {
            other
                .accesses
                .iter()
                .any(|theirs| (mine.writes || theirs.writes) && !mine.apart(theirs))
        })
    }
}

fn loop_counts(body: &[Stmt], counts: &mut [i64]) {
    for stmt in body {
        if let Stmt::For { var, count, body } = stmt {
            counts[usize::from(var.0)] = i64::from(*count);
            loop_counts(body, counts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Strided;
    use std::collections::HashSet;

    fn strided(start: i64, run: i64, dims: &[(i64, i64)]) -> Strided {
        Strided { start, run, dims: dims.to_vec(), writes: true }
    }

    #[test]
    fn rows_and_the_columns_beside_them_are_apart() {
        // Rows of 10 bytes, the middle 6 against the outer 2 + 2.
        let middle = strided(2, 6, &[(10, 4)]);
        assert!(middle.apart(&strided(0, 2, &[(10, 4)])));
        assert!(middle.apart(&strided(8, 2, &[(10, 4)])));
        assert!(!middle.apart(&strided(7, 2, &[(10, 4)])));
        assert!(!middle.apart(&strided(1, 2, &[(10, 4)])));
    }

    #[test]
    fn apart_never_lies() {
        let bytes = |s: &Strided| {
            let mut starts = vec![s.start];
            for &(step, count) in &s.dims {
                starts = (0..count)
                    .flat_map(|i| starts.iter().map(move |start| start + i * step))
                    .collect();
            }
            starts.iter().flat_map(|&start| start..start + s.run).collect::<HashSet<i64>>()
        };
        let mut all = Vec::new();
        for start in [0, 1, 3, 7] {
            for run in [1, 2, 5] {
                for dims in [&[][..], &[(3, 2)], &[(6, 3)], &[(2, 3), (6, 2)], &[(12, 2), (4, 2)]] {
                    all.push(strided(start, run, dims));
                }
            }
        }
        let mut proved = 0;
        for a in &all {
            for b in &all {
                if a.apart(b) {
                    proved += 1;
                    assert!(bytes(a).is_disjoint(&bytes(b)), "{a:?} {b:?}");
                }
            }
        }
        assert!(proved > 100);
    }
}
