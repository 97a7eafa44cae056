//! A net in a Rust program: a build script compiles the spec, and the program includes the result.
//!
//! In `Cargo.toml`:
//!
//! ```toml
//! [build-dependencies]
//! alexc = "0.1"
//! ```
//!
//! In `build.rs`:
//!
//! ```no_run
//! fn main() -> Result<(), alexc::build::Error> {
//!     alexc::build::compile("digits.yaml").weights("digits.safetensors").emit()?;
//!     Ok(())
//! }
//! ```
//!
//! In the program:
//!
//! ```ignore
//! include!(concat!(env!("OUT_DIR"), "/digits.rs"));
//!
//! let mut net = Digits::new()?;
//! net.run(&input, &mut output);
//! ```
//!
//! The program needs nothing of alexc: the net is a static library, which cargo links.

use crate::artifact::Kind;
use crate::cli::embed::{self, Arguments, net_options};
use crate::diagnostic::{Diagnostic, Diagnostics};
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// What is wrong with a net, as `alexc build` says it. `Debug`, which is what a failing `main`
/// prints, shows the same text.
pub struct Error(Diagnostics);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `main` puts the word Error in front.
        write!(f, "\n{}", self.0)
    }
}

impl std::error::Error for Error {}

impl From<Diagnostics> for Error {
    fn from(diagnostics: Diagnostics) -> Self {
        Error(diagnostics)
    }
}

/// How a net is compiled into a program. Without further words: for any processor of the program's
/// target, with the weights in the program.
#[derive(Debug, Clone)]
#[must_use = "nothing is compiled before `emit`"]
pub struct Compile {
    spec: PathBuf,
    weights: Option<OsString>,
    separate_weights: bool,
    target_cpu: Option<String>,
    folder: Option<PathBuf>,
    arguments: Arguments,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// The file for `include!`.
    pub rust: PathBuf,
    /// The static library.
    pub library: PathBuf,
    /// The packed weights, where they lie in a file of their own.
    pub weights: Option<PathBuf>,
}

/// Begins with the path of a spec, relative to the package's folder as all paths here.
pub fn compile(spec: impl Into<PathBuf>) -> Compile {
    Compile {
        spec: spec.into(),
        weights: None,
        separate_weights: false,
        target_cpu: None,
        folder: None,
        arguments: Arguments::default(),
    }
}

impl Compile {
    /// The trained weights as .safetensors, or `random:SEED` for a trial. A net without them does
    /// not run.
    pub fn weights(mut self, weights: impl Into<OsString>) -> Self {
        self.weights = Some(weights.into());
        self
    }

    /// Writes the packed weights into a file `NAME.weights` beside the library, which the program
    /// maps when it runs, instead of into the program.
    pub fn separate_weights(mut self) -> Self {
        self.separate_weights = true;
        self
    }

    net_options!();

    /// Changes a key of a layer, as in `.set("fc3.out_features", "10")`.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.arguments.value("--set", format!("{key}={value}"));
        self
    }

    /// The processors to make code for, as `--target-cpu` of `alexc build` takes them. By default
    /// programs for x86-64 contain code for all levels from x86-64-v2 on, of which the best that
    /// the processor can run is chosen when the program runs; others contain code for any
    /// processor of their target.
    pub fn target_cpu(mut self, cpu: &str) -> Self {
        self.target_cpu = Some(cpu.to_owned());
        self
    }

    /// The folder to write into; by default the `OUT_DIR` of the build script.
    pub fn output(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Compiles the net and writes `NAME.rs` and the static library, and tells cargo where to find
    /// the library and when to do so again.
    ///
    /// # Errors
    /// Whatever is wrong with the spec, the weights or an argument, as `alexc build` says it; or
    /// this is no build script.
    pub fn emit(self) -> Result<Emitted, Error> {
        let Compile { spec, weights, separate_weights, target_cpu, folder, mut arguments } = self;
        let Some(weights) = weights else {
            let error = Diagnostic::error("the net has no weights, so it would not run");
            return Err(refusal(error.help("name them with .weights(\"FILE.safetensors\")")));
        };
        let Some(folder) = folder.or_else(|| env::var_os("OUT_DIR").map(PathBuf::from)) else {
            let error = Diagnostic::error("OUT_DIR is not set, as it is in build scripts");
            return Err(refusal(error.help("name a folder with .output(\"FOLDER\")")));
        };
        let target = env::var("TARGET").ok();
        let x86 = match &target {
            Some(target) => target.starts_with("x86_64"),
            None => cfg!(target_arch = "x86_64"),
        };
        let any = if x86 { "x86-64-v2,x86-64-v3,x86-64-v4" } else { "generic" };
        arguments.value("--target-cpu", target_cpu.unwrap_or_else(|| any.to_owned()));
        if let Some(target) = target.filter(|target| env::var("HOST").is_ok_and(|h| h != *target)) {
            arguments.value("--target", target);
        }
        arguments.value("--output", &folder);
        arguments.value("--weights", &weights);
        let mut kinds = vec![Kind::Rust, Kind::Staticlib];
        if separate_weights {
            kinds.push(Kind::Weights);
        } else {
            arguments.flag("--embed-weights");
        }
        arguments
            .value("--emit", kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(","));
        let library = embed::build(&arguments, spec.clone())?;

        let labels = library.labels.map(|file| spec.parent().unwrap_or(Path::new("")).join(file));
        let weights =
            (!weights.to_string_lossy().starts_with("random:")).then(|| PathBuf::from(weights));
        for file in [Some(spec), weights, labels].into_iter().flatten() {
            println!("cargo:rerun-if-changed={}", file.display());
        }
        println!("cargo:rustc-link-search=native={}", folder.display());
        let path = |kind| {
            library.written.iter().find(|file| file.kind == kind).map(|file| file.path.clone())
        };
        let (rust, staticlib) = (path(Kind::Rust), path(Kind::Staticlib));
        let (Some(rust), Some(library)) = (rust, staticlib) else {
            return Err(refusal(Diagnostic::error("the library was not written")));
        };
        Ok(Emitted { rust, library, weights: path(Kind::Weights) })
    }
}

fn refusal(diagnostic: Diagnostic) -> Error {
    Error(diagnostic.into())
}
