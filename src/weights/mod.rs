//! Where weights come from. Packing and the reference executor see tensors only through
//! [`TensorSource`]; files and generators stand behind it.

use crate::graph::Tensor;
use std::borrow::Cow;
use std::ops::Range;

/// Gives the elements of tensors as f32, in the order of the weight file (row-major).
///
/// A source has been checked against the net's tensors before it is read: every tensor exists and
/// has the stated shape.
pub trait TensorSource: Sync {
    /// Elements `range` of the flattened tensor; borrowed where they lie in memory as f32.
    fn slice(&self, tensor: &Tensor, range: Range<usize>) -> Cow<'_, [f32]>;

    /// All elements of the tensor.
    fn all(&self, tensor: &Tensor) -> Cow<'_, [f32]> {
        self.slice(tensor, 0..tensor.len())
    }
}
