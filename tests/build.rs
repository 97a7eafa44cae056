//! `alexc build`: its files, linked by the C compiler and run.

mod common;

use common::artifact::{WEIGHTS, build, classifier, floats, ppm, prepared, there, undefined};
use common::command::{alexc, failure, stdout};
use common::golden::path;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Names and contents of the files of a folder and of those in it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(inner, b)| (format!("{name}/{inner}"), b)));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

fn names(folder: &Path) -> Vec<String> {
    files(folder).into_keys().collect()
}

#[test]
fn a_c_program_answers_as_run_does() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    build("digits", folder, &WEIGHTS);
    assert_eq!(
        names(folder),
        ["digits.h", "digits.hpp", "digits.json", "digits.weights", "libdigits.a"]
    );
    assert_eq!(undefined(&folder.join("libdigits.a")), [""; 0]);
    let program = classifier("cc", folder);
    let mut test = Command::new(&program);
    let printed = stdout(test.arg(folder.join("digits.weights")).arg("--self-test"));
    assert_eq!(printed, "all is well\n");

    let labels = fs::read_to_string(path("specs/digits/labels.txt")).unwrap();
    assert_eq!(labels.lines().count(), 10);
    let [npy, raw, found] = ["run.npy", "input.ppm", "output.f32"].map(|name| folder.join(name));
    for (class, label) in labels.lines().enumerate() {
        let png = format!("specs/digits/{label}.png");
        let mut run = alexc();
        run.args(["run", "specs/digits.yaml", "--quiet", "--input", &png]).args(WEIGHTS);
        stdout(run.arg("--output").arg(&npy));

        fs::write(&raw, ppm(&png)).unwrap();
        let mut classify = Command::new(&program);
        let printed = stdout(classify.arg(folder.join("digits.weights")).args([&raw, &found]));
        assert!(printed.starts_with(&format!("{class} {label} ")), "{printed}");

        // The numbers are the last of a .npy file.
        let (expected, found) = (fs::read(&npy).unwrap(), fs::read(&found).unwrap());
        assert_eq!(found.len(), 40);
        assert!(expected.ends_with(&found), "{label}: other bits than `run`");
    }
}

#[test]
fn alexnet_is_small_and_needs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    build("alexnet", folder, &["--emit", "object,staticlib,header,manifest,module"]);
    let found = files(folder);
    let expected =
        ["alexnet.alexc", "alexnet.h", "alexnet.hpp", "alexnet.json", "alexnet.o", "libalexnet.a"];
    assert!(found.keys().eq(expected), "{:?}", found.keys());
    for name in ["alexnet.o", "libalexnet.a", "alexnet.alexc"] {
        assert!(found[name].len() < 300_000, "{name}: {} bytes", found[name].len());
    }
    for name in ["alexnet.o", "libalexnet.a"] {
        let needed = undefined(&folder.join(name));
        assert!(needed.iter().all(|name| name == "memcpy" || name == "memset"), "{needed:?}");
    }

    let manifest: Value = serde_json::from_slice(&found["alexnet.json"]).unwrap();
    assert_eq!(manifest["input"]["shape"], serde_json::json!([1, 3, 224, 224]));
    assert_eq!(manifest["output"]["bytes"], 4000);
    assert_eq!(manifest["labels"].as_array().unwrap().len(), 1000);
    assert_eq!(manifest["hashes"]["weights"], Value::Null);
    for file in manifest["files"].as_array().unwrap() {
        let name = file["name"].as_str().unwrap();
        assert_eq!(file["bytes"], found[name].len(), "{name}");
    }
}

#[test]
fn a_module_runs_as_its_spec_does() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    build("digits", folder, &[&["--emit", "module,weights"], &WEIGHTS[..]].concat());
    assert_eq!(names(folder), ["digits.alexc", "digits.weights"]);
    let module = folder.join("digits.alexc");
    let [of_spec, of_module] = ["spec.npy", "module.npy"].map(|name| folder.join(name));
    let input = ["--input", "specs/digits/seven.png", "--json", "--output"];
    let run = |net: &Path, output: &Path, more: &[&str]| {
        stdout(alexc().arg("run").arg(net).args(input).arg(output).args(more))
    };
    let expected = run(Path::new("specs/digits.yaml"), &of_spec, &WEIGHTS);
    // The same labels, the same percentages, the same bits.
    assert_eq!(run(&module, &of_module, &[]), expected);
    assert!(expected.contains("\"seven\""), "{expected}");
    assert_eq!(fs::read(&of_module).unwrap(), fs::read(&of_spec).unwrap());

    let bench: Value = serde_json::from_str(&stdout(alexc().arg("bench").arg(&module).args([
        "--iters",
        "3",
        "--threads",
        "1",
        "--json",
    ])))
    .unwrap();
    assert_eq!((&bench["model"], &bench["iters"]), (&"digits".into(), &3.into()));
    assert!(bench["min_ms"].as_f64().unwrap() > 0.0);
    let profile = stdout(alexc().arg("profile").arg(&module).args(["--iters", "2"]));
    assert!(profile.contains("conv1") && profile.contains("limits: "), "{profile}");

    let profile = stdout(alexc().arg("profile").arg(&module).args(["--iters", "2", "--json"]));
    let profile: Value = serde_json::from_str(&profile).unwrap();
    assert!(profile["total"]["p50_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(profile["total"]["flops"], Value::Null, "a module does not tell");

    // Elsewhere, of another build, and damaged.
    let moved = folder.join("moved");
    fs::rename(folder.join("digits.weights"), &moved).unwrap();
    let refused = |more: &[&str]| {
        failure(alexc().arg("run").arg(&module).args(input).arg(&of_module).args(more))
    };
    let (code, message) = refused(&[]);
    assert!(code == 1 && message.contains("digits.weights"), "{message}");
    assert_eq!(run(&module, &of_module, &["--weights", moved.to_str().unwrap()]), expected);
    let mut bytes = fs::read(&moved).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(folder.join("digits.weights"), bytes).unwrap();
    let (code, message) = refused(&[]);
    assert!(code == 1 && message.contains("damaged"), "{message}");
    for flags in [&["--batch", "2"][..], &["--math", "strict"], &["--weights", "random:1"]] {
        let (code, message) = refused(flags);
        assert!(code == 2 && message.contains("compiled already"), "{message}");
    }
}

#[test]
fn a_spec_does_not_run_without_weights() {
    let mut run = alexc();
    run.args(["run", "specs/digits.yaml", "--input", "specs/digits/seven.png"]);
    let (code, message) = failure(&mut run);
    assert!(code == 2 && message.contains("--weights"), "{message}");
}

#[test]
fn two_builds_are_the_same() {
    let once = || {
        let folder = tempfile::tempdir().unwrap();
        let every = ["--emit", "object,staticlib,header,weights,manifest,module", "--dumps"];
        build("digits", folder.path(), &[&every[..], &WEIGHTS].concat());
        files(folder.path())
    };
    let (first, second) = (once(), once());
    assert_eq!(first.len(), 7 + 7);
    for (name, bytes) in &first {
        assert!(!bytes.is_empty() && second[name] == *bytes, "{name}");
    }
    // The same stages as `dump` shows.
    let mut dump = alexc();
    let plan = stdout(dump.args(["dump", "specs/digits.yaml", "--stage", "plan"]));
    assert_eq!(first["dumps/03-plan.txt"], plan.as_bytes());
}

#[test]
fn every_level_of_the_cpu_can_be_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for level in ["x86-64-v2", "x86-64-v3", "x86-64-v4"] {
        let target = ["--target", "x86_64-unknown-linux-gnu", "--target-cpu", level];
        build("digits", folder.path(), &target);
        let manifest = fs::read(folder.path().join("digits.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["target"]["level"], level);
        seen.push(fs::read(folder.path().join("libdigits.a")).unwrap());
    }
    assert!(seen[0] != seen[1] && seen[1] != seen[2]);
}

#[test]
fn a_c_program_refuses_other_weights() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    build("digits", folder, &WEIGHTS);
    let program = classifier("cc", folder);
    let [raw, other] = ["input.ppm", "other.weights"].map(|name| folder.join(name));
    fs::write(&raw, ppm("specs/digits/two.png")).unwrap();
    let whole = fs::read(folder.join("digits.weights")).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 0x10;
    let half = folder.join("half");
    build("digits", &half, &[&["--weights-dtype", "f16"], &WEIGHTS[..]].concat());
    for (bytes, reason) in [
        (&b"no weights at all, but a text of some length"[..], "this is no file of weights"),
        (&whole[..whole.len() - 100], "this file is truncated"),
        (&damaged, "this file is damaged"),
        (
            &fs::read(half.join("digits.weights")).unwrap(),
            "these weights belong to another net or build",
        ),
    ] {
        fs::write(&other, bytes).unwrap();
        let (code, message) = failure(Command::new(&program).arg(&other).arg(&raw));
        assert_eq!((code, message), (1, format!("{}: {reason}\n", other.display())));
    }
    let printed = stdout(Command::new(&program).arg(folder.join("digits.weights")).arg(&raw));
    assert!(printed.starts_with("2 two "), "{printed}");
}

#[test]
fn weights_can_lie_in_the_library() {
    const MAIN: &str = r#"
#include "digits.h"
#include <stdio.h>
static float input[DIGITS_INPUT_LEN], output[DIGITS_OUTPUT_LEN];
static _Alignas(DIGITS_ALIGNMENT) char workspace[DIGITS_WORKSPACE_BYTES];
static _Alignas(DIGITS_ALIGNMENT) char other_weights[DIGITS_WEIGHTS_BYTES];
int main(int count, char **arguments) {
    FILE *file = count == 2 ? fopen(arguments[1], "rb") : NULL;
    if (!file || fread(input, sizeof(float), DIGITS_INPUT_LEN, file) != DIGITS_INPUT_LEN)
        return 1;
    fclose(file);
    if (digits_run(input, output, workspace, digits_weights) != DIGITS_OK)
        return 1;
    printf("%.6f %.6f\n", output[5], output[6]);
    printf("%d", digits_self_test(input, output, workspace, digits_weights));
    printf(" %d", digits_self_test(input, output, workspace, other_weights));
    printf(" %d", digits_self_test(NULL, output, workspace, digits_weights));
    printf(" %d\n", digits_self_test(input, output, NULL, digits_weights));
    return 0;
}
"#;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    build("digits", folder, &[&["--embed-weights"], &WEIGHTS[..]].concat());
    assert_eq!(names(folder), ["digits.h", "digits.hpp", "digits.json", "libdigits.a"]);
    fs::write(folder.join("main.c"), MAIN).unwrap();
    fs::write(folder.join("input.f32"), prepared("specs/digits/five.png")).unwrap();
    let mut cc = Command::new("cc");
    cc.current_dir(folder).args(["-std=c11", "-Wall", "-Werror", "main.c", "libdigits.a"]);
    stdout(cc.args(["-o", "main"]));
    let printed = stdout(Command::new(folder.join("main")).current_dir(folder).arg("input.f32"));
    let (printed, tests) = printed.split_once('\n').unwrap();
    // Passed, failed, not run, not run.
    assert_eq!(tests, "0 7 1 1\n");
    let found: Vec<f32> = printed.split_whitespace().map(|x| x.parse().unwrap()).collect();
    assert!(found[0] > 0.9 && found[1] < 0.1, "{printed}");

    let mut alone = alexc();
    alone.args(["build", "specs/digits.yaml", "--embed-weights", "-o"]).arg(folder);
    let (code, message) = failure(&mut alone);
    assert!(code == 2 && message.contains("--weights"), "{message}");
}

/// With the sanitizers of the C compiler watching the memory around.
#[test]
fn threads_share_a_net() {
    const MAIN: &str = r#"
#include "digits.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float input[DIGITS_INPUT_LEN], outputs[8][DIGITS_OUTPUT_LEN];

static void *work(void *output) {
    /* Exactly as large as the header says: a byte more would be noticed. */
    void *workspace = aligned_alloc(DIGITS_ALIGNMENT, DIGITS_WORKSPACE_BYTES);
    int run, status = 0;
    for (run = 0; run < 50 && status == 0; run++)
        status = digits_run(input, output, workspace, digits_weights);
    free(workspace);
    return status == 0 ? output : NULL;
}

int main(int count, char **arguments) {
    pthread_t threads[8];
    void *done;
    int i;
    FILE *file = count == 2 ? fopen(arguments[1], "rb") : NULL;
    if (!file || fread(input, sizeof(float), DIGITS_INPUT_LEN, file) != DIGITS_INPUT_LEN)
        return 1;
    fclose(file);
    for (i = 0; i < 8; i++)
        if (pthread_create(&threads[i], NULL, work, outputs[i]) != 0)
            return 2;
    for (i = 0; i < 8; i++)
        if (pthread_join(threads[i], &done) != 0 || !done)
            return 3;
    for (i = 1; i < 8; i++)
        if (memcmp(outputs[0], outputs[i], sizeof outputs[0]) != 0)
            return 4;
    printf("%.3f\n", outputs[0][9]);
    return 0;
}
"#;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    build("digits", folder, &[&["--embed-weights"], &WEIGHTS[..]].concat());
    fs::write(folder.join("main.c"), MAIN).unwrap();
    fs::write(folder.join("input.f32"), prepared("specs/digits/nine.png")).unwrap();
    let mut cc = Command::new("cc");
    cc.current_dir(folder).args(["-std=c11", "-Wall", "-Werror", "-g", "-pthread"]);
    cc.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "main.c"]);
    stdout(cc.args(["libdigits.a", "-o", "main"]));
    let printed = stdout(Command::new(folder.join("main")).current_dir(folder).arg("input.f32"));
    let probability: f32 = printed.trim().parse().unwrap();
    assert!(probability > 0.9, "{printed}");
}

/// Linked by Debian's cross compilers and run by qemu's user mode. Without these the code is only
/// made, unless ALEXC_REQUIRE_CROSS is set: then that is a failure.
#[test]
fn other_machines_answer_as_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let [npy, raw, found] = ["run.npy", "in.ppm", "out.f32"].map(|name| folder.path().join(name));
    let png = "specs/digits/three.png";
    fs::write(&raw, ppm(png)).unwrap();
    let mut run = alexc();
    run.args(["run", "specs/digits.yaml", "--quiet", "--input", png]).args(WEIGHTS);
    stdout(run.arg("--output").arg(&npy));
    let expected = floats(&fs::read(&npy).unwrap()[128..]);

    for (arch, triple) in
        [("aarch64", "aarch64-unknown-linux-gnu"), ("riscv64", "riscv64gc-unknown-linux-gnu")]
    {
        let (gcc, qemu) = (format!("{arch}-linux-gnu-gcc"), format!("qemu-{arch}"));
        let folder = folder.path().join(arch);
        build("digits", &folder, &[&["--target", triple], &WEIGHTS[..]].concat());
        if !(there(&gcc, &format!("gcc-{arch}-linux-gnu")) && there(&qemu, "qemu-user")) {
            continue;
        }
        let program = classifier(&gcc, &folder);
        let classify = || {
            let mut command = Command::new(&qemu);
            command.env("QEMU_LD_PREFIX", format!("/usr/{arch}-linux-gnu"));
            command.arg(&program).arg(folder.join("digits.weights"));
            command
        };
        assert_eq!(stdout(classify().arg("--self-test")), "all is well\n");
        let printed = stdout(classify().args([&raw, &found]));
        assert!(printed.starts_with("3 three "), "{arch}: {printed}");
        let found = floats(&fs::read(&found).unwrap());
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= 1e-6, "{arch}: {found} {expected}");
        }
    }
}

/// On processors that qemu imitates. Without qemu only this machine's answers, unless
/// ALEXC_REQUIRE_CROSS is set.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn the_processor_is_asked_before_the_net_runs() {
    let folder = tempfile::tempdir().unwrap();
    let level = alexc_runtime::cpu::Cpu::detect().level().unwrap();
    let qemu = there("qemu-x86_64", "qemu-user");
    let ask = |command: &mut Command| -> bool {
        let output = command.arg("no file").arg("--self-test").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        // qemu warns of what it does not imitate first.
        let message = String::from_utf8(output.stderr).unwrap();
        let refused = message.ends_with("this processor is too old for the net\n");
        assert!(refused || message.ends_with("no file cannot be read\n"), "{message}");
        !refused
    };
    // Processors with the highest level that they have.
    let models = [("Conroe", 1), ("Nehalem", 2), ("Haswell", 3)];
    for (number, name) in [(2, "x86-64-v2"), (3, "x86-64-v3"), (4, "x86-64-v4")] {
        let folder = folder.path().join(name);
        build("digits", &folder, &[&["--target-cpu", name], &WEIGHTS[..]].concat());
        let program = classifier("cc", &folder);
        let here = level >= name.parse().unwrap();
        assert_eq!(ask(&mut Command::new(&program)), here, "{name} here");
        for (model, has) in models.into_iter().filter(|_| qemu) {
            let mut command = Command::new("qemu-x86_64");
            command.args(["-cpu", model]).arg(&program);
            assert_eq!(ask(&mut command), has >= number, "{name} on {model}");
        }
    }
}

#[test]
fn what_cannot_be_built() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("new");
    let refused = |arguments: &[&str]| {
        let mut command = alexc();
        command.args(["build", "specs/digits.yaml", "-o"]).arg(&missing).args(arguments);
        failure(&mut command)
    };
    let (code, message) = refused(&["--emit", "weights"]);
    assert_eq!(code, 2);
    assert!(message.contains("--emit weights needs --weights"), "{message}");
    let (code, message) = refused(&["--weights", "no.safetensors"]);
    assert!(code == 1 && message.contains("no.safetensors"), "{message}");
    let (code, message) = refused(&["--target", "pdp11-dec-unix"]);
    assert!(code == 2 && message.contains("pdp11"), "{message}");
    assert!(!missing.exists(), "nothing is written where nothing can be made");

    fs::write(&missing, "a file").unwrap();
    let (code, message) = refused(&[]);
    assert!(code == 1 && message.contains("new"), "{message}");
    assert_eq!(fs::read(&missing).unwrap(), b"a file");
}
