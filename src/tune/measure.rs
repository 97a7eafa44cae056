//! Nets compiled for a trial, and their times. Weights and input are random numbers: times do not
//! depend on them, and so neither does what is kept in the cache.

use super::Job;
use crate::algorithm::Override;
use crate::compile::{self, Options};
use crate::session::TrialError;
use crate::weights::Random;
use alexc_runtime::network::Network;
use alexc_runtime::session::Session;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs before the measured ones: pages are touched and caches filled.
const WARMUPS: usize = 2;
const LEAST_RUNS: usize = 5;
const MOST_RUNS: usize = 200;
/// Time for the runs of a round.
const ROUND: Duration = Duration::from_millis(300);
/// Time for the comparison at the end.
const COMPARISON: Duration = Duration::from_millis(1500);

/// Whether another run, after `runs` of them since `start`, makes the result any better.
fn go_on(runs: usize, start: Instant, limit: Duration) -> bool {
    runs < LEAST_RUNS || (runs < MOST_RUNS && start.elapsed() < limit)
}

/// A net that runs.
pub(super) struct Trial {
    session: Session,
    /// The node that each step belongs to.
    nodes: Vec<String>,
    input: Vec<f32>,
    output: Vec<f32>,
}

/// The times of each step, run by run.
pub(super) struct StepTimes<'a> {
    nodes: &'a [String],
    runs: Vec<Vec<Duration>>,
}

impl Trial {
    /// Compiles and packs.
    pub(super) fn new(job: &Job<'_>, choices: Vec<Override>) -> Result<Trial, TrialError> {
        let options = Options { tuned: choices, texts: false, ..job.options.clone() };
        let compiled = compile::compile(job.graph, &options)?;
        let random = Random::new(1);
        let packed = compile::pack(&compiled, &random, job.threads, |_| ())?;
        let nodes = compiled.lowered.calls.iter().map(|call| call.node.clone()).collect();
        let network = Arc::new(Network::new(compiled.program, packed)?);
        let session = Session::new(&network, job.threads)?;
        let input = random.input(network.input_len());
        let output = vec![0.0; network.output_len()];
        Ok(Trial { session, nodes, input, output })
    }

    fn run(&mut self) -> Result<f64, TrialError> {
        let start = Instant::now();
        self.session.run(&self.input, &mut self.output)?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    fn warm_up(&mut self) -> Result<(), TrialError> {
        (0..WARMUPS).try_for_each(|_| self.run().map(|_| ()))
    }

    /// Times of the steps.
    pub(super) fn profile(&mut self) -> Result<StepTimes<'_>, TrialError> {
        self.warm_up()?;
        let mut runs = Vec::new();
        let start = Instant::now();
        while go_on(runs.len(), start, ROUND) {
            let mut times = vec![Duration::ZERO; self.nodes.len()];
            self.session.run_profiled(&self.input, &mut self.output, &mut times)?;
            runs.push(times);
        }
        Ok(StepTimes { nodes: &self.nodes, runs })
    }

    /// Time of a whole run.
    pub(super) fn run_ms(&mut self) -> Result<f64, TrialError> {
        self.warm_up()?;
        let mut times = Vec::new();
        let start = Instant::now();
        while go_on(times.len(), start, ROUND) {
            times.push(self.run()?);
        }
        Ok(lower_quartile(times))
    }
}

/// Times of a whole run of both, in turns: what disturbs one disturbs the other as well.
pub(super) fn compare(a: &mut Trial, b: &mut Trial) -> Result<[f64; 2], TrialError> {
    a.warm_up()?;
    b.warm_up()?;
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while go_on(of_a.len(), start, COMPARISON) {
        if of_a.len().is_multiple_of(2) {
            of_a.push(a.run()?);
            of_b.push(b.run()?);
        } else {
            of_b.push(b.run()?);
            of_a.push(a.run()?);
        }
    }
    Ok([lower_quartile(of_a), lower_quartile(of_b)])
}

/// Closer to what the code can do than the median, less a matter of luck than the least.
fn lower_quartile(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 4).copied().unwrap_or(f64::INFINITY)
}

impl StepTimes<'_> {
    /// Least time of all steps of a node, with those that read the net's input if `reads_input`.
    pub(super) fn min_ms(&self, node: &str, reads_input: bool) -> f64 {
        let belongs = |name: &str| name == node || (reads_input && name == "input");
        let steps: Vec<usize> =
            (0..self.nodes.len()).filter(|&step| belongs(&self.nodes[step])).collect();
        let times = self.runs.iter().map(|run| steps.iter().map(|&step| run[step]).sum());
        times.min().map_or(f64::INFINITY, |least: Duration| least.as_secs_f64() * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_a_layer_together() {
        let nodes = ["input", "conv1", "conv1", "fc"].map(str::to_owned);
        let run = |ms: [u64; 4]| ms.map(Duration::from_millis).to_vec();
        let times = StepTimes { nodes: &nodes, runs: vec![run([9, 1, 5, 7]), run([1, 4, 3, 8])] };
        assert_eq!(times.min_ms("conv1", false), 6.0, "of the first run");
        assert_eq!(times.min_ms("conv1", true), 8.0, "of the second");
        assert_eq!(times.min_ms("fc", false), 7.0);
    }

    #[test]
    fn quartile() {
        assert_eq!(lower_quartile(vec![8.0, 1.0, 5.0, 3.0, 4.0]), 3.0);
        assert_eq!(lower_quartile(vec![2.0]), 2.0);
    }
}
