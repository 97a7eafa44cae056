use super::*;
use crate::algorithm::{AlgorithmError, Math};
use crate::graph::build::{self, BuildOptions};
use alexc_codegen::ir::DType;
use alexc_codegen::target::Target;

/// A strided convolution of the input, one with a choice, two without: 1x1, and depthwise, whose
/// groups are too small for transforms.
const NET: &str = "
name: small
input: {shape: [1, 3, 17, 17]}
layers:
  - {name: strided, type: conv, out_channels: 16, kernel_size: 5, stride: 2}
  - {name: square, type: conv, out_channels: 32, kernel_size: 5, padding: 2}
  - {name: relu, type: relu}
  - {name: point, type: conv, out_channels: 16, kernel_size: 1}
  - {name: depthwise, type: conv, out_channels: 16, kernel_size: 3, groups: 16}
";

fn graph() -> Graph {
    let options = BuildOptions { batch: None, sets: Vec::new() };
    build::load("small.yaml", NET, &options).unwrap().1
}

fn options() -> Options {
    Options::new(Target::host().unwrap())
}

fn choice(layer: &str, algorithm: Algorithm) -> Override {
    Override { layer: layer.to_owned(), algorithm }
}

fn found(options: &Options, cache: Option<&Cache>) -> Found {
    let job = Job { graph: &graph(), options, threads: 1 };
    tune(&job, cache, &mut |_, _| ()).unwrap()
}

#[test]
fn what_has_a_choice() {
    let fused = compile::fuse(&graph(), &options()).unwrap();
    let layers_of = |options: &Options| layers(&fused, options).unwrap();
    let found = layers_of(&options());
    let names: Vec<&str> = found.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["strided", "square"]);
    // F(m, r) exists up to m + r - 1 = 10: of the strided one r is ceil(5 / 2), and F(8, 3) and
    // F(6, 5) are not accurate enough to be chosen unasked.
    let sizes = |layer: &Layer| {
        layer.candidates.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        sizes(&found[0]),
        "direct space_to_depth2 space_to_depth3 space_to_depth4 space_to_depth5 space_to_depth6 \
         space_to_depth7"
    );
    assert_eq!(sizes(&found[1]), "direct winograd2 winograd3 winograd4 winograd5");
    assert!(found[0].reads_input && !found[1].reads_input);

    let strict = Options { math: Math::Strict, ..options() };
    assert_eq!(layers_of(&strict), []);
    let chosen = Options { overrides: vec![choice("square", Algorithm::Direct)], ..options() };
    assert_eq!(layers_of(&chosen), found[..1]);
    let overrides = vec![choice("relu", Algorithm::Direct)];
    let error = layers(&fused, &Options { overrides, ..options() }).unwrap_err();
    let wrong = AlgorithmError::NoChoice { layer: "relu".to_owned() };
    assert_eq!(error.to_string(), wrong.to_string());
}

#[test]
fn noise_replaces_nothing() {
    let [a, b, c] = [2, 3, 4].map(|m| Algorithm::Winograd { m });
    let candidates = vec![a, b, c];
    let layer = Layer { name: "conv".to_owned(), candidates, untuned: b, reads_input: false };
    assert_eq!(fastest(&layer, &[0.98, 1.0, 2.0]), b);
    assert_eq!(fastest(&layer, &[0.96, 1.0, 0.9]), c);
    assert_eq!(fastest(&layer, &[0.5, f64::INFINITY, 0.6]), a);
    assert_eq!(fastest(&layer, &[]), b);
}

#[test]
fn measured_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path());
    let mut steps = Vec::new();
    let job = Job { graph: &graph(), options: &options(), threads: 1 };
    let first = tune(&job, Some(&cache), &mut |done, all| steps.push((done, all))).unwrap();
    // As many rounds as the first layer has candidates, then the comparison.
    assert_eq!(steps, [0, 1, 2, 3, 4, 5, 6, 7].map(|done| (done, 8)));
    let Origin::Measured { untuned_ms, tuned_ms, kept: Some(Ok(path)) } = first.origin else {
        panic!("{:?}", first.origin)
    };
    assert!(0.0 < tuned_ms && tuned_ms <= untuned_ms);
    let names: Vec<&str> = first.choices.iter().map(|choice| choice.layer.as_str()).collect();
    assert_eq!(names, ["strided", "square"]);

    let again = found(&options(), Some(&cache));
    assert!(matches!(&again.origin, Origin::Cache(file) if *file == path), "{:?}", again.origin);
    assert_eq!(again.choices, first.choices);

    // The compiler follows, but for what the user chose.
    let tuned = Options { tuned: again.choices, ..options() };
    let compiled = compile::compile(&graph(), &tuned).unwrap();
    assert_eq!(compiled.algorithms[..2], [first.choices[0].algorithm, first.choices[1].algorithm]);
    assert_eq!(compiled.fused_text(None).matches(", tuned;").count(), 2);
    let overrides = vec![choice("square", Algorithm::Winograd { m: 3 })];
    let compiled = compile::compile(&graph(), &Options { overrides, ..tuned }).unwrap();
    assert_eq!(compiled.algorithms[1], Algorithm::Winograd { m: 3 });
    assert_eq!(compiled.tuned, ["strided"]);
}

#[test]
fn an_entry_must_suit() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path());
    let fused = compile::fuse(&graph(), &options()).unwrap();
    let layers = layers(&fused, &options()).unwrap();
    let entry = |choices| Entry { choices, untuned_ms: 2.0, tuned_ms: 1.0 };
    let direct = choice("square", Algorithm::Direct);
    let good = vec![choice("strided", Algorithm::SpaceToDepth { m: 2 }), direct.clone()];
    assert!(fits(&entry(good.clone()), &layers));
    for wrong in [
        vec![],
        vec![direct.clone()],
        vec![direct.clone(), direct.clone()],
        vec![choice("strided", Algorithm::Winograd { m: 2 }), direct.clone()],
        [good.clone(), vec![direct]].concat(),
    ] {
        assert!(!fits(&entry(wrong.clone()), &layers), "{wrong:?}");
    }
    // What the cache says is taken as it is: nothing is measured.
    let key = Key::new(&fused, &options(), &Machine::this(1));
    cache.write(&key, &entry(good.clone())).unwrap();
    assert_eq!(found(&options(), Some(&cache)).choices, good);
}

#[test]
fn nothing_to_tune() {
    let strict = Options { math: Math::Strict, ..options() };
    let found = found(&strict, None);
    assert!(matches!(found.origin, Origin::NoChoice) && found.choices.is_empty());
}

/// The layers behind convolutions wait for their weights: with f16 those become 16-bit integers, for
/// which the largest tiles are too coarse. The linear layer behind ReLU can pass over zeros, the one
/// behind the input cannot.
#[test]
fn choices_follow_the_type_of_weights_and_expected_zeros() {
    const WAITING: &str = "
name: waiting
input: {shape: [1, 32, 7, 7]}
layers:
  - {name: a, type: conv, out_channels: 32, kernel_size: 3, padding: 1}
  - {name: relu, type: relu}
  - {name: pool, type: max_pool, kernel_size: 3, stride: 2}
  - {name: flat, type: flatten}
  - {name: after, type: linear, out_features: 1024}
  - {name: again, type: linear, out_features: 1024}
";
    let set = BuildOptions { batch: None, sets: Vec::new() };
    let graph = build::load("waiting.yaml", WAITING, &set).unwrap().1;
    let of_type = |weights_dtype| {
        let options = Options { weights_dtype, ..options() };
        let fused = compile::fuse(&graph, &options).unwrap();
        layers(&fused, &options).unwrap()
    };
    let (plain, narrow) = (of_type(DType::F32), of_type(DType::F16));
    let largest = Algorithm::Winograd { m: 7 };
    assert!(plain[0].candidates.contains(&largest));
    assert!(!narrow[0].candidates.contains(&largest));
    assert!(narrow[0].candidates.contains(&Algorithm::Winograd { m: 5 }));
    // `again` reads what no ReLU has made.
    let names: Vec<&str> = plain.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["a", "after"]);
    assert_eq!(plain[1].candidates, [Algorithm::Direct, Algorithm::Nonzero]);
    assert_eq!(plain[1].untuned, Algorithm::Nonzero);
}
