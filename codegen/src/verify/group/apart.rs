//! Whether two accesses can only meet in the same item of the same iteration: an equation in whole
//! numbers, taken apart as one reads a number's digits. Where the rest of a sum is less than its
//! largest stride, both sides have the same multiple of that; what the multiples stand for gives
//! the next equations, down to the dimensions of the iterations and items.

use super::Steps;
use super::values::{Kind, Range, Sum, Values};

/// An access: its address, lanes, and the ranges of all variables where its guards hold.
pub(super) struct Touch {
    pub(super) address: Sum,
    pub(super) lanes: i64,
    pub(super) ranges: Vec<Range>,
    /// Variables with guards.
    pub(super) guarded: Vec<usize>,
}

pub(super) struct Apart<'v> {
    pub(super) values: &'v Values,
    /// Dimensions of more than one iteration or item.
    pub(super) dims: &'v [usize],
    pub(super) steps: &'v mut Steps,
    pub(super) a: &'v Touch,
    pub(super) b: &'v Touch,
}

/// A variable of the first access equals one of the second plus a number.
type Fact = (usize, usize, i128);

/// The terms and the offset add up to zero.
#[derive(Clone, Default)]
struct Equation {
    offset: i128,
    terms: Vec<Term>,
    /// Part of what is known elsewhere: not worth trying several choices.
    weak: bool,
}

#[derive(Clone, Copy)]
struct Term {
    by: i128,
    of: Of,
}

#[derive(Clone, Copy)]
enum Of {
    A(usize),
    B(usize),
    Between(i128, i128),
}

/// Terms of one stride.
struct Digit {
    by: i128,
    low: i128,
    high: i128,
    /// The stride times (a variable of the first access minus one of the second), perhaps negated.
    pair: Option<(usize, usize, bool)>,
    /// Greatest common divisor of the strides behind it.
    rest: i128,
}

#[derive(Clone, Default)]
struct State {
    facts: Vec<Fact>,
    open: Vec<Equation>,
}

/// Most choices for one digit.
const MOST_CHOICES: i128 = 8;

impl Apart<'_> {
    pub(super) fn holds(&mut self) -> bool {
        // Most pairs need no choices.
        [true, false].into_iter().any(|weak| self.follow(weak))
    }

    fn follow(&mut self, weak: bool) -> bool {
        let mut open = self.equations(&self.a.address, &self.b.address, 0);
        for equation in &mut open {
            equation.weak |= weak;
            if self.a.lanes.max(self.b.lanes) > 1 {
                let (a, b) = (i128::from(self.a.lanes), i128::from(self.b.lanes));
                equation.terms.push(Term { by: 1, of: Of::Between(1 - b, a - 1) });
            }
        }
        self.safe(State { facts: Vec::new(), open })
    }

    /// Whether the open equations leave nothing but the same item.
    fn safe(&mut self, mut state: State) -> bool {
        if self.dims.iter().all(|&dim| self.known(&state.facts, dim, dim) == Some(0)) {
            return true;
        }
        let Some(equation) = state.open.pop() else { return false };
        let (digits, offset) = self.digits(&equation);
        self.read(&digits, offset, equation.weak, Vec::new(), state)
    }

    fn range(&self, of: Of) -> (i128, i128) {
        let (low, high) = match of {
            Of::A(var) => self.a.ranges[var],
            Of::B(var) => self.b.ranges[var],
            Of::Between(low, high) => return (low, high),
        };
        (i128::from(low), i128::from(high))
    }

    /// The terms of an equation by their strides, largest first, and its offset.
    fn digits(&self, equation: &Equation) -> (Vec<Digit>, i128) {
        let mut offset = equation.offset;
        let mut terms = equation.terms.clone();
        terms.sort_by_key(|term| std::cmp::Reverse(term.by.abs()));
        let mut digits: Vec<Digit> = Vec::new();
        for group in terms.chunk_by(|x, y| x.by.abs() == y.by.abs()) {
            let by = group[0].by.abs();
            let (mut low, mut high) = (0, 0);
            let mut open = Vec::with_capacity(2);
            for term in group {
                let (l, h) = self.range(term.of);
                // Terms of one value are numbers where they would hide a pair.
                if group.len() > 2 && l == h {
                    offset += term.by * l;
                    continue;
                }
                let (l, h) = if term.by < 0 { (-h, -l) } else { (l, h) };
                (low, high) = (low + l, high + h);
                open.push(*term);
            }
            let pair = match open[..] {
                [Term { by: x, of: Of::A(a) }, Term { by: y, of: Of::B(b) }]
                | [Term { by: y, of: Of::B(b) }, Term { by: x, of: Of::A(a) }]
                    if x == -y =>
                {
                    Some((a, b, x < 0))
                }
                _ => None,
            };
            if pair.is_some() || (low, high) != (0, 0) {
                digits.push(Digit { by, low, high, pair, rest: 0 });
            }
        }
        let mut rest = 0;
        for digit in digits.iter_mut().rev() {
            digit.rest = rest;
            rest = gcd(rest, digit.by);
        }
        (digits, offset)
    }

    /// Reads the digits of an equation, whose terms so far add up to `sum`.
    fn read(
        &mut self,
        digits: &[Digit],
        sum: i128,
        weak: bool,
        mut found: Vec<Fact>,
        state: State,
    ) -> bool {
        if !self.steps.take(1) {
            return false;
        }
        let Some((digit, rest)) = digits.split_first() else {
            return sum != 0 || self.learn(found, state);
        };
        let (low, high) =
            rest.iter().fold((sum, sum), |(l, h), d| (l + d.by * d.low, h + d.by * d.high));
        let from = (-high).div_euclid(digit.by) + i128::from((-high).rem_euclid(digit.by) != 0);
        let to = (-low).div_euclid(digit.by);
        let (from, to) = (from.max(digit.low), to.min(digit.high));
        if to - from >= MOST_CHOICES {
            return self.learn(found, state);
        }
        let fits = |&value: &i128| match digit.rest {
            0 => sum + digit.by * value == 0,
            divisor => (sum + digit.by * value) % divisor == 0,
        };
        let choices: Vec<i128> = (from..=to).filter(fits).collect();
        if weak && choices.len() > 1 {
            return self.learn(found, state);
        }
        let (last, first) = match choices.split_last() {
            // The accesses never meet.
            None => return true,
            Some((last, first)) => (*last, first),
        };
        let fact =
            |value: i128| digit.pair.map(|(a, b, not)| (a, b, if not { -value } else { value }));
        for &value in first {
            let found = found.iter().copied().chain(fact(value)).collect();
            if !self.read(rest, sum + digit.by * value, weak, found, state.clone()) {
                return false;
            }
        }
        found.extend(fact(last));
        self.read(rest, sum + digit.by * last, weak, found, state)
    }

    /// Draws the conclusions from new facts.
    fn learn(&mut self, found: Vec<Fact>, mut state: State) -> bool {
        let mut new = Vec::new();
        for (a, b, by) in found {
            match state.facts.iter().find(|f| (f.0, f.1) == (a, b)) {
                Some(fact) if fact.2 != by => return true,
                Some(_) => {}
                None => {
                    state.facts.push((a, b, by));
                    new.push((a, b, by));
                }
            }
        }
        for (a, b, by) in new {
            let equations = self.conclusions(&state.facts, (a, b, by));
            state.open.extend(equations);
        }
        self.safe(state)
    }

    /// By how much a variable of the first access is more than one of the second.
    fn known(&self, facts: &[Fact], a: usize, b: usize) -> Option<i128> {
        let fact = facts.iter().find(|f| (f.0, f.1) == (a, b)).map(|f| f.2);
        fact.or_else(|| {
            let ((la, ha), (lb, hb)) = (self.range(Of::A(a)), self.range(Of::B(b)));
            (la == ha && lb == hb).then_some(la - lb)
        })
    }

    /// What a variable stands for: a sum that it names, or the remainder of a sum whose quotient is
    /// a number here.
    fn sum(&self, var: usize, touch: &Touch) -> Option<Sum> {
        match &self.values.kinds[var] {
            Kind::Sum(sum) => Some(sum.clone()),
            Kind::Rem(sum, by) => {
                let quotient = self.values.find(&Kind::Div(sum.clone(), *by))?;
                let (low, high) = touch.ranges[quotient];
                (low == high).then(|| Sum { offset: sum.offset - by * low, ..sum.clone() })
            }
            _ => None,
        }
    }

    /// That one sum is more than the other by a number: as they are, and, where that differs,
    /// with all sums in them spelled out, but for those that guards are about, and with these.
    fn equations(&self, x: &Sum, y: &Sum, by: i128) -> Vec<Equation> {
        let spelled = |touch: &Touch, sum: &Sum, guards: bool| {
            let of = |var: usize| {
                let stays = !guards && touch.guarded.contains(&var);
                if stays { None } else { self.sum(var, touch) }
            };
            sum.expanded(&of)
        };
        let mut all: Vec<(Sum, Sum)> = vec![(x.clone(), y.clone())];
        for guards in [false, true] {
            let pair = (spelled(self.a, x, guards), spelled(self.b, y, guards));
            if !all.contains(&pair) {
                all.push(pair);
            }
        }
        // The last of these is followed first.
        let last = all.len() - 1;
        let equations = all
            .iter()
            .enumerate()
            .rev()
            .map(|(n, (x, y))| Equation { weak: n == last && n > 0, ..difference(x, y).less(by) });
        equations.collect()
    }

    fn conclusions(&self, facts: &[Fact], (a, b, by): Fact) -> Vec<Equation> {
        let kinds = &self.values.kinds;
        let one = |var: usize| Sum { offset: 0, terms: vec![(var, 1)] };
        match (self.sum(a, self.a), self.sum(b, self.b)) {
            (None, None) => {}
            (x, y) => {
                let (x, y) = (x.unwrap_or_else(|| one(a)), y.unwrap_or_else(|| one(b)));
                return self.equations(&x, &y, by);
            }
        }
        match (&kinds[a], &kinds[b]) {
            (Kind::Div(x, m), Kind::Div(y, n)) if m == n => {
                // What they leave over, if that is known, or else something less than the divisor.
                let left = [Kind::Rem(x.clone(), *m), Kind::Rem(y.clone(), *m)];
                let [rx, ry] = left.map(|kind| self.values.find(&kind));
                let exact = rx.zip(ry).and_then(|(rx, ry)| self.known(facts, rx, ry));
                let whole = i128::from(*m) * by;
                if let Some(left) = exact {
                    return self.equations(x, y, whole + left);
                }
                let all = Of::Between(0, i128::from(*m) - 1);
                let (lx, hx) = self.range(rx.map_or(all, Of::A));
                let (ly, hy) = self.range(ry.map_or(all, Of::B));
                let mut equations = self.equations(x, y, whole);
                for equation in &mut equations {
                    equation.weak = true;
                    equation.terms.push(Term { by: -1, of: Of::Between(lx - hy, hx - ly) });
                }
                equations
            }
            (Kind::Rem(x, m), Kind::Rem(y, n)) if m == n => {
                let whole = [Kind::Div(x.clone(), *m), Kind::Div(y.clone(), *m)];
                let [qx, qy] = whole.map(|kind| self.values.find(&kind));
                let quotient = qx.zip(qy).and_then(|(qx, qy)| self.known(facts, qx, qy));
                let equations =
                    quotient.map(|quotient| self.equations(x, y, by + i128::from(*m) * quotient));
                equations.unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }
}

/// That a sum of the first access equals one of the second.
fn difference(a: &Sum, b: &Sum) -> Equation {
    let of_a = a.terms.iter().map(|&(var, by)| Term { by: i128::from(by), of: Of::A(var) });
    let of_b = b.terms.iter().map(|&(var, by)| Term { by: -i128::from(by), of: Of::B(var) });
    Equation {
        offset: i128::from(a.offset) - i128::from(b.offset),
        terms: of_a.chain(of_b).collect(),
        weak: false,
    }
}

impl Equation {
    fn less(mut self, by: i128) -> Self {
        self.offset -= by;
        self
    }
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}
