//! A net in a process that contains the compiler: from a spec to a network that runs, in one call.

use crate::cli::embed::{self, Arguments, net_options};
use crate::diagnostic::Diagnostics;
use alexc_runtime::network::Network;
use std::ffi::OsString;
use std::path::PathBuf;

/// What a net is compiled from, and how; see `alexc run` for what the options mean.
#[derive(Debug, Clone)]
#[must_use = "nothing is compiled before `load`"]
pub struct Request {
    spec: PathBuf,
    arguments: Arguments,
}

/// A net that runs.
pub struct Loaded {
    /// The net; sessions run it.
    pub network: Network,
    /// Threads that were asked for, or what `ALEXC_NUM_THREADS` or the machine says.
    pub threads: usize,
}

impl Request {
    /// A spec, and its weights: a .safetensors file or `random:SEED`.
    pub fn new(spec: impl Into<PathBuf>, weights: impl Into<OsString>) -> Self {
        let mut arguments = Arguments::default();
        arguments.value("--weights", weights);
        Request { spec: spec.into(), arguments }
    }

    net_options!();

    /// Threads that a run works on.
    pub fn threads(mut self, threads: usize) -> Self {
        self.arguments.value("--threads", threads.to_string());
        self
    }

    /// Changes a key of a layer: `LAYER.KEY=VALUE`.
    pub fn set(mut self, change: &str) -> Self {
        self.arguments.value("--set", change);
        self
    }

    /// Compiles the net, packs the weights and makes the code executable.
    ///
    /// # Errors
    /// Whatever is wrong with the spec, the weights or an option, as the command says it.
    pub fn load(self) -> Result<Loaded, Diagnostics> {
        let (network, threads) = embed::load(&self.arguments, self.spec)?;
        Ok(Loaded { network, threads })
    }
}

/// The number of threads that commands use where this is wished for.
///
/// # Errors
/// Where the wish, or `ALEXC_NUM_THREADS`, is no number of threads.
pub fn threads(wish: Option<usize>) -> Result<usize, Diagnostics> {
    embed::threads(wish)
}
