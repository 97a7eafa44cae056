//! Module and weights files, as an app opens them.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use alexc_runtime::{
    module::Module,
    network::{Network, OpenError},
    preprocess::{Color, Preprocess},
    session::Session,
    weights::Weights,
};
use common::{LEN, expected, input, program, weights};

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("alexc-module-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn module() -> Module {
    Module {
        program: program(),
        compiler: "alexc test".to_string(),
        labels: vec!["one".to_string(), "two".to_string()],
        preprocess: Some(Preprocess {
            resize: None,
            crop: Some([10, 10]),
            color: Color::Rgb,
            mean: vec![0.5],
            std: vec![0.5],
        }),
        probabilities: false,
    }
}

/// Writes `tiny.alexc` and `tiny.weights`.
fn build(folder: &Path) -> PathBuf {
    let path = folder.join("tiny.alexc");
    fs::write(&path, module().to_bytes()).unwrap();
    let mut file = Vec::new();
    Weights::from(weights()).write(&program(), &mut file).unwrap();
    fs::write(folder.join("tiny.weights"), file).unwrap();
    path
}

fn refusal(path: &Path) -> String {
    Network::open(path).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn a_net_runs_from_its_files() {
    let folder = Folder::new("run");
    let path = build(&folder.0);
    let network = Arc::new(Network::open(&path).unwrap());
    assert_eq!(network.labels(), ["one", "two"]);
    assert_eq!(network.preprocess(), module().preprocess.as_ref());
    assert_eq!(network.weights().as_bytes(), weights().as_bytes());
    assert_eq!(network.weights().as_bytes().as_ptr() as usize % 64, 0);
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let network = Arc::clone(&network);
            scope.spawn(move || {
                let mut session = Session::new(&network, 1 + caller % 2).unwrap();
                let mut output = vec![0.0; LEN];
                session.run(&input(), &mut output).unwrap();
                assert_eq!(output, expected(&input()));
            });
        }
    });
}

#[test]
fn two_builds_are_the_same_bytes() {
    let (first, second) = (Folder::new("first"), Folder::new("second"));
    for name in ["tiny.alexc", "tiny.weights"] {
        build(&first.0);
        build(&second.0);
        let read = |folder: &Folder| fs::read(folder.0.join(name)).unwrap();
        assert_eq!(read(&first), read(&second));
    }
}

#[test]
fn absent_files_are_named() {
    let folder = Folder::new("absent");
    let path = build(&folder.0);
    let weights = folder.0.join("tiny.weights");
    fs::remove_file(&weights).unwrap();
    assert!(refusal(&path).starts_with(&format!("{}: No such file", weights.display())));
    fs::remove_file(&path).unwrap();
    assert!(refusal(&path).starts_with(&format!("{}: No such file", path.display())));
    assert!(refusal(&folder.0).starts_with(&format!("{}: ", folder.0.display())));
}

#[test]
fn swapped_files_are_refused() {
    let folder = Folder::new("swapped");
    let path = build(&folder.0);
    let weights = folder.0.join("tiny.weights");
    let error = Network::open_files(&weights, &path).map(|_| ()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: this is no module file of alexc's", weights.display()));
    let error = Network::open_files(&path, &path).map(|_| ()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: this is no file of packed weights of alexc's", path.display()));

    // Other code for the same packing takes the weights.
    let mut other = module();
    other.program.kernels[4] = common::kernel("add1", &common::Body::Add(1.5));
    fs::write(&path, other.to_bytes()).unwrap();
    Network::open(&path).unwrap();

    // Another packing of the same size.
    other.program.weights_key += 1;
    fs::write(&path, other.to_bytes()).unwrap();
    assert_eq!(
        refusal(&path),
        format!(
            "{}: these weights were packed for another net or by another build; build both together",
            weights.display()
        )
    );
}

#[test]
fn a_program_that_cannot_run_names_its_file() {
    let folder = Folder::new("unsound");
    let path = folder.0.join("tiny.alexc");
    let mut module = module();
    module.program.steps.last_mut().unwrap().params[1].len_bytes += 4;
    fs::write(&path, module.to_bytes()).unwrap();
    let mut file = Vec::new();
    Weights::from(weights()).write(&module.program, &mut file).unwrap();
    fs::write(folder.0.join("tiny.weights"), file).unwrap();
    let error = Network::open(&path).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Load { .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "{}: the compiled net is not sound: step 5 (`add1`), parameter 1: 4004 bytes at 0 reach out of the output (4000 bytes)",
            path.display()
        )
    );
}

#[test]
fn damaged_weights_are_refused() {
    let folder = Folder::new("damaged");
    build(&folder.0);
    let path = folder.0.join("tiny.weights");
    let program = program();
    let sound = fs::read(&path).unwrap();
    assert_eq!(sound.len(), 64 + LEN * 4);
    let refused = |bytes: &[u8]| {
        // By renaming, as files of mapped weights must be replaced.
        let temporary = folder.0.join("temporary");
        fs::write(&temporary, bytes).unwrap();
        fs::rename(&temporary, &path).unwrap();
        let error = Weights::open(&path, &program).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: this ", path.display())), "{error}");
    };
    for len in (0..sound.len()).step_by(61).chain([63, 64, 65, sound.len() - 1]) {
        refused(&sound[..len]);
    }
    for bit in (0..sound.len() * 8).step_by(53).chain(0..64 * 8) {
        let mut file = sound.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        refused(&file);
    }
    refused(&[&sound[..], &[0]].concat());
}
