//! Runs on arrays of the crate ndarray (feature `ndarray`), read and written where they lie.

use ndarray::{ArrayD, ArrayView, ArrayViewMut, Dimension, IxDyn};

use crate::session::{RunError, Session};

/// Why a net does not run on these arrays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArrayError {
    /// Another shape.
    #[error("the {what} has the shape {given:?} and must have {expected:?}")]
    Shape {
        /// Input or output.
        what: &'static str,
        /// The net's.
        expected: Vec<usize>,
        /// The array's.
        given: Vec<usize>,
    },
    /// The elements lie in another order or with gaps. A net reads its memory as it is, so a copy
    /// would be needed, which is for the caller to see.
    #[error(
        "the {what}'s elements do not lie side by side in row-major order; give a copy of it (`as_standard_layout` of an input makes one where it is needed)"
    )]
    Layout {
        /// Input or output.
        what: &'static str,
    },
    /// As with slices.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl Session {
    /// Runs the net on arrays without copying them. Their shapes are those of the program, or
    /// these without the batch where it is 1; their elements lie side by side in row-major order,
    /// else they are refused.
    pub fn run_view<D: Dimension, E: Dimension>(
        &mut self,
        input: ArrayView<'_, f32, D>,
        mut output: ArrayViewMut<'_, f32, E>,
    ) -> Result<(), ArrayError> {
        let program = self.network().program();
        check_shape("input", &program.input_dims, input.shape())?;
        check_shape("output", &program.output_dims, output.shape())?;
        let input = input.to_slice().ok_or(ArrayError::Layout { what: "input" })?;
        let output = output.as_slice_mut().ok_or(ArrayError::Layout { what: "output" })?;
        Ok(self.run(input, output)?)
    }

    /// Like [`Session::run_view`], into a new array of the program's output.
    pub fn run_array<D: Dimension>(
        &mut self,
        input: ArrayView<'_, f32, D>,
    ) -> Result<ArrayD<f32>, ArrayError> {
        let mut output = ArrayD::zeros(IxDyn(&self.network().program().output_dims));
        self.run_view(input, output.view_mut())?;
        Ok(output)
    }
}

fn check_shape(what: &'static str, expected: &[usize], given: &[usize]) -> Result<(), ArrayError> {
    let image = expected.strip_prefix(&[1]);
    if given == expected || Some(given) == image {
        return Ok(());
    }
    Err(ArrayError::Shape { what, expected: expected.to_vec(), given: given.to_vec() })
}
