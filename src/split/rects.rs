//! Ranges of bytes as few rectangles: what is copied by one command.

use alexc_runtime::opencl::Rect;
use std::ops::Range;

/// Rectangles of exactly these ranges, which are in order and apart.
pub(super) fn rects(ranges: &[Range<usize>]) -> Vec<Rect> {
    let mut strips: Vec<Rect> = Vec::new();
    for range in ranges {
        match strips.last_mut() {
            Some(last) if last.len == range.len() && continues_rows(last, range.start) => {
                last.row_pitch = (range.start - last.start) / last.rows;
                last.rows += 1;
                last.slice_pitch = last.rows * last.row_pitch;
            }
            _ => strips.push(Rect::row(range.clone())),
        }
    }
    let mut rects: Vec<Rect> = Vec::new();
    for strip in strips {
        match rects.last_mut() {
            Some(last) if same_rows(last, &strip) && continues_slices(last, strip.start) => {
                last.slice_pitch = (strip.start - last.start) / last.slices;
                last.slices += 1;
            }
            _ => rects.push(strip),
        }
    }
    rects
}

/// A row there is as far from the last one as that is from the one before.
fn continues_rows(rect: &Rect, start: usize) -> bool {
    rect.rows == 1 || start == rect.start + rect.rows * rect.row_pitch
}

fn same_rows(a: &Rect, b: &Rect) -> bool {
    (a.len, a.rows, a.row_pitch) == (b.len, b.rows, b.row_pitch)
}

/// A slice there is as far from the last one as that is from the one before.
fn continues_slices(rect: &Rect, start: usize) -> bool {
    match rect.slices {
        1 => {
            let pitch = start - rect.start;
            pitch >= rect.rows * rect.row_pitch && pitch.is_multiple_of(rect.row_pitch)
        }
        slices => start == rect.start + slices * rect.slice_pitch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_ranges_are_one_rectangle() {
        let one = Rect { start: 8, len: 4, rows: 3, row_pitch: 8, slices: 1, slice_pitch: 24 };
        assert_eq!(rects(&[8..12, 16..20, 24..28]), [one]);
        let rows = |first: usize| (0..3).map(move |row| first + row * 8..first + row * 8 + 4);
        let two: Vec<_> = [0, 40, 80].into_iter().flat_map(rows).collect();
        assert_eq!(rects(&two), [Rect { start: 0, slices: 3, slice_pitch: 40, ..one }]);
        assert_eq!(rects(&[5..9, 20..21]), [Rect::row(5..9), Rect::row(20..21)]);
        assert_eq!(rects(&[]), []);
    }

    /// Any ranges come back, whatever they are joined to.
    #[test]
    fn rectangles_are_the_ranges() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 33) % below) as usize
        };
        for _ in 0..500 {
            let mut end = 0;
            let ranges: Vec<Range<usize>> = (0..random(20))
                .map(|_| {
                    let start = end + 1 + random(3);
                    end = start + 1 + random(2);
                    start..end
                })
                .collect();
            let found = rects(&ranges);
            assert!(found.iter().all(|rect| rect.is_sound(end)), "{found:?}");
            let mut back: Vec<_> = found.iter().flat_map(Rect::ranges).collect();
            back.sort_by_key(|range| range.start);
            assert_eq!(back, ranges);
        }
    }
}
