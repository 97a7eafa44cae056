//! `alexc profile`: where the time of a run goes.

use super::args::ProfileArgs;
use super::failure::{Failure, print, print_json};
use super::load;
use super::net::{self, Wish};
use crate::report::limits::{self, Limits};
use crate::report::profile::{Measured, Profile};
use std::time::{Duration, Instant};

pub(super) fn run(args: &ProfileArgs) -> Result<(), Failure> {
    let weights = args.weights.as_deref();
    let wish = Wish::trial(&args.spec, weights, &args.common, &args.compile, &args.device);
    let mut net = net::open(&wish)?;
    let limits = match net.on_cpu {
        true => limits::measure(&load::options(&args.common, &args.compile, None)?, net.threads)?,
        false => Limits::UNKNOWN,
    };
    let mut output = net.output();
    for _ in 0..args.warmup {
        net.session.run(&net.input, &mut output)?;
    }
    let mut run = Duration::MAX;
    let mut steps = Vec::new();
    for _ in 0..args.iters {
        // In turns: what disturbs one disturbs the other as well.
        let start = Instant::now();
        net.session.run(&net.input, &mut output)?;
        run = run.min(start.elapsed());
        let mut times = vec![Duration::ZERO; net.program().steps.len()];
        net.session.run_profiled(&net.input, &mut output, &mut times)?;
        steps.push(times);
    }
    let code = net.emitter.clone().map(|emitter| (net.target.clone(), emitter));
    let device = net.device.clone();
    let measured = Measured { steps, run, device, code, threads: net.threads, limits };
    let profile = Profile::new(net.program(), net.prepared.as_ref(), &measured);
    if args.common.json {
        print_json(&profile.to_json())
    } else {
        print(&profile.table(args.common.verbose))
    }
}
