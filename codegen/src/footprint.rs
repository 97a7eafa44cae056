//! What a kernel with named indices and conditional accesses touches.
//!
//! Loads are bounded: each variable takes all values between its lowest and its highest, whatever
//! the others are, so that some elements may count that are not loaded. What is stored must be
//! known to the element, for whoever takes it from there: a store with conditions or named indices is
//! followed through all values of the variables that it depends on.

use crate::ir::{Access, Addr, Guard, Index, IndexOp, Inst, Kernel, Stmt, Var};
use crate::pieces::Pieces;
use std::collections::BTreeMap;
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
                Stmt::Nonzero(nonzero) => self.body(&nonzero.body),
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

    /// Where an access begins that may touch the most, and how often that is repeated by what.
    fn spread(&self, addr: &Addr) -> Option<(i64, Repeats)> {
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
        Some((start, repeats))
    }
}

/// Strides, and how many places each makes of one.
type Repeats = Vec<(i64, u32)>;

/// Pieces at all places; whether no element is there that is in none of them.
fn repeated(pieces: Pieces, repeats: &[(i64, u32)]) -> (Pieces, bool) {
    repeats.iter().fold((pieces.joined(), true), |(pieces, exact), &(by, count)| {
        let exact = exact && pieces.is_repeated_exactly(by, count);
        (pieces.repeated(by, count), exact)
    })
}

/// For each buffer what may be loaded, as ranges in order and apart from one another.
pub(crate) fn loads(kernel: &Kernel) -> Vec<Vec<Range<usize>>> {
    let bounds = Bounds::new(kernel);
    // Accesses of unrolled loops are alike but for where they begin.
    let mut alike: BTreeMap<(usize, Repeats), Pieces> = BTreeMap::new();
    kernel.for_each_inst(&mut |inst, _| {
        let (addr, lanes) = match inst {
            Inst::Load { addr, dst } => (addr, kernel.lanes(*dst)),
            Inst::Splat { addr, .. } => (addr, 1),
            _ => return,
        };
        if let Some((start, repeats)) = bounds.spread(addr) {
            let pieces = alike.entry((usize::from(addr.buffer.0), repeats)).or_default();
            pieces.0.push((start, start + i64::from(lanes)));
        }
    });
    let mut all: Vec<Pieces> = kernel.buffers.iter().map(|_| Pieces::default()).collect();
    for ((buffer, repeats), pieces) in alike {
        all[buffer].0.extend(repeated(pieces, &repeats).0.0);
    }
    all.into_iter()
        .zip(&kernel.buffers)
        .map(|(pieces, buffer)| ranges(pieces, buffer.len))
        .collect()
}

/// Those inside of a buffer.
fn ranges(pieces: Pieces, len: usize) -> Vec<Range<usize>> {
    let inside = |at: i64| at.clamp(0, len as i64) as usize;
    let ranges = pieces.joined().0.into_iter().map(|(low, high)| inside(low)..inside(high));
    ranges.filter(|range| !range.is_empty()).collect()
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

/// Stores that are followed one by one, at most: some seconds' work.
const BUDGET: u64 = 1 << 28;

/// Some of the iterations: all, or those on one side of a cut.
#[derive(Debug, Clone, Copy)]
enum Part {
    Whole,
    Side { cut: usize, side: usize },
}

impl Part {
    /// The bit of an element that it stores.
    fn bit(self) -> u16 {
        match self {
            Part::Whole => ANY,
            Part::Side { cut, side } => 1 << (2 * cut + side),
        }
    }
}

/// Stored by any iteration.
const ANY: u16 = 1 << 15;

/// What is stored, exactly; nothing where that takes too long to find out. The first
/// [`MOST_CUTS`] cuts count.
pub(crate) fn stored(kernel: &Kernel, cuts: &[Cut]) -> Option<Stored> {
    let cuts = &cuts[..cuts.len().min(MOST_CUTS)];
    let mut walk = Walk {
        kernel,
        cuts,
        roots: kernel.parallel.iter().chain(&kernel.items).map(|d| (d.var, d.count)).collect(),
        lets: Vec::new(),
        regular: BTreeMap::new(),
        marks: kernel.buffers.iter().map(|_| Vec::new()).collect(),
        budget: BUDGET,
    };
    walk.body(&kernel.body)?;
    walk.follow_ragged()?;
    let marked: Vec<_> = walk.marks.iter().map(|marks| runs(marks)).collect();
    let of = |part: Part| -> Vec<Vec<Range<usize>>> {
        let with_bit = |runs: &Vec<(Range<usize>, u16)>| {
            let runs = runs.iter().filter(|(_, mark)| mark & part.bit() != 0);
            Pieces(runs.map(|(run, _)| (run.start as i64, run.end as i64)).collect())
        };
        let mut all: Vec<Pieces> = marked.iter().map(with_bit).collect();
        for ((buffer, terms), stores) in &walk.regular {
            all[*buffer].0.extend(walk.regular_pieces(terms, stores, part).0.0);
        }
        let buffers = all.into_iter().zip(&kernel.buffers);
        buffers.map(|(pieces, buffer)| ranges(pieces, buffer.len)).collect()
    };
    let halves = (0..cuts.len()).map(|cut| [0, 1].map(|side| of(Part::Side { cut, side })));
    Some(Stored { whole: of(Part::Whole), halves: halves.collect() })
}

/// Elements that are marked alike, from one change to the next.
fn runs(marks: &[u16]) -> Vec<(Range<usize>, u16)> {
    let mut runs: Vec<(Range<usize>, u16)> = Vec::new();
    for (at, &mark) in marks.iter().enumerate() {
        match runs.last_mut() {
            Some((last, other)) if *other == mark => last.end = at + 1,
            _ => runs.push((at..at + 1, mark)),
        }
    }
    runs.retain(|(_, mark)| *mark != 0);
    runs
}

/// A statement that names an index.
type Named<'k> = (Var, &'k Index);

/// A buffer, and the terms of a position in it.
type Place<'k> = (usize, &'k [(Var, i64)]);

/// Stores with their lanes.
type Stores<'k> = Vec<(&'k Addr, u8)>;

struct Walk<'k> {
    kernel: &'k Kernel,
    cuts: &'k [Cut],
    /// Variables of the loops around, and how many values they take.
    roots: Vec<(Var, u32)>,
    /// Named indices in scope.
    lets: Vec<Named<'k>>,
    /// Stores without conditions at positions of loop variables alone, by buffer and terms.
    regular: BTreeMap<Place<'k>, Stores<'k>>,
    /// For each buffer, once another store is found there, the bits of each element.
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
                Stmt::Let { var, value } => self.lets.push((*var, value)),
                Stmt::Inst(Inst::Store { addr, src }) => {
                    let access = self.kernel.buffers[usize::from(addr.buffer.0)].access;
                    if !matches!(access, Access::Local | Access::Shared) {
                        self.store(addr, self.kernel.lanes(*src))?;
                    }
                }
                // In plain kernels only, which are not followed like this.
                Stmt::Inst(_) | Stmt::Barrier | Stmt::Nonzero(_) => {}
            }
        }
        self.lets.truncate(named);
        Some(())
    }

    /// Follows the regular stores whose pieces are too many to be told exactly.
    fn follow_ragged(&mut self) -> Option<()> {
        let parts = (0..self.cuts.len())
            .flat_map(|cut| [0, 1].map(|side| Part::Side { cut, side }))
            .chain([Part::Whole]);
        let parts: Vec<Part> = parts.collect();
        let regular = std::mem::take(&mut self.regular);
        let counts = self.kernel.trip_counts();
        for (key, stores) in regular {
            let exact = |part: &Part| self.regular_pieces(key.1, &stores, *part).1;
            if parts.iter().all(exact) {
                self.regular.insert(key, stores);
                continue;
            }
            self.roots = key.1.iter().map(|&(var, _)| (var, counts[usize::from(var.0)])).collect();
            for (addr, lanes) in stores {
                self.follow(addr, lanes)?;
            }
        }
        Some(())
    }

    /// Where regular stores go, and whether it is nowhere else.
    fn regular_pieces(
        &self,
        terms: &[(Var, i64)],
        stores: &[(&Addr, u8)],
        part: Part,
    ) -> (Pieces, bool) {
        let counts = self.kernel.trip_counts();
        let mut shift = 0;
        let mut repeats: Repeats = Vec::new();
        for &(var, by) in terms {
            let mut values = 0..counts[usize::from(var.0)];
            if let Part::Side { cut, side } = part {
                let (dim, at) = self.cuts[cut];
                if self.kernel.parallel[dim].var == var {
                    values = if side == 0 { 0..at } else { at..values.end };
                }
            }
            shift += by * i64::from(values.start);
            repeats.push((by, values.end - values.start));
        }
        repeats.sort_by_key(|repeat| repeat.0.unsigned_abs());
        let start = |&(addr, lanes): &(&Addr, u8)| {
            let start = addr.offset + shift;
            (start, start + i64::from(lanes))
        };
        repeated(Pieces(stores.iter().map(start).collect()), &repeats)
    }

    fn store(&mut self, addr: &'k Addr, lanes: u8) -> Option<()> {
        let is_named = |var: Var| self.lets.iter().any(|named| named.0 == var);
        if addr.guards.is_empty() && !addr.terms.iter().any(|term| is_named(term.0)) {
            let alike = self.regular.entry((usize::from(addr.buffer.0), &addr.terms)).or_default();
            alike.push((addr, lanes));
            return Some(());
        }
        self.follow(addr, lanes)
    }

    /// Marks what a store reaches with all values of the variables that it depends on.
    fn follow(&mut self, addr: &Addr, lanes: u8) -> Option<()> {
        // What the address depends on, from its own variables to those of loops.
        let mut needed = vec![false; self.kernel.vars.len()];
        let own = addr.terms.iter().map(|term| term.0).chain(addr.guards.iter().map(|g| g.var));
        own.for_each(|var| needed[usize::from(var.0)] = true);
        for (var, value) in self.lets.iter().rev() {
            if needed[usize::from(var.0)] {
                value.terms.iter().for_each(|term| needed[usize::from(term.0.0)] = true);
            }
        }
        let mut levels: Vec<Level<'_>> = vec![Level { root: (None, 1), ..Level::default() }];
        let mut level_of = vec![0; self.kernel.vars.len()];
        for &(var, count) in self.roots.iter().filter(|root| needed[usize::from(root.0.0)]) {
            level_of[usize::from(var.0)] = levels.len();
            let cuts = self.cuts.iter().enumerate().filter_map(|(cut, &(dim, at))| {
                (self.kernel.parallel[dim].var == var).then_some((cut, at))
            });
            let root = (Some(var), count);
            levels.push(Level { root, cuts: cuts.collect(), ..Level::default() });
        }
        for &(var, value) in self.lets.iter().filter(|named| needed[usize::from(named.0.0)]) {
            let of_terms = value.terms.iter().map(|term| level_of[usize::from(term.0.0)]);
            let level = of_terms.max().unwrap_or(0);
            level_of[usize::from(var.0)] = level;
            levels[level].lets.push((var, value));
        }
        for &(var, by) in &addr.terms {
            levels[level_of[usize::from(var.0)]].terms.push((var, by));
        }
        for guard in &addr.guards {
            levels[level_of[usize::from(guard.var.0)]].guards.push(*guard);
        }
        // A cut through a variable that the store does not depend on: both sides store.
        let open = |&(dim, _): &Cut| !needed[usize::from(self.kernel.parallel[dim].var.0)];
        let mask = self.cuts.iter().enumerate().filter(|(_, cut)| open(cut));
        let mask = mask.fold(ANY, |mask, (cut, _)| mask | 3 << (2 * cut));
        let times: u64 = levels.iter().map(|level| u64::from(level.root.1)).product();
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

/// A loop of those that a store depends on, and what is known once its variable is. The first one
/// stands for no loop.
#[derive(Default)]
struct Level<'k> {
    root: (Option<Var>, u32),
    /// The cuts through its variable, with their places.
    cuts: Vec<(usize, u32)>,
    lets: Vec<Named<'k>>,
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
    fn sum(&self, offset: i64, terms: &[(Var, i64)]) -> i64 {
        terms.iter().fold(offset, |sum, &(var, by)| sum + by * self.values[usize::from(var.0)])
    }

    fn from(&mut self, number: usize, at: i64, mask: u16) {
        let level = &self.levels[number];
        let is_last = number + 1 == self.levels.len();
        for value in 0..level.root.1 {
            if let Some(var) = level.root.0 {
                self.values[usize::from(var.0)] = i64::from(value);
            }
            for (var, named) in &level.lets {
                let total = self.sum(named.offset, &named.terms);
                self.values[usize::from(var.0)] = match named.op {
                    IndexOp::Sum => total,
                    IndexOp::Div(by) => total / i64::from(by),
                    IndexOp::Rem(by) => total % i64::from(by),
                };
            }
            let holds = |guard: &Guard| {
                (0..i64::from(guard.count)).contains(&self.values[usize::from(guard.var.0)])
            };
            if !level.guards.iter().all(holds) {
                continue;
            }
            let at = self.sum(at, &level.terms);
            let mask = level.cuts.iter().fold(mask, |mask, &(cut, first)| {
                let side = usize::from(value >= first);
                mask | Part::Side { cut, side }.bit()
            });
            if is_last {
                // A proved kernel stores inside of its buffers.
                let start = usize::try_from(at).unwrap_or(usize::MAX);
                let marks = self.marks.iter_mut().skip(start).take(self.lanes);
                marks.for_each(|mark| *mark |= mask);
            } else {
                self.from(number + 1, at, mask);
            }
        }
    }
}
