//! A part of a kernel as a kernel of its own: some of its iterations, or a buffer that begins
//! later. What the parts store together is, bit for bit, what the whole stores.

use crate::ir::{Addr, Inst, Kernel, Stmt};
use std::ops::Range;

/// The iterations `values` of one dimension of the parallel space of a plain kernel. Buffers stay as
/// they are.
pub fn iterations(kernel: &Kernel, dim: usize, values: Range<u32>) -> Kernel {
    let mut part = kernel.clone();
    let var = part.parallel[dim].var;
    part.parallel[dim].count = values.end - values.start;
    let start = i64::from(values.start);
    each_addr(&mut part.body, &mut |addr| {
        let coefficient = addr.terms.iter().find(|term| term.0 == var).map_or(0, |term| term.1);
        addr.offset += start * coefficient;
    });
    part
}

/// Moves what a kernel touches of a buffer: each access that lies in one of `pieces` (elements, and
/// where they begin from now on) goes with it, and the buffer gets a new length. Where an access
/// lies in none, nothing is changed and the answer is false. For plain kernels.
pub fn rebase(
    kernel: &mut Kernel,
    buffer: usize,
    pieces: &[(Range<usize>, usize)],
    len: usize,
) -> bool {
    let counts = kernel.trip_counts();
    let mut moved = kernel.clone();
    let mut all = true;
    each_addr(&mut moved.body, &mut |addr| {
        if usize::from(addr.buffer.0) != buffer {
            return;
        }
        let (mut low, mut high) = (addr.offset, addr.offset);
        for &(var, coefficient) in &addr.terms {
            let last = coefficient * i64::from(counts[usize::from(var.0)] - 1);
            low += last.min(0);
            high += last.max(0);
        }
        let inside = |(piece, _): &&(Range<usize>, usize)| {
            piece.start as i64 <= low && high < piece.end as i64
        };
        match pieces.iter().find(inside) {
            Some((piece, to)) => addr.offset += *to as i64 - piece.start as i64,
            None => all = false,
        }
    });
    if all {
        moved.buffers[buffer].len = len;
        *kernel = moved;
    }
    all
}

fn each_addr(body: &mut [Stmt], change: &mut impl FnMut(&mut Addr)) {
    for stmt in body {
        match stmt {
            Stmt::For { body, .. } => each_addr(body, change),
            Stmt::Inst(
                Inst::Load { addr, .. }
                | Inst::Splat { addr, .. }
                | Inst::Store { addr, .. }
                | Inst::Prefetch { addr },
            ) => change(addr),
            Stmt::Inst(_) | Stmt::Let { .. } | Stmt::Barrier => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::Builder;
    use crate::interp::{self, Data};
    use crate::ir::Access;
    use crate::verify::verify;

    /// y[8i + 4j + lane] = x[.. + 4] for i < 5, j < 2.
    fn kernel() -> Kernel {
        let mut b = Builder::new("k");
        let x = b.buffer("x", 44, Access::Read);
        let y = b.buffer("y", 40, Access::Write);
        let i = b.parallel("i", 5);
        b.repeat("j", 2, |b, j| {
            let v = b.load(4, x, &i * 8 + &j * 4 + 4usize);
            b.store(y, &i * 8 + j * 4, v);
        });
        b.finish()
    }

    fn run(kernel: Kernel, data: &mut [Data]) {
        let kernel = verify(kernel).unwrap();
        let extent = kernel.extent();
        interp::run(&kernel, data, 0..extent).unwrap();
    }

    #[test]
    fn parts_make_the_whole() {
        let x: Vec<f32> = (0..44_u8).map(f32::from).collect();
        let mut data = [Data::F32(x.clone()), Data::F32(vec![-1.0; 40])];
        run(iterations(&kernel(), 0, 3..5), &mut data);
        let Data::F32(y) = &data[1] else { panic!() };
        assert!(y[..24].iter().all(|&v| v == -1.0), "the first part's place is left alone");
        assert_eq!(y[24..], x[28..44]);
        run(iterations(&kernel(), 0, 0..3), &mut data);
        let Data::F32(y) = &data[1] else { panic!() };
        assert_eq!(y[..], x[4..44]);
    }

    #[test]
    fn a_buffer_that_begins_later() {
        let mut part = iterations(&kernel(), 0, 3..5);
        assert!(!rebase(&mut part.clone(), 0, &[(28..36, 0)], 8), "not all of it");
        assert!(rebase(&mut part, 0, &[(28..44, 0)], 16));
        let x: Vec<f32> = (28..44_u8).map(f32::from).collect();
        let mut data = [Data::F32(x.clone()), Data::F32(vec![0.0; 40])];
        run(part, &mut data);
        let Data::F32(y) = &data[1] else { panic!() };
        assert_eq!(y[24..], x);
    }
}
