//! The command on an OpenCL device: what it prints, what it keeps, and what it says where there is
//! no device, no memory or no compiler's consent.
#![cfg(feature = "opencl")]

mod common;

use alexc::compile::opencl::Schedule;
use alexc::compile::{self, Options};
use alexc::opencl as glue;
use alexc::weights::{self, Random};
use alexc_codegen::target::Target;
use alexc_runtime::opencl::{self, Build, Device, Net, PairSession, Session, SetupError};
use alexc_runtime::weights::Weights;
use common::command::{alexc, failure, stdout};
use common::{left_out, nets};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

/// `alexc` with a cache of its own.
fn with_cache(folder: &tempfile::TempDir) -> Command {
    let mut command = alexc();
    command.env("ALEXC_CACHE_DIR", folder.path());
    command
}

fn json(command: &mut Command) -> Value {
    serde_json::from_str(&stdout(command)).unwrap()
}

const SEVEN: &str = "run specs/digits.yaml --weights specs/digits/digits.safetensors --input \
                     specs/digits/seven.png --device opencl:0";

#[test]
fn a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(with_cache(&folder).args(SEVEN.split(' ')));
    assert!(text.starts_with(" 96.82 %     7  seven\n"), "{text}");
}

#[test]
fn narrow_weights_and_batches() {
    let folder = tempfile::tempdir().unwrap();
    for dtype in ["f16", "bf16", "int8"] {
        let mut command = with_cache(&folder);
        command.args(["compare", "specs/lenet5.yaml", "--device", "opencl", "--batch", "3"]);
        let text = stdout(command.args(["--weights-dtype", dtype]));
        assert!(!text.contains("DIFFERS") && text.contains("values agree"), "{dtype}: {text}");
    }
}

#[test]
fn times() {
    let folder = tempfile::tempdir().unwrap();
    let bench = ["bench", "specs/digits.yaml", "--device", "opencl:0", "--iters", "5", "--json"];
    let bench = json(with_cache(&folder).args(bench));
    assert_eq!((&bench["device"], &bench["iters"]), (&"opencl:0".into(), &5.into()));
    assert!(bench["min_ms"].as_f64().unwrap() > 0.0, "{bench}");
    let profile = ["profile", "specs/digits.yaml", "--device", "opencl", "--iters", "3", "--json"];
    let profile = json(with_cache(&folder).args(profile));
    let layers = profile["layers"].as_array().unwrap();
    let sum: f64 = layers.iter().map(|layer| layer["min_ms"].as_f64().unwrap()).sum();
    let run = profile["run_min_ms"].as_f64().unwrap();
    // Every kernel has a time of its own, and together they are no longer than some runs.
    assert!(layers.iter().all(|layer| layer["min_ms"].as_f64().unwrap() > 0.0), "{profile}");
    assert!(sum > 0.01 * run && sum < 10.0 * run, "{sum} {run}");
}

/// Files of built programs in a cache.
fn programs(folder: &tempfile::TempDir) -> Vec<PathBuf> {
    let files = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "clprogram")).collect()
}

#[test]
fn programs_are_kept_and_damage_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let run = || stdout(with_cache(&folder).args(SEVEN.split(' ')));
    let answer = run();
    let [file] = &programs(&folder)[..] else { panic!("one program is kept") };
    let whole = fs::read(file).unwrap();
    let list = json(with_cache(&folder).args(["cache", "list", "--json"]));
    assert_eq!(list["programs"].as_array().unwrap().len(), 1);
    assert_eq!(list["programs"][0]["path"], file.to_str().unwrap());
    assert!(list["programs"][0]["binary_bytes"].as_u64().unwrap() > 0);
    let before = fs::metadata(file).unwrap().modified().unwrap();
    assert_eq!(run(), answer);
    let after = fs::metadata(file).unwrap().modified().unwrap();
    assert_eq!(before, after, "it is taken as it is");

    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for damaged in [&whole[..whole.len() / 2], &flipped, b"", b"something else"] {
        fs::write(file, damaged).unwrap();
        assert_eq!(run(), answer);
        let mended = fs::read(file).unwrap();
        assert!(opencl::kept::describe(&mended).is_some(), "it is written anew");
    }

    // A sound file of another program under this one's name.
    let other = ["run", "specs/digits.yaml", "--math", "strict", "--no-fusion"];
    let mut command = with_cache(&folder);
    command.args(other).args(SEVEN.split(' ').skip(2));
    assert_eq!(stdout(&mut command), answer);
    let foreign = programs(&folder).into_iter().find(|path| path != file).unwrap();
    fs::copy(foreign, file).unwrap();
    assert_eq!(run(), answer);

    let text = stdout(with_cache(&folder).args(["cache", "clear"]));
    assert!(text.ends_with(": 2 of built programs\n"), "{text}");
    assert!(programs(&folder).is_empty());
}

#[test]
fn without_a_driver() {
    // What Debian's loader reads instead of its list of drivers.
    let none = |command: &mut Command| {
        command.env("OCL_ICD_VENDORS", "/nowhere").env("OPENCL_VENDOR_PATH", "/nowhere");
        command.env_remove("OCL_ICD_FILENAMES");
    };
    let mut command = alexc();
    none(command.arg("devices"));
    if !stdout(&mut command).contains("no driver is installed") {
        left_out("this machine's OpenCL loader cannot be told to find no driver");
        return;
    }
    for line in [
        SEVEN,
        "bench specs/digits.yaml --device opencl",
        "check specs/digits.yaml --device opencl:cpu",
    ] {
        let mut command = alexc();
        none(command.args(line.split(' ')));
        let (code, told) = failure(&mut command);
        assert_eq!(code, 4, "{told}");
        assert!(told.contains("no OpenCL driver is installed"), "{told}");
    }
}

#[test]
fn flags_of_processors() {
    for flag in ["--emitter x86", "--target-cpu x86-64-v3"] {
        let line = format!("{SEVEN} {flag}");
        let (code, told) = failure(alexc().args(line.split(' ')));
        assert!(code == 2 && told.contains("is for code on the CPU"), "{told}");
    }
    let dump = "dump specs/digits.yaml --stage plan --device opencl:0";
    let line = format!("{dump} --target aarch64-unknown-linux-gnu");
    let (code, told) = failure(alexc().args(line.split(' ')));
    assert!(code == 2 && told.contains("--target is for code on the CPU"), "{told}");
}

/// Stages for which a device does not matter, too, take none that is not there, and no flags that
/// do not go with it.
#[test]
fn early_stages_look_at_the_device() {
    for stage in ["spec", "graph"] {
        let dump = format!("dump specs/digits.yaml --stage {stage} --device opencl:");
        for (more, expected, told) in [
            ("0", 0, ""),
            ("99", 4, "there is no OpenCL device `99`"),
            ("0,0,0", 4, "one or two OpenCL devices"),
            ("0 --target-cpu generic", 2, "--target-cpu is for code on the CPU"),
            ("0 --tune", 2, "--tune on a device"),
        ] {
            let run = alexc().args(format!("{dump}{more}").split(' ')).output().unwrap();
            let errors = String::from_utf8(run.stderr).unwrap();
            assert_eq!(run.status.code(), Some(expected), "{stage} {more}: {errors}");
            assert!(errors.contains(told), "{stage} {more}: {errors}");
        }
    }
}

#[test]
fn three_devices() {
    for command in [
        "run specs/digits.yaml --weights random:1 --input specs/digits/seven.png",
        "dump specs/digits.yaml --stage plan",
    ] {
        let line = format!("{command} --device opencl:0,0,0");
        let (code, told) = failure(alexc().args(line.split(' ')));
        assert!(code == 4 && told.contains("one or two OpenCL devices, and 3"), "{told}");
    }
}

/// The digits on the first device.
fn digits() -> (Net, Arc<Weights>, Device) {
    let (_, graph) = nets::load("digits", 1);
    let device = opencl::choose("0").unwrap();
    let options = Options::new(Target::host().unwrap());
    let compiled = compile::opencl::compile(&graph, &options, glue::target(&device)).unwrap();
    let source = weights::open("random:1").unwrap().check(&graph.tensors()).unwrap();
    let weights = compile::pack(&compiled.net, &source, 1, |_| ()).unwrap();
    (glue::net(&compiled), Arc::new(weights), device)
}

fn refusal(net: &Net, weights: &Arc<Weights>, device: &Device) -> SetupError {
    let how = Build { optimise: false, ..Build::default() };
    match Session::new(net, weights, device, &how) {
        Err(error) => error,
        Ok(_) => panic!("it was not refused"),
    }
}

#[test]
fn what_a_device_refuses() {
    let (net, weights, device) = digits();
    let mut small = device.clone();
    small.about.allocation_bytes = 1000;
    let told = refusal(&net, &weights, &small).to_string();
    assert!(told.contains("has no memory for the input (1024 bytes"), "{told}");

    let mut broken = net.clone();
    broken.program.kernels[0].bytes = b"kernel void broken( { no_such_type }".to_vec();
    let told = refusal(&broken, &weights, &device).to_string();
    assert!(told.contains("does not build the net's kernels"), "{told}");
    assert!(told.contains("error"), "the compiler's own words: {told}");

    let mut unsound = net.clone();
    unsound.launches[0].global[0] = 0;
    assert!(matches!(refusal(&unsound, &weights, &device), SetupError::Launch { .. }));
    let mut outside = net.clone();
    outside.program.steps[0].params[0].len_bytes += 4096;
    assert!(matches!(refusal(&outside, &weights, &device), SetupError::Program(_)));
}

#[test]
fn sessions_are_independent() {
    let (net, weights, device) = digits();
    let how = Build::default();
    let input = Random::new(1).input(net.program.input_dims.iter().product());
    let mut output = vec![0.0; net.program.output_dims.iter().product()];
    let mut first = Session::new(&net, &weights, &device, &how).unwrap();
    let mut second = Session::new(&net, &weights, &device, &how).unwrap();
    first.run(&input, &mut output).unwrap();
    let expected = output.clone();
    second.run(&vec![f32::NAN; input.len()], &mut output).unwrap();
    assert!(output.iter().all(|value| value.is_nan()));
    drop(second);
    first.run(&input, &mut output).unwrap();
    assert_eq!(output, expected);
    assert!(first.run(&input[1..], &mut output).is_err());
    assert!(first.run(&input, &mut output[1..]).is_err());
    first.run(&input, &mut output).unwrap();
    assert_eq!(output, expected);
}

/// How a net is shared by two devices.
#[derive(Debug, Clone, Copy)]
struct Sharing {
    batch: usize,
    schedule: Schedule,
    /// As if they had two drivers.
    apart: bool,
}

/// The outputs of a session on the two halves of the first device, and of one on all of it.
fn two_and_one(net: &str, sharing: Sharing) -> Option<[Vec<f32>; 2]> {
    let halves = ["0.0", "0.1"].map(opencl::choose);
    let [Ok(first), Ok(second)] = halves else {
        left_out("the device has one compute unit, or cannot be divided");
        return None;
    };
    let (_, graph) = nets::load(net, sharing.batch);
    let options = Options { halves: true, ..Options::new(Target::host().unwrap()) };
    let target = glue::target(&first);
    let parameters = target.parameters.of_two();
    let target = compile::opencl::Device { schedule: sharing.schedule, parameters, ..target };
    let compiled = compile::opencl::compile(&graph, &options, target).unwrap();
    let whole = glue::net(&compiled);
    let split = alexc::split::split(&compiled.net).unwrap();
    assert!(split.transfers.iter().any(|transfer| transfer.from == 0));
    assert!(split.transfers.iter().any(|transfer| transfer.from == 1));
    let pair =
        glue::pair_net(&compiled, &whole, &split, [first.about.fma, second.about.fma]).unwrap();
    let source = weights::open("random:1").unwrap().check(&graph.tensors()).unwrap();
    let packed = Arc::new(compile::pack(&compiled.net, &source, 2, |_| ()).unwrap());
    let parts = [0, 1].map(|i| Arc::new(glue::part_weights(&split.parts[i], &packed).unwrap()));
    // Nobody holds much more than half.
    for part in parts.iter().filter(|_| sharing.schedule == Schedule::Cpu) {
        let (part, all) = (part.as_bytes().len(), packed.as_bytes().len());
        assert!(part < all * 11 / 20 + 65536, "{net}: {part} of {all}");
    }
    let how = Build { optimise: false, ..Build::default() };
    let weights = [&parts[0], &parts[1]];
    let set_up = if sharing.apart { PairSession::apart } else { PairSession::new };
    let mut two = set_up(&pair, weights, [&first, &second], &how).unwrap();
    let mut one = Session::new(&whole, &packed, &opencl::choose("0").unwrap(), &how).unwrap();
    let input = Random::new(1).input(whole.program.input_dims.iter().product());
    let mut outputs = [(); 2].map(|()| vec![0.0; whole.program.output_dims.iter().product()]);
    one.run(&input, &mut outputs[1]).unwrap();
    // Whatever was there before, and again: what crosses must not be late or early.
    two.run(&vec![f32::NAN; input.len()], &mut outputs[0]).unwrap();
    for _ in 0..5 {
        outputs[0].fill(0.0);
        two.run(&input, &mut outputs[0]).unwrap();
        assert_eq!(outputs[0], outputs[1], "{net}");
    }
    let mut times = vec![std::time::Duration::ZERO; whole.program.steps.len()];
    two.run_profiled(&input, &mut outputs[0], &mut times).unwrap();
    assert_eq!(outputs[0], outputs[1], "{net}");
    assert!(times.iter().all(|time| !time.is_zero()));
    Some(outputs)
}

fn answer_as_one(nets: &[(&str, usize)], schedule: Schedule, apart: bool) {
    for &(net, batch) in nets {
        let sharing = Sharing { batch, schedule, apart };
        if let Some([two, one]) = two_and_one(net, sharing) {
            assert_eq!(two, one, "{net}, {sharing:?}");
        }
    }
}

#[test]
fn two_devices_answer_as_one() {
    let nets = [("digits", 1), ("alexnet-2gpu", 1), ("squeezenet1_1", 1), ("digits", 3)];
    answer_as_one(&nets, Schedule::Cpu, false);
}

#[test]
fn two_gpus_answer_as_one() {
    let nets = [("digits", 1), ("digits", 3), ("lenet5", 1), ("alexnet-2gpu", 1)];
    answer_as_one(&nets, Schedule::Gpu, false);
}

#[test]
fn two_drivers_answer_as_one() {
    answer_as_one(&[("digits", 1), ("alexnet-2gpu", 1)], Schedule::Cpu, true);
    answer_as_one(&[("digits", 2)], Schedule::Gpu, true);
}

#[test]
fn the_command_on_two_devices() {
    let folder = tempfile::tempdir().unwrap();
    if opencl::choose("0.1").is_err() {
        left_out("the device has one compute unit, or cannot be divided");
        return;
    }
    let line = SEVEN.replace("opencl:0", "opencl:0.0,opencl:0.1");
    let text = stdout(with_cache(&folder).args(line.split(' ')));
    assert!(text.starts_with(" 96.82 %     7  seven\n"), "{text}");
    let dump = ["dump", "specs/alexnet-2gpu.yaml", "--stage", "plan", "--device", "opencl:0.0,0.1"];
    let plan = stdout(alexc().args(dump));
    for told in [
        "two devices: weights ",
        "ob 0..3",
        "ob 3..6",
        "group 1..2",
        "-> pool2 84.5 KiB",
        "<- pool2 84.5 KiB",
        // Two channels of 55 x 55 pixels before the normalisation, not the map.
        "<- conv1.tmp 23.6 KiB",
    ] {
        assert!(plan.contains(told), "{told}: {plan}");
    }
    let plan = stdout(alexc().args(dump).args(["--schedule", "gpu"]));
    for told in ["c 0..48", "c 48..96", "<- conv1.tmp 23.6 KiB", "-> pool2 84.5 KiB"] {
        assert!(plan.contains(told), "{told}: {plan}");
    }
    let line = format!("{line} --schedule gpu");
    let text = stdout(with_cache(&folder).args(line.split(' ')));
    assert!(text.starts_with(" 96.82 %     7  seven\n"), "{text}");
    let (code, told) = failure(alexc().args(SEVEN.replace("opencl:0", "opencl:0,0,0").split(' ')));
    assert!(code == 4 && told.contains("one or two OpenCL devices"), "{told}");
}
