//! Sets of bytes as ranges in order and apart from one another.

use std::ops::Range;

/// A set of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges(Vec<Range<usize>>);

impl Ranges {
    /// The union of ranges in any order.
    pub fn of(mut ranges: Vec<Range<usize>>) -> Ranges {
        ranges.retain(|range| !range.is_empty());
        ranges.sort_by_key(|range| range.start);
        ranges.dedup_by(|next, last| {
            let joins = next.start <= last.end;
            if joins {
                last.end = last.end.max(next.end);
            }
            joins
        });
        Ranges(ranges)
    }

    /// The bytes of one range.
    pub fn one(range: Range<usize>) -> Ranges {
        Ranges(std::iter::once(range).filter(|range| !range.is_empty()).collect())
    }

    /// In order.
    pub fn list(&self) -> &[Range<usize>] {
        &self.0
    }

    /// Nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.iter().map(Range::len).sum()
    }

    /// What is in either.
    pub fn union(&self, other: &Ranges) -> Ranges {
        if other.is_empty() {
            return self.clone();
        }
        Ranges::of(self.0.iter().chain(&other.0).cloned().collect())
    }

    /// What is in both.
    pub fn intersection(&self, other: &Ranges) -> Ranges {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some(&x), Some(&y)) = (a.peek(), b.peek()) {
            let common = x.start.max(y.start)..x.end.min(y.end);
            if !common.is_empty() {
                both.push(common);
            }
            if x.end <= y.end {
                a.next()
            } else {
                b.next()
            };
        }
        Ranges(both)
    }

    /// What is in this one alone.
    pub fn without(&self, other: &Ranges) -> Ranges {
        let mut rest = Vec::new();
        let mut others = other.0.iter().peekable();
        for range in &self.0 {
            let mut start = range.start;
            while let Some(&hole) = others.peek() {
                if hole.start >= range.end {
                    break;
                }
                if hole.start > start {
                    rest.push(start..hole.start);
                }
                start = start.max(hole.end);
                if hole.end >= range.end {
                    break;
                }
                others.next();
            }
            if start < range.end {
                rest.push(start..range.end);
            }
        }
        Ranges(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn bytes(ranges: &Ranges) -> BTreeSet<usize> {
        ranges.list().iter().cloned().flatten().collect()
    }

    /// Against sets of single bytes.
    #[test]
    fn operations_are_those_of_sets() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 33) % below) as usize
        };
        for _ in 0..500 {
            let mut draw = || {
                let starts: Vec<usize> = (0..random(6)).map(|_| random(40)).collect();
                Ranges::of(starts.into_iter().map(|start| start..start + random(8)).collect())
            };
            let (a, b) = (draw(), draw());
            let (x, y) = (bytes(&a), bytes(&b));
            assert_eq!(bytes(&a.union(&b)), &x | &y);
            assert_eq!(bytes(&a.intersection(&b)), &x & &y);
            assert_eq!(bytes(&a.without(&b)), &x - &y, "{a:?} {b:?}");
            assert_eq!(a.len(), x.len());
            for set in [a.union(&b), a.without(&b), a.intersection(&b)] {
                assert!(set.list().windows(2).all(|pair| pair[0].end < pair[1].start), "{set:?}");
            }
        }
    }
}
