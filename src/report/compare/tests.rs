use super::{Boundary, CompareError, Comparison, Outcome, boundaries, with_arrays, with_reference};
use crate::arrays::Arrays;
use crate::compile::{self, Options};
use crate::graph::{Graph, text::parse};
use crate::report::difference::Tolerance;
use crate::weights::Random;
use alexc_codegen::target::Target;
use alexc_runtime::network::Network;
use alexc_runtime::session::Session;
use ndarray::{ArrayD, IxDyn};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use std::path::Path;
use std::sync::Arc;

/// Two images; channels that do not fill their blocks; every value fused and not fused.
const NET: &str = "graph net
input: 2x3x13x11

conv1: 2x20x7x6 = conv(input)
  kernel 3x3, stride 2x2, padding [1, 1, 1, 1], out_channels 20
  weight conv1.weight [20, 3, 3, 3]
  bias conv1.bias [20]

relu1: 2x20x7x6 = relu(conv1)

norm1: 2x20x7x6 = lrn(relu1)
  size 5, alpha 0.5, beta 0.75, k 2.0, alpha_scaling sum

pool1: 2x20x3x2 = max_pool(norm1)
  kernel 3x3, stride 2x2

conv2: 2x20x3x2 = conv(pool1)
  kernel 3x3, stride 1x1, padding [1, 1, 1, 1], out_channels 20, groups 2
  weight conv2.weight [20, 10, 3, 3]

sum: 2x20x3x2 = add(conv2, pool1)

both: 2x40x3x2 = concat(sum, pool1)

fc: 2x9 = linear(both)
  out_features 9
  weight fc.weight [9, 240]
  bias fc.bias [9]

drop: 2x9 = dropout(fc)
  p 0.5

prob: 2x9 = softmax(drop)

output prob
";

fn weights() -> Random {
    Random::new(5)
}

fn input() -> ArrayD<f32> {
    let values = weights().input(2 * 3 * 13 * 11).iter().map(|x| 4.0 * x - 2.0).collect();
    ArrayD::from_shape_vec(IxDyn(&[2, 3, 13, 11]), values).unwrap()
}

fn found(graph: &Graph, fuse: bool) -> Vec<Boundary> {
    let options = Options { fuse, ..Options::new(Target::host().unwrap()) };
    let compiled = compile::compile(graph, &options).unwrap();
    let packed = compile::pack(&compiled, &weights(), 1, |_| {}).unwrap();
    let network = Arc::new(Network::new(compiled.program.clone(), packed).unwrap());
    let mut session = Session::new(&network, 2).unwrap();
    boundaries(&compiled, &mut session, input().as_slice().unwrap()).unwrap()
}

fn against(found: &[Boundary], graph: &Graph) -> Comparison {
    with_reference(found, graph, &weights(), &input(), Tolerance::default()).unwrap()
}

#[test]
fn every_boundary_agrees_with_the_reference() {
    let graph = parse(NET).unwrap();
    let comparison = against(&found(&graph, true), &graph);
    assert!(comparison.agrees(), "{comparison}");
    let rows: Vec<(&str, String)> =
        comparison.rows.iter().map(|row| (row.value.as_str(), row.layers.join(" "))).collect();
    let expected = [
        ("pool1", "conv1 relu1 norm1 pool1"),
        ("sum", "conv2 sum"),
        ("both", "both"),
        ("fc", "fc drop"),
        ("prob", "prob"),
    ];
    assert_eq!(rows, expected.map(|(value, layers)| (value, layers.to_owned())));
    assert_eq!(comparison.unused, ["conv1", "relu1", "norm1", "conv2", "drop"]);
    assert!(comparison.rows.iter().all(|row| matches!(row.outcome, Outcome::Compared(_))));
    let text = comparison.to_string();
    assert!(text.contains("5 of 5 values agree with the reference executor in f64"), "{text}");
}

#[test]
fn without_fusion_every_layer_agrees() {
    let graph = parse(NET).unwrap();
    let comparison = against(&found(&graph, false), &graph);
    assert!(comparison.agrees(), "{comparison}");
    assert_eq!(comparison.rows.len(), graph.nodes.len());
    assert!(comparison.unused.is_empty());
    assert!(comparison.rows.iter().all(|row| comparison.row_agrees(row) == Some(true)));
}

#[test]
fn another_net_differs_from_where_it_is_another() {
    let found = found(&parse(NET).unwrap(), false);
    let other = parse(&NET.replace("alpha 0.5", "alpha 0.499")).unwrap();
    let comparison = against(&found, &other);
    assert!(!comparison.agrees());
    let differing: Vec<&str> = comparison
        .rows
        .iter()
        .filter(|row| comparison.row_agrees(row) == Some(false))
        .map(|row| row.value.as_str())
        .collect();
    assert_eq!(differing[..3], ["norm1", "pool1", "conv2"]);
    let text = comparison.to_string();
    let marked = text.lines().filter(|line| line.ends_with("DIFFERS"));
    assert_eq!(marked.count(), differing.len(), "{text}");
    let json = comparison.json();
    assert_eq!(json["agrees"], false);
    assert_eq!(json["rows"][0]["agrees"], true);
    assert_eq!(json["rows"][2]["value"], "norm1");
    assert_eq!(json["rows"][2]["max_abs_at"]["index"].as_array().unwrap().len(), 4);
}

fn save(path: &Path, arrays: &[(&str, ArrayD<f32>)]) {
    let bytes: Vec<Vec<u8>> = arrays
        .iter()
        .map(|(_, array)| array.iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let views = arrays.iter().zip(&bytes).map(|((name, array), bytes)| {
        (*name, TensorView::new(Dtype::F32, array.shape().to_vec(), bytes).unwrap())
    });
    serialize_to_file(views, None, path).unwrap();
}

#[test]
fn arrays_of_a_file_are_found_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("values.safetensors");
    let found = found(&parse(NET).unwrap(), true);
    let by_name =
        |name: &str| found.iter().find(|boundary| boundary.value == name).unwrap().array.clone();
    let mut wrong = by_name("fc");
    wrong[[1, 3]] += 0.01;
    let squeezed = by_name("sum").into_shape_with_order(IxDyn(&[2, 20, 3, 1, 2])).unwrap();
    save(
        &path,
        &[
            ("fc", wrong.clone()),
            ("sum", squeezed),
            ("both", by_name("pool1")),
            ("relu1", by_name("prob")),
        ],
    );

    let mut arrays = Arrays::open(&path).unwrap();
    let comparison =
        with_arrays(&found, &mut arrays, "values.safetensors", Tolerance::default()).unwrap();
    let verdicts: Vec<(&str, Option<bool>)> = comparison
        .rows
        .iter()
        .map(|row| (row.value.as_str(), comparison.row_agrees(row)))
        .collect();
    assert_eq!(
        verdicts,
        [
            ("pool1", None),
            ("sum", Some(true)),
            ("both", Some(false)),
            ("fc", Some(false)),
            ("prob", None),
        ]
    );
    assert_eq!(comparison.unused, ["relu1"]);
    assert_eq!(comparison.rows[2].outcome, Outcome::Shape(vec![2, 20, 3, 2]));
    let Outcome::Compared(fc) = &comparison.rows[3].outcome else { panic!() };
    assert_eq!(fc.max_abs_at.as_ref().unwrap().index, [1, 3]);
    assert!((fc.max_abs - 0.01).abs() < 1e-6);

    let only = folder.path().join("other.safetensors");
    save(&only, &[("x", wrong)]);
    let mut arrays = Arrays::open(&only).unwrap();
    let error =
        with_arrays(&found, &mut arrays, "other.safetensors", Tolerance::default()).unwrap_err();
    assert!(matches!(error, CompareError::NothingInCommon { .. }));
    assert_eq!(
        error.to_string(),
        "other.safetensors has no array named like a value of the net; it has x, the net has pool1, sum, \
         both, fc, prob"
    );
}
