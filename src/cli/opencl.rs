//! From arguments to a net on OpenCL devices.

use super::args::{CompileArgs, ScheduleArg};
use super::failure::{Failure, warn};
use super::load::{self, Job, Loaded, Made};
use super::memory;
use crate::compile;
use crate::compile::opencl::Device as Target;
use crate::opencl::{self, Programs};
use crate::tune::cache::Cache;
use alexc_runtime::opencl::{Build, Device, DeviceKind, Session, SetupError, Store};
use std::sync::Arc;
use std::time::Instant;

/// Compiles a graph for devices, packs its weights and brings everything there.
pub(super) fn load(job: Job<'_>, devices: &[Device]) -> Result<Loaded, Failure> {
    check_flags(job.compile)?;
    match devices {
        [device] => on_one(job, device),
        _ => Err(Failure::Device("a net runs on one or two OpenCL devices".to_owned())),
    }
}

fn on_one(job: Job<'_>, device: &Device) -> Result<Loaded, Failure> {
    let Job { graph, source, threads, common, compile } = job;
    let options = load::options(common, compile, None)?;
    let start = Instant::now();
    let target = scheduled(opencl::target(device), compile.schedule);
    let compiled = compile::opencl::compile(graph, &options, target)?;
    let net = opencl::net(&compiled);
    let compile_time = start.elapsed();
    memory::check_program(&net.program, 0)?;
    let start = Instant::now();
    let packed = load::pack(&compiled.net, &source, threads, common.quiet)?;
    let weights_time = start.elapsed();
    let start = Instant::now();
    let store = programs();
    let store = store.as_ref().map(|programs| programs as &dyn Store);
    let how = Build { store, ..Build::default() };
    let session = Box::new(Session::new(&net, &Arc::new(packed), device, &how)?);
    let compile_time = compile_time + start.elapsed();
    log::info!("device  {:9.3} ms, {device}", start.elapsed().as_secs_f64() * 1e3);
    let about = &device.about;
    let made = Made {
        device: about.label.clone(),
        target: about.name.clone(),
        emitter: compiled.device.to_string(),
        on_cpu: about.kind == DeviceKind::Cpu,
    };
    let threads = usize::try_from(about.units).unwrap_or(1);
    let net = compiled.net;
    Ok(Loaded { net, made, source, session, threads, compile_time, weights_time })
}

/// The device with the schedule that the user wants.
fn scheduled(target: Target, wanted: Option<ScheduleArg>) -> Target {
    wanted.map_or(target, |wanted| Target { schedule: wanted.into(), ..target })
}

/// What speaks of processors alone.
fn check_flags(args: &CompileArgs) -> Result<(), Failure> {
    let flag = [
        (args.emitter.is_some(), "--emitter"),
        (args.target_cpu != "native", "--target-cpu"),
        (args.tune, "--tune"),
    ];
    match flag.into_iter().find(|(given, _)| *given) {
        None => Ok(()),
        Some((_, flag)) => Err(Failure::Usage(format!(
            "{flag} is for code on the CPU; an OpenCL device's driver makes its own"
        ))),
    }
}

/// Where built programs are kept.
fn programs() -> Option<Programs> {
    let cache = Cache::of_user();
    if cache.is_none() {
        warn("there is no folder to keep built programs in; name one with ALEXC_CACHE_DIR");
    }
    cache.map(Programs::new)
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        Failure::Device(error.to_string())
    }
}
