//! A built module in the runtime, as an app uses it: pictures go in, the bits of `alexc run` come
//! out, for any number of callers; files that are not whole are refused.

mod common;

use alexc_runtime::module::Module;
use alexc_runtime::network::Network;
use alexc_runtime::preprocess::Pixels;
use alexc_runtime::session::Session;
use common::command::{alexc, stdout};
use common::golden::path;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LABELS: [&str; 10] =
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/// `digits.alexc` with its weights, in `folder`.
fn build(folder: &Path) -> PathBuf {
    let mut build = alexc();
    build.args(["build", "specs/digits.yaml", "--weights", "specs/digits/digits.safetensors"]);
    stdout(build.args(["--emit", "module,weights", "--quiet", "-o"]).arg(folder));
    folder.join("digits.alexc")
}

/// What `alexc run` writes for a picture of a digit, and what the runtime makes of its pixels.
fn by_command(module: &Path, label: &str) -> Vec<u8> {
    let npy = module.with_file_name(format!("{label}.npy"));
    let picture = format!("specs/digits/{label}.png");
    let mut run = alexc();
    run.args(["run", "--quiet", "--input", &picture, "--output"]).arg(&npy);
    stdout(run.arg(module));
    fs::read(npy).unwrap()
}

/// The numbers are the last of a .npy file.
fn same(npy: &[u8], output: &[f32]) -> bool {
    let bytes: Vec<u8> = output.iter().flat_map(|value| value.to_le_bytes()).collect();
    npy.ends_with(&bytes)
}

#[test]
fn pictures_and_labels_come_with_the_module() {
    let folder = tempfile::tempdir().unwrap();
    let module = build(folder.path());
    let network = Arc::new(Network::open(&module).unwrap());
    assert_eq!(network.labels(), LABELS);
    let mut session = Session::new(&network, 2).unwrap();
    for (class, label) in LABELS.into_iter().enumerate() {
        let picture = image::open(path(&format!("specs/digits/{label}.png"))).unwrap().to_rgb8();
        let (width, height) = picture.dimensions();
        let pixels = Pixels::rgb(picture.as_raw(), height as usize, width as usize).unwrap();
        let mut input = vec![0.0; network.input_len()];
        network.prepare(pixels, &mut input).unwrap();
        let mut output = vec![0.0; network.output_len()];
        session.run(&input, &mut output).unwrap();
        assert!(same(&by_command(&module, label), &output), "{label}");
        let best = (0..10).max_by(|&a, &b| output[a].total_cmp(&output[b])).unwrap();
        assert_eq!((best, network.label(best)), (class, Some(label)));
    }
    assert_eq!(network.label(10), None);
}

#[test]
fn eight_callers_get_the_bits_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let network = Arc::new(Network::open(build(folder.path())).unwrap());
    let inputs: Vec<Vec<f32>> = (0..8)
        .map(|seed| {
            (0..network.input_len())
                .map(|i| ((i * 31 + seed * 17) % 97) as f32 / 48.0 - 1.0)
                .collect()
        })
        .collect();
    let answer = |session: &mut Session, input: &[f32]| {
        let mut output = vec![0.0; network.output_len()];
        session.run(input, &mut output).unwrap();
        output.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
    };
    let mut alone = Session::new(&network, 1).unwrap();
    let expected: Vec<Vec<u32>> = inputs.iter().map(|input| answer(&mut alone, input)).collect();
    assert_ne!(expected[0], expected[1]);
    std::thread::scope(|scope| {
        for (index, (input, expected)) in inputs.iter().zip(&expected).enumerate() {
            let (network, answer) = (&network, &answer);
            scope.spawn(move || {
                let mut session = Session::new(network, 1 + index % 2).unwrap();
                for _ in 0..50 {
                    assert_eq!(&answer(&mut session, input), expected);
                }
            });
        }
    });
}

/// Ten thousand files of a real net: a bit flipped, cut short, or some bytes replaced.
#[test]
fn damaged_files_of_a_real_net_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let module = build(folder.path());
    let sound = fs::read(&module).unwrap();
    let mut state = 1_u64;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((state >> 33) % end as u64) as usize
    };
    for case in 0..10_000 {
        let at = below(sound.len());
        let mut file = sound.clone();
        match case % 3 {
            0 => file[at] ^= 1 << below(8),
            1 => file.truncate(at),
            _ => {
                let from = below(sound.len() - 64);
                let length = 64.min(sound.len() - at);
                file[at..at + length].copy_from_slice(&sound[from..from + length]);
                if file == sound {
                    continue;
                }
            }
        }
        Module::from_bytes(&file).expect_err("a damaged file");
    }

    // Each says which file is wrong and why.
    let weights = module.with_extension("weights");
    let whole = fs::read(&weights).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let other = tempfile::tempdir().unwrap();
    let mut build = alexc();
    build.args(["build", "specs/digits.yaml", "--weights-dtype", "f16", "--weights", "random:1"]);
    stdout(build.args(["--emit", "weights", "--quiet", "-o"]).arg(other.path()));
    let other = fs::read(other.path().join("digits.weights")).unwrap();
    for (bytes, reason) in [
        (&whole[..whole.len() - 1], "truncated"),
        (&flipped, "its checksum is wrong"),
        (&other, "packed for another net or by another build"),
        (&sound, "this is no file of packed weights"),
    ] {
        // By renaming, as files of mapped weights must be replaced.
        let temporary = folder.path().join("temporary");
        fs::write(&temporary, bytes).unwrap();
        fs::rename(&temporary, &weights).unwrap();
        let error = Network::open(&module).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with(&weights.display().to_string()), "{error}");
        assert!(error.contains(reason), "{error}");
    }
}
