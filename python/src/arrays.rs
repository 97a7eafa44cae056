//! What numpy arrays must be: of the right type and shape, their elements side by side. A net reads
//! memory as it lies, and a silent copy would hide what it costs.

use numpy::{
    PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyReadwriteArrayDyn,
    PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// As Python writes it.
pub(crate) fn shape(dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    match dims.as_slice() {
        [one] => format!("({one},)"),
        _ => format!("({})", dims.join(", ")),
    }
}

/// Any array.
fn array<'a, 'py>(
    what: &str,
    wanted: &str,
    value: &'a Bound<'py, PyAny>,
) -> PyResult<&'a Bound<'py, PyUntypedArray>> {
    value.cast::<PyUntypedArray>().map_err(|_| {
        let given = value.get_type().name().map_or_else(|_| String::new(), |name| name.to_string());
        PyTypeError::new_err(format!("the {what} must be a numpy array of {wanted}, not {given}"))
    })
}

fn contiguous(what: &str, array: &Bound<'_, PyUntypedArray>) -> PyResult<()> {
    if array.is_c_contiguous() {
        return Ok(());
    }
    Err(PyValueError::new_err(format!(
        "the {what} is not C-contiguous: its elements do not lie side by side in the order of its \
         axes; give numpy.ascontiguousarray(...) of it"
    )))
}

/// The array of floats, where it is one of these dimensions, or of these without a batch of 1.
pub(crate) fn floats<'py>(
    what: &str,
    value: &Bound<'py, PyAny>,
    dims: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let untyped = array(what, "float32", value)?;
    if !untyped.dtype().is_equiv_to(&numpy::dtype::<f32>(value.py())) {
        return Err(PyTypeError::new_err(format!(
            "the {what} is an array of {} and must be one of float32; give \
             .astype(numpy.float32) of it",
            untyped.dtype()
        )));
    }
    let (given, image) = (untyped.shape(), dims.strip_prefix(&[1]));
    if given != dims && Some(given) != image {
        return Err(PyValueError::new_err(format!(
            "the {what} has the shape {} and must have {}",
            shape(given),
            shape(dims)
        )));
    }
    contiguous(what, untyped)?;
    Ok(value.cast::<PyArrayDyn<f32>>()?.clone())
}

/// A picture's bytes with its height, width and number of channels.
pub(crate) fn picture<'py>(
    value: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyArrayDyn<u8>>, [usize; 3])> {
    let untyped = array("picture", "uint8", value)?;
    if !untyped.dtype().is_equiv_to(&numpy::dtype::<u8>(value.py())) {
        return Err(PyTypeError::new_err(format!(
            "the picture is an array of {} and must be one of uint8, values from 0 to 255",
            untyped.dtype()
        )));
    }
    let dims = match *untyped.shape() {
        [height, width] => [height, width, 1],
        [height, width, channels @ (1 | 3)] => [height, width, channels],
        ref other => {
            return Err(PyValueError::new_err(format!(
                "the picture has the shape {} and must be (height, width, 3), red, green and \
                 blue, or (height, width), grey",
                shape(other)
            )));
        }
    };
    contiguous("picture", untyped)?;
    Ok((value.cast::<PyArrayDyn<u8>>()?.clone(), dims))
}

/// Borrows an array that nobody writes now.
pub(crate) fn readable<'py>(
    what: &str,
    array: &Bound<'py, PyArrayDyn<f32>>,
) -> PyResult<PyReadonlyArrayDyn<'py, f32>> {
    array.try_readonly().map_err(|_| {
        PyValueError::new_err(format!("another run is writing into the {what} at this moment"))
    })
}

/// Borrows an array that nobody uses now.
pub(crate) fn writable<'py>(
    what: &str,
    array: &Bound<'py, PyArrayDyn<f32>>,
) -> PyResult<PyReadwriteArrayDyn<'py, f32>> {
    array.try_readwrite().map_err(|error| {
        PyValueError::new_err(match error {
            numpy::BorrowError::NotWriteable => format!("the {what} is read-only"),
            _ => format!("the {what} is in use: by another run, or as this run's input"),
        })
    })
}
