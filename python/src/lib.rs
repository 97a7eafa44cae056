//! alexc for Python: `alexc.compile(spec, weights)` gives a net that is called with numpy arrays,
//! which it reads and writes where they lie. Other threads of Python go on while it runs.

mod arrays;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use alexc::embed::{self, Request};
use alexc_runtime::network::Network;
use alexc_runtime::preprocess::{Pixels, PreprocessError};
use alexc_runtime::session::Session;
use numpy::{PyArrayDyn, PyArrayMethods};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

create_exception!(
    alexc,
    Error,
    PyException,
    "What is wrong with a spec, with weights or with a file, as the command alexc says it."
);

fn error(error: impl std::fmt::Display) -> PyErr {
    Error::new_err(error.to_string().trim_end().to_owned())
}

/// A compiled net. It is called with an array and returns one; any number of threads may do so at
/// the same time.
#[pyclass(frozen, module = "alexc")]
struct Net {
    network: Arc<Network>,
    threads: usize,
    /// Memory and threads for runs, as many as there were callers at one time.
    idle: Mutex<Vec<Session>>,
}

impl Net {
    fn new(network: Network, threads: usize) -> Self {
        Net { network: Arc::new(network), threads, idle: Mutex::new(Vec::new()) }
    }

    fn session(&self) -> PyResult<Session> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| Session::new(&self.network, self.threads).map_err(error), Ok)
    }

    fn keep(&self, session: Session) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }
}

#[pymethods]
impl Net {
    /// Runs the net on a C-contiguous float32 array of `input_shape` (without the batch where that
    /// is 1). Returns a new array of `output_shape`, or writes into `out` and returns that.
    #[pyo3(signature = (input, /, *, out=None))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        input: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let program = self.network.program();
        let input = arrays::floats("input", input, &program.input_dims)?;
        let output = match out {
            None => PyArrayDyn::zeros(py, program.output_dims.as_slice(), false),
            Some(out) => arrays::floats("output", out, &program.output_dims)?,
        };
        let input = arrays::readable("input", &input)?;
        {
            let mut writable = arrays::writable("output", &output)?;
            let (from, to) = (input.as_slice()?, writable.as_slice_mut()?);
            let mut session = self.session()?;
            let ran = py.detach(|| session.run(from, to));
            self.keep(session);
            ran.map_err(error)?;
        }
        Ok(output)
    }

    /// Makes an input of a picture as the spec's `preprocess` says: an array of uint8, H x W x 3
    /// (red, green, blue) or H x W (grey), becomes one image of the input, 1 x C x H x W.
    fn preprocess<'py>(
        &self,
        py: Python<'py>,
        picture: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let (array, [height, width, channels]) = arrays::picture(picture)?;
        let mut shape = self.network.program().input_dims.clone();
        if let Some(batch) = shape.first_mut() {
            *batch = 1;
        }
        let output = PyArrayDyn::zeros(py, shape.as_slice(), false);
        {
            let (array, mut writable) = (array.try_readonly()?, output.try_readwrite()?);
            let (bytes, image) = (array.as_slice()?, writable.as_slice_mut()?);
            let make = if channels == 1 { Pixels::gray } else { Pixels::rgb };
            let prepared = make(bytes, height, width)
                .and_then(|pixels| py.detach(|| self.network.prepare(pixels, image)));
            prepared.map_err(|wrong| match wrong {
                PreprocessError::Bytes { .. } | PreprocessError::Empty => {
                    PyValueError::new_err(wrong.to_string())
                }
                _ => error(wrong),
            })?;
        }
        Ok(output)
    }

    /// Name of the net.
    #[getter]
    fn name(&self) -> &str {
        &self.network.program().name
    }

    /// Names of the classes, in the order of the output; may be empty.
    #[getter]
    fn labels(&self) -> Vec<String> {
        self.network.labels().to_vec()
    }

    /// Dimensions of the input, batch first.
    #[getter]
    fn input_shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.network.program().input_dims)
    }

    /// Dimensions of the output, batch first.
    #[getter]
    fn output_shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.network.program().output_dims)
    }

    /// The output is that of a softmax.
    #[getter]
    fn probabilities(&self) -> bool {
        self.network.probabilities()
    }

    /// Threads that a run works on.
    #[getter]
    fn threads(&self) -> usize {
        self.threads
    }

    fn __repr__(&self) -> String {
        let program = self.network.program();
        format!(
            "<alexc.Net {}: {} to {}>",
            program.name,
            arrays::shape(&program.input_dims),
            arrays::shape(&program.output_dims)
        )
    }
}

/// Compiles a spec for this machine and packs its weights: a .safetensors file, or `random:SEED`
/// for a trial. `batch` replaces the spec's batch; `math` is "fast" or "strict"; `weights_dtype` is
/// "f32", "f16", "bf16" or "int8"; `sets` are changes as "fc3.out_features=10"; `logits` stops
/// before a softmax that ends the net.
#[pyfunction]
#[pyo3(signature = (
    spec, weights, *, batch=None, threads=None, math="fast", weights_dtype="f32", sets=Vec::new(),
    logits=false
))]
#[expect(clippy::too_many_arguments, reason = "they are named in Python")]
fn compile(
    py: Python<'_>,
    spec: PathBuf,
    weights: PathBuf,
    batch: Option<usize>,
    threads: Option<usize>,
    math: &str,
    weights_dtype: &str,
    sets: Vec<String>,
    logits: bool,
) -> PyResult<Net> {
    let mut request = Request::new(spec, OsString::from(weights));
    request = request.math(math).weights_dtype(weights_dtype);
    if let Some(batch) = batch {
        request = request.batch(batch);
    }
    if let Some(threads) = threads {
        request = request.threads(threads);
    }
    for change in &sets {
        request = request.set(change);
    }
    if logits {
        request = request.logits();
    }
    let loaded = py.detach(|| request.load()).map_err(error)?;
    Ok(Net::new(loaded.network, loaded.threads))
}

/// Opens a module that `alexc build --emit module,weights` wrote; its weights lie beside it unless
/// they are named. A module is machine code: open only those of people you trust.
#[pyfunction]
#[pyo3(signature = (module, weights=None, *, threads=None))]
fn open(
    py: Python<'_>,
    module: PathBuf,
    weights: Option<PathBuf>,
    threads: Option<usize>,
) -> PyResult<Net> {
    let threads = embed::threads(threads).map_err(error)?;
    let network = py.detach(|| match &weights {
        Some(weights) => Network::open_files(&module, weights),
        None => Network::open(&module),
    });
    Ok(Net::new(network.map_err(error)?, threads))
}

/// Compiles convolutional nets of AlexNet's family to machine code and runs them on numpy arrays.
#[pymodule]
#[pyo3(name = "alexc")]
fn define(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("Error", module.py().get_type::<Error>())?;
    module.add_class::<Net>()?;
    module.add_function(wrap_pyfunction!(compile, module)?)?;
    module.add_function(wrap_pyfunction!(open, module)?)
}
