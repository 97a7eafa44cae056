//! Building nets into libraries and programs.

use super::command::{alexc, stdout};
use super::golden::path;
use super::{left_out, nets};
use alexc::picture;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The weights of specs/digits.yaml.
pub const WEIGHTS: [&str; 2] = ["--weights", "specs/digits/digits.safetensors"];

/// `alexc build specs/SPEC.yaml` with more arguments, into `folder`.
pub fn build(spec: &str, folder: &Path, arguments: &[&str]) -> String {
    let mut command = alexc();
    command.args(["build", &format!("specs/{spec}.yaml")]).arg("-o").arg(folder).args(arguments);
    stdout(&mut command)
}

/// Symbols that the linker must find elsewhere.
pub fn undefined(object: &Path) -> Vec<String> {
    let listed = stdout(Command::new("nm").args(["-u", "-f", "posix"]).arg(object));
    let symbols = listed.lines().filter_map(|line| line.strip_suffix(" U"));
    symbols.map(|line| line.trim().to_owned()).collect()
}

/// The example of examples/c, compiled against what stands in `folder`.
pub fn classifier(compiler: &str, folder: &Path) -> PathBuf {
    let program = folder.join("classify");
    let mut cc = Command::new(compiler);
    cc.args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O1", "-Wall", "-Wextra", "-Werror", "-I"]);
    cc.arg(folder).arg(path("examples/c/classify.c")).arg(folder.join("libdigits.a"));
    stdout(cc.arg("-o").arg(&program));
    program
}

/// The input of digits.yaml that a picture becomes, as bytes.
pub fn prepared(png: &str) -> Vec<u8> {
    let (spec, graph) = nets::load("digits", 1);
    let shape = graph.values[graph.input.index()].shape;
    let input = picture::load(&path(png), spec.preprocess.as_ref(), &shape).unwrap();
    input.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A PNG picture as a PPM file.
pub fn ppm(png: &str) -> Vec<u8> {
    let rgb = image::open(path(png)).unwrap().to_rgb8();
    [format!("P6\n{} {}\n255\n", rgb.width(), rgb.height()).into_bytes(), rgb.into_raw()].concat()
}

/// Compiles `main.c` in `folder` together with digits' library there, into `main`.
pub fn digits_program(folder: &Path, source: &str, flags: &[&str]) -> PathBuf {
    std::fs::write(folder.join("main.c"), source).unwrap();
    let mut cc = Command::new("cc");
    cc.current_dir(folder).args(["-std=c11", "-D_DEFAULT_SOURCE", "-g", "-Wall", "-Wextra"]);
    cc.args(["-Werror", "main.c", "libdigits.a", "-pthread", "-o", "main"]).args(flags);
    stdout(&mut cc);
    folder.join("main")
}

/// The tool is installed. Where it is not, a line says what is not tested for want of it, unless
/// ALEXC_REQUIRE_CROSS is set: then that is a failure.
pub fn there(tool: &str, package: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok();
    if !there {
        let required = std::env::var_os("ALEXC_REQUIRE_CROSS").is_some();
        assert!(!required, "{tool} is required: apt-get install {package}");
        left_out(format_args!("{tool} is not installed (apt-get install {package})"));
    }
    there
}

/// The bytes of floats.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}
