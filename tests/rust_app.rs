//! A Rust program with a net in it: examples/rust is built as a user builds it, and what the build
//! script's helper and `alexc build --emit rust` say where something is wrong.

mod common;

use common::command::{alexc, failure, stdout};
use common::golden::path;
use common::nested::{assert_locked_alike, cargo, kept, target};
use std::fs;
use std::path::Path;
use std::process::Command;

const WEIGHTS: [&str; 2] = ["--weights", "specs/digits/digits.safetensors"];

#[test]
fn the_example_names_every_digit_with_the_bits_of_run() {
    assert_locked_alike("examples/rust");
    let mut build = cargo("build", "examples/rust");
    build.arg("--offline").arg("--config").arg(path("tests/nested-profile.toml"));
    let built = build.output().unwrap();
    let told = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{told}");
    assert!(!told.contains("warning"), "{told}");
    let program = target().join("debug/classify");
    for (class, label) in
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
            .into_iter()
            .enumerate()
    {
        let picture = format!("specs/digits/{label}.png");
        let printed = stdout(Command::new(&program).arg(path(&picture)));
        let mut run = alexc();
        run.args(["run", "specs/digits.yaml", "--json", "--input", &picture]).args(WEIGHTS);
        let told: serde_json::Value = serde_json::from_str(&stdout(&mut run)).unwrap();
        let best = &told["images"][0]["top"][0];
        assert_eq!((&best["class"], &best["label"]), (&class.into(), &label.into()));
        let value = best["value"].as_f64().unwrap();
        assert_eq!(printed, format!("{class} {label} {value:.6}\n"));
    }
    let (code, message) = failure(Command::new(&program).arg(path("README.md")));
    assert!(code == 1 && message.contains("format"), "{message}");
}

/// Writes `main.rs`, builds it with what `alexc build` wrote into `folder`, without cargo, and
/// returns what it prints.
fn compiled(folder: &Path, edition: &str, main: &str) -> String {
    fs::write(folder.join("main.rs"), main).unwrap();
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.current_dir(folder).args(["--edition", edition, "-O", "-Dwarnings", "-Ddead_code"]);
    rustc.args(["-Dunsafe_code", "-Dmissing_docs", "-Dunused", "-Dnonstandard_style"]);
    stdout(rustc.args(["-L", "native=.", "main.rs", "-o", "main"]));
    stdout(Command::new(folder.join("main")).current_dir(folder))
}

#[test]
fn weights_in_the_program_and_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let build = |more: &[&str]| {
        let mut build = alexc();
        build.args(["build", "specs/digits.yaml", "--quiet", "-o"]).arg(folder).args(WEIGHTS);
        stdout(build.args(["--emit", "rust,staticlib,weights"]).args(more));
    };
    build(&["--embed-weights"]);
    let printed = compiled(
        folder,
        "2018",
        r#"//! Embedded.
include!("digits.rs");
fn main() {
    assert_eq!(Digits::INPUT_SHAPE, [1, 1, 16, 16]);
    assert_eq!(Digits::OUTPUT_SHAPE, [1, Digits::LABELS.len()]);
    assert_eq!((Digits::label(7), Digits::label(10)), (Some("seven"), None));
    let mut net = Digits::new().unwrap();
    assert!(net.self_test());
    let mut output = [0.0; Digits::OUTPUT_LEN];
    net.run(&[0.5; Digits::INPUT_LEN], &mut output);
    assert!((output.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    let wrong = net.run_slices(&[0.5; 255], &mut output).unwrap_err();
    println!("{}", wrong);
    // Work shared by threads: the same bits.
    for threads in [1, 2, 3, 16] {
        let mut crew = Digits::with_threads(threads).unwrap();
        for _ in 0..50 {
            let mut other = [0.0; Digits::OUTPUT_LEN];
            crew.run(&[0.5; Digits::INPUT_LEN], &mut other);
            assert_eq!(other, output);
        }
        assert!(crew.self_test());
        std::thread::spawn(move || crew.run(&[0.5; Digits::INPUT_LEN], &mut [0.0; 10]))
            .join()
            .unwrap();
    }
    let many = Digits::MAX_THREADS + 1;
    assert_eq!(Digits::with_threads(0).err(), Some(DigitsError::Threads { given: 0 }));
    assert_eq!(Digits::with_threads(many).err(), Some(DigitsError::Threads { given: many }));
    // Callers on threads of their own.
    let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(move || {
        let mut net = Digits::new().unwrap();
        for _ in 0..100 {
            let mut other = [0.0; Digits::OUTPUT_LEN];
            net.run_slices(&[0.5; Digits::INPUT_LEN], &mut other).unwrap();
            assert_eq!(other, output);
        }
    })).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    println!("{:?}", output.map(f32::to_bits));
}
"#,
    );
    let (wrong, bits) = printed.split_once('\n').unwrap();
    assert_eq!(wrong, "digits: input and output have 255 and 10 elements and must have 256 and 10");

    build(&[]);
    let printed = compiled(
        folder,
        "2024",
        r#"//! In a file.
include!("digits.rs");
#[repr(align(64))]
struct Aligned([u8; DigitsWeights::FILE_BYTES + 64]);
fn main() {
    let file = std::fs::read("digits.weights").unwrap();
    let mut memory = Box::new(Aligned([0; DigitsWeights::FILE_BYTES + 64]));
    memory.0[..file.len()].copy_from_slice(&file);
    let wrong = |bytes: &[u8]| DigitsWeights::new(bytes).map(|_| ()).unwrap_err();
    assert_eq!(wrong(&memory.0[1..file.len()]), DigitsError::Misaligned);
    assert_eq!(wrong(&memory.0[..file.len() - 1]), DigitsError::WrongLength);
    assert_eq!(wrong(&memory.0[..file.len() + 1]), DigitsError::WrongLength);
    assert_eq!(wrong(&memory.0[64..64 + 128]), DigitsError::NotWeights);
    assert_eq!(wrong(&[]), DigitsError::NotWeights);
    memory.0[1000] ^= 4;
    assert_eq!(wrong(&memory.0[..file.len()]), DigitsError::Damaged);
    memory.0[1000] ^= 4;
    let weights = DigitsWeights::new(&memory.0[..file.len()]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert!(Digits::new(weights).unwrap().self_test()));
        }
    });
    let mut output = [0.0; Digits::OUTPUT_LEN];
    Digits::with_threads(weights, 2).unwrap().run(&[0.5; Digits::INPUT_LEN], &mut output);
    println!("{:?}", output.map(f32::to_bits));
}
"#,
    );
    assert_eq!(printed, bits);
}

#[test]
fn what_is_wrong_is_said_as_the_command_says_it() {
    let folder = kept("rust-app");
    let spec = folder.join("wrong.yaml");
    let text = fs::read_to_string(path("specs/digits.yaml")).unwrap();
    fs::write(&spec, text.replace("out_shape: [96]", "out_shape: [95]")).unwrap();
    let (code, told) = failure(alexc().arg("check").arg(&spec));
    assert_eq!(code, 1);
    let emit = |net: alexc::build::Compile| net.output(&folder).emit().unwrap_err();
    let error = emit(alexc::build::compile(&spec).weights("random:1"));
    assert_eq!(error.to_string().trim(), told.trim());
    assert!(told.contains("[96]"), "{told}");
    // What a failing `main` of a build script prints.
    assert_eq!(format!("{error:?}"), format!("\n{error}"));

    let digits = || alexc::build::compile(path("specs/digits.yaml"));
    assert!(emit(digits()).to_string().contains(".weights("));
    let error = emit(digits().weights("random:1").math("quick")).to_string();
    assert!(error.contains("quick") && error.contains("strict"), "{error}");
    let error = emit(digits().weights("none.safetensors")).to_string();
    assert!(error.contains("none.safetensors"), "{error}");
    let error = digits().weights("random:1").emit().unwrap_err().to_string();
    assert!(error.contains("OUT_DIR"), "{error}");
}
