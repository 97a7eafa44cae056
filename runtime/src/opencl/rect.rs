//! Bytes of a block of memory at regular distances, which one command copies.

use std::ops::Range;

/// Rows of bytes, in slices of so many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rect {
    /// Where the first row begins.
    pub start: usize,
    /// Bytes of a row.
    pub len: usize,
    /// Rows of a slice.
    pub rows: usize,
    /// From one row to the next.
    pub row_pitch: usize,
    /// How many slices.
    pub slices: usize,
    /// From one slice to the next: a multiple of `row_pitch`.
    pub slice_pitch: usize,
}

impl Rect {
    /// One row.
    pub fn row(range: Range<usize>) -> Rect {
        let (start, len) = (range.start, range.len());
        Rect { start, len, rows: 1, row_pitch: len, slices: 1, slice_pitch: len }
    }

    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.len * self.rows * self.slices
    }

    /// Its rows, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let rect = *self;
        (0..rect.slices).flat_map(move |slice| {
            (0..rect.rows).map(move |row| {
                let start = rect.start + slice * rect.slice_pitch + row * rect.row_pitch;
                start..start + rect.len
            })
        })
    }

    /// It has bytes, its rows and slices are apart, as OpenCL wants them, and it lies inside of so
    /// many bytes.
    pub fn is_sound(&self, bytes: usize) -> bool {
        let Rect { start, len, rows, row_pitch, slices, slice_pitch } = *self;
        let slice = rows.checked_mul(row_pitch);
        let end = || {
            let slices = (slices - 1).checked_mul(slice_pitch)?;
            let rows = (rows - 1).checked_mul(row_pitch)?;
            start.checked_add(slices)?.checked_add(rows)?.checked_add(len)
        };
        len > 0
            && rows > 0
            && slices > 0
            && row_pitch >= len
            && slice.is_some_and(|slice| slice_pitch >= slice)
            && slice_pitch.is_multiple_of(row_pitch)
            && end().is_some_and(|end| end <= bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::Rect;

    #[test]
    fn rows_and_bounds() {
        let rect = Rect { start: 3, len: 2, rows: 2, row_pitch: 4, slices: 2, slice_pitch: 12 };
        assert_eq!(rect.ranges().collect::<Vec<_>>(), [3..5, 7..9, 15..17, 19..21]);
        assert_eq!(rect.bytes(), 8);
        assert!(rect.is_sound(21) && !rect.is_sound(20));
        assert!(Rect::row(5..9).is_sound(9));
        for wrong in [
            Rect { len: 0, ..rect },
            Rect { rows: 0, ..rect },
            Rect { slices: 0, ..rect },
            Rect { row_pitch: 1, ..rect },
            Rect { slice_pitch: 4, ..rect },
            Rect { slice_pitch: 13, ..rect },
            Rect { start: usize::MAX, ..rect },
            Rect { slices: usize::MAX, ..rect },
        ] {
            assert!(!wrong.is_sound(1000), "{wrong:?}");
        }
    }
}
