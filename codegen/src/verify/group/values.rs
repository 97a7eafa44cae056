//! The variables of a kernel as functions of those that are counted: dimensions and loops. Two
//! variables that are always equal go by the first one's number.

use crate::ir::{Addr, Index, IndexOp, Kernel, Stmt, Var};
use std::collections::HashMap;

/// `offset + sum of coefficient * variable`, sorted by variable, no coefficient zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Sum {
    pub(super) offset: i64,
    pub(super) terms: Vec<(usize, i64)>,
}

impl Sum {
    fn add(&mut self, var: usize, by: i64) {
        match self.terms.binary_search_by_key(&var, |t| t.0) {
            Ok(at) => {
                self.terms[at].1 += by;
                if self.terms[at].1 == 0 {
                    self.terms.remove(at);
                }
            }
            Err(at) => self.terms.insert(at, (var, by)),
        }
    }
}

impl Sum {
    /// Variables replaced by the sums that they stand for.
    pub(super) fn expanded(&self, of: &dyn Fn(usize) -> Option<Sum>) -> Sum {
        let mut all = Sum { offset: self.offset, terms: Vec::new() };
        for &(var, by) in &self.terms {
            match of(var) {
                Some(parts) => {
                    let parts = parts.expanded(of);
                    all.offset += parts.offset * by;
                    parts.terms.iter().for_each(|&(v, c)| all.add(v, c * by));
                }
                None => all.add(var, by),
            }
        }
        all
    }
}

/// What a variable is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// The iteration has one value of it, or a loop with barriers: all items have the same.
    Common,
    /// An item's own.
    Item,
    /// Of a loop without barriers: items are at any of its values.
    Loop,
    /// Named by a statement.
    Sum(Sum),
    Div(Sum, i64),
    Rem(Sum, i64),
}

/// Lowest and highest value.
pub(super) type Range = (i64, i64);

#[derive(Debug)]
pub(super) struct Values {
    pub(super) kinds: Vec<Kind>,
    pub(super) ranges: Vec<Range>,
    /// Of each variable the first that always equals it.
    same: Vec<usize>,
    known: HashMap<Kind, usize>,
    /// Of each variable a bound of all numbers that arise where it is spelled out.
    weights: Vec<i128>,
}

/// Bound of the numbers that are reckoned with: sums of a few of them fit.
const LARGEST: i128 = 1 << 60;

impl Values {
    /// Takes a kernel whose accesses are inside their buffers, so nothing here overflows.
    pub(super) fn new(kernel: &Kernel) -> Self {
        let count = kernel.vars.len();
        let mut values = Values {
            kinds: vec![Kind::Common; count],
            ranges: vec![(0, 0); count],
            same: (0..count).collect(),
            known: HashMap::new(),
            weights: vec![0; count],
        };
        for dim in &kernel.parallel {
            values.count(dim.var, dim.count, Kind::Common);
        }
        for dim in &kernel.items {
            values.count(dim.var, dim.count, Kind::Item);
        }
        values.body(&kernel.body);
        values
    }

    fn count(&mut self, Var(var): Var, count: u32, kind: Kind) {
        self.kinds[usize::from(var)] = kind;
        self.ranges[usize::from(var)] = (0, i64::from(count) - 1);
        self.weights[usize::from(var)] = i128::from(count);
    }

    /// Whether an address is made of numbers that can be reckoned with.
    pub(super) fn fits(&self, addr: &Addr) -> bool {
        self.weight(addr.offset, &addr.terms) <= LARGEST
    }

    fn weight(&self, offset: i64, terms: &[(Var, i64)]) -> i128 {
        let offset = i128::from(offset).abs();
        terms.iter().fold(offset, |sum, &(var, by)| {
            let term = i128::from(by).abs().saturating_mul(self.weights[usize::from(var.0)]);
            sum.saturating_add(term)
        })
    }

    fn body(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::For { var, count, body } => {
                    let kind = if has_barrier(body) { Kind::Common } else { Kind::Loop };
                    self.count(*var, *count, kind);
                    self.body(body);
                }
                Stmt::Let { var, value } => self.name(usize::from(var.0), value),
                _ => {}
            }
        }
    }

    fn name(&mut self, var: usize, value: &Index) {
        self.weights[var] = self.weight(value.offset, &value.terms).max(1);
        let sum = self.sum(value.offset, &value.terms);
        let (low, high) = range_of(&sum, &self.ranges);
        let kind = match value.op {
            IndexOp::Sum => Kind::Sum(sum),
            // One quotient: no division at all.
            IndexOp::Div(by) if low / i64::from(by) == high / i64::from(by) => {
                Kind::Sum(Sum { offset: low / i64::from(by), terms: Vec::new() })
            }
            IndexOp::Rem(by) if low / i64::from(by) == high / i64::from(by) => {
                let by = i64::from(by);
                Kind::Sum(Sum { offset: sum.offset - low / by * by, ..sum })
            }
            IndexOp::Div(by) => Kind::Div(sum, i64::from(by)),
            IndexOp::Rem(by) => Kind::Rem(sum, i64::from(by)),
        };
        let same = match &kind {
            Kind::Sum(Sum { offset: 0, terms }) if matches!(terms[..], [(_, 1)]) => terms[0].0,
            kind => *self.known.entry(kind.clone()).or_insert(var),
        };
        self.same[var] = same;
        self.ranges[var] = self.range(&kind, &self.ranges);
        self.kinds[var] = kind;
    }

    /// A sum by the first of equal variables.
    fn sum(&self, offset: i64, terms: &[(Var, i64)]) -> Sum {
        let mut sum = Sum { offset, terms: Vec::new() };
        for &(var, by) in terms {
            let var = self.same(var);
            // What is always zero may have any coefficient.
            if self.ranges[var] != (0, 0) {
                sum.add(var, by);
            }
        }
        sum
    }

    pub(super) fn address(&self, addr: &Addr) -> Sum {
        self.sum(addr.offset, &addr.terms)
    }

    pub(super) fn same(&self, var: Var) -> usize {
        self.same[usize::from(var.0)]
    }

    /// The range of a named value whose parts have these.
    fn range(&self, kind: &Kind, ranges: &[Range]) -> Range {
        match kind {
            Kind::Sum(sum) => range_of(sum, ranges),
            Kind::Div(sum, by) => {
                let (low, high) = range_of(sum, ranges);
                (low.div_euclid(*by), high.div_euclid(*by))
            }
            Kind::Rem(sum, by) => {
                let (low, high) = range_of(sum, ranges);
                if low.div_euclid(*by) == high.div_euclid(*by) {
                    (low.rem_euclid(*by), high.rem_euclid(*by))
                } else {
                    (0, by - 1)
                }
            }
            Kind::Common | Kind::Item | Kind::Loop => (0, 0),
        }
    }

    /// All ranges where the guards of an access hold; `None` where they never do.
    pub(super) fn guarded(&self, addr: &Addr) -> Option<Vec<Range>> {
        let mut ranges = self.ranges.clone();
        for guard in &addr.guards {
            narrow(&mut ranges, self.same(guard.var), (0, i64::from(guard.count) - 1))?;
        }
        // What is known of a value is known of its parts, and the other way around.
        for _ in 0..ROUNDS {
            let before = ranges.clone();
            for var in (0..ranges.len()).rev() {
                self.narrow_parts(var, &mut ranges)?;
            }
            for (var, kind) in self.kinds.iter().enumerate() {
                if matches!(kind, Kind::Sum(_) | Kind::Div(..) | Kind::Rem(..)) {
                    let of_parts = self.range(kind, &ranges);
                    narrow(&mut ranges, var, of_parts)?;
                }
            }
            if ranges == before {
                break;
            }
        }
        Some(ranges)
    }

    /// Narrows the ranges of what a named value is made of.
    fn narrow_parts(&self, var: usize, ranges: &mut [Range]) -> Option<()> {
        let (low, high) = ranges[var];
        match &self.kinds[var] {
            Kind::Common | Kind::Item | Kind::Loop => Some(()),
            Kind::Sum(sum) => narrow_terms(sum, (low, high), ranges),
            Kind::Div(sum, by) => narrow_terms(sum, (low * by, high * by + by - 1), ranges),
            Kind::Rem(sum, by) => {
                let (least, most) = range_of(sum, ranges);
                let quotient = least.div_euclid(*by);
                if quotient != most.div_euclid(*by) {
                    return Some(());
                }
                let first = quotient * by;
                narrow_terms(sum, (low + first, high + first), ranges)
            }
        }
    }

    /// The number of the value of this kind, where the kernel names it.
    pub(super) fn find(&self, kind: &Kind) -> Option<usize> {
        self.known.get(kind).copied()
    }

    /// A sum without the variables that name sums.
    pub(super) fn spelled(&self, sum: &Sum) -> Sum {
        sum.expanded(&|var| match &self.kinds[var] {
            Kind::Sum(sum) => Some(sum.clone()),
            _ => None,
        })
    }

    /// The value of a variable at these counted ones.
    pub(super) fn value(&self, var: usize, counted: &[i64]) -> i64 {
        match &self.kinds[var] {
            Kind::Common | Kind::Item | Kind::Loop => counted[var],
            Kind::Sum(sum) => self.value_of(sum, counted),
            Kind::Div(sum, by) => self.value_of(sum, counted).div_euclid(*by),
            Kind::Rem(sum, by) => self.value_of(sum, counted).rem_euclid(*by),
        }
    }

    pub(super) fn value_of(&self, sum: &Sum, counted: &[i64]) -> i64 {
        let terms = sum.terms.iter().map(|&(var, by)| by * self.value(var, counted));
        sum.offset + terms.sum::<i64>()
    }

    /// Adds the counted variables that a variable depends on.
    pub(super) fn counted(&self, var: usize, into: &mut Vec<usize>) {
        match &self.kinds[var] {
            Kind::Common | Kind::Item | Kind::Loop => {
                if !into.contains(&var) {
                    into.push(var);
                }
            }
            Kind::Sum(sum) | Kind::Div(sum, _) | Kind::Rem(sum, _) => {
                sum.terms.iter().for_each(|&(var, _)| self.counted(var, into));
            }
        }
    }
}

fn range_of(sum: &Sum, ranges: &[Range]) -> Range {
    sum.terms.iter().fold((sum.offset, sum.offset), |(low, high), &(var, by)| {
        let (a, b) = (by * ranges[var].0, by * ranges[var].1);
        (low + a.min(b), high + a.max(b))
    })
}

/// How often ranges are narrowed by one another.
const ROUNDS: usize = 4;

/// `None` where nothing is left.
fn narrow(ranges: &mut [Range], var: usize, to: Range) -> Option<()> {
    let (low, high) = ranges[var];
    ranges[var] = (low.max(to.0), high.min(to.1));
    (ranges[var].0 <= ranges[var].1).then_some(())
}

/// Narrows the terms of a sum that is in a range.
fn narrow_terms(sum: &Sum, (low, high): Range, ranges: &mut [Range]) -> Option<()> {
    let (least, most) = range_of(sum, ranges);
    if (low, high) == (least, most) {
        return Some(());
    }
    for &(var, by) in &sum.terms {
        let (a, b) = (by * ranges[var].0, by * ranges[var].1);
        // What the others leave for this term.
        let (from, to) = (low - (most - a.max(b)), high - (least - a.min(b)));
        let floor = |x: i64| x.div_euclid(by.abs());
        let ceil = |x: i64| -(-x).div_euclid(by.abs());
        let (from, to) = if by > 0 { (ceil(from), floor(to)) } else { (ceil(-to), floor(-from)) };
        narrow(ranges, var, (from, to))?;
    }
    Some(())
}

/// Whether items wait for one another in it.
pub(super) fn has_barrier(body: &[Stmt]) -> bool {
    body.iter().any(|stmt| match stmt {
        Stmt::Barrier => true,
        Stmt::For { body, .. } => has_barrier(body),
        Stmt::Inst(_) | Stmt::Let { .. } | Stmt::Nonzero(_) => false,
    })
}
