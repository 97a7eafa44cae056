//! What a kernel with named indices and conditional accesses touches.
//!
//! Loads are bounded: each variable takes all values between its lowest and its highest, whatever
//! the others are, so that some elements may count that are not loaded. What is stored must be
//! known to the element, for whoever takes it from there: every store is followed through all
//! values of the variables that its address and conditions depend on.

use crate::ir::{Access, Addr, Guard, IndexOp, Inst, Kernel, Stmt, Var};
use crate::pieces::Pieces;
use std::ops::Range;

/// Lowest and highest value of every variable.
pub(crate) struct Bounds(Vec<(i64, i64)>);

impl Bounds {
    pub(crate) fn new(kernel: &Kernel) -> Bounds {
        let mut bounds =
            Bounds(kernel.trip_counts().iter().map(|&count| (0, i64::from(count) - 1)).collect());
        bounds.body(&kernel.body);
        bounds
    }

    fn body(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::For { body, .. } => self.body(body),
                Stmt::Let { var, value } => {
                    let (low, high) = self.sum(value.offset, &value.terms);
                    self.0[usize::from(var.0)] = match value.op {
                        IndexOp::Sum => (low, high),
                        IndexOp::Div(by) => (low / i64::from(by), high / i64::from(by)),
                        IndexOp::Rem(by) => {
                            let by = i64::from(by);
                            match low / by == high / by {
                                true => (low % by, high % by),
                                false => (0, by - 1),
                            }
                        }
                    };
                }
                Stmt::Inst(_) | Stmt::Barrier => {}
            }
        }
    }

    fn sum(&self, offset: i64, terms: &[(Var, i64)]) -> (i64, i64) {
        let mut sum = (offset, offset);
        for &(var, by) in terms {
            let (low, high) = self.0[usize::from(var.0)];
            sum.0 += (by * low).min(by * high);
            sum.1 += (by * low).max(by * high);
        }
        sum
    }

    /// Where the conditions of an access hold; nothing if that is nowhere.
    fn within(&self, guards: &[Guard]) -> Option<Bounds> {
        let mut bounds = self.0.clone();
        for guard in guards {
            let (low, high) = &mut bounds[usize::from(guard.var.0)];
            *low = (*low).max(0);
            *high = (*high).min(i64::from(guard.count) - 1);
            if low > high {
                return None;
            }
        }
        Some(Bounds(bounds))
    }

    /// Lowest and highest position of an access; nothing if it never takes place.
    pub(crate) fn of(&self, addr: &Addr) -> Option<(i64, i64)> {
        Some(self.within(&addr.guards)?.sum(addr.offset, &addr.terms))
    }

    /// All positions that an access of so many elements may touch.
    fn pieces(&self, addr: &Addr, lanes: u8) -> Option<Pieces> {
        let within = self.within(&addr.guards)?;
        let mut start = addr.offset;
        let mut repeats = Vec::new();
        for &(var, by) in &addr.terms {
            let (low, high) = within.0[usize::from(var.0)];
            start += by * low;
            repeats.push((by, (high - low + 1) as u32));
        }
        // Short strides first: their pieces grow together before the long ones repeat them.
        repeats.sort_by_key(|repeat| repeat.0.unsigned_abs());
        let one = Pieces(vec![(start, start + i64::from(lanes))]);
        Some(repeats.iter().fold(one, |pieces, &(by, count)| pieces.repeated(by, count)))
    }
}

/// For each buffer what may be loaded, as ranges in order and apart from one another.
pub(crate) fn loads(kernel: &Kernel) -> Vec<Vec<Range<usize>>> {
    let bounds = Bounds::new(kernel);
    let mut all: Vec<Pieces> = kernel.buffers.iter().map(|_| Pieces::default()).collect();
    kernel.for_each_inst(&mut |inst, _| {
        let (addr, lanes) = match inst {
            Inst::Load { addr, dst } => (addr, kernel.lanes(*dst)),
            Inst::Splat { addr, .. } => (addr, 1),
            _ => return,
        };
        if let Some(pieces) = bounds.pieces(addr, lanes) {
            all[usize::from(addr.buffer.0)].0.extend(pieces.0);
        }
    });
    let ranges = |(pieces, buffer): (Pieces, &crate::ir::Buffer)| {
        let inside = |&(low, high): &(i64, i64)| {
            let clamp = |at: i64| at.clamp(0, buffer.len as i64) as usize;
            clamp(low)..clamp(high)
        };
        pieces.joined().0.iter().map(inside).filter(|range| !range.is_empty()).collect()
    };
    all.into_iter().zip(&kernel.buffers).map(ranges).collect()
}

/// A cut of the parallel space in two: a dimension, and its first value behind the cut.
pub type Cut = (usize, u32);

/// What is stored, for each buffer as ranges in order and apart from one another.
pub(crate) struct Stored {
    /// By all iterations.
    pub(crate) whole: Vec<Vec<Range<usize>>>,
    /// For each cut by those in front of it and by those behind it.
    pub(crate) halves: Vec<[Vec<Vec<Range<usize>>>; 2]>,
}

/// Cuts that are looked at together.
pub const MOST_CUTS: usize = 7;

/// Stores that are followed, at most: half a minute's work at the very worst.
const BUDGET: u64 = 1 << 30;

/// What is stored, exactly; nothing where that takes too long to find out. The first
/// [`MOST_CUTS`] cuts count.
pub(crate) fn stored(kernel: &Kernel, cuts: &[Cut]) -> Option<Stored> {
    let cuts = &cuts[..cuts.len().min(MOST_CUTS)];
    let mut walk = Walk {
        kernel,
        cuts,
        roots: kernel.parallel.iter().chain(&kernel.items).map(|d| (d.var, d.count)).collect(),
        lets: Vec::new(),
        marks: kernel.buffers.iter().map(|_| Vec::new()).collect(),
        budget: BUDGET,
    };
    walk.body(&kernel.body)?;
    let of = |mask: u16| walk.marks.iter().map(|marks| runs(marks, mask)).collect();
    Some(Stored {
        whole: of(ANY),
        halves: (0..cuts.len()).map(|cut| [of(1 << (2 * cut)), of(2 << (2 * cut))]).collect(),
    })
}

/// Where some bit of the mask is set.
fn runs(marks: &[u16], mask: u16) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (at, _) in marks.iter().enumerate().filter(|(_, mark)| *mark & mask != 0) {
        match ranges.last_mut() {
            Some(last) if last.end == at => last.end = at + 1,
            _ => ranges.push(at..at + 1),
        }
    }
    ranges
}

struct Walk<'k> {
    kernel: &'k Kernel,
    cuts: &'k [Cut],
    /// Variables of the loops around, and how many values they take.
    roots: Vec<(Var, u32)>,
    /// Named indices in scope.
    lets: Vec<&'k Stmt>,
    /// For each buffer, once something is stored there, the bits of each element: two for each cut,
    /// and [`ANY`].
    marks: Vec<Vec<u16>>,
    budget: u64,
}

impl<'k> Walk<'k> {
    fn body(&mut self, body: &'k [Stmt]) -> Option<()> {
        let named = self.lets.len();
        for stmt in body {
            match stmt {
                Stmt::For { var, count, body } => {
                    self.roots.push((*var, *count));
                    self.body(body)?;
                    self.roots.pop();
                }
                Stmt::Let { .. } => self.lets.push(stmt),
                Stmt::Inst(Inst::Store { addr, src }) => {
                    let access = self.kernel.buffers[usize::from(addr.buffer.0)].access;
                    if !matches!(access, Access::Local | Access::Shared) {
                        self.store(addr, self.kernel.lanes(*src))?;
                    }
                }
                Stmt::Inst(_) | Stmt::Barrier => {}
            }
        }
        self.lets.truncate(named);
        Some(())
    }

    fn store(&mut self, addr: &Addr, lanes: u8) -> Option<()> {
        // What the address depends on, from its own variables to those of loops.
        let mut needed = vec![false; self.kernel.vars.len()];
        let own = addr.terms.iter().map(|term| term.0).chain(addr.guards.iter().map(|g| g.var));
        own.for_each(|var| needed[usize::from(var.0)] = true);
        for stmt in self.lets.iter().rev() {
            if let Stmt::Let { var, value } = stmt
                && needed[usize::from(var.0)]
            {
                value.terms.iter().for_each(|term| needed[usize::from(term.0.0)] = true);
            }
        }
        let mut levels: Vec<Level<'_>> = vec![Level::default()];
        let mut level_of = vec![0; self.kernel.vars.len()];
        for &(var, count) in self.roots.iter().filter(|root| needed[usize::from(root.0.0)]) {
            level_of[usize::from(var.0)] = levels.len();
            let cut = self.cuts.iter().enumerate().filter_map(|(bit, &(dim, at))| {
                (self.kernel.parallel[dim].var == var).then_some((bit, at))
            });
            levels.push(Level {
                root: Some((var, count)),
                cuts: cut.collect(),
                ..Level::default()
            });
        }
        let deepest = |terms: &[(Var, i64)], level_of: &[usize]| {
            terms.iter().map(|term| level_of[usize::from(term.0.0)]).max().unwrap_or(0)
        };
        for &stmt in &self.lets {
            if let Stmt::Let { var, value } = stmt
                && needed[usize::from(var.0)]
            {
                let level = deepest(&value.terms, &level_of);
                level_of[usize::from(var.0)] = level;
                levels[level].lets.push(stmt);
            }
        }
        for &(var, by) in &addr.terms {
            levels[level_of[usize::from(var.0)]].terms.push((var, by));
        }
        for guard in &addr.guards {
            levels[level_of[usize::from(guard.var.0)]].guards.push(*guard);
        }
        // A cut through a variable that the store does not depend on: both halves store.
        let open = |&(dim, _): &Cut| !needed[usize::from(self.kernel.parallel[dim].var.0)];
        let mask = self.cuts.iter().enumerate().filter(|(_, cut)| open(cut));
        let mask = mask.fold(ANY, |mask, (bit, _)| mask | 3 << (2 * bit));
        let times: u64 = levels.iter().filter_map(|l| l.root).map(|r| u64::from(r.1)).product();
        self.budget = self.budget.checked_sub(times)?;
        let buffer = usize::from(addr.buffer.0);
        let marks = &mut self.marks[buffer];
        marks.resize(self.kernel.buffers[buffer].len, 0);
        let mut values = vec![0; self.kernel.vars.len()];
        let mut run =
            Run { levels: &levels, values: &mut values, marks, lanes: usize::from(lanes) };
        run.from(0, addr.offset, mask);
        Some(())
    }
}

/// Stored by any iteration.
const ANY: u16 = 1 << 15;

/// A loop of those that a store depends on, and what is known once its variable is.
#[derive(Default)]
struct Level<'k> {
    root: Option<(Var, u32)>,
    /// Bits and places of the cuts through its variable.
    cuts: Vec<(usize, u32)>,
    lets: Vec<&'k Stmt>,
    guards: Vec<Guard>,
    terms: Vec<(Var, i64)>,
}

struct Run<'a> {
    levels: &'a [Level<'a>],
    values: &'a mut [i64],
    marks: &'a mut [u16],
    lanes: usize,
}

impl Run<'_> {
    fn from(&mut self, level: usize, at: i64, mask: u16) {
        let Some(here) = self.levels.get(level) else {
            // A proved kernel stores inside of its buffers.
            let start = usize::try_from(at).unwrap_or(usize::MAX);
            let marks = self.marks.iter_mut().skip(start).take(self.lanes);
            marks.for_each(|mark| *mark |= mask);
            return;
        };
        let Some((var, count)) = here.root else {
            self.one(here, level, at, mask);
            return;
        };
        for value in 0..count {
            self.values[usize::from(var.0)] = i64::from(value);
            let side = |&(bit, at): &(usize, u32)| 1 << (2 * bit + usize::from(value >= at));
            let mask = here.cuts.iter().map(side).fold(mask, |mask: u16, bit: u16| mask | bit);
            self.one(here, level, at, mask);
        }
    }

    fn one(&mut self, here: &Level<'_>, level: usize, at: i64, mask: u16) {
        let sum = |values: &[i64], offset: i64, terms: &[(Var, i64)]| {
            terms.iter().fold(offset, |sum, &(var, by)| sum + by * values[usize::from(var.0)])
        };
        for stmt in &here.lets {
            if let Stmt::Let { var, value } = stmt {
                let total = sum(self.values, value.offset, &value.terms);
                self.values[usize::from(var.0)] = match value.op {
                    IndexOp::Sum => total,
                    IndexOp::Div(by) => total / i64::from(by),
                    IndexOp::Rem(by) => total % i64::from(by),
                };
            }
        }
        let holds = |guard: &Guard| {
            (0..i64::from(guard.count)).contains(&self.values[usize::from(guard.var.0)])
        };
        if here.guards.iter().all(holds) {
            let at = sum(self.values, at, &here.terms);
            self.from(level + 1, at, mask);
        }
    }
}
