//! What a command ends with when it does not succeed.

use crate::diagnostic::{Diagnostic, Diagnostics};
use std::io::Write;

/// Why a command failed, with its exit code.
#[derive(Debug)]
pub(super) enum Failure {
    /// Errors with places in a file: code 1.
    Spec(Diagnostics),
    /// Another input is wrong: code 1.
    Input(String),
    /// Arguments do not go together: code 2.
    Usage(String),
    /// A comparison found a difference, which has been printed: code 3.
    Difference,
    /// There is no such device: code 4.
    Device(String),
    /// Whoever read the output has stopped to: no message.
    BrokenPipe,
}

impl Failure {
    pub(super) fn code(&self) -> u8 {
        match self {
            Failure::Spec(_) | Failure::Input(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Difference => 3,
            Failure::Device(_) => 4,
            Failure::BrokenPipe => 0,
        }
    }

    /// What there is to tell.
    pub(super) fn diagnostics(&self) -> Option<Diagnostics> {
        match self {
            Failure::Spec(diagnostics) => Some(diagnostics.clone()),
            Failure::Input(message) | Failure::Usage(message) | Failure::Device(message) => {
                Some(Diagnostic::error(message).into())
            }
            Failure::Difference | Failure::BrokenPipe => None,
        }
    }

    /// Tells it on stderr, in colour where that is a terminal; with `json` also as a JSON document
    /// on stdout.
    pub(super) fn print(&self, json: bool) {
        let Some(diagnostics) = self.diagnostics() else { return };
        // Where nobody reads, the exit code tells the failure.
        let _ = anstream::stderr().lock().write_all(diagnostics.styled().as_bytes());
        if json {
            let _ = print_json(&diagnostics.to_json());
        }
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Failure::Spec(diagnostic.into())
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Self {
        Failure::Spec(diagnostics)
    }
}

/// Errors of stages whose message says everything are wrong input.
macro_rules! input_errors {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::Input(error.to_string())
            }
        })*
    };
}

input_errors!(
    crate::arrays::ArraysError,
    crate::artifact::ArtifactError,
    crate::artifact::SelfTestError,
    crate::compile::CompileError,
    crate::compile::PackError,
    crate::npy::NpyError,
    crate::picture::PictureError,
    crate::reference::ReferenceError,
    crate::report::compare::CompareError,
    crate::report::limits::LimitsError,
    crate::session::TrialError,
    crate::tune::cache::CacheError,
    crate::weights::WeightsError,
    alexc_runtime::network::LoadError,
    alexc_runtime::network::OpenError,
    alexc_runtime::session::SessionError,
);

impl From<crate::session::RunError> for Failure {
    fn from(error: crate::session::RunError) -> Self {
        match error {
            // A device that fails, or runs out of memory, in the middle of a run.
            #[cfg(feature = "opencl")]
            crate::session::RunError::OpenCl(alexc_runtime::opencl::RunError::Call { .. }) => {
                Failure::Device(error.to_string())
            }
            _ => Failure::Input(error.to_string()),
        }
    }
}

impl From<alexc_codegen::target::TargetError> for Failure {
    fn from(error: alexc_codegen::target::TargetError) -> Self {
        Failure::Usage(error.to_string())
    }
}

/// Says on stderr what does not keep the command from its work.
pub(super) fn warn(message: &str) {
    let warning = Diagnostics::from(Diagnostic::warning(message));
    let _ = anstream::stderr().lock().write_all(warning.styled().as_bytes());
}

/// Writes to stdout; a reader that has gone is no error.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::BrokenPipe),
        Err(e) => Err(Failure::Input(format!("stdout: {e}"))),
    }
}

/// Writes to a file whole or not at all, or to stdout.
pub(super) fn write(path: Option<&std::path::Path>, text: &str) -> Result<(), Failure> {
    let Some(path) = path else { return print(text) };
    crate::output_file::write_file(path, |file| file.write_all(text.as_bytes()))
        .map_err(|e| Failure::Input(format!("{}: {e}", path.display())))
}

/// Prints a JSON document.
pub(super) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}
