//! Specs, their reading and the reference executor against PyTorch in f64.

mod common;

use alexc::graph::{Graph, Tensor};
use alexc::{reference, weights};
use common::golden::{self, Golden, relative_error};
use common::nets;
use ndarray::ArrayD;

/// Every value of a net, by the reference executor in f64.
fn run(graph: &Graph) -> Vec<ArrayD<f64>> {
    let tensors: Vec<&Tensor> = graph.tensors();
    let weights = weights::open(golden::WEIGHTS).unwrap().check(&tensors).unwrap();
    let shape = graph.values[graph.input.index()].shape;
    let input = ArrayD::from_shape_vec(shape.dims(), golden::input(shape.len())).unwrap();
    reference::run(graph, &weights, &input).unwrap()
}

fn hold(net: &str, batch: usize, layers: usize) {
    let (_, graph) = nets::load(net, batch);
    let golden = Golden::load(net, batch);
    let values = run(&graph);
    assert_eq!(golden.samples.len(), layers, "{net}");
    for sample in &golden.samples {
        let id = graph.values.iter().position(|value| value.name == sample.layer).unwrap();
        let value = values[id].as_slice().unwrap();
        let found: Vec<f64> = sample.positions.iter().map(|&at| value[at]).collect();
        let error = relative_error(&found, &sample.values);
        let norm = value.iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!(error < 1e-12, "{net}, batch {batch}, {}: {error:e}", sample.layer);
        assert!((norm / sample.norm - 1.0).abs() < 1e-12, "{net}, {}: {norm}", sample.layer);
    }
    let found = values[nets::logits(&graph).index()].as_slice().unwrap();
    let error = relative_error(found, &golden.logits);
    assert!(error < 1e-12, "{net}, batch {batch}: {error:e}");
}

#[test]
fn alexnet() {
    hold("alexnet", 1, 22);
    hold("alexnet", 3, 22);
}

#[test]
fn alexnet_2gpu() {
    hold("alexnet-2gpu", 1, 22);
    hold("alexnet-2gpu", 3, 22);
}

#[test]
fn alexnet_pytorch() {
    hold("alexnet-pytorch", 1, 20);
    hold("alexnet-pytorch", 3, 20);
}

#[test]
fn alexnet_torchvision() {
    hold("alexnet-torchvision", 1, 20);
    hold("alexnet-torchvision", 3, 20);
}

#[test]
fn other_nets() {
    for net in ["lenet5", "zfnet", "squeezenet1_1", "resnet18"] {
        hold(net, 1, 0);
    }
}

#[test]
fn vgg16() {
    hold("vgg16", 1, 0);
}
