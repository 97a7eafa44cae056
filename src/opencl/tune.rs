//! `--tune` on a device: whole nets with kernels of other shapes are run there, and the fastest
//! shape is kept in the user's cache for this net, device and driver.

use super::net;
use crate::compile::opencl::{Device as Target, OpenClNet, compile};
use crate::compile::{CompileError, Options, identifier};
use crate::graph::Graph;
use crate::tune::cache::{Cache, DEVICE_EXTENSION, DeviceChoice};
use alexc_runtime::container::checksum;
use alexc_runtime::memory::Buffer;
use alexc_runtime::opencl::{Build, Device, Session, SetupError};
use alexc_runtime::weights::Weights;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// A candidate does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The device takes none of the candidates.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The system gave no memory.
    #[error("no memory for {bytes} bytes of weights: {source}")]
    Memory {
        /// Bytes asked for.
        bytes: usize,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// Runs of a candidate that count, at most.
const RUNS: usize = 20;
/// How long a candidate may take for them.
const TIME: Duration = Duration::from_millis(500);

/// The best shape of kernels for a net on a device: kept from before, or measured now. `target` is
/// what the device gets without. Weights are zeros meanwhile.
pub fn tuned(
    graph: &Graph,
    options: &Options,
    target: Target,
    device: &Device,
    build: &Build<'_>,
) -> Result<Target, TuneError> {
    let candidates = target.candidates();
    let key = key(graph, options, target, device);
    let file = Cache::of_user().map(|cache| path(&cache, graph, &key));
    if let Some(kept) = file.as_deref().and_then(DeviceChoice::read)
        && kept.key == key
        && let Some((name, target)) = candidates.iter().find(|(name, _)| *name == kept.choice)
    {
        log::info!("tune    {name}, {:.3} ms, measured before", kept.milliseconds);
        return Ok(*target);
    }
    let mut best: Option<(f64, &str, Target)> = None;
    let mut refused = None;
    let mut zeros = None;
    let mut programs = HashSet::new();
    for (name, candidate) in &candidates {
        let compiled = compile(graph, options, *candidate)?;
        if !programs.insert(compiled.program()) {
            log::info!("tune    {name}: the same kernels as before");
            continue;
        }
        match measure(&compiled, &mut zeros, device, build) {
            Ok(time) => {
                let milliseconds = time.as_secs_f64() * 1e3;
                log::info!("tune    {name}: {milliseconds:.3} ms");
                if best.is_none_or(|(least, ..)| milliseconds < least) {
                    best = Some((milliseconds, name, *candidate));
                }
            }
            Err(TuneError::Setup(error)) => {
                log::info!("tune    {name}: {error}");
                refused = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    let Some((milliseconds, name, target)) = best else {
        return refused.map_or(Ok(target), |error| Err(error.into()));
    };
    if let Some(file) = file {
        let kept = DeviceChoice { key, choice: name.to_owned(), milliseconds };
        if let Err(error) = kept.write(&file) {
            log::warn!("{}: the choice is not kept: {error}", file.display());
        }
    }
    Ok(target)
}

/// The least time of a run. `zeros` are the weights of the candidate before, which mostly serve
/// the next one too.
fn measure(
    compiled: &OpenClNet,
    zeros: &mut Option<Arc<Weights>>,
    device: &Device,
    build: &Build<'_>,
) -> Result<Duration, TuneError> {
    let bytes = compiled.plan.weights_bytes;
    let weights = match zeros.take() {
        Some(weights) if weights.as_bytes().len() == bytes => weights,
        _ => {
            let zeros =
                Buffer::zeroed(bytes).map_err(|source| TuneError::Memory { bytes, source })?;
            Arc::new(Weights::from(zeros))
        }
    };
    let mut session = Session::new(&net(compiled), &weights, device, build)?;
    *zeros = Some(weights);
    let elements = |dims: &[usize]| dims.iter().product();
    let program = session.program();
    let input = vec![0.5; elements(&program.input_dims)];
    let mut output = vec![0.0; elements(&program.output_dims)];
    let mut least = Duration::MAX;
    let begin = Instant::now();
    // The first one also brings everything to where it is used.
    for run in 0..=RUNS {
        let start = Instant::now();
        if session.run(&input, &mut output).is_err() {
            break;
        }
        if run > 0 {
            least = least.min(start.elapsed());
        }
        if run > 0 && begin.elapsed() > TIME {
            break;
        }
    }
    Ok(least)
}

/// Everything that the choice depends on.
fn key(graph: &Graph, options: &Options, target: Target, device: &Device) -> Vec<String> {
    let about = &device.about;
    let mut key = vec![
        format!("alexc {}", env!("CARGO_PKG_VERSION")),
        format!("device {}, {} units", about.name, about.units),
        format!("driver {}, {}", about.driver, about.platform_version),
        format!("kernels {target:?}"),
        format!("{:?}, {:?}, fusion {}", options.math, options.weights_dtype, options.fuse),
    ];
    key.extend(graph.to_string().lines().map(str::to_owned));
    key
}

fn path(cache: &Cache, graph: &Graph, key: &[String]) -> PathBuf {
    let hash = checksum(key.join("\n").as_bytes(), 1);
    cache.folder().join(format!("{}-{hash:016x}{DEVICE_EXTENSION}", identifier(&graph.name)))
}
