//! `--tune`, for every command that compiles.

use super::args::{Common, CompileArgs};
use super::failure::{Failure, warn};
use super::{load, progress};
use crate::algorithm::Math;
use crate::compile::Options;
use crate::graph::Graph;
use crate::tune::cache::Cache;
use crate::tune::{Job, Origin, tune};
use alexc_runtime::cpu::Cpu;
use std::time::Instant;

/// Compiler options from arguments for a graph; with `--tune` also its best algorithms.
pub(super) fn options(
    graph: &Graph,
    common: &Common,
    args: &CompileArgs,
    triple: Option<&str>,
    threads: usize,
) -> Result<Options, Failure> {
    let mut options = load::options(common, args, triple)?;
    if !args.tune {
        return Ok(options);
    }
    let say = |message: String| {
        if common.verbose {
            anstream::eprintln!("{message}");
        }
    };
    if options.math == Math::Strict {
        if !common.quiet {
            warn("--tune: there is nothing to tune, --math strict leaves no choice");
        }
        return Ok(options);
    }
    let cpu = Cpu::detect();
    if cpu.arch != Some(options.target.arch())
        || !cpu.has_all(&options.emitter().features(&options.target))
    {
        return Err(Failure::Usage(format!(
            "--tune measures on this machine, which cannot run code for {}; run it there, or name \
             the algorithms with --set LAYER.algorithm=...",
            options.target
        )));
    }
    let cache = Cache::of_user();
    if cache.is_none() {
        warn("--tune: there is no folder to keep the result in; name one with ALEXC_CACHE_DIR");
    }
    let start = Instant::now();
    let bar = progress::steps("tuning", common.quiet);
    let job = Job { graph, options: &options, threads };
    let found = tune(&job, cache.as_ref(), &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    match found.origin {
        Origin::NoChoice => say("tuned: no convolution has a choice".to_owned()),
        Origin::Cache(path) => say(format!("tuned: as kept in {}", path.display())),
        Origin::Measured { untuned_ms, tuned_ms, kept } => {
            say(format!(
                "tuned: measured in {:.1} s; {tuned_ms:.3} ms a run, {untuned_ms:.3} by the cost \
                 model",
                start.elapsed().as_secs_f64()
            ));
            match kept {
                Some(Ok(path)) => say(format!("tuned: kept in {}", path.display())),
                Some(Err(error)) => warn(&format!("--tune: the result is not kept: {error}")),
                None => {}
            }
        }
    }
    options.tuned = found.choices;
    Ok(options)
}
