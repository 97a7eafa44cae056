//! A part of a kernel as a kernel of its own: some of its iterations, or a buffer that begins
//! later. What the parts store together is, bit for bit, what the whole stores.

use crate::footprint::{self, Bounds, Cut};
use crate::ir::{Addr, Index, IndexOp, Inst, Kernel, Nonzero, Stmt, Var};
use crate::stats::{Touched, touched, whole_buffers};
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
        each_addr(&mut part.body, &mut |addr, _| {
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
            // Only plain kernels, which need no other names, have the last.
            Stmt::Inst(_) | Stmt::Barrier | Stmt::Nonzero(_) => {}
        }
    }
    each_addr_here(body, &mut |addr, _| {
        in_terms(&mut addr.terms);
        addr.guards.iter_mut().for_each(|guard| guard.var = renamed(guard.var));
    });
}

/// A half of a kernel with what it touches.
pub type Half = (Kernel, Touched);

/// What a kernel touches, and parts of it.
#[derive(Debug, Clone)]
pub struct Halves {
    /// All of it.
    pub whole: Touched,
    /// For each cut the two parts beside it.
    pub cuts: Vec<[Half; 2]>,
}

/// The two parts of a kernel on both sides of each cut, with what they touch: none where it is not
/// known what the kernel stores. The first [`MOST_CUTS`](crate::footprint::MOST_CUTS) cuts count.
pub fn halves(kernel: &Kernel, cuts: &[Cut]) -> Halves {
    let cuts = &cuts[..cuts.len().min(footprint::MOST_CUTS)];
    let parts = |&(dim, at): &Cut| {
        let count = kernel.parallel[dim].count;
        [0..at, at..count].map(|values| iterations(kernel, dim, values))
    };
    if kernel.is_plain() {
        let with_touched = |part: Kernel| {
            let touched = touched(&part);
            (part, touched)
        };
        let cuts = cuts.iter().map(|cut| parts(cut).map(with_touched)).collect();
        return Halves { whole: touched(kernel), cuts };
    }
    let Some(stored) = footprint::stored(kernel, cuts) else {
        return Halves { whole: whole_buffers(kernel), cuts: Vec::new() };
    };
    let with_touched = |(part, stores): (Kernel, Vec<Vec<Range<usize>>>)| {
        let loads = footprint::loads(&part);
        (part, Touched { loads, stores, stores_exact: true })
    };
    let both = |([a, b], [x, y]): ([Kernel; 2], [_; 2])| [(a, x), (b, y)].map(with_touched);
    let loads = footprint::loads(kernel);
    let whole = Touched { loads, stores: stored.whole, stores_exact: true };
    Halves { whole, cuts: cuts.iter().map(parts).zip(stored.halves).map(both).collect() }
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
    each_addr(&mut moved.body, &mut |addr, reach| {
        if usize::from(addr.buffer.0) != buffer {
            return;
        }
        // Hints may reach past the end: they go with any piece.
        let any = pieces.first().filter(|_| reach == Reach::Hint);
        let Some((low, high)) = bounds.of(addr) else {
            all = false;
            return;
        };
        let behind = match reach {
            Reach::Hint => 0,
            Reach::Elements(count) => i64::from(count) - 1,
        };
        let inside = |(piece, _): &&(Range<usize>, usize)| {
            piece.start as i64 <= low && high + behind < piece.end as i64
        };
        match pieces.iter().find(inside).or(any) {
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

/// What lies at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Nothing that is accessed.
    Hint,
    /// So many elements from there on; those of a vector count as its first.
    Elements(u32),
}

/// Every address.
fn each_addr(body: &mut [Stmt], change: &mut impl FnMut(&mut Addr, Reach)) {
    for stmt in body.iter_mut() {
        if let Stmt::For { body, .. } | Stmt::Nonzero(Nonzero { body, .. }) = stmt {
            each_addr(body, change);
        }
    }
    each_addr_here(body, change);
}

/// Outside of loops.
fn each_addr_here(body: &mut [Stmt], change: &mut impl FnMut(&mut Addr, Reach)) {
    for stmt in body {
        match stmt {
            Stmt::Inst(
                Inst::Load { addr, .. } | Inst::Splat { addr, .. } | Inst::Store { addr, .. },
            ) => change(addr, Reach::Elements(1)),
            Stmt::Inst(Inst::Prefetch { addr }) => change(addr, Reach::Hint),
            Stmt::Nonzero(Nonzero { from, count, .. }) => change(from, Reach::Elements(*count)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::{At, Builder};
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
    fn hints_reach_past_what_is_loaded() {
        let mut b = Builder::new("k");
        let x = b.buffer("x", 44, Access::Read);
        let y = b.buffer("y", 40, Access::Write);
        let i = b.parallel("i", 5);
        let v = b.load(4, x, &i * 8);
        b.prefetch(x, &i * 8 + 1000_usize);
        b.store(y, &i * 8, v);
        let mut part = iterations(&b.finish(), 0, 3..5);
        assert!(rebase(&mut part, 0, &[(24..36, 0)], 12));
        assert_eq!(part.buffers[0].len, 12);
    }

    /// A named index and a condition on the variable itself.
    #[test]
    fn conditions_are_those_of_the_whole() {
        let mut b = Builder::new("k");
        let x = b.buffer("x", 40, Access::Read);
        let y = b.buffer("y", 40, Access::Write);
        let i = b.parallel("i", 5);
        b.repeat("j", 8, |b, j| {
            let p = b.var("p", &i * 8 + &j);
            let (q, r) = (b.div("q", &p, 10), b.rem("r", &p, 10));
            let v = b.load(1, x, &p);
            b.store(y, At::from(&q * 10 + &r).within(&i, 4).within(&r, 7), v);
        });
        let kernel = b.finish();
        let cuts = [(0, 3)];
        let Halves { whole, cuts } = halves(&kernel, &cuts);
        assert_eq!(whole.stores[1], [0..7, 10..17, 20..27, 30..32]);
        let [(first, of_first), (second, of_second)] = &cuts[0];
        assert_eq!(of_first.stores[1], [0..7, 10..17, 20..24]);
        assert_eq!(of_second.stores[1], [24..27, 30..32]);
        assert_eq!(of_second.loads[0], vec![24..40], "whatever becomes of it");
        let x: Vec<f32> = (0..40_u8).map(f32::from).collect();
        let mut data = [Data::F32(x.clone()), Data::F32(vec![-1.0; 40])];
        for (part, touched) in [(first, of_first), (second, of_second)] {
            run(part.clone(), &mut data);
            let Data::F32(y) = &mut data[1] else { panic!() };
            for (at, value) in y.iter_mut().enumerate() {
                let stored = touched.stores[1].iter().any(|range| range.contains(&at));
                assert_eq!(*value, if stored { x[at] } else { -1.0 }, "{at}");
                *value = -1.0;
            }
        }
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
