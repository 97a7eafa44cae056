//! Finds iterations of the parallel space that touch what another one stores, in kernels without
//! conditions and groups.
//!
//! Nothing in a kernel is conditional, so every access happens for all values of its loop
//! variables: two accesses meet in different iterations exactly when an equation in whole numbers
//! has a solution with a parallel variable that differs. The search for one tries long strides
//! first and turns back where the rest cannot reach; addresses of tiled loops leave it one or two
//! choices each. It gives up after a fixed number of steps, and then reports nothing.

use super::{Place, Problem, VerifyError};
use crate::ir::{Access, Addr, Inst, Kernel, Nonzero, Stmt, Var};
use crate::pieces::Pieces;
use crate::text::{InstText, NonzeroText};
use std::collections::BTreeMap;

/// Choices tried for one kernel.
const BUDGET: usize = 100_000;

/// Accesses of one buffer whose addresses differ by constants alone.
struct Group<'k> {
    /// What they touch while all loop variables are zero.
    pieces: Pieces,
    sites: Vec<Site<'k>>,
}

/// One access.
struct Site<'k> {
    number: usize,
    loops: Vec<(Var, u32)>,
    what: What<'k>,
    piece: (i64, i64),
}

/// What accesses.
#[derive(Debug, Clone, Copy)]
enum What<'k> {
    Inst(&'k Inst),
    /// Looks for zeros.
    Nonzero(&'k Nonzero),
}

impl What<'_> {
    fn stores(self) -> bool {
        matches!(self, What::Inst(Inst::Store { .. }))
    }

    fn text(self, kernel: &Kernel) -> String {
        match self {
            What::Inst(inst) => InstText { kernel, inst }.to_string(),
            What::Nonzero(nonzero) => NonzeroText { kernel, nonzero }.to_string(),
        }
    }
}

/// Buffer, whether stored, terms of the address.
type Key<'k> = (usize, bool, &'k [(Var, i64)]);

/// One error for each pair of groups that meet. Takes a kernel without other errors.
pub(super) fn races(kernel: &Kernel) -> Vec<VerifyError> {
    let mut collector = Collector { kernel, groups: BTreeMap::new(), number: 0, open: Vec::new() };
    collector.open.extend(kernel.parallel.iter().map(|dim| (dim.var, dim.count)));
    collector.body(&kernel.body);
    let groups: Vec<_> = collector
        .groups
        .into_iter()
        .map(|(key, Group { pieces, sites })| (key, Group { pieces: pieces.joined(), sites }))
        .collect();
    let counts = kernel.trip_counts();
    let mut parallel = vec![false; kernel.vars.len()];
    kernel.parallel.iter().for_each(|dim| parallel[usize::from(dim.var.0)] = true);
    let mut search = Search { kernel, counts: &counts, parallel: &parallel, budget: BUDGET };
    let mut errors = Vec::new();
    for (index, (key, group)) in groups.iter().enumerate() {
        for (other_key, other) in &groups[index..] {
            let (terms, other_terms) = (key.2, other_key.2);
            if key.0 != other_key.0
                || !(key.1 || other_key.1)
                || !search.meet((terms, &group.pieces), (other_terms, &other.pieces))
            {
                continue;
            }
            // Which of them? Found again within the budget of one search.
            let mut sites =
                group.sites.iter().flat_map(|a| other.sites.iter().map(move |b| (a, b)));
            let found = sites.find(|(a, b)| {
                search.budget = BUDGET;
                let one = |site: &Site<'_>| Pieces(vec![site.piece]);
                search.meet((terms, &one(a)), (other_terms, &one(b)))
            });
            if let Some((a, b)) = found {
                let (store, other) = if key.1 { (a, b) } else { (b, a) };
                errors.push(error(kernel, key.0, store, other));
            }
        }
    }
    errors
}

/// A statement with the loops around it.
pub(super) fn place(kernel: &Kernel, number: usize, loops: &[(Var, u32)], text: String) -> Place {
    let loop_text =
        |&(var, count): &(Var, u32)| format!("{} in 0..{count}", kernel.vars[usize::from(var.0)]);
    Place::Statement { number, loops: loops.iter().map(loop_text).collect(), text }
}

fn error(kernel: &Kernel, buffer: usize, store: &Site<'_>, other: &Site<'_>) -> VerifyError {
    let text = |site: &Site<'_>| site.what.text(kernel);
    VerifyError {
        kernel: kernel.name.clone(),
        place: place(kernel, store.number, &store.loops, text(store)),
        problem: Problem::Race {
            buffer: kernel.buffers[buffer].name.clone(),
            verb: if other.what.stores() { "stores" } else { "loads" },
            other: text(other),
        },
    }
}

struct Collector<'k> {
    kernel: &'k Kernel,
    groups: BTreeMap<Key<'k>, Group<'k>>,
    number: usize,
    open: Vec<(Var, u32)>,
}

impl<'k> Collector<'k> {
    fn body(&mut self, body: &'k [Stmt]) {
        for stmt in body {
            let number = self.number;
            self.number += 1;
            match stmt {
                Stmt::Inst(inst) => self.inst(number, inst),
                Stmt::For { var, count, body } => {
                    self.open.push((*var, *count));
                    self.body(body);
                    self.open.pop();
                }
                Stmt::Nonzero(nonzero) => {
                    self.touch(number, What::Nonzero(nonzero), &nonzero.from, nonzero.count.into());
                    let opened = self.open.len();
                    self.open.extend(nonzero.found.iter().map(|&var| (var, nonzero.count)));
                    self.body(&nonzero.body);
                    self.open.truncate(opened);
                }
                Stmt::Let { .. } | Stmt::Barrier => {}
            }
        }
    }

    fn inst(&mut self, number: usize, inst: &'k Inst) {
        let (addr, lanes) = match inst {
            Inst::Load { dst, addr } => (addr, self.kernel.lanes(*dst)),
            Inst::Splat { addr, .. } => (addr, 1),
            Inst::Store { addr, src } => (addr, self.kernel.lanes(*src)),
            _ => return,
        };
        self.touch(number, What::Inst(inst), addr, lanes.into());
    }

    fn touch(&mut self, number: usize, what: What<'k>, addr: &'k Addr, count: i64) {
        let buffer = usize::from(addr.buffer.0);
        let access = self.kernel.buffers[buffer].access;
        if !matches!(access, Access::Write | Access::ReadWrite) {
            return;
        }
        let stored = what.stores();
        let group = self
            .groups
            .entry((buffer, stored, &addr.terms))
            .or_insert_with(|| Group { pieces: Pieces::default(), sites: Vec::new() });
        let piece = (addr.offset, addr.offset + count);
        group.pieces.0.push(piece);
        group.sites.push(Site { number, loops: self.open.clone(), what, piece });
    }
}

/// A whole number between `low` and `high`, times `by`.
#[derive(Debug, Clone, Copy)]
struct Unknown {
    by: i128,
    low: i128,
    high: i128,
}

/// As few unknowns as add up to the same numbers, largest stride first, all strides positive.
fn merged(mut unknowns: Vec<Unknown>) -> Vec<Unknown> {
    for u in unknowns.iter_mut().filter(|u| u.by < 0) {
        *u = Unknown { by: -u.by, low: -u.high, high: -u.low };
    }
    unknowns.retain(|u| u.by != 0 && (u.low, u.high) != (0, 0));
    unknowns.sort_by_key(|u| std::cmp::Reverse(u.by));
    unknowns.dedup_by(|next, first| {
        let alike = next.by == first.by;
        if alike {
            first.low += next.low;
            first.high += next.high;
        }
        alike
    });
    unknowns
}

struct Search<'k> {
    kernel: &'k Kernel,
    counts: &'k [u32],
    /// Which variables are parallel dimensions'.
    parallel: &'k [bool],
    budget: usize,
}

impl Search<'_> {
    /// Whether two groups touch a common element in different iterations.
    fn meet(
        &mut self,
        (terms, pieces): (&[(Var, i64)], &Pieces),
        (other_terms, other_pieces): (&[(Var, i64)], &Pieces),
    ) -> bool {
        // What the first address's variables add must exceed what the second's add by one of
        // these.
        if pieces.0.len() * other_pieces.0.len() > self.budget {
            return false;
        }
        let mut targets = Pieces::default();
        for &(low, high) in &pieces.0 {
            let of = other_pieces.0.iter().map(|&(l, h)| (l - high + 1, h - low));
            targets.0.extend(of);
        }
        let targets = targets.joined();

        let by = |terms: &[(Var, i64)], var: Var| {
            terms.iter().find(|t| t.0 == var).map_or(0, |t| i128::from(t.1))
        };
        let last = |var: Var| i128::from(self.counts[usize::from(var.0)]) - 1;
        let mut shared = Vec::new();
        // A loop runs anew in each iteration, so its values in the two have nothing to do with
        // one another.
        for &(var, c) in terms.iter().filter(|t| !self.parallel[usize::from(t.0.0)]) {
            shared.push(Unknown { by: i128::from(c), low: 0, high: last(var) });
        }
        for &(var, c) in other_terms.iter().filter(|t| !self.parallel[usize::from(t.0.0)]) {
            shared.push(Unknown { by: -i128::from(c), low: 0, high: last(var) });
        }
        // Of parallel variables only the difference counts, where both stride alike.
        let mut dims = Vec::new();
        for dim in self.kernel.parallel.iter().filter(|dim| dim.count > 1) {
            let stride = by(terms, dim.var);
            if stride != by(other_terms, dim.var) {
                return false;
            }
            let last = last(dim.var);
            dims.push(Unknown { by: stride, low: -last, high: last });
        }
        (0..dims.len()).any(|differs| {
            let Unknown { by, low, high } = dims[differs];
            let free = dims.iter().enumerate().filter(|&(i, _)| i != differs).map(|(_, &d)| d);
            let with = |low, high| {
                let all = shared.iter().copied().chain(free.clone());
                merged(all.chain([Unknown { by, low, high }]).collect())
            };
            self.reaches(&with(1, high), 0, &targets) || self.reaches(&with(low, -1), 0, &targets)
        })
    }

    /// Whether `sum` and a choice of the unknowns add up to a target.
    fn reaches(&mut self, unknowns: &[Unknown], sum: i128, targets: &Pieces) -> bool {
        if self.budget == 0 {
            return false;
        }
        self.budget -= 1;
        let reach = |unknowns: &[Unknown]| {
            unknowns.iter().fold((0, 0), |(l, h), u| (l + u.by * u.low, h + u.by * u.high))
        };
        let (least, most) = reach(unknowns);
        let (low, high) = (sum + least, sum + most);
        let near = targets.0.partition_point(|&(_, end)| i128::from(end) <= low);
        // Targets are sorted, so the ones within reach stand together.
        let within = targets.0[near..].partition_point(|&(start, _)| i128::from(start) <= high);
        let within = &targets.0[near..near + within];
        let (Some(first), Some(last)) = (within.first(), within.last()) else { return false };
        let Some((unknown, rest)) = unknowns.split_first() else { return true };

        // Only values from which the rest can still reach a target.
        let (rest_least, rest_most) = reach(rest);
        let from = div_ceil(i128::from(first.0) - sum - rest_most, unknown.by);
        let to = (i128::from(last.1) - 1 - sum - rest_least).div_euclid(unknown.by);
        (from.max(unknown.low)..=to.min(unknown.high))
            .any(|value| self.reaches(rest, sum + value * unknown.by, targets))
    }
}

/// Towards positive infinity; `b` is positive.
fn div_ceil(a: i128, b: i128) -> i128 {
    -(-a).div_euclid(b)
}
