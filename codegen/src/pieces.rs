//! Sets of a buffer's elements.

/// A set of elements, as half-open ranges.
#[derive(Debug, Default)]
pub(crate) struct Pieces(pub(crate) Vec<(i64, i64)>);

impl Pieces {
    const LIMIT: u64 = 1_000_000;

    /// Sorted, apart from one another.
    pub(crate) fn joined(mut self) -> Self {
        self.0.sort_unstable();
        self.0.dedup_by(|next, last| {
            let joins = next.0 <= last.1;
            if joins {
                last.1 = last.1.max(next.1);
            }
            joins
        });
        self
    }

    /// With its copies shifted by `by`, `2 * by`, ... Takes and gives joined pieces.
    pub(crate) fn repeated(self, by: i64, count: u32) -> Self {
        let (Some(&(low, _)), Some(&(_, high))) = (self.0.first(), self.0.last()) else {
            return self;
        };
        let furthest = by * i64::from(count - 1);
        let hull = (low + furthest.min(0), high + furthest.max(0));
        if self.is_whole(by) || !self.is_repeated_exactly(by, count) {
            return Pieces(vec![hull]);
        }
        let copies = (0..i64::from(count))
            .flat_map(|k| self.0.iter().map(move |&(low, high)| (low + k * by, high + k * by)));
        Pieces(copies.collect()).joined()
    }

    /// One piece whose copies leave no gap.
    fn is_whole(&self, by: i64) -> bool {
        matches!(self.0[..], [(low, high)] if by.abs() <= high - low)
    }

    /// [`Pieces::repeated`] gives no element that is in none of the copies: they are not too many.
    pub(crate) fn is_repeated_exactly(&self, by: i64, count: u32) -> bool {
        self.is_whole(by) || self.0.len() as u64 * u64::from(count) <= Self::LIMIT
    }
}
