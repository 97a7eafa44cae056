//! Graphs of the repository's specs, and what is said about specs that are wrong.

use super::*;
use expect_test::{Expect, expect};

fn load_text(text: &str, sets: &[&str]) -> Result<(Spec, Graph), Diagnostics> {
    let sets = sets.iter().map(|set| (*set).to_owned()).collect();
    load("net.yaml", text, &BuildOptions { batch: None, sets })
}

fn load_spec(name: &str, sets: &[&str]) -> Graph {
    let path = format!("{}/specs/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    load_text(&text, sets).unwrap_or_else(|errors| panic!("{name}:\n{errors}")).1
}

/// A net over `[3, 8, 8]` with these layers, one a line.
fn net(layers: &str) -> String {
    let layers: String = layers.lines().map(|line| format!("  - {{{}}}\n", line.trim())).collect();
    format!("name: n\ninput: {{shape: [1, 3, 8, 8]}}\nlayers:\n{layers}")
}

fn check(text: &str, sets: &[&str], drawing: Expect) {
    drawing.assert_eq(&load_text(text, sets).unwrap_err().to_string());
}

/// Elements of all tensors that training changes.
fn parameters(graph: &Graph) -> usize {
    graph
        .tensors()
        .into_iter()
        .filter(|tensor| !tensor.name.contains(".running_"))
        .map(Tensor::len)
        .sum()
}

#[test]
fn parameters_of_well_known_nets() {
    // As torchvision's documentation states them (`num_params`).
    for (name, count) in [
        ("alexnet-torchvision", 61_100_840),
        ("vgg16", 138_357_544),
        ("squeezenet1_1", 1_235_496),
        ("resnet18", 11_689_512),
    ] {
        assert_eq!(parameters(&load_spec(name, &[])), count, "{name}");
    }
    // 60,965,224: the count for the 2012 layout that the literature repeats.
    assert_eq!(parameters(&load_spec("alexnet-2gpu", &[])), 60_965_224);
    // LeNet-5 with full connections in its second convolution.
    assert_eq!(parameters(&load_spec("lenet5", &[])), 61_706);
}

#[test]
fn maps_of_alexnet_shrink_as_its_table_says() {
    for name in ["alexnet", "alexnet-2gpu", "alexnet-pytorch", "alexnet-torchvision"] {
        let graph = load_spec(name, &[]);
        let size = |layer: &str| graph.values.iter().find(|v| v.name == layer).unwrap().shape.h();
        let sizes = ["input", "conv1", "pool1", "pool2", "pool5"].map(size);
        assert_eq!(sizes, [224, 55, 27, 13, 6], "{name}");
    }
}

#[test]
fn nodes_know_their_layers_and_tensors() {
    let graph = load_spec("resnet18", &[]);
    let add = graph.nodes.iter().find(|node| node.name == "layer2.0.add").unwrap();
    let names: Vec<&str> =
        add.inputs.iter().map(|id| graph.values[id.index()].name.as_str()).collect();
    assert_eq!(names, ["layer2.0.bn2", "layer2.0.downsample.1"]);
    assert_eq!(add.sources, ["layer2.0.add"]);
    assert_eq!(graph.values[graph.output.index()].name, "fc");
    let Op::BatchNorm(bn) = &graph.nodes[1].op else { panic!() };
    assert_eq!(bn.running_var, Tensor { name: "bn1.running_var".into(), shape: vec![64] });
    let Op::Conv(conv) = &graph.nodes[0].op else { panic!() };
    assert_eq!(conv.bias, None);
}

#[test]
fn batch_and_sets_change_the_net() {
    let text = net("name: a, type: conv, out_channels: 4, kernel_size: 3, out_shape: [4, 6, 6]
        name: b, type: linear, out_features: 10, in_shape: [144], out_shape: [10]
        name: c, type: softmax, out_shape: [10]");
    let options = BuildOptions { batch: Some(7), sets: vec![] };
    let (_, graph) = load("f", &text, &options).unwrap();
    assert_eq!(graph.values.last().unwrap().shape, Shape::vector(7, 10));
    // What follows from a change is not held against the file, whose author meant another net.
    let (_, graph) = load_text(&text, &["b.out_features=3", "a.padding=1"]).unwrap();
    assert_eq!(graph.values[1].shape, Shape::map(1, 4, 8, 8));
    assert_eq!(graph.values.last().unwrap().shape, Shape::vector(1, 3));
    // But what stands above the change is, and what the command line states.
    let wrong = text.replace("[4, 6, 6]", "[4, 7, 7]");
    assert!(load_text(&wrong, &["b.out_features=3"]).is_err());
    assert!(load_text(&text, &["b.out_features=3", "c.out_shape=[4]"]).is_err());
    let (_, graph) = load_text(&text, &["input.shape=[2,3,10,10]"]).unwrap();
    assert_eq!(graph.values[1].shape, Shape::map(2, 4, 8, 8));
}

#[test]
fn a_wrong_size_is_told_once_with_its_arithmetic() {
    check(
        &net("name: a, type: conv, out_channels: 4, kernel_size: 3, padding: [1, 2], out_shape: [4, 8, 8]
            name: p, type: max_pool, kernel_size: 2, out_shape: [4, 4, 4]
            name: l, type: linear, out_features: 2, in_shape: [64], out_shape: [2]"),
        &[],
        expect![[r#"
            error: layer `a`: `out_shape` states [4, 8, 8], but [4, 9, 9] follows
             --> net.yaml:4:88
              |
            4 |   - {name: a, type: conv, out_channels: 4, kernel_size: 3, padding: [1, 2], out_shape: [4, 8, 8]}
              |                                                                                        ^^^^^^^^^ follows as [4, 9, 9]
              = note: what comes in is [3, 8, 8]
              = note: rows: floor((8 - 1*(3-1) - 1 + 1 + 2) / 1) + 1 = 9
              = note: columns: floor((8 - 1*(3-1) - 1 + 1 + 2) / 1) + 1 = 9
              = help: write out_shape: [4, 9, 9], or change `out_channels`, `kernel_size`, `stride`, `padding`, `dilation`
        "#]],
    );
}

#[test]
fn every_error_of_a_file_is_told() {
    check(
        &net("name: a, type: conv, out_channels: 5, kernel_size: 9, groups: 2
            name: b, type: lrn, size: 5, alpha: 1, beta: 1, k: 1, alpha_scaling: sum, in_shape: [5, 4, 4]
            name: c, type: conv, out_channels: 6, kernel_size: 1, groups: 2
            name: d, type: linear, out_features: 10, in_shape: [81]
            name: e, type: conv, out_channels: 1, kernel_size: 1
            name: f, type: add
            name: g, type: add, from: [d, input]
            name: h, type: relu"),
        &[],
        expect![[r#"
            error: layer `a`: the kernel covers 9 rows, but the padded input has 8
             --> net.yaml:4:57
              |
            4 |   - {name: a, type: conv, out_channels: 5, kernel_size: 9, groups: 2}
              |                                                         ^
              = note: what comes in is [3, 8, 8] (the net's input)
              = note: rows: 1*(9-1) + 1 = 9 > 0 + 8 + 0 = 8
              = help: use a kernel_size of at most 8 here, or pad by 1 row more

            error: layer `c`: 2 groups do not divide 5 input channels
             --> net.yaml:6:68
              |
            6 |   - {name: c, type: conv, out_channels: 6, kernel_size: 1, groups: 2}
              |                                                                    ^
              = note: what comes in is [5, 4, 4] (from layer `b`)
              = note: 5 = 2*2 + 1
              = help: make groups a divisor of 5 (such as 1)

            error: layer `e`: conv needs maps [C, H, W], but its input is a vector of 10 features
             --> net.yaml:8:21
              |
            8 |   - {name: e, type: conv, out_channels: 1, kernel_size: 1}
              |                     ^^^^
              = note: what comes in is [10] (from layer `d`)
              = help: move the layer above `flatten` and `linear`, or read a map with `from`

            error: layer `f`: nothing reads what it makes
             --> net.yaml:9:12
              |
            9 |   - {name: f, type: add}
              |            ^
              = note: the net's output is what the last layer makes
              = help: read it with `from`, or remove the layer

            error: layer `f`: add reads at least 2 inputs, but has 1
             --> net.yaml:9:21
              |
            9 |   - {name: f, type: add}
              |                     ^^^
              = help: give it at least 2 inputs with `from`

            error: layer `g`: add needs inputs of one shape, but input 2 is 1x3x8x8 and the first is 1x10
              --> net.yaml:10:32
               |
            10 |   - {name: g, type: add, from: [d, input]}
               |                                ^^^^^^^^^^
               = help: make the branches end in one shape: same channels, same stride in total
        "#]],
    );
}

#[test]
fn names_that_lead_nowhere() {
    check(
        &net("name: one, type: relu, from: on
            name: two, type: relu, from: two
            name: three, type: relu, from: four
            name: four, type: relu, from: three
            name: five, type: relu, from: six
            name: six, type: relu, from: input"),
        &[],
        expect![[r#"
            error: layer `one`: there is no layer `on`
             --> net.yaml:4:35
              |
            4 |   - {name: one, type: relu, from: on}
              |                                   ^^

            error: layer `two` reads itself
             --> net.yaml:5:35
              |
            5 |   - {name: two, type: relu, from: two}
              |                                   ^^^
              = help: name a layer above it

            error: layer `three`: `from` makes a cycle
             --> net.yaml:6:37
              |
            6 |   - {name: three, type: relu, from: four}
              |                                     ^^^^
            7 |   - {name: four, type: relu, from: three}
              |            ---- `four` stands here
              = note: three reads four, which reads three
              = help: a layer reads layers above it: reorder them

            error: layer `five` reads `six`, which stands below it
             --> net.yaml:8:36
              |
            8 |   - {name: five, type: relu, from: six}
              |                                    ^^^
            9 |   - {name: six, type: relu, from: input}
              |            --- `six` stands here
              = help: a layer reads layers above it: reorder them
        "#]],
    );
}

#[test]
fn layers_that_nothing_reads() {
    check(
        &net("name: a, type: relu
            name: b, type: tanh, from: input
            name: c, type: sigmoid, from: input"),
        &[],
        expect![[r#"
            error: layer `a`: nothing reads what it makes
             --> net.yaml:4:12
              |
            4 |   - {name: a, type: relu}
              |            ^
              = note: the net's output is what the last layer makes
              = help: read it with `from`, or remove the layer

            error: layer `b`: nothing reads what it makes
             --> net.yaml:5:12
              |
            5 |   - {name: b, type: tanh, from: input}
              |            ^
              = note: the net's output is what the last layer makes
              = help: read it with `from`, or remove the layer
        "#]],
    );
}

#[test]
fn shared_tensors_have_one_shape() {
    let shared = "name: a, type: conv, out_channels: 3, kernel_size: 1, weights: w
            name: b, type: conv, out_channels: 3, kernel_size: 1, weights: w";
    assert!(load_text(&net(shared), &[]).is_ok());
    check(
        &net("name: a, type: conv, out_channels: 3, kernel_size: 1
            name: b, type: conv, out_channels: 3, kernel_size: 3, weights: a"),
        &[],
        expect![[r#"
            error: layers `a` and `b` share the tensor `a.weight`, but one needs the shape [3, 3, 1, 1] and the other [3, 3, 3, 3]
             --> net.yaml:5:69
              |
            4 |   - {name: a, type: conv, out_channels: 3, kernel_size: 1}
              |            - first named here
            5 |   - {name: b, type: conv, out_channels: 3, kernel_size: 3, weights: a}
              |                                                                     ^
              = help: give each its own `weights`
        "#]],
    );
}

#[test]
fn sizes_beyond_every_machine() {
    check(
        &net("name: a, type: conv, out_channels: 1000000000, kernel_size: 3, out_shape: [4000000000, 4000000000, 4000000000]
            name: b, type: linear, out_features: 4294967296
            name: c, type: relu"),
        &["input.shape=[4294967296,4294967296,4294967296,4294967296]"],
        expect![[r#"
            error: `input`: the input would have more than 4294967296 elements (16 GiB of f32)
             --> --set:1:13
              |
            1 | input.shape=[4294967296,4294967296,4294967296,4294967296]
              |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              = note: 4294967296 * 4294967296 * 4294967296 * 4294967296 = 3.4e38
              = help: use fewer channels, a smaller map or a smaller batch
        "#]],
    );
    check(
        &net("name: a, type: conv, out_channels: 1000000000, kernel_size: 3"),
        &[],
        expect![[r#"
            error: layer `a`: the weight would have more than 4294967296 elements (16 GiB of f32)
             --> net.yaml:4:21
              |
            4 |   - {name: a, type: conv, out_channels: 1000000000, kernel_size: 3}
              |                     ^^^^
              = note: what comes in is [3, 8, 8] (the net's input)
              = note: 1000000000 * 3 * 3 * 3 = 2.7e10
              = help: use fewer channels, a smaller map or a smaller batch
        "#]],
    );
}
