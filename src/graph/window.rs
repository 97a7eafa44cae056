//! How often a window fits into a map: PyTorch's rule, with the arithmetic kept for messages.

use super::{Padding, Pool, Window};
use crate::graph::shape_error::{MAX_ELEMENTS, ShapeError};
use std::fmt;

/// No kernel size, stride, dilation or padding may be larger. Products of two of them and a map's
/// size then stay far inside 64 bits.
pub const MAX_WINDOW: usize = 1 << 20;

/// The axes of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Top to bottom: `h`.
    Rows,
    /// Left to right: `w`.
    Columns,
}

impl Axis {
    /// Index in `[h, w]`.
    pub fn index(self) -> usize {
        match self {
            Axis::Rows => 0,
            Axis::Columns => 1,
        }
    }

    /// `h` or `w`, as keys and tables write it.
    pub fn letter(self) -> &'static str {
        match self {
            Axis::Rows => "h",
            Axis::Columns => "w",
        }
    }

    /// `row` or `column` for one, `rows` or `columns` for other counts.
    pub fn noun(self, count: usize) -> &'static str {
        match (self, count) {
            (Axis::Rows, 1) => "row",
            (Axis::Rows, _) => "rows",
            (Axis::Columns, 1) => "column",
            (Axis::Columns, _) => "columns",
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.noun(2))
    }
}

/// A window on one axis of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Track {
    /// Which axis.
    pub axis: Axis,
    /// The map's size.
    pub size: usize,
    /// Padding before it.
    pub before: usize,
    /// Padding after it.
    pub after: usize,
    /// Kernel size.
    pub kernel: usize,
    /// Distance between the kernel's cells.
    pub dilation: usize,
    /// Distance between windows.
    pub stride: usize,
    /// Round the number of windows up (pooling only).
    pub ceil_mode: bool,
}

/// How the windows of a [`Track`] fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// The question.
    pub track: Track,
    /// Windows: the output's size.
    pub output: usize,
    /// `ceil_mode` made one window more, but it would start in the padding after the map, so it
    /// is dropped.
    pub dropped: bool,
    /// Rows or columns at the end of the padded map that no window reaches.
    pub unused: usize,
    /// Those of `unused` that are of the map itself, not of its padding.
    pub unused_data: usize,
}

impl Track {
    /// Map and padding together.
    pub fn padded(&self) -> usize {
        self.before.saturating_add(self.size).saturating_add(self.after)
    }

    /// What one window spans: `dilation * (kernel - 1) + 1`.
    pub fn covered(&self) -> usize {
        self.dilation.saturating_mul(self.kernel.saturating_sub(1)).saturating_add(1)
    }

    /// Counts the windows.
    ///
    /// # Errors
    /// [`ShapeError::Zero`], [`ShapeError::WindowNumber`], [`ShapeError::TooLarge`] or
    /// [`ShapeError::WindowTooLarge`].
    pub fn steps(&self) -> Result<Steps, ShapeError> {
        for (key, value, least) in [
            ("kernel_size", self.kernel, 1),
            ("stride", self.stride, 1),
            ("dilation", self.dilation, 1),
            ("padding", self.before, 0),
            ("padding", self.after, 0),
        ] {
            if value < least {
                return Err(ShapeError::Zero { key });
            }
            if value > MAX_WINDOW {
                return Err(ShapeError::WindowNumber { key, value });
            }
        }
        if self.size > MAX_ELEMENTS {
            return Err(ShapeError::TooLarge { what: "the input", dims: vec![self.size] });
        }
        let (padded, covered) = (self.padded(), self.covered());
        // With ceil_mode a window may hang over the end by up to `stride - 1`.
        let reach = if self.ceil_mode { padded.saturating_add(self.stride - 1) } else { padded };
        let Some(room) = reach.checked_sub(covered) else {
            return Err(ShapeError::WindowTooLarge { track: *self });
        };
        let mut output = room / self.stride + 1;
        let dropped = self.ceil_mode && (output - 1) * self.stride >= self.before + self.size;
        if dropped {
            output -= 1;
        }
        if output == 0 {
            return Err(ShapeError::WindowTooLarge { track: *self });
        }
        let end = (output - 1) * self.stride + covered;
        Ok(Steps {
            track: *self,
            output,
            dropped,
            unused: padded.saturating_sub(end),
            unused_data: (self.before + self.size).saturating_sub(end.max(self.before)),
        })
    }

    /// The division, without its result: `floor((224 - 1*(11-1) - 1 + 1 + 2) / 4) + 1`.
    pub fn arithmetic(&self) -> String {
        let Track { size, before, after, kernel, dilation, stride, ceil_mode, .. } = self;
        let rounding = if *ceil_mode { "ceil" } else { "floor" };
        format!(
            "{rounding}(({size} - {dilation}*({kernel}-1) - 1 + {before} + {after}) / {stride}) + 1"
        )
    }
}

/// The arithmetic with its result: `floor((224 - 1*(11-1) - 1 + 1 + 2) / 4) + 1 = 55`.
impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.track.arithmetic(), self.output + usize::from(self.dropped))?;
        if self.dropped {
            write!(
                f,
                ", less the last window, which would start in the padding = {}",
                self.output
            )?;
        }
        Ok(())
    }
}

impl Padding {
    /// Padding before and after the map on one axis.
    pub fn on(&self, axis: Axis) -> (usize, usize) {
        match axis {
            Axis::Rows => (self.top, self.bottom),
            Axis::Columns => (self.left, self.right),
        }
    }
}

impl Window {
    /// The window on one axis of a map of `size` `[h, w]`.
    pub fn track(&self, axis: Axis, size: [usize; 2], ceil_mode: bool) -> Track {
        let (before, after) = self.padding.on(axis);
        let index = axis.index();
        Track {
            axis,
            size: size[index],
            before,
            after,
            kernel: self.kernel[index],
            dilation: self.dilation[index],
            stride: self.stride[index],
            ceil_mode,
        }
    }

    /// How the windows fall over a map of `size` `[h, w]`: rows, columns.
    ///
    /// # Errors
    /// See [`Track::steps`].
    pub fn steps(&self, size: [usize; 2], ceil_mode: bool) -> Result<[Steps; 2], ShapeError> {
        Ok([
            self.track(Axis::Rows, size, ceil_mode).steps()?,
            self.track(Axis::Columns, size, ceil_mode).steps()?,
        ])
    }

    /// Size `[h, w]` of a convolution's output over a map of `size`; zeros where the window does
    /// not fit (never in a verified graph).
    pub fn output_size(&self, size: [usize; 2]) -> [usize; 2] {
        self.steps(size, false).map_or([0; 2], |steps| steps.map(|axis| axis.output))
    }
}

impl Pool {
    /// How the windows fall over a map of `size` `[h, w]`: rows, columns.
    ///
    /// # Errors
    /// See [`Track::steps`]; further [`ShapeError::PoolPadding`] and [`ShapeError::PoolDilation`].
    pub fn steps(&self, size: [usize; 2]) -> Result<[Steps; 2], ShapeError> {
        if self.window.dilation != [1, 1] {
            return Err(ShapeError::PoolDilation);
        }
        let steps = self.window.steps(size, self.ceil_mode)?;
        for axis in [Axis::Rows, Axis::Columns] {
            let (before, after) = self.window.padding.on(axis);
            let kernel = self.window.kernel[axis.index()];
            let padding = before.max(after);
            if padding > kernel / 2 {
                return Err(ShapeError::PoolPadding { axis, padding, kernel });
            }
        }
        Ok(steps)
    }

    /// Size `[h, w]` of the output over a map of `size`; zeros where the window does not fit
    /// (never in a verified graph).
    pub fn output_size(&self, size: [usize; 2]) -> [usize; 2] {
        self.steps(size).map_or([0; 2], |steps| steps.map(|axis| axis.output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(size: usize, kernel: usize, stride: usize, before: usize, after: usize) -> Track {
        Track {
            axis: Axis::Rows,
            size,
            before,
            after,
            kernel,
            dilation: 1,
            stride,
            ceil_mode: false,
        }
    }

    /// Counts windows by placing them one by one, as the definition says.
    fn by_placing(track: &Track) -> usize {
        let padded = track.padded() as i64;
        let covered = track.covered() as i64;
        let mut count = 0;
        for window in 0.. {
            let start = (window * track.stride) as i64;
            let over = start + covered - padded;
            let fits = if track.ceil_mode {
                over < track.stride as i64 && start < (track.before + track.size) as i64
            } else {
                over <= 0
            };
            if !fits {
                return count;
            }
            count += 1;
        }
        count
    }

    #[test]
    fn alexnets_first_layer() {
        let steps = track(224, 11, 4, 1, 2).steps().unwrap();
        assert_eq!(steps.to_string(), "floor((224 - 1*(11-1) - 1 + 1 + 2) / 4) + 1 = 55");
        assert_eq!((steps.unused, steps.unused_data), (0, 0));
        let torch = track(224, 11, 4, 2, 2).steps().unwrap();
        assert_eq!((torch.output, torch.unused, torch.unused_data), (55, 1, 0));
        let pool = track(56, 3, 2, 0, 0).steps().unwrap();
        assert_eq!((pool.output, pool.unused, pool.unused_data), (27, 1, 1));
    }

    #[test]
    fn agrees_with_placing_windows_one_by_one() {
        let mut cases = 0;
        for size in 1..14 {
            for kernel in 1..7 {
                for stride in 1..8 {
                    for (before, after) in [(0, 0), (1, 2), (kernel / 2, kernel / 2)] {
                        for (dilation, ceil_mode) in [(1, false), (2, false), (1, true)] {
                            if ceil_mode && after > kernel / 2 {
                                continue; // Not a pooling: see `ShapeError::PoolPadding`.
                            }
                            let track = Track {
                                dilation,
                                ceil_mode,
                                ..track(size, kernel, stride, before, after)
                            };
                            let placed = by_placing(&track);
                            match track.steps() {
                                Ok(steps) => assert_eq!(steps.output, placed, "{track:?}"),
                                Err(_) => assert_eq!(placed, 0, "{track:?}"),
                            }
                            cases += 1;
                        }
                    }
                }
            }
        }
        assert!(cases > 4000);
    }

    #[test]
    fn ceil_mode_drops_a_window_that_starts_in_the_padding() {
        // PyTorch: MaxPool2d(2, 2, padding=1, ceil_mode=True) over 2 rows: ceil(2/2)+1 = 2 windows.
        let kept = Track { ceil_mode: true, ..track(2, 2, 2, 1, 1) }.steps().unwrap();
        assert_eq!((kept.output, kept.dropped), (2, false));
        // MaxPool2d(2, 3, padding=1, ceil_mode=True) over 2 rows: the second starts at row 2.
        let dropped = Track { ceil_mode: true, ..track(2, 2, 3, 1, 1) }.steps().unwrap();
        assert_eq!((dropped.output, dropped.dropped), (1, true));
        // A window larger than the map is allowed where ceil_mode lets it hang over.
        assert_eq!(Track { ceil_mode: true, ..track(2, 3, 2, 0, 0) }.steps().unwrap().output, 1);
        assert!(track(2, 3, 2, 0, 0).steps().is_err());
    }

    #[test]
    fn numbers_without_limit_are_refused() {
        for bad in [
            track(1, 0, 1, 0, 0),
            track(1, 1, 0, 0, 0),
            track(1, usize::MAX, 1, usize::MAX, usize::MAX),
            Track { dilation: usize::MAX, ..track(1, 2, 1, 0, 0) },
        ] {
            assert!(bad.steps().is_err(), "{bad:?}");
        }
        assert!(track(usize::MAX, 1, 1, 0, 0).steps().is_err());
        let largest = track(MAX_ELEMENTS, MAX_WINDOW, MAX_WINDOW, MAX_WINDOW, MAX_WINDOW);
        assert!(Track { dilation: MAX_WINDOW, ..largest }.steps().is_err());
        assert_eq!(largest.steps().unwrap().output, MAX_ELEMENTS / MAX_WINDOW + 2);
    }
}
