//! What can be wrong with sizes. Every error keeps the numbers, can show its arithmetic, names the
//! spec key to look at and says how to mend it.

use super::window::{Axis, MAX_WINDOW, Track};
use crate::shape::Shape;
use thiserror::Error;

/// No activation, weight tensor or padded map may have more elements (16 GiB of f32).
pub const MAX_ELEMENTS: usize = 1 << 32;

/// A size that does not follow. `Display` says what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ShapeError {
    /// The operator reads another number of inputs.
    #[error("{op} reads {wants}, but has {has}")]
    InputCount {
        /// The operator.
        op: &'static str,
        /// `one input`, `at least 2 inputs`.
        wants: String,
        /// Inputs given.
        has: usize,
    },
    /// A vector where maps are needed.
    #[error("{op} needs maps [C, H, W], but its input is a vector of {features} features")]
    NotAMap {
        /// The operator.
        op: &'static str,
        /// Features of the vector.
        features: usize,
    },
    /// A dimension or a number that must be positive is zero.
    #[error("{key} is 0")]
    Zero {
        /// The spec key, or the dimension.
        key: &'static str,
    },
    /// A kernel size, stride, dilation or padding beyond [`MAX_WINDOW`].
    #[error("{key} is {value}; no kernel, stride, dilation or padding may exceed {MAX_WINDOW}")]
    WindowNumber {
        /// The spec key.
        key: &'static str,
        /// Its value.
        value: usize,
    },
    /// The kernel does not fit into the padded input.
    #[error(
        "the kernel covers {} {}, but the padded input has {}",
        .track.covered(), .track.axis.noun(.track.covered()), .track.padded()
    )]
    WindowTooLarge {
        /// The window and the axis.
        track: Track,
    },
    /// Pooling pads by more than half the kernel: some windows would see padding alone.
    #[error("padding {padding} is more than half of the kernel's {kernel} {axis}")]
    PoolPadding {
        /// The axis.
        axis: Axis,
        /// The larger of its two paddings.
        padding: usize,
        /// The kernel size.
        kernel: usize,
    },
    /// Pooling with a dilation.
    #[error("pooling has no dilation")]
    PoolDilation,
    /// `groups` does not divide a channel count.
    #[error("{groups} groups do not divide {channels} {side} channels")]
    Groups {
        /// The groups.
        groups: usize,
        /// The channel count.
        channels: usize,
        /// `input` or `output`.
        side: &'static str,
    },
    /// An LRN window without a centre.
    #[error("the window of an lrn layer has a centre, so its size is odd, not {size}")]
    LrnSize {
        /// The size.
        size: usize,
    },
    /// More elements than [`MAX_ELEMENTS`].
    #[error("{what} would have more than {MAX_ELEMENTS} elements (16 GiB of f32)")]
    TooLarge {
        /// `the output`, `the padded input`, `the weight`.
        what: &'static str,
        /// The dimensions.
        dims: Vec<usize>,
    },
    /// A weight tensor of another shape than the operator needs.
    #[error("tensor `{tensor}` has shape {has:?}, but {op} needs {wants:?}")]
    TensorShape {
        /// The operator.
        op: &'static str,
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        has: Vec<usize>,
        /// The shape that follows from the operator and its input.
        wants: Vec<usize>,
    },
    /// Inputs of `add` that differ.
    #[error("add needs inputs of one shape, but input {index} is {has} and the first is {first}")]
    AddInputs {
        /// Position in `from`, counted from 1.
        index: usize,
        /// Shape of that input.
        has: Shape,
        /// Shape of the first input.
        first: Shape,
    },
    /// Inputs of `concat` that differ in more than their channels.
    #[error(
        "concat needs inputs that differ in channels alone, but input {index} is {has} and the \
         first is {first}"
    )]
    ConcatInputs {
        /// Position in `from`, counted from 1.
        index: usize,
        /// Shape of that input.
        has: Shape,
        /// Shape of the first input.
        first: Shape,
    },
}

impl ShapeError {
    /// The arithmetic behind it, where there is any.
    pub fn arithmetic(&self) -> Option<String> {
        match self {
            ShapeError::WindowTooLarge { track } => {
                let Track { size, before, after, kernel, dilation, .. } = track;
                let arithmetic = format!(
                    "{}: {dilation}*({kernel}-1) + 1 = {} > {before} + {size} + {after} = {}",
                    track.axis,
                    track.covered(),
                    track.padded()
                );
                Some(arithmetic)
            }
            ShapeError::Groups { groups, channels, .. } if *groups > 0 => {
                Some(format!("{channels} = {groups}*{} + {}", channels / groups, channels % groups))
            }
            ShapeError::PoolPadding { padding, kernel, .. } => {
                Some(format!("floor({kernel} / 2) = {} < {padding}", kernel / 2))
            }
            ShapeError::TooLarge { dims, .. } => {
                let product = dims.iter().map(|&dim| dim as f64).product::<f64>();
                let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
                Some(format!("{} = {product:.1e}", dims.join(" * ")))
            }
            _ => None,
        }
    }

    /// How to mend it.
    pub fn remedy(&self) -> String {
        match self {
            ShapeError::InputCount { wants, .. } => format!("give it {wants} with `from`"),
            ShapeError::NotAMap { .. } => {
                "move the layer above `flatten` and `linear`, or read a map with `from`".into()
            }
            ShapeError::Zero { .. } => "give at least 1".into(),
            ShapeError::WindowNumber { .. } => "check the number".into(),
            ShapeError::WindowTooLarge { track } => {
                let missing = track.covered().saturating_sub(track.padded());
                let kernel = (track.padded().saturating_sub(1)) / track.dilation.max(1) + 1;
                if track.padded() == 0 {
                    return "check the sizes of the layers above".into();
                }
                format!(
                    "use a kernel_size of at most {kernel} here, or pad by {missing} {} more",
                    track.axis.noun(missing)
                )
            }
            ShapeError::PoolPadding { kernel, .. } => {
                format!("pad by at most {}, or use a larger kernel", kernel / 2)
            }
            ShapeError::PoolDilation => "leave dilation at 1".into(),
            ShapeError::Groups { groups, channels, side } => {
                let near = nearest_divisor(*channels, *groups);
                match *side {
                    "output" => format!(
                        "make out_channels a multiple of {groups}, or groups a divisor of \
                         {channels} (such as {near})"
                    ),
                    _ => format!("make groups a divisor of {channels} (such as {near})"),
                }
            }
            ShapeError::LrnSize { size } => {
                format!("use {} or {}", size.saturating_sub(1).max(1), size.saturating_add(1))
            }
            ShapeError::TooLarge { .. } => {
                "use fewer channels, a smaller map or a smaller batch".into()
            }
            ShapeError::TensorShape { wants, .. } => format!("give a tensor of shape {wants:?}"),
            ShapeError::AddInputs { .. } => {
                "make the branches end in one shape: same channels, same stride in total".into()
            }
            ShapeError::ConcatInputs { .. } => {
                "make the branches end in maps of one size: same stride and padding in total".into()
            }
        }
    }

    /// The spec key that the error is about, where it is one key.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            ShapeError::InputCount { .. }
            | ShapeError::AddInputs { .. }
            | ShapeError::ConcatInputs { .. } => Some("from"),
            ShapeError::Zero { key } | ShapeError::WindowNumber { key, .. } => Some(key),
            ShapeError::WindowTooLarge { .. } => Some("kernel_size"),
            ShapeError::PoolPadding { .. } => Some("padding"),
            ShapeError::PoolDilation => Some("dilation"),
            ShapeError::Groups { .. } => Some("groups"),
            ShapeError::LrnSize { .. } => Some("size"),
            ShapeError::NotAMap { .. }
            | ShapeError::TooLarge { .. }
            | ShapeError::TensorShape { .. } => None,
        }
    }
}

/// The divisor of `number` that is nearest to `wish`, the smaller of two.
fn nearest_divisor(number: usize, wish: usize) -> usize {
    let divides = |candidate: usize| candidate > 0 && number.is_multiple_of(candidate);
    let below = (1..=wish.min(number)).rev().take(4096).find(|&candidate| divides(candidate));
    let above = (wish..=number).take(4096).find(|&candidate| divides(candidate));
    match (below, above) {
        (Some(below), Some(above)) if above - wish < wish - below => above,
        (Some(below), _) => below,
        (None, Some(above)) => above,
        (None, None) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_near_the_wish() {
        assert_eq!(nearest_divisor(96, 5), 4);
        assert_eq!(nearest_divisor(96, 7), 6);
        assert_eq!(nearest_divisor(97, 2), 1);
        assert_eq!(nearest_divisor(97, 96), 97);
        assert_eq!(nearest_divisor(6, usize::MAX), 6);
        assert_eq!(nearest_divisor(0, 3), 1);
    }
}
