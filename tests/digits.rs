//! The trained net of specs/digits.yaml on pictures that its training never saw.

mod common;

use alexc::arrays::Arrays;
use alexc::compile;
use alexc::graph::{Graph, Tensor};
use alexc::picture::{self, Preprocess};
use alexc::weights::{Checked, TensorSource};
use alexc::{reference, weights};
use common::command::{alexc, stdout};
use common::golden::path;
use common::machines::{Machine, machines};
use common::nets;
use half::{bf16, f16};
use ndarray::{Array2, ArrayD, Axis, Ix2};
use std::borrow::Cow;
use std::fs;
use std::ops::Range;

fn weights_for(graph: &Graph) -> Checked {
    let file = path("specs/digits/digits.safetensors");
    weights::open(file.to_str().unwrap()).unwrap().check(&graph.tensors()).unwrap()
}

fn logits(graph: &Graph, weights: &dyn TensorSource, input: &ArrayD<f32>) -> Array2<f32> {
    let values: Vec<ArrayD<f32>> = reference::run(graph, weights, input).unwrap();
    values[nets::logits(graph).index()].clone().into_dimensionality::<Ix2>().unwrap()
}

/// The classes of the held-out digits.
fn heldout_labels() -> Vec<usize> {
    let text = fs::read_to_string(path("specs/digits/heldout-labels.txt")).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
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
    let labels = heldout_labels();
    let (_, graph) = nets::load("digits", labels.len());
    let about = fs::read_to_string(path("specs/digits/training.json")).unwrap();
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
    hold("reference", &logits(&graph, &weights_for(&graph), &input));
    for machine in machines() {
        hold(&machine.name(), &compiled_logits(&graph, &machine, &input));
    }
}

/// Narrows the weights of one output.
type NarrowRow = fn(&mut [f32]);

/// Weights of linear layers as a narrower type keeps them.
struct Narrow {
    weights: Checked,
    row: NarrowRow,
}

impl TensorSource for Narrow {
    fn slice(&self, tensor: &Tensor, range: Range<usize>) -> Cow<'_, [f32]> {
        let &[_, inputs] = &tensor.shape[..] else { return self.weights.slice(tensor, range) };
        let mut all = self.weights.all(tensor).into_owned();
        all.chunks_mut(inputs).for_each(self.row);
        all[range].to_owned().into()
    }
}

/// 8-bit integers, the largest of a row being 127.
fn to_int8(row: &mut [f32]) {
    let step = row.iter().fold(0.0f32, |most, w| most.max(w.abs())) / 127.0;
    row.iter_mut().for_each(|w| *w = (*w / step).round() * step);
}

#[test]
fn compare_counts_what_is_named_rightly() {
    let mut arrays = Arrays::open(&path("specs/digits/heldout.npz")).unwrap();
    let input = arrays.read("input").unwrap().unwrap();
    let labels = heldout_labels();
    let (_, graph) = nets::load("digits", labels.len());
    let answers = |row: NarrowRow| -> Vec<usize> {
        let narrow = Narrow { weights: weights_for(&graph), row };
        logits(&graph, &narrow, &input).rows().into_iter().map(largest).collect()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("labels.txt");
    let accuracy = |labels: &[usize], arguments: &[&str]| {
        let lines: String = labels.iter().map(|label| format!("{label}\n")).collect();
        fs::write(&file, lines).unwrap();
        let mut command = alexc();
        command.args(["compare", "specs/digits.yaml", "--json"]);
        command.args(["--weights", "specs/digits/digits.safetensors"]);
        command.args(["--input", "specs/digits/heldout.npz", "--labels"]).arg(&file);
        let document = stdout(command.args(arguments));
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        document["accuracy"].clone()
    };
    let in_f32 = answers(|_| ());
    let right = |answers: &[usize], labels: &[usize]| {
        answers.iter().zip(labels).filter(|(answer, label)| answer == label).count()
    };
    // The held-out classes, and ones that are mostly wrong.
    let mixed: Vec<usize> = labels.iter().enumerate().map(|(i, &l)| (l + i % 3) % 10).collect();
    let kinds: [(&str, NarrowRow); 4] = [
        ("f32", |_| ()),
        ("f16", |row| row.iter_mut().for_each(|w| *w = f16::from_f32(*w).to_f32())),
        ("bf16", |row| row.iter_mut().for_each(|w| *w = bf16::from_f32(*w).to_f32())),
        ("int8", to_int8),
    ];
    for (dtype, row) in kinds {
        let answers = answers(row);
        for labels in [&labels, &mixed] {
            // Seven do not divide the images.
            for batch in ["1", "7"] {
                let found = accuracy(labels, &["--weights-dtype", dtype, "--batch", batch]);
                let mut expected = serde_json::json!({
                    "images": labels.len(), "right": right(&answers, labels), "f32": null,
                });
                if dtype != "f32" {
                    expected["f32"] = serde_json::json!({
                        "right": right(&in_f32, labels), "alike": right(&answers, &in_f32),
                    });
                }
                assert_eq!(found, expected, "{dtype}, batch {batch}");
            }
        }
        assert!(right(&answers, &labels) * 100 >= labels.len() * 97, "{dtype}");
    }
}

#[test]
fn pictures() {
    let (spec, graph) = nets::load("digits", 1);
    let preprocess: &Preprocess = spec.preprocess.as_ref().unwrap();
    let shape = graph.values[graph.input.index()].shape;
    let names = fs::read_to_string(path("specs/digits/labels.txt")).unwrap();
    assert_eq!(names.lines().count(), 10);
    for (label, name) in names.lines().enumerate() {
        let file = path(&format!("specs/digits/{name}.png"));
        let image = picture::load(&file, Some(preprocess), &shape).unwrap();
        let input = ArrayD::from_shape_vec(shape.dims(), image).unwrap();
        let found = logits(&graph, &weights_for(&graph), &input);
        assert_eq!(largest(found.index_axis(Axis(0), 0)), label, "{name}");
    }
}
