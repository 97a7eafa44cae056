//! The trained net of specs/digits.yaml on pictures that its training never saw.

mod common;

use alexc::arrays::Arrays;
use alexc::compile;
use alexc::graph::Graph;
use alexc::picture::{self, Preprocess};
use alexc::weights::Checked;
use alexc::{reference, weights};
use common::golden::path;
use common::machines::{Machine, machines};
use common::nets;
use ndarray::{Array2, ArrayD, Axis, Ix2};

fn weights_for(graph: &Graph) -> Checked {
    let file = path("specs/digits/digits.safetensors");
    weights::open(file.to_str().unwrap()).unwrap().check(&graph.tensors()).unwrap()
}

fn logits(graph: &Graph, input: &ArrayD<f32>) -> Array2<f32> {
    let values: Vec<ArrayD<f32>> = reference::run(graph, &weights_for(graph), input).unwrap();
    values[nets::logits(graph).index()].clone().into_dimensionality::<Ix2>().unwrap()
}

fn largest(row: ndarray::ArrayView1<'_, f32>) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()
}

/// The same by compiled code, softmax left out.
fn compiled_logits(graph: &Graph, machine: &Machine, input: &ArrayD<f32>) -> Array2<f32> {
    let mut graph = graph.clone();
    graph.output = nets::logits(&graph);
    let made = machine.compile(&graph, |_| ()).unwrap();
    let weights = compile::pack(&made, &weights_for(&graph), 2, |_| ()).unwrap();
    let mut session = made.load(weights).session(2);
    let mut output = vec![0.0; session.program().output_dims.iter().product()];
    session.run(input.as_slice().unwrap(), &mut output).unwrap();
    Array2::from_shape_vec((input.shape()[0], 10), output).unwrap()
}

#[test]
fn heldout_accuracy() {
    let mut arrays = Arrays::open(&path("specs/digits/heldout.npz")).unwrap();
    let input = arrays.read("input").unwrap().unwrap();
    let expected = arrays.read("logits").unwrap().unwrap();
    let text = std::fs::read_to_string(path("specs/digits/heldout-labels.txt")).unwrap();
    let labels: Vec<usize> = text.lines().map(|line| line.parse().unwrap()).collect();
    let (_, graph) = nets::load("digits", labels.len());
    let about = std::fs::read_to_string(path("specs/digits/training.json")).unwrap();
    let about: serde_json::Value = serde_json::from_str(&about).unwrap();

    let hold = |what: &str, found: &Array2<f32>| {
        let right = (0..labels.len()).filter(|&i| largest(found.row(i)) == labels[i]).count();
        assert_eq!(about["heldout_correct"], right, "{what}");
        assert!(right * 100 >= labels.len() * 97, "{what}: {right} of {}", labels.len());
        // PyTorch's own logits, in f32.
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-4, "{what}: {found} {expected}");
        }
    };
    hold("reference", &logits(&graph, &input));
    for machine in machines() {
        hold(&machine.name(), &compiled_logits(&graph, &machine, &input));
    }
}

#[test]
fn pictures() {
    let (spec, graph) = nets::load("digits", 1);
    let preprocess: &Preprocess = spec.preprocess.as_ref().unwrap();
    let shape = graph.values[graph.input.index()].shape;
    let names = std::fs::read_to_string(path("specs/digits/labels.txt")).unwrap();
    assert_eq!(names.lines().count(), 10);
    for (label, name) in names.lines().enumerate() {
        let file = path(&format!("specs/digits/{name}.png"));
        let image = picture::load(&file, Some(preprocess), &shape).unwrap();
        let input = ArrayD::from_shape_vec(shape.dims(), image).unwrap();
        let found = logits(&graph, &input);
        assert_eq!(largest(found.index_axis(Axis(0), 0)), label, "{name}");
    }
}
