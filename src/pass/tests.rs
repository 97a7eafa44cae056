//! Every file in `tests/` is a case: comments with `pass: NAME, ...`, a graph, a line of dashes
//! and what the passes make of it: a graph, or `unchanged`. With ALEXC_BLESS=1 the expectation is
//! written anew.

use super::{PASSES, PassError, PassOptions, run};
use crate::graph::text::parse;
use crate::graph::verify::verify;
use std::fs;
use std::path::PathBuf;

const DASHES: &str = "----------\n";

fn cases() -> Vec<(PathBuf, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/pass/tests");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path, text)
        })
        .collect()
}

#[test]
fn cases_become_what_they_say() {
    let bless = std::env::var_os("ALEXC_BLESS").is_some_and(|value| value == "1");
    let mut wrong = Vec::new();
    for (path, text) in cases() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (given, expected) = text.split_once(DASHES).unwrap_or((&text, ""));
        let passes: Vec<&str> = given
            .lines()
            .find_map(|line| line.strip_prefix("# pass: "))
            .unwrap_or_else(|| panic!("{name} has no line `# pass: NAME`"))
            .split(", ")
            .collect();
        let graph = parse(given).unwrap_or_else(|error| panic!("{name}:{error}"));
        assert_eq!(verify(&graph), Ok(()), "{name}");
        let mut changed = graph.clone();
        for name in passes {
            let pass = PASSES.iter().find(|pass| pass.name == name);
            (pass.unwrap_or_else(|| panic!("no pass {name}")).run)(&mut changed);
        }
        assert_eq!(verify(&changed), Ok(()), "{name}\n{changed}");
        let became = if changed == graph { "unchanged\n".to_owned() } else { changed.to_string() };
        if bless {
            fs::write(&path, format!("{given}{DASHES}{became}")).unwrap();
        } else if became != expected {
            wrong.push(format!("== {name} ==\n{became}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n(ALEXC_BLESS=1 accepts this)", wrong.join("\n"));
}

#[test]
fn every_pass_has_cases_that_change_and_that_must_not() {
    for pass in PASSES {
        let of_pass = |unchanged: bool| {
            cases().iter().any(|(_, text)| {
                text.contains(&format!("# pass: {}\n", pass.name))
                    && text.ends_with("unchanged\n") == unchanged
            })
        };
        assert!(of_pass(false), "no case where `{}` changes something", pass.name);
        assert!(of_pass(true), "no case where `{}` must keep away", pass.name);
    }
}

const NET: &str = "graph net
input: 1x8x4x4

a: 1x8x4x4 = relu(input)

unused: 1x8x4x4 = tanh(input)

drop: 1x8x4x4 = dropout(a)
  p 0.5

output drop
";

#[test]
fn options_leave_passes_out() {
    let names = |options: &PassOptions| {
        let graph = run(parse(NET).unwrap(), options).unwrap();
        graph.nodes.into_iter().map(|node| node.name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&PassOptions::default()), "a");
    assert_eq!(names(&PassOptions { fuse: false, skip: vec![] }), "a drop");
    assert_eq!(names(&PassOptions { fuse: true, skip: vec!["identities".into()] }), "a drop");
    assert_eq!(names(&PassOptions { fuse: false, skip: vec!["dead".into()] }), "a unused drop");
}

#[test]
fn unknown_passes_and_broken_graphs_are_errors() {
    let options = PassOptions { fuse: true, skip: vec!["fold".into()] };
    assert_eq!(
        run(parse(NET).unwrap(), &options).unwrap_err().to_string(),
        "no pass is called `fold`; there are dead, identities, batch_norm, epilogues"
    );
    let broken = parse(&NET.replace("a: 1x8", "a: 1x9")).unwrap();
    let error = run(broken, &PassOptions::default()).unwrap_err();
    assert!(matches!(error, PassError::Built { .. }), "{error}");
}

#[test]
fn passes_keep_the_meaning() {
    use crate::reference;
    use crate::weights::Random;
    use ndarray::{ArrayD, IxDyn};

    let mut compared = 0;
    for (path, text) in cases() {
        let graph = parse(text.split_once(DASHES).unwrap().0).unwrap();
        let changed = run(graph.clone(), &PassOptions::default()).unwrap();
        let weights = Random::new(7);
        let shape = graph.values[graph.input.index()].shape;
        let input = weights.input(shape.len()).iter().map(|x| 2.0 * x - 0.5).collect();
        let input = ArrayD::from_shape_vec(IxDyn(&shape.dims()), input).unwrap();
        let before = reference::run::<f64>(&graph, &weights, &input).unwrap();
        let after = reference::run::<f64>(&changed, &weights, &input).unwrap();
        // A value keeps its name for as long as some node makes it.
        for (value, after) in changed.values.iter().zip(&after) {
            let index = graph.values.iter().position(|other| other.name == value.name).unwrap();
            let before = &before[index];
            assert_eq!(before.shape(), after.shape());
            for (before, after) in before.iter().zip(after) {
                let close = (before - after).abs() <= 1e-12 * before.abs().max(1.0);
                assert!(close, "{}: `{}`: {before} {after}", path.display(), value.name);
            }
            compared += 1;
        }
    }
    assert!(compared > 80, "{compared}");
}
