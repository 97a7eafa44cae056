//! `alexc bench`: how long a run takes.

use super::args::BenchArgs;
use super::failure::{Failure, print, print_json};
use super::net::{self, Net, Wish};
use serde_json::json;
use std::io::BufRead;
use std::time::Instant;

pub(super) fn run(args: &BenchArgs) -> Result<(), Failure> {
    if !args.seconds.is_finite() || args.seconds < 0.0 || args.iters == Some(0) {
        return Err(Failure::Usage("--seconds and --iters must be above zero".to_owned()));
    }
    let weights = args.weights.as_deref();
    let wish = Wish::trial(&args.spec, weights, &args.common, &args.compile, &args.device);
    let mut net = net::open(&wish)?;
    let mut output = net.output();
    if args.interactive {
        return interactive(&mut net, &mut output);
    }
    for _ in 0..args.warmup {
        net.session.run(&net.input, &mut output)?;
    }
    let mut times = Vec::new();
    let start = Instant::now();
    loop {
        times.push(time_ms(&mut net, &mut output)?);
        let done = match args.iters {
            Some(iters) => times.len() >= iters,
            None => start.elapsed().as_secs_f64() >= args.seconds,
        };
        if done {
            break;
        }
    }
    times.sort_by(f64::total_cmp);
    let quantile = |q: f64| times[((times.len() - 1) as f64 * q).round() as usize];
    let program = net.program();
    let batch = program.input_dims[0];
    let emitter = net.emitter.as_deref();
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    let variance =
        times.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / times.len().max(2) as f64;
    if args.common.json {
        return print_json(&json!({
            "model": net.model,
            "batch": batch,
            "threads": net.threads,
            "device": net.device,
            "target": net.target,
            "emitter": emitter,
            "math": net.math,
            "min_ms": times[0],
            "p50_ms": quantile(0.5),
            "p90_ms": quantile(0.9),
            "p99_ms": quantile(0.99),
            "mean_ms": mean,
            "std_ms": variance.sqrt(),
            "iters": times.len(),
            "compile_ms": net.compile_time.as_secs_f64() * 1e3,
            "weights_ms": net.weights_time.as_secs_f64() * 1e3,
            "arena_bytes": program.arena_bytes,
            "weights_bytes": program.weights_bytes,
        }));
    }
    print(&format!(
        "{}, batch {batch}, {} threads, {}\n\
         min {:.3} ms, p50 {:.3}, p90 {:.3}, p99 {:.3} over {} runs ({:.1} images/s)\n\
         compiled in {:.1} ms, weights packed in {:.1} ms; arena {} bytes, weights {} bytes\n",
        net.model,
        net.threads,
        emitter.unwrap_or(&net.target),
        times[0],
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        times.len(),
        batch as f64 * 1e3 / quantile(0.5),
        net.compile_time.as_secs_f64() * 1e3,
        net.weights_time.as_secs_f64() * 1e3,
        program.arena_bytes,
        program.weights_bytes,
    ))
}

fn time_ms(net: &mut Net, output: &mut [f32]) -> Result<f64, Failure> {
    let start = Instant::now();
    net.session.run(&net.input, output)?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// A line with a count on stdin is answered by a line with the times of so many runs: this way a
/// script can take turns between engines.
fn interactive(net: &mut Net, output: &mut [f32]) -> Result<(), Failure> {
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Failure::Input(format!("stdin: {e}")))?;
        let count: usize = line.trim().parse().map_err(|_| {
            Failure::Input(format!("stdin: `{line}` is no count of runs; write one number a line"))
        })?;
        let times: Vec<f64> = (0..count).map(|_| time_ms(net, output)).collect::<Result<_, _>>()?;
        print(&format!("{}\n", json!({ "times_ms": times })))?;
    }
    Ok(())
}
