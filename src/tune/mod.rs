//! `--tune`: the algorithms of a net's convolutions by measurement instead of by the cost model.
//!
//! A round compiles the whole net with one candidate for every convolution that has a choice, so
//! there are as many rounds as the longest list of candidates, and every candidate is measured
//! among its neighbours, with the caches as they are in a run. The fastest of each are then run
//! together, in turns with the cost model's choice, and only what is faster as a whole is kept.
//! What was found stays in the cache ([`cache`]) for the next time.

pub mod cache;
mod measure;

use crate::algorithm::{self, Algorithm, Override};
use crate::compile::{self, CompileError, Options};
use crate::graph::Graph;
use crate::session::TrialError;
use cache::{Cache, Entry, Key, Machine};
use measure::{Trial, compare};
use std::path::PathBuf;

/// A candidate must need less than this part of the time of the cost model's choice to replace
/// it: less is noise.
const MARGIN: f64 = 0.97;

/// What is to be tuned.
#[derive(Debug)]
pub struct Job<'a> {
    /// The graph as it was built.
    pub graph: &'a Graph,
    /// How it will be compiled. What `overrides` names is not tuned.
    pub options: &'a Options,
    /// Threads that it will run on.
    pub threads: usize,
}

/// The best algorithms.
#[derive(Debug)]
pub struct Found {
    /// For [`Options::tuned`]; empty where no convolution has a choice.
    pub choices: Vec<Override>,
    /// How they were found.
    pub origin: Origin,
}

/// See [`Found`].
#[derive(Debug)]
pub enum Origin {
    /// No convolution has more than one algorithm, or none that the user left open.
    NoChoice,
    /// By an earlier measurement, from this file.
    Cache(PathBuf),
    /// Now.
    Measured {
        /// A run with the cost model's choices, in milliseconds.
        untuned_ms: f64,
        /// A run with those that were found; the same where the cost model's are the best.
        tuned_ms: f64,
        /// The file that keeps them, or why none does; nothing where no cache was given.
        kept: Option<Result<PathBuf, cache::CacheError>>,
    },
}

/// A convolution that has a choice.
#[derive(Debug, Clone, PartialEq)]
struct Layer {
    name: String,
    candidates: Vec<Algorithm>,
    /// The cost model's.
    untuned: Algorithm,
    /// It decides how the net's input is read, which is thus a part of its time.
    reads_input: bool,
}

impl Layer {
    fn choose(&self, algorithm: Algorithm) -> Override {
        Override { layer: self.name.clone(), algorithm }
    }
}

/// Finds the best algorithms in the cache or by measurement. `progress` hears after each step how
/// many of how many are done.
pub fn tune(
    job: &Job<'_>,
    cache: Option<&Cache>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Found, TrialError> {
    let fused = compile::fuse(job.graph, job.options)?;
    let layers = layers(&fused, job.options)?;
    if layers.is_empty() {
        return Ok(Found { choices: Vec::new(), origin: Origin::NoChoice });
    }
    let key = Key::new(&fused, job.options, &Machine::this(job.threads));
    if let Some((path, entry)) = cache.and_then(|cache| cache.read(&key))
        && fits(&entry, &layers)
    {
        return Ok(Found { choices: entry.choices, origin: Origin::Cache(path) });
    }
    let best = measure_layers(job, &layers, progress)?;
    let (choices, untuned_ms, tuned_ms) = confirm(job, &layers, best)?;
    let entry = Entry { choices, untuned_ms, tuned_ms };
    let kept = cache.map(|cache| cache.write(&key, &entry));
    Ok(Found { choices: entry.choices, origin: Origin::Measured { untuned_ms, tuned_ms, kept } })
}

fn layers(fused: &Graph, options: &Options) -> Result<Vec<Layer>, TrialError> {
    let untuned =
        algorithm::choose(fused, options.math, &options.overrides, options.weights_dtype, true)
            .map_err(CompileError::Algorithm)?;
    if options.math == algorithm::Math::Strict {
        return Ok(Vec::new());
    }
    let open = |name: &str| options.overrides.iter().all(|o| o.layer != name);
    let nodes = fused.nodes.iter().zip(untuned).filter(|(node, _)| open(&node.name));
    Ok(nodes
        .map(|(node, untuned)| Layer {
            name: node.name.clone(),
            candidates: algorithm::candidates(fused, node, options.weights_dtype),
            untuned,
            reads_input: algorithm::reads_input_alone(fused, node),
        })
        .filter(|layer| !layer.candidates.is_empty())
        .collect())
}

/// The entry names exactly these layers, each with an algorithm that suits it.
fn fits(entry: &Entry, layers: &[Layer]) -> bool {
    entry.choices.len() == layers.len()
        && entry.choices.iter().zip(layers).all(|(choice, layer)| {
            choice.layer == layer.name && layer.candidates.contains(&choice.algorithm)
        })
}

/// The fastest candidate of each layer.
fn measure_layers(
    job: &Job<'_>,
    layers: &[Layer],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Override>, TrialError> {
    let rounds = layers.iter().map(|layer| layer.candidates.len()).max().unwrap_or(0);
    let mut times_ms = vec![Vec::new(); layers.len()];
    for round in 0..rounds {
        progress(round, rounds + 1);
        let choices = layers
            .iter()
            .filter_map(|layer| Some(layer.choose(*layer.candidates.get(round)?)))
            .collect();
        let mut trial = Trial::new(job, choices)?;
        let profile = trial.profile()?;
        for (layer, times_ms) in layers.iter().zip(&mut times_ms) {
            if round < layer.candidates.len() {
                times_ms.push(profile.min_ms(&layer.name, layer.reads_input));
            }
        }
    }
    progress(rounds, rounds + 1);
    Ok(layers.iter().zip(&times_ms).map(|(layer, ms)| layer.choose(fastest(layer, ms))).collect())
}

/// `times_ms` are those of the layer's candidates.
fn fastest(layer: &Layer, times_ms: &[f64]) -> Algorithm {
    let measured = || layer.candidates.iter().copied().zip(times_ms.iter().copied());
    let untuned = measured().find(|(candidate, _)| *candidate == layer.untuned);
    let best = measured().min_by(|a, b| a.1.total_cmp(&b.1));
    match (best, untuned) {
        (Some((_, best_ms)), Some((untuned, ms))) if best_ms > ms * MARGIN => untuned,
        (Some((best, _)), _) => best,
        (None, _) => layer.untuned,
    }
}

/// Holds the fastest candidates together against the cost model's choice; gives what is better,
/// and the times of both.
fn confirm(
    job: &Job<'_>,
    layers: &[Layer],
    best: Vec<Override>,
) -> Result<(Vec<Override>, f64, f64), TrialError> {
    let untuned: Vec<Override> = layers.iter().map(|layer| layer.choose(layer.untuned)).collect();
    let mut before = Trial::new(job, untuned.clone())?;
    if best == untuned {
        let ms = before.run_ms()?;
        return Ok((untuned, ms, ms));
    }
    let mut after = Trial::new(job, best.clone())?;
    let [untuned_ms, tuned_ms] = compare(&mut before, &mut after)?;
    if tuned_ms < untuned_ms {
        Ok((best, untuned_ms, tuned_ms))
    } else {
        Ok((untuned, untuned_ms, untuned_ms))
    }
}

#[cfg(test)]
mod tests;
