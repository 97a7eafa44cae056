//! A net that runs, wherever it runs: what commands and reports need of a session.

use crate::compile::{CompileError, PackError};
use alexc_runtime::network::LoadError;
use alexc_runtime::program::Program;
use alexc_runtime::session as cpu;
use std::time::Duration;

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The caller's slices do not fit.
    #[error(transparent)]
    Arguments(#[from] cpu::RunError),
    /// An OpenCL device fails.
    #[cfg(feature = "opencl")]
    #[error(transparent)]
    OpenCl(#[from] alexc_runtime::opencl::RunError),
}

/// Why a net did not run on this machine, from its graph on: it does not compile or run at all, or
/// there is too little memory or there are too few threads for it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each is the error of the stage that it names")]
pub enum TrialError {
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Session(#[from] cpu::SessionError),
    #[error(transparent)]
    Run(#[from] cpu::RunError),
}

/// A place to run a net.
pub trait Session {
    /// What runs.
    fn program(&self) -> &Program;

    /// Runs the net: `input` and `output` are dense, in the order of the program's dimensions.
    fn run(&mut self, input: &[f32], output: &mut [f32]) -> Result<(), RunError>;

    /// Runs the net step by step, and stores what each step took.
    fn run_profiled(
        &mut self,
        input: &[f32],
        output: &mut [f32],
        steps: &mut [Duration],
    ) -> Result<(), RunError>;

    /// Runs the net and calls `observe(step, arena)` after every step. The values of later steps
    /// may replace those of earlier ones in the arena.
    fn run_observed(
        &mut self,
        input: &[f32],
        output: &mut [f32],
        observe: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), RunError>;
}

/// A type's own methods are those of [`Session`]; behind the type stands its program.
macro_rules! runs {
    ($session:ty, $($program:tt)+) => {
        impl $crate::session::Session for $session {
            fn program(&self) -> &alexc_runtime::program::Program {
                self.$($program)+
            }

            fn run(
                &mut self,
                input: &[f32],
                output: &mut [f32],
            ) -> Result<(), $crate::session::RunError> {
                Ok(<$session>::run(self, input, output)?)
            }

            fn run_profiled(
                &mut self,
                input: &[f32],
                output: &mut [f32],
                steps: &mut [std::time::Duration],
            ) -> Result<(), $crate::session::RunError> {
                Ok(<$session>::run_profiled(self, input, output, steps)?)
            }

            fn run_observed(
                &mut self,
                input: &[f32],
                output: &mut [f32],
                observe: &mut dyn FnMut(usize, &[f32]),
            ) -> Result<(), $crate::session::RunError> {
                Ok(<$session>::run_observed(self, input, output, observe)?)
            }
        }
    };
}

#[cfg(feature = "opencl")]
pub(crate) use runs;

runs!(cpu::Session, network().program());
