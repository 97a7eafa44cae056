//! From arguments to a net on OpenCL devices.

use super::args::{CompileArgs, ScheduleArg};
use super::failure::{Failure, warn};
use super::load::{self, Job, Loaded, Made};
use super::memory;
use crate::algorithm::Math;
use crate::compile::opencl::{Device as Target, OpenClNet};
use crate::compile::{self, Options};
use crate::opencl::{self, Programs, tune};
use crate::split::split;
use crate::tune::cache::Cache;
use alexc_runtime::opencl::{Build, Device, DeviceKind, PairSession, Session, SetupError, Store};
use std::sync::Arc;
use std::time::Instant;

/// Compiles a graph for devices, packs its weights and brings everything there.
pub(super) fn load(job: Job<'_>, devices: &[Device]) -> Result<Loaded, Failure> {
    load::for_opencl(job.compile, None)?;
    match one_or_two(devices)? {
        (device, None) => on_one(job, device),
        (_, Some(_)) if job.compile.tune => {
            Err(Failure::Usage("--tune measures one device, not two".to_owned()))
        }
        (first, Some(second)) => on_two(job, [first, second]),
    }
}

/// The device, and the one beside it.
fn one_or_two(devices: &[Device]) -> Result<(&Device, Option<&Device>), Failure> {
    match devices {
        [device] => Ok((device, None)),
        [first, second] => Ok((first, Some(second))),
        _ => Err(Failure::Device(format!(
            "a net runs on one or two OpenCL devices, and {} are named",
            devices.len()
        ))),
    }
}

fn on_one(job: Job<'_>, device: &Device) -> Result<Loaded, Failure> {
    let Job { graph, source, threads, common, compile, .. } = job;
    let options = load::options(common, compile, None)?;
    let store = programs();
    let store = store.as_ref().map(|programs| programs as &dyn Store);
    let how = Build { store, ..Build::default() };
    let target = scheduled(opencl::target(device), compile.schedule);
    let mut target = with_tensor_cores(target, options.math, device);
    if compile.tune {
        target = tune::tuned(graph, &options, target, device, &how)?;
    }
    let start = Instant::now();
    let compiled = compile::opencl::compile(graph, &options, target)?;
    let net = opencl::net(&compiled);
    let compile_time = start.elapsed();
    memory::check_program(&net.program, 0)?;
    let start = Instant::now();
    let packed = Arc::new(load::pack(&compiled.net, &source, &[], threads, common.quiet)?);
    let weights_time = start.elapsed();
    let start = Instant::now();
    let session = Box::new(Session::new(&net, &packed, device, &how)?);
    let compile_time = compile_time + start.elapsed();
    log::info!("device  {:9.3} ms, {device}", start.elapsed().as_secs_f64() * 1e3);
    let about = &device.about;
    let made = Made {
        device: about.label.clone(),
        target: about.name.clone(),
        emitter: compiled.device.to_string(),
        math: compiled.math.name(),
        on_cpu: about.kind == DeviceKind::Cpu,
    };
    let threads = usize::try_from(about.units).unwrap_or(1);
    let net = compiled.net;
    Ok(Loaded { net, made, source, session, threads, compile_time, weights_time })
}

/// The target with tensor cores, where `--math` is for them; where the device has none, the user is
/// told.
fn with_tensor_cores(target: Target, math: Math, device: &Device) -> Target {
    if !math.wants_tensor_cores() {
        return target;
    }
    let target = opencl::with_tensor_cores(target, device);
    if target.mma(math).is_none() {
        no_tensor_cores(math, device);
    }
    target
}

fn no_tensor_cores(math: Math, device: &Device) {
    let why = "its driver takes no kernels for tensor cores, or they are not a GPU's";
    log::info!("--math {}: {device} computes in f32: {why}", math.name());
}

/// The device with the schedule that the user wants.
fn scheduled(target: Target, wanted: Option<ScheduleArg>) -> Target {
    wanted.map_or(target, |wanted| Target { schedule: wanted.into(), ..target })
}

/// What two devices get: kernels for the first one. The second one prints them in its own way.
fn pair_target(device: &Device, wanted: Option<ScheduleArg>) -> Target {
    let target = scheduled(opencl::target(device), wanted);
    let parameters = target.parameters.of_two();
    Target { parameters, ..target }
}

/// Compiles for the first device and splits that over both.
fn on_two(job: Job<'_>, devices: [&Device; 2]) -> Result<Loaded, Failure> {
    let Job { graph, source, threads, common, compile, .. } = job;
    let target = pair_target(devices[0], compile.schedule);
    let options = Options { halves: true, ..load::options(common, compile, None)? };
    if options.math.wants_tensor_cores() {
        devices.iter().for_each(|device| no_tensor_cores(options.math, device));
    }
    let start = Instant::now();
    let compiled = compile::opencl::compile(graph, &options, target)?;
    let whole = opencl::net(&compiled);
    let split = split(&compiled.net).map_err(compile::CompileError::from)?;
    let fma = devices.map(|device| device.about.fma);
    let net = opencl::pair_net(&compiled, &whole, &split, fma)?;
    let compile_time = start.elapsed();
    memory::check_program(&net.program, 0)?;
    let start = Instant::now();
    let packed = load::pack(&compiled.net, &source, &[], threads, common.quiet)?;
    let part = |part| {
        opencl::part_weights(part, &packed).map(Arc::new).map_err(|error| {
            Failure::Input(format!("no memory for the weights of one device: {error}"))
        })
    };
    let weights = [part(&split.parts[0])?, part(&split.parts[1])?];
    drop(packed);
    let weights_time = start.elapsed();
    let start = Instant::now();
    let store = programs();
    let store = store.as_ref().map(|programs| programs as &dyn Store);
    let how = Build { store, ..Build::default() };
    let session = PairSession::new(&net, [&weights[0], &weights[1]], devices, &how)?;
    let compile_time = compile_time + start.elapsed();
    let names = devices.map(|device| device.about.name.as_str());
    let made = Made {
        device: devices.map(|device| device.about.label.as_str()).join(","),
        target: if names[0] == names[1] { names[0].to_owned() } else { names.join(", ") },
        emitter: compiled.device.to_string(),
        math: compiled.math.name(),
        on_cpu: devices.iter().all(|device| device.about.kind == DeviceKind::Cpu),
    };
    let units: u64 = devices.iter().map(|device| device.about.units).sum();
    let threads = usize::try_from(units).unwrap_or(1);
    let (net, session) = (compiled.net, Box::new(session));
    Ok(Loaded { net, made, source, session, threads, compile_time, weights_time })
}

/// What a net is compiled for where it does not run: as for the first device.
pub(super) fn target(args: &CompileArgs, devices: &[Device]) -> Result<Target, Failure> {
    if args.tune {
        let what = "--tune on a device is for commands that run the net there";
        return Err(Failure::Usage(what.to_owned()));
    }
    match one_or_two(devices)? {
        (device, None) => {
            let target = scheduled(opencl::target(device), args.schedule);
            Ok(with_tensor_cores(target, args.math.into(), device))
        }
        (first, Some(_)) => Ok(pair_target(first, args.schedule)),
    }
}

/// What `dump` shows of a net on devices: the plan of one, and how it is shared by two.
pub(super) fn plan_text(compiled: &OpenClNet, devices: &[Device]) -> Result<String, Failure> {
    let mut text = compiled.plan.to_string();
    if devices.len() == 2 {
        let split = split(&compiled.net).map_err(compile::CompileError::from)?;
        text = format!("{}\n{text}", split.text(&compiled.net));
    }
    Ok(text)
}

/// Where built programs are kept.
fn programs() -> Option<Programs> {
    let cache = Cache::of_user();
    if cache.is_none() {
        warn("there is no folder to keep built programs in; name one with ALEXC_CACHE_DIR");
    }
    cache.map(Programs::new)
}

impl From<tune::TuneError> for Failure {
    fn from(error: tune::TuneError) -> Self {
        match error {
            tune::TuneError::Compile(error) => error.into(),
            tune::TuneError::Setup(error) => error.into(),
            error @ tune::TuneError::Memory { .. } => Failure::Input(error.to_string()),
        }
    }
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        Failure::Device(error.to_string())
    }
}
