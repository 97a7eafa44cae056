//! What an artifact's self test expects: the output for an input that both sides can draw.

use crate::compile::{self, Compiled, Options};
use crate::graph::Graph;
use crate::session::TrialError;
use crate::weights::{Random, TensorSource};
use alexc_codegen::object::SelfTest;
use alexc_codegen::target::{Target, TargetError};
use alexc_runtime::cpu::Cpu;
use alexc_runtime::network::Network;
use alexc_runtime::program::Program;
use alexc_runtime::session::Session;
use alexc_runtime::weights::Weights;
use std::sync::Arc;

/// Why the net did not run.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// No code can be made for this machine.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The code does not run here.
    #[error(transparent)]
    Trial(#[from] TrialError),
}

/// Runs the net, compiled again for this machine where its code is for another one. The packed
/// weights come back.
pub fn self_test(
    graph: &Graph,
    source: &dyn TensorSource,
    compiled: &Compiled,
    options: &Options,
    weights: Weights,
) -> Result<(SelfTest, Weights), SelfTestError> {
    let program = &compiled.program;
    let cpu = Cpu::detect();
    let (expected, weights) = if cpu.arch == Some(program.arch) && cpu.has_all(&program.features) {
        run(program, weights, options.threads)?
    } else {
        let options =
            Options { target: Target::host()?, emitter: None, texts: false, ..options.clone() };
        (run_again(graph, source, &options)?, weights)
    };
    Ok((SelfTest { stream: input().input_stream(), expected }, weights))
}

/// Where the input comes from.
fn input() -> Random {
    Random::new(1)
}

fn run_again(
    graph: &Graph,
    source: &dyn TensorSource,
    options: &Options,
) -> Result<Vec<f32>, TrialError> {
    let here = compile::compile(graph, options)?;
    let packed = compile::pack(&here, source, options.threads, |_| ())?;
    Ok(run(&here.program, packed, options.threads)?.0)
}

fn run(
    program: &Program,
    weights: Weights,
    threads: usize,
) -> Result<(Vec<f32>, Weights), TrialError> {
    let network = Network::new(program.clone(), weights)?;
    let (input, mut output) = (input().input(network.input_len()), vec![0.0; network.output_len()]);
    let network = Arc::new(network);
    let mut session = Session::new(&network, threads)?;
    session.run(&input, &mut output)?;
    drop(session);
    let weights = Arc::try_unwrap(network).map(Network::into_weights);
    // Nobody else has it: the session is gone.
    let weights = weights.unwrap_or_else(|_| unreachable!("the network is shared with nobody"));
    Ok((output, weights))
}
