//! The Python module: installed as docs/embedding.md says, then held against `alexc run`.
//!
//! It needs Python 3.9 or newer with venv and pip, and what pip and cargo fetch (maturin, numpy,
//! pillow, pyo3). Where that is missing the test says so; ALEXC_REQUIRE_PYTHON=1 makes it a failure.

mod common;

use common::command::{alexc, failure, stdout};
use common::documents::{blocks, embedding};
use common::golden::path;
use common::left_out;
use common::nested::{assert_locked_alike, cargo, kept, target};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Ends the test: with a failure where it was asked for, else with a word.
fn skip(why: &str) {
    assert!(std::env::var_os("ALEXC_REQUIRE_PYTHON").is_none(), "{why}");
    left_out(format_args!("the Python module is not tested: {why}"));
}

/// The command succeeded; else what it said.
fn succeeds(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {told}")) }
}

/// What has to be there or fetched before anything of alexc is tried.
fn prepare(venv: &Path) -> Result<(), String> {
    succeeds(
        Command::new("python3")
            .args(["-c", "import sys, venv, ensurepip; assert sys.version_info >= (3, 9)"]),
    )?;
    if let Err(told) = succeeds(&mut cargo("fetch", "python")) {
        // Anything else is a fault of the package, a lock file that is out of date for one.
        let network = ["failed to download", "offline mode", "--offline was specified"];
        assert!(network.iter().any(|words| told.contains(words)), "{told}");
        return Err(told);
    }
    if !venv.join("bin/pip").exists() {
        succeeds(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
    }
    let pip = venv.join("bin/pip");
    let packages = ["maturin>=1.9,<2", "numpy", "pillow"];
    succeeds(Command::new(&pip).args(["install", "--quiet"]).args(packages))
}

#[cfg(unix)]
#[test]
fn installed_module() {
    assert_locked_alike("python");
    let folder = kept("python");
    let venv = folder.join("venv");
    if let Err(why) = prepare(&venv) {
        return skip(&why);
    }
    // As the document says, in an environment that is kept from one run to the next.
    let commands = blocks(&embedding(), "sh");
    let commands: Vec<_> = commands.iter().filter(|block| block.contains("pip install")).collect();
    let [install] = commands[..] else { panic!("{commands:?}") };
    let install = install.replace(".venv", venv.to_str().unwrap());
    let mut shell = Command::new("sh");
    shell.current_dir(path("")).args(["-e", "-c", &install]);
    // What was built for other tests is taken as it is; pip reads its options from variables.
    shell.env("CARGO_TARGET_DIR", target()).env("MATURIN_PEP517_ARGS", "--profile dev --locked");
    shell.env("PIP_QUIET", "1").env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
    shell.env("PIP_NO_BUILD_ISOLATION", "0");
    let output = shell.output().unwrap();
    let (printed, told) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}\n{told}");
    assert!(printed.contains("7 seven 0.968"), "{printed}\n{told}");

    let mut build = alexc();
    build.args(["build", "specs/digits.yaml", "--weights", "specs/digits/digits.safetensors"]);
    stdout(build.args(["--emit", "module,weights", "--quiet", "-o"]).arg(&folder));
    let mut run = alexc();
    run.args(["run", "--quiet", "--input", "specs/digits/seven.png", "--output"]);
    stdout(run.arg(folder.join("seven.npy")).arg(folder.join("digits.alexc")));
    let wrong = "name: wrong\ninput: {shape: [1, 3, 224, 224]}\nlayers:\n  - {name: conv1, type: conv, \
                 out_channels: 96, kernel_size: 11, stride: 4,\n     out_shape: [96, 55, 55]}\n";
    let spec = folder.join("wrong.yaml");
    fs::write(&spec, wrong).unwrap();
    let (_, told) = failure(alexc().arg("check").arg(&spec));
    fs::write(folder.join("wrong.txt"), told).unwrap();
    let mut checks = Command::new(venv.join("bin/python"));
    let printed = stdout(checks.arg(path("tests/python/checks.py")).arg(&folder));
    assert_eq!(printed.matches(": ok\n").count(), 9, "{printed}");
}
