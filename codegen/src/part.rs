//! A part of a kernel as a kernel of its own: some of its iterations, or a buffer that begins
//! later. What the parts store together is, bit for bit, what the whole stores.

use crate::footprint::{self, Bounds, Cut};
use crate::ir::{Addr, Index, IndexOp, Inst, Kernel, Stmt, Var};
use crate::stats::{Touched, touched};
use std::ops::Range;

/// The iterations `values` of one dimension of the parallel space. Buffers stay as they are.
pub fn iterations(kernel: &Kernel, dim: usize, values: Range<u32>) -> Kernel {
    let mut part = kernel.clone();
    let var = part.parallel[dim].var;
    part.parallel[dim].count = values.end - values.start;
    let start = i64::from(values.start);
    if start == 0 {
        return part;
    }
    if kernel.is_plain() {
        each_addr(&mut part.body, &mut |addr| {
            let coefficient = addr.terms.iter().find(|term| term.0 == var).map_or(0, |term| term.1);
            addr.offset += start * coefficient;
        });
        return part;
    }
    // Conditions and named indices speak of the variable, too: another one takes its place. Variables
    // are numbered as they come, and it comes first behind those of the space.
    let number = part.parallel.len() + part.items.len();
    let whole = Var(number as u16);
    let mut name = format!("{}_of_whole", part.vars[usize::from(var.0)]);
    while part.vars.contains(&name) {
        name.push('_');
    }
    part.vars.insert(number, name);
    let renamed = |old: Var| match old {
        old if old == var => whole,
        old if old >= whole => Var(old.0 + 1),
        old => old,
    };
    rename(&mut part.body, &renamed);
    let value = Index { offset: start, terms: vec![(var, 1)], op: IndexOp::Sum };
    part.body.insert(0, Stmt::Let { var: whole, value });
    part
}

fn rename(body: &mut [Stmt], renamed: &impl Fn(Var) -> Var) {
    let in_terms = |terms: &mut Vec<(Var, i64)>| {
        terms.iter_mut().for_each(|term| term.0 = renamed(term.0));
        terms.sort_by_key(|term| term.0);
    };
    for stmt in body.iter_mut() {
        match stmt {
            Stmt::For { var, body, .. } => {
                *var = renamed(*var);
                rename(body, renamed);
            }
            Stmt::Let { var, value } => {
                *var = renamed(*var);
                in_terms(&mut value.terms);
            }
            Stmt::Inst(_) | Stmt::Barrier => {}
        }
    }
    each_addr_here(body, &mut |addr| {
        in_terms(&mut addr.terms);
        addr.guards.iter_mut().for_each(|guard| guard.var = renamed(guard.var));
    });
}

/// A half of a kernel with what it touches.
pub type Half = (Kernel, Touched);

/// The two parts of a kernel on both sides of each cut, with what they touch. The first
/// [`MOST_CUTS`](crate::footprint::MOST_CUTS) cuts of a kernel that is not plain count.
pub fn halves(kernel: &Kernel, cuts: &[Cut]) -> Vec<[Half; 2]> {
    let parts = |&(dim, at): &Cut| {
        let count = kernel.parallel[dim].count;
        [0..at, at..count].map(|values| iterations(kernel, dim, values))
    };
    if kernel.is_plain() {
        let with_touched = |part: Kernel| {
            let touched = touched(&part);
            (part, touched)
        };
        return cuts.iter().map(|cut| parts(cut).map(with_touched)).collect();
    }
    let Some(stored) = footprint::stored(kernel, cuts) else { return Vec::new() };
    let both = cuts.iter().map(parts).zip(stored.halves).map(|([a, b], [x, y])| {
        [(a, x), (b, y)].map(|(part, stores)| {
            let loads = footprint::loads(&part);
            (part, Touched { loads, stores, stores_exact: true })
        })
    });
    both.collect()
}

/// Moves what a kernel touches of a buffer: each access that lies in one of `pieces` (elements, and
/// where they begin from now on) goes with it, and the buffer gets a new length. Where an access
/// lies in none, nothing is changed and the answer is false.
pub fn rebase(
    kernel: &mut Kernel,
    buffer: usize,
    pieces: &[(Range<usize>, usize)],
    len: usize,
) -> bool {
    let bounds = Bounds::new(kernel);
    let mut moved = kernel.clone();
    let mut all = true;
    each_addr(&mut moved.body, &mut |addr| {
        if usize::from(addr.buffer.0) != buffer {
            return;
        }
        let Some((low, high)) = bounds.of(addr) else {
            all = false;
            return;
        };
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
    for stmt in body.iter_mut() {
        if let Stmt::For { body, .. } = stmt {
            each_addr(body, change);
        }
    }
    each_addr_here(body, change);
}

/// Outside of loops.
fn each_addr_here(body: &mut [Stmt], change: &mut impl FnMut(&mut Addr)) {
    for stmt in body {
        if let Stmt::Inst(
            Inst::Load { addr, .. }
            | Inst::Splat { addr, .. }
            | Inst::Store { addr, .. }
            | Inst::Prefetch { addr },
        ) = stmt
        {
            change(addr);
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
