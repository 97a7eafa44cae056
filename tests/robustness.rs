//! Whatever a user gives to the real command, it ends with one of its exit codes and a message
//! that says what is wrong: no panic, no abort, no success that is none.

mod common;

use common::command::alexc;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const SPEC: &str = "specs/digits.yaml";
const WEIGHTS: &str = "specs/digits/digits.safetensors";
const PICTURE: &str = "specs/digits/seven.png";

/// Exit code and stderr. A panic or a signal fails the test here, for every case.
fn ended(command: &mut Command) -> (i32, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code().unwrap_or_else(|| panic!("{command:?} was killed: {told}"));
    assert!((0..=4).contains(&code), "{command:?}: {code}: {told}");
    assert!(!told.contains("panicked") && !told.contains("internal error"), "{command:?}: {told}");
    (code, told)
}

/// Runs a line of arguments and then `more`.
fn run(line: &str, more: &[&OsStr]) -> (i32, String) {
    ended(alexc().args(line.split_whitespace()).args(more))
}

fn refuses(code: i32, line: &str, message: &str) {
    let (found, told) = run(line, &[]);
    assert_eq!(found, code, "{line}: {told}");
    assert!(told.contains(message), "{line}: `{message}` is not in\n{told}");
}

fn file(folder: &TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

fn spec(folder: &TempDir, input: &str, layers: &[&str]) -> PathBuf {
    let mut text = format!("name: net\ninput: {{shape: {input}}}\nlayers:\n");
    for layer in layers {
        text.push_str(&format!("  - {{{layer}}}\n"));
    }
    file(folder, "net.yaml", text.as_bytes())
}

/// Every command with `{}` where the spec stands.
const COMMANDS: [&str; 7] = [
    "check {}",
    "run {} --weights random:1 --input specs/digits/seven.png",
    "build {} -o /nonexistent/never/written",
    "dump {} --stage graph",
    "compare {}",
    "bench {} --iters 1",
    "profile {} --iters 1",
];

#[test]
fn what_is_no_spec() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("digits.alexc");
    let made = run(&format!("build {SPEC} --emit module -o"), &[folder.path().as_os_str()]);
    assert_eq!(made.0, 0, "{}", made.1);
    let empty = file(&folder, "empty.yaml", b"");
    let binary = file(&folder, "binary.yaml", &[0x80, 0, 255, 1, 2, 3, 4, 5, 6, 7]);
    for line in COMMANDS {
        for (path, message) in [
            (Path::new("none.yaml"), "no such file"),
            (Path::new("specs"), "a folder is no spec"),
            (empty.as_path(), "the file holds no spec"),
            (binary.as_path(), "no UTF-8"),
            (Path::new(WEIGHTS), "no UTF-8"),
        ] {
            refuses(1, &line.replace("{}", &path.display().to_string()), message);
        }
        #[cfg(unix)]
        refuses(1, &line.replace("{}", "/dev/zero"), "a spec has at most");
    }
    for line in ["check {}", "dump {} --stage asm", "compare {}", "build {} -o x"] {
        let line = line.replace("{}", &module.display().to_string());
        refuses(1, &line, "is a compiled module");
    }
}

#[cfg(unix)]
#[test]
fn names_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let name = OsStr::from_bytes(b"/tmp/\xff\xfe.yaml");
    for line in ["check", "compare", "bench", "dump --stage spec"] {
        let (code, told) = run(line, &[name]);
        assert!(code == 1 && told.contains("no such file"), "{line}: {told}");
    }
    for flag in ["--set", "--device"] {
        let (code, told) = run(&format!("check {SPEC} {flag}"), &[name]);
        assert!(code == 2 && told.contains("UTF-8"), "{flag}: {told}");
    }
    // An output may be called anything.
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join(OsStr::from_bytes(b"\xff.txt"));
    assert_eq!(run(&format!("check {SPEC} -o"), &[output.as_os_str()]).0, 0);
    assert!(output.exists());
}

#[test]
fn wrong_usage() {
    for line in [
        "check {} --threads 0",
        "bench {} --threads 0",
        "run {} --weights random:1 --input specs/digits/seven.png --threads 1000000",
        "profile {} --threads 18446744073709551615",
        "bench {} --batch 0",
        "bench {} --batch 99999999999999999999999",
        "bench {} --iters 0",
        "bench {} --seconds nan",
        "bench {} --seconds inf",
        "profile {} --iters 0",
        "compare {} --tolerance=-1",
        "compare {} --tolerance nan",
        "compare {} --target-cpu 8086",
        "dump {} --stage kernel --layer conv9",
        "dump {} --stage asm --target nowhere",
        "check {} --set conv1.algorithm=magic",
        "check {} --set conv9.algorithm=direct",
        "check {} -q -v",
        "run {} --weights random:1 --input specs/digits/seven.png --topk -1",
    ] {
        refuses(2, &line.replace("{}", SPEC), "error");
    }
    refuses(2, &format!("bench {SPEC} --threads 1025"), "from 1 to 1024");
    refuses(2, &format!("check {SPEC} --set covn1.algorithm=direct"), "did you mean `conv1`?");
    for value in ["0", "many", "", "99999"] {
        let line = ["bench", SPEC, "--iters", "1"];
        let (code, told) = ended(alexc().args(line).env("ALEXC_NUM_THREADS", value));
        assert!(code == 2 && told.contains("ALEXC_NUM_THREADS"), "{value}: {told}");
    }
    // More classes than there are, and more repetitions than memory: both are harmless.
    let huge =
        "run {} --weights random:1 --input specs/digits/seven.png --topk 18446744073709551615";
    assert_eq!(run(&huge.replace("{}", SPEC), &[]).0, 0);
}

#[test]
fn no_such_device() {
    let hold = |device: &str, told: &str| {
        for line in [COMMANDS[0], COMMANDS[1], COMMANDS[4], COMMANDS[5], COMMANDS[6]] {
            refuses(4, &format!("{} --device {device}", line.replace("{}", SPEC)), told);
        }
    };
    for device in ["gpu", "CPU", "cpu:0"] {
        hold(device, &format!("there is no device `{device}`"));
    }
    hold("cpu,opencl", "not on both");
    if cfg!(feature = "opencl") {
        hold("opencl:99", "there is no OpenCL device `99`");
        hold("opencl:no-such-name", "there is no OpenCL device `no-such-name`");
    } else {
        hold("opencl:0", "built without OpenCL");
        let (code, told) = ended(alexc().args(["bench", SPEC]).env("ALEXC_DEVICE", "opencl"));
        assert_eq!(code, 4, "{told}");
    }
}

/// A repetition count that no memory could hold the times of is not taken as one to reserve.
#[test]
fn counts_reserve_nothing() {
    let mut child = alexc()
        .args(["profile", SPEC, "--iters", "99999999999999999"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(child.try_wait().unwrap().is_none(), "it is still measuring");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn nets_larger_than_any_machine() {
    let folder = tempfile::tempdir().unwrap();
    // Every single tensor is below the limit for one, all together take 15 TiB.
    let names: Vec<String> =
        (0..1000).map(|i| format!("name: l{i}, type: linear, out_features: 63000")).collect();
    let layers: Vec<&str> = names.iter().map(String::as_str).collect();
    let path = spec(&folder, "[1, 63000]", &layers).display().to_string();
    assert_eq!(run(&format!("check {path}"), &[]).0, 0);
    let build = format!("build {path} --weights random:1 -o {}", folder.path().display());
    for line in [&format!("compare {path}"), &format!("bench {path}"), &build] {
        refuses(1, line, "TiB for weights");
    }
    // Activations: the network's input and output alone.
    for (shape, layer) in [
        ("[1000000000, 3, 224, 224]", "name: a, type: relu"),
        ("[1, 3, 8, 8]", "name: a, type: conv, out_channels: 1000000000, kernel_size: 3"),
        ("[1, 3, 8, 8]", "name: a, type: conv, out_channels: 64, kernel_size: 3, padding: 1000000"),
    ] {
        let path = spec(&folder, shape, &[layer]).display().to_string();
        for line in ["check {}", "compare {}", "bench {}", "dump {} --stage kernel"] {
            refuses(1, &line.replace("{}", &path), "elements (16 GiB of f32)");
        }
    }
    for batch in ["1000000000", "9223372036854775807"] {
        refuses(1, &format!("bench {SPEC} --batch {batch}"), "elements (16 GiB of f32)");
    }
}

/// A safetensors file with this header.
fn safetensors(header: &str, body: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), body].concat()
}

#[test]
fn wrong_weights() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(WEIGHTS).unwrap();
    let huge = r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}"#;
    let backwards = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[9,5]}}"#;
    let integers = r#"{"conv1.weight":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
    let deep = format!("{{\"a\":{}", "[".repeat(50_000));
    for (content, message) in [
        (&b""[..], "is empty"),
        (&whole[..4], "less than any header"),
        (&whole[..100], "cut short"),
        (&whole[..whole.len() - 1], "cut short"),
        (&[&whole[..], b"x"].concat(), "belong to no tensor"),
        (&[&u64::MAX.to_le_bytes(), &whole[8..]].concat(), "cut short"),
        (&safetensors(huge, &[0; 4]), "overflow"),
        (&safetensors(backwards, &[0; 9]), "offset"),
        (&safetensors(integers, &[0; 8]), "has elements of type I64"),
        (&safetensors(&deep, b""), "cannot be read"),
        (&safetensors("{}", b""), "missing: conv1.weight [16, 1, 5, 5]"),
        (&fs::read(PICTURE).unwrap(), "not a .safetensors file"),
    ] {
        let path = file(&folder, "w.safetensors", content).display().to_string();
        let line = format!("run {SPEC} --input {PICTURE} --weights {path}");
        refuses(1, &line, message);
        refuses(1, &format!("compare {SPEC} --weights {path}"), message);
    }
    for (weights, message) in [
        ("none.safetensors", "No such file"),
        ("specs", "directory"),
        ("random:", "random:SEED"),
        ("random:-1", "random:SEED"),
        ("random:99999999999999999999999", "random:SEED"),
    ] {
        refuses(1, &format!("bench {SPEC} --weights {weights}"), message);
    }
    // Another net's weights.
    refuses(1, &format!("compare specs/lenet5.yaml --weights {WEIGHTS}"), "does not fit the net");
}

/// A .npy file with this header.
fn npy(header: &str, body: &[u8]) -> Vec<u8> {
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), body].concat()
}

#[test]
fn wrong_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let header = |dtype: &str, shape: &str| {
        format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n")
    };
    let right = header("<f4", "(1, 1, 16, 16)");
    let picture = fs::read(PICTURE).unwrap();
    // The header of a PNG that says it has 100 000 x 100 000 pixels.
    let mut bomb = picture.clone();
    bomb[16..24].copy_from_slice(&[0, 1, 0x86, 0xA0, 0, 1, 0x86, 0xA0]);
    for (name, content, message) in [
        ("a.npy", &b""[..], "empty"),
        ("a.npy", &npy(&right, &[0; 1000]), "takes 1024 bytes"),
        ("a.npy", &npy(&right, &[0; 1025]), "more"),
        ("a.npy", &npy(&header("<i8", "(1, 1, 16, 16)"), &[0; 2048]), "not float32"),
        ("a.npy", &npy(&header("|O", "(1, 1, 16, 16)"), &[0; 2048]), "not float32"),
        ("a.npy", &npy(&header("<f4", "(1, 16, 16, 1)"), &[0; 1024]), "channels stand last"),
        ("a.npy", &npy(&header("<f4", "(99999999999, 99999999999)"), &[0; 4]), "its shape is"),
        (
            "a.npy",
            &npy(&header("<f4", "(999999999999999999999999,)"), &[0; 4]),
            "header is damaged",
        ),
        ("a.npy", &npy(&"(".repeat(60_000), b""), "header is damaged"),
        ("a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "header is damaged"),
        ("a.npy", &picture, "PNG picture"),
        ("a.png", b"", "empty"),
        ("a.png", b"hello", "no picture"),
        ("a.png", &picture[..picture.len() / 2], "cannot be decoded"),
        ("a.png", &bomb, "a.png"),
        ("a.jpg", b"\xff\xd8\xff\xe0 and no more", "cannot be decoded"),
    ] {
        let path = file(&folder, name, content).display().to_string();
        refuses(1, &format!("run {SPEC} --weights {WEIGHTS} --input {path}"), message);
    }
    for (input, message) in [
        ("none.npy", "none.npy"),
        ("none.png", "none.png"),
        ("specs", "directory"),
        ("/dev/zero", "not a .npy file"),
    ] {
        refuses(1, &format!("run {SPEC} --weights {WEIGHTS} --input {input}"), message);
    }
    // Numbers that are none go through the net, and JSON has words for them.
    let nan = f32::NAN.to_le_bytes().repeat(256);
    let path = file(&folder, "nan.npy", &npy(&right, &nan)).display().to_string();
    let output = alexc()
        .args(["run", SPEC, "--weights", WEIGHTS, "--input", &path, "--json"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["images"][0]["top"][0]["value"], "NaN");
}

#[test]
fn wrong_labels() {
    let folder = tempfile::tempdir().unwrap();
    let compare = format!("compare {SPEC} --weights {WEIGHTS}");
    let images = format!("{compare} --input specs/digits/heldout.npz");
    for (content, message) in [
        (&b""[..], "there are no labels"),
        (b"1\n2\n", "labels.txt want [2, 1, 16, 16]"),
        (b"1\n10\n", "labels.txt:2: `10` is no class; the net has 0 to 9"),
        (b"1\n\n2\n", "labels.txt:2: `` is no class"),
        (b"seven", "labels.txt:1: `seven` is no class"),
        (b"-1", "labels.txt:1: `-1` is no class"),
        (b"\xff", "this is no text"),
    ] {
        let path = file(&folder, "labels.txt", content).display().to_string();
        refuses(1, &format!("{images} --labels {path}"), message);
    }
    refuses(1, &format!("{images} --labels none.txt"), "No such file");
    refuses(1, &format!("{images} --labels specs"), "directory");
    if cfg!(unix) {
        refuses(1, &format!("{images} --labels /dev/zero"), "at most");
    }
    let labels = "specs/digits/heldout-labels.txt";
    refuses(2, &format!("{compare} --labels {labels}"), "--input");
    refuses(2, &format!("{compare} --input {PICTURE} --labels {labels}"), "a picture is one");
    for (input, message) in [
        ("tests/golden/arrays.npz", "no array is called `input`"),
        ("none.npz", "No such file"),
        ("none.npy", "No such file"),
        (labels, "not a .npy file"),
    ] {
        refuses(1, &format!("{compare} --input {input} --labels {labels}"), message);
    }
}

#[test]
fn labels_without_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "name: n\ninput: {shape: [1, 3]}\nlabels: /dev/zero\nlayers: [{name: a, type: relu}]\n";
    let path = file(&folder, "net.yaml", text.as_bytes()).display().to_string();
    if cfg!(unix) {
        refuses(1, &format!("check {path}"), "larger than");
    }
}

#[test]
fn outputs_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let taken = file(&folder, "taken", b"").display().to_string();
    let run = format!("run {SPEC} --weights {WEIGHTS} --input {PICTURE} -o");
    for line in [&run, &format!("check {SPEC} -o"), &format!("dump {SPEC} --stage asm -o")] {
        refuses(1, &format!("{line} /none/of/this"), "there is no folder");
        refuses(1, &format!("{line} {}", folder.path().display()), "it is a directory");
        refuses(1, &format!("{line} {taken}/x"), "there is no folder");
    }
    refuses(1, &format!("build {SPEC} -o {taken}"), "it is a file");
    #[cfg(target_os = "linux")]
    refuses(1, &format!("{run} /dev/full"), "No space left");
}

/// What was not printed was not done.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let lines = [
        format!("check {SPEC}"),
        format!("check {SPEC} --json"),
        format!("run {SPEC} --weights {WEIGHTS} --input {PICTURE}"),
        format!("build {SPEC} -o {out}"),
        format!("dump {SPEC} --stage kernel"),
        format!("compare {SPEC}"),
        format!("bench {SPEC} --iters 1"),
        "devices".to_owned(),
        "--help".to_owned(),
        "check --help".to_owned(),
        "--version".to_owned(),
    ];
    for line in lines {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (code, told) = ended(alexc().args(line.split_whitespace()).stdout(full));
        assert_eq!(code, 1, "{line}: {told}");
    }
}

#[test]
fn readers_that_go_away() {
    for line in [&format!("dump {SPEC} --stage asm"), "--help", &format!("compare {SPEC}")] {
        let mut child = alexc()
            .args(line.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
    }
}

/// `-v` tells the stages on stderr, ALEXC_LOG=debug what happens in them; stdout stays the same.
#[test]
fn what_is_told_of_the_work() {
    let told = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success());
        (output.stdout, String::from_utf8(output.stderr).unwrap())
    };
    let line = ["run", SPEC, "--weights", WEIGHTS, "--input", PICTURE];
    let (quiet, nothing) = told(alexc().args(line));
    assert_eq!(nothing, "");
    let (verbose, stages) = told(alexc().args(line).arg("-v"));
    assert_eq!(verbose, quiet);
    let words: Vec<&str> =
        stages.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(words, ["spec", "passes", "lower", "verify", "emit", "pack"], "{stages}");
    for line in stages.lines() {
        let mut fields = line.split_whitespace();
        assert_eq!(fields.next(), Some("alexc:"));
        assert!(fields.nth(1).unwrap().parse::<f64>().unwrap() >= 0.0, "{line}");
        assert_eq!(fields.next(), Some("ms,"));
    }
    let (out, debug) = told(alexc().args(line).env("ALEXC_LOG", "debug"));
    assert_eq!(out, quiet);
    assert!(debug.contains("alexc debug: pass ") && debug.contains("alexc: emit"), "{debug}");
    let (_, off) = told(alexc().args(line).arg("-v").env("ALEXC_LOG", "off"));
    assert_eq!(off, "");
    let (code, message) = ended(alexc().args(line).env("ALEXC_LOG", "loud"));
    assert_eq!(code, 2);
    assert!(message.contains("ALEXC_LOG is `loud`"), "{message}");
}

/// Packing gives the pages of the weight file back as it goes: file and packed weights are never
/// in memory at the same time.
#[cfg(target_os = "linux")]
#[test]
fn peak_memory_is_that_of_the_weights() {
    const WEIGHTS_BYTES: u64 = 2 * 4 * 3600 * 3600;
    let folder = tempfile::tempdir().unwrap();
    let net = spec(
        &folder,
        "[1, 3600]",
        &[
            "name: a, type: linear, out_features: 3600, bias: false",
            "name: b, type: linear, out_features: 3600, bias: false",
        ],
    );
    let half = WEIGHTS_BYTES / 2;
    let header = format!(
        "{{\"a.weight\":{{\"dtype\":\"F32\",\"shape\":[3600,3600],\"data_offsets\":[0,{half}]}},\
         \"b.weight\":{{\"dtype\":\"F32\",\"shape\":[3600,3600],\"data_offsets\":[{half},{WEIGHTS_BYTES}]}}}}"
    );
    let weights = file(&folder, "w.safetensors", &safetensors(&header, b""));
    // Zeros of a hole in the file take memory as others do.
    let opened = File::options().write(true).open(&weights).unwrap();
    opened.set_len(8 + header.len() as u64 + WEIGHTS_BYTES).unwrap();
    for (dtype, packed) in [("f32", 4), ("f16", 2), ("int8", 1)] {
        let mut child = alexc()
            .args(["bench", "--interactive", "--threads", "2", "--weights-dtype", dtype])
            .args([&net, Path::new("--weights"), &weights])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"1\n").unwrap();
        let mut answer = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut answer).unwrap();
        assert!(answer.contains("times_ms"), "{answer}");
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        drop(stdin);
        assert!(child.wait().unwrap().success());
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak = 1024 * line.split_whitespace().next().unwrap().parse::<u64>().unwrap();
        let most = WEIGHTS_BYTES / 4 * packed + (50 << 20);
        assert!(peak < most, "{dtype}: {} MiB, at most {}", peak >> 20, most >> 20);
    }
}
