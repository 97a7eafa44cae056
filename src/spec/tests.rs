//! Specs that print and parse back, everything that can be wrong with keys, and texts that nobody
//! would write.

use super::*;
use crate::graph::build::{BuildOptions, load};
use alexc_runtime::preprocess::{Color, Resize};
use expect_test::{Expect, expect};
use proptest::prelude::*;

/// Every spec of the repository.
fn specs() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/specs");
    let mut specs: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    specs.sort();
    assert!(specs.len() >= 10);
    specs
}

fn check(text: &str, drawing: Expect) {
    drawing.assert_eq(&parse("net.yaml", text).unwrap_err().to_string());
}

/// A net over `[3, 8, 8]` with these layers.
fn net(layers: &str) -> String {
    format!("name: n\ninput: {{shape: [1, 3, 8, 8]}}\nlayers:\n{layers}")
}

#[test]
fn printed_specs_parse_back() {
    for (name, text) in specs() {
        let options = BuildOptions::default();
        let (spec, graph) = load(&name, &text, &options).unwrap_or_else(|e| panic!("{e}"));
        let printed = spec.to_string();
        let (again, same) = load("printed", &printed, &options).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(again.to_string(), printed, "{name}");
        assert_eq!(graph, same, "{name}");
    }
}

#[test]
fn defaults_and_notations_are_written_out() {
    let text = "name: 'no'\ninput: {shape: [2, 3, 8, 8]}
preprocess: {resize: [10, 9], crop: 8, mean: 0.5}
labels: a b.txt
layers:
  - {name: a, type: conv, out_channels: 4, kernel_size: [3, 1], padding: {left: 1}, weights: 'true'}
  - {name: b, type: max_pool, kernel_size: [2, 3], padding: [0, 1]}
  - {name: c, type: avg_pool, kernel_size: 1}
  - {name: d, type: lrn, size: 0x3, alpha: 1e-4, beta: 0, k: 1, alpha_scaling: mean}
  - {name: e, type: batch_norm}
  - {name: f, type: add, from: [e, e], in_shape: [4, 2, 3]}
  - {name: g, type: concat, from: [f, e], in_shape: [[4, 2, 3], [4, 2, 3]]}
  - {name: h, type: dropout, p: 0}
  - {name: i, type: linear, out_features: 2, from: h}
";
    expect![[r#"
        name: "no"
        input: {shape: [2, 3, 8, 8]}
        preprocess: {resize: [10, 9], crop: [8, 8], color: rgb, mean: [0.5, 0.5, 0.5], std: [1.0, 1.0, 1.0]}
        labels: "a b.txt"
        layers:
          - {name: a, type: conv, out_channels: 4, kernel_size: [3, 1], stride: 1, padding: {top: 0, left: 1, bottom: 0, right: 0}, dilation: 1, groups: 1, bias: true, weights: "true"}
          - {name: b, type: max_pool, kernel_size: [2, 3], stride: [2, 3], padding: [0, 1], ceil_mode: false}
          - {name: c, type: avg_pool, kernel_size: 1, stride: 1, padding: 0, ceil_mode: false, count_include_pad: true}
          - {name: d, type: lrn, size: 3, alpha: 0.0001, beta: 0.0, k: 1.0, alpha_scaling: mean}
          - {name: e, type: batch_norm, eps: 1.0e-5}
          - {name: f, type: add, from: [e, e], in_shape: [4, 2, 3]}
          - {name: g, type: concat, from: [f, e], in_shape: [[4, 2, 3], [4, 2, 3]]}
          - {name: h, type: dropout, p: 0.0}
          - {name: i, type: linear, out_features: 2, bias: true, from: [h]}
    "#]].assert_eq(&parse("f", text).unwrap().to_string());
}

#[test]
fn names_become_c_identifiers() {
    let identifier = |name: &str| {
        let text =
            format!("name: {name}\ninput: {{shape: [1, 2]}}\nlayers: [{{name: a, type: relu}}]");
        parse("f", &text).unwrap().c_identifier()
    };
    assert_eq!(identifier("alexnet-2gpu"), "alexnet_2gpu");
    assert_eq!(identifier("squeezenet1.1"), "squeezenet1_1");
    assert_eq!(identifier("'2gpu'"), "net_2gpu");
    assert_eq!(identifier("_x"), "net__x");
}

#[test]
fn unknown_and_missing_keys() {
    check(
        "nmae: x\ninput: {shap: [1, 3, 8, 8]}\npreprocess: {crop: 8, bgr: true}\nlayers:
  - {name: a, type: conv, filters: 4, kernal_size: 3, colour: red}
  - {name: b, type: MaxPool, kernel_size: 2}
  - {name: c}
  - {name: d, type: lrn, size: 5}
  - {type: relu}
  - [name, e]
",
        expect![[r#"
            error: the spec: unknown key `nmae`
             --> net.yaml:1:1
              |
            1 | nmae: x
              | ^^^^
              = note: the keys are `name`, `input`, `preprocess`, `labels` and `layers`
              = help: did you mean `name`?

            error: the input: unknown key `shap`
             --> net.yaml:2:9
              |
            2 | input: {shap: [1, 3, 8, 8]}
              |         ^^^^
              = note: the only key is `shape`
              = help: did you mean `shape`?

            error: preprocess: unknown key `bgr`
             --> net.yaml:3:23
              |
            3 | preprocess: {crop: 8, bgr: true}
              |                       ^^^
              = note: the keys are `resize`, `crop`, `color`, `mean` and `std`

            error: layer `a`: unknown key `filters`
             --> net.yaml:5:27
              |
            5 |   - {name: a, type: conv, filters: 4, kernal_size: 3, colour: red}
              |                           ^^^^^^^
              = note: the keys are `out_channels`, `kernel_size`, `stride`, `padding`, `dilation`, `groups`, `bias`, `name`, `type`, `from`, `in_shape`, `out_shape` and `weights`
              = help: did you mean `out_channels`?

            error: layer `a`: unknown key `kernal_size`
             --> net.yaml:5:39
              |
            5 |   - {name: a, type: conv, filters: 4, kernal_size: 3, colour: red}
              |                                       ^^^^^^^^^^^
              = note: the keys are `out_channels`, `kernel_size`, `stride`, `padding`, `dilation`, `groups`, `bias`, `name`, `type`, `from`, `in_shape`, `out_shape` and `weights`
              = help: did you mean `kernel_size`?

            error: layer `a`: unknown key `colour`
             --> net.yaml:5:55
              |
            5 |   - {name: a, type: conv, filters: 4, kernal_size: 3, colour: red}
              |                                                       ^^^^^^
              = note: the keys are `out_channels`, `kernel_size`, `stride`, `padding`, `dilation`, `groups`, `bias`, `name`, `type`, `from`, `in_shape`, `out_shape` and `weights`

            error: layer `b`: unknown type `MaxPool`
             --> net.yaml:6:21
              |
            6 |   - {name: b, type: MaxPool, kernel_size: 2}
              |                     ^^^^^^^
              = note: the types are `conv`, `max_pool`, `avg_pool`, `lrn`, `relu`, `sigmoid`, `tanh`, `dropout`, `flatten`, `linear`, `softmax`, `batch_norm`, `add` and `concat`
              = help: did you mean `max_pool`?

            error: layer `c`: `type` is missing
             --> net.yaml:7:5
              |
            7 |   - {name: c}
              |     ^^^^^
              = note: the types are `conv`, `max_pool`, `avg_pool`, `lrn`, `relu`, `sigmoid`, `tanh`, `dropout`, `flatten`, `linear`, `softmax`, `batch_norm`, `add` and `concat`

            error: layer `d`: `alpha` is missing
             --> net.yaml:8:5
              |
            8 |   - {name: d, type: lrn, size: 5}
              |     ^^^^^

            error: layer `d`: `beta` is missing
             --> net.yaml:8:5
              |
            8 |   - {name: d, type: lrn, size: 5}
              |     ^^^^^

            error: layer `d`: `k` is missing
             --> net.yaml:8:5
              |
            8 |   - {name: d, type: lrn, size: 5}
              |     ^^^^^

            error: layer `d`: `alpha_scaling` is missing
             --> net.yaml:8:5
              |
            8 |   - {name: d, type: lrn, size: 5}
              |     ^^^^^
              = help: give `sum` (the 2012 paper: alpha times the sum of squares) or `mean` (Caffe, PyTorch, ONNX: alpha / size times the sum)

            error: layer 5: `name` is missing
             --> net.yaml:9:5
              |
            9 |   - {type: relu}
              |     ^^^^^

            error: layer 6 is a mapping of keys to values, not a list
              --> net.yaml:10:5
               |
            10 |   - [name, e]
               |     ^^^^^^^^^
        "#]],
    );
}

#[test]
fn wrong_types_and_ranges() {
    check(
        &net("  - {name: a, type: conv, out_channels: -3, kernel_size: 3.0, stride: '2', padding: [1, 2, 3, 4],
     dilation: 99999999999999999999, groups: .inf, bias: yes, in_shape: 3, out_shape: [1, 3, 8, 8]}
  - {name: b, type: dropout, p: 1.5, from: []}
  - {name: c, type: lrn, size: 4, alpha: '1e-4', beta: .nan, k: 0, alpha_scaling: caffe}
  - {name: 1, type: [relu], weights: {a: b}}
  - {name: 'a b', type: relu}
  - {name: e, type: max_pool, kernel_size: {h: 1}, ceil_mode: 1, padding: {up: 1, left: x}}
  - {name: f, type: linear, out_features: ~, bias: \"\"}
  - {name: g, type: batch_norm, eps: 0}
"),
        expect![[r#"
            error: layer `a`: `out_channels` should be a whole number of at least 1, not the number -3
             --> net.yaml:4:41
              |
            4 |   - {name: a, type: conv, out_channels: -3, kernel_size: 3.0, stride: '2', padding: [1, 2, 3, 4],
              |                                         ^^

            error: layer `a`: `kernel_size` should be a whole number of at least 1, not the number 3.0
             --> net.yaml:4:58
              |
            4 |   - {name: a, type: conv, out_channels: -3, kernel_size: 3.0, stride: '2', padding: [1, 2, 3, 4],
              |                                                          ^^^
              = help: write 3

            error: layer `a`: `stride` should be a whole number of at least 1, not the text "2"
             --> net.yaml:4:71
              |
            4 |   - {name: a, type: conv, out_channels: -3, kernel_size: 3.0, stride: '2', padding: [1, 2, 3, 4],
              |                                                                       ^^^
              = help: write 2, without quotes

            error: layer `a`: `padding` should be one number, [before, after] or {top, left, bottom, right}, not a list
             --> net.yaml:4:85
              |
            4 |   - {name: a, type: conv, out_channels: -3, kernel_size: 3.0, stride: '2', padding: [1, 2, 3, 4],
              |                                                                                     ^^^^^^^^^^^^
              = note: it has 4 numbers

            error: layer `a`: `dilation` is 99999999999999999999, but may be at most 1048576
             --> net.yaml:5:16
              |
            5 |      dilation: 99999999999999999999, groups: .inf, bias: yes, in_shape: 3, out_shape: [1, 3, 8, 8]}
              |                ^^^^^^^^^^^^^^^^^^^^

            error: layer `a`: `groups` is inf, but may be at most 4294967296
             --> net.yaml:5:46
              |
            5 |      dilation: 99999999999999999999, groups: .inf, bias: yes, in_shape: 3, out_shape: [1, 3, 8, 8]}
              |                                              ^^^^

            error: layer `a`: `bias` should be true or false, not the text "yes"
             --> net.yaml:5:58
              |
            5 |      dilation: 99999999999999999999, groups: .inf, bias: yes, in_shape: 3, out_shape: [1, 3, 8, 8]}
              |                                                          ^^^
              = help: write true

            error: layer `a`: `in_shape` should be a list of sizes, such as [3, 224, 224], not the number 3
             --> net.yaml:5:73
              |
            5 |      dilation: 99999999999999999999, groups: .inf, bias: yes, in_shape: 3, out_shape: [1, 3, 8, 8]}
              |                                                                         ^

            error: layer `a`: `out_shape` should be [C, H, W] or [features], not a list
             --> net.yaml:5:87
              |
            5 |      dilation: 99999999999999999999, groups: .inf, bias: yes, in_shape: 3, out_shape: [1, 3, 8, 8]}
              |                                                                                       ^^^^^^^^^^^^
              = note: it has 4 numbers
              = help: leave N out: [3, 8, 8]

            error: layer `b`: `p` should be a number from 0 to 1, not the number 1.5
             --> net.yaml:6:33
              |
            6 |   - {name: b, type: dropout, p: 1.5, from: []}
              |                                 ^^^

            error: layer `b`: `from` should be a layer's name or a list of them, not a list
             --> net.yaml:6:44
              |
            6 |   - {name: b, type: dropout, p: 1.5, from: []}
              |                                            ^^
              = note: the list is empty

            error: layer `c`: `size` should be an odd number, for the window has a centre, not the number 4
             --> net.yaml:7:32
              |
            7 |   - {name: c, type: lrn, size: 4, alpha: '1e-4', beta: .nan, k: 0, alpha_scaling: caffe}
              |                                ^
              = help: use 3 or 5

            error: layer `c`: `alpha` should be a number of at least 0, not the text "1e-4"
             --> net.yaml:7:42
              |
            7 |   - {name: c, type: lrn, size: 4, alpha: '1e-4', beta: .nan, k: 0, alpha_scaling: caffe}
              |                                          ^^^^^^
              = help: write 1e-4, without quotes

            error: layer `c`: `beta` should be a number of at least 0, not the number NaN
             --> net.yaml:7:56
              |
            7 |   - {name: c, type: lrn, size: 4, alpha: '1e-4', beta: .nan, k: 0, alpha_scaling: caffe}
              |                                                        ^^^^

            error: layer `c`: `k` should be a number above 0, not the number 0
             --> net.yaml:7:65
              |
            7 |   - {name: c, type: lrn, size: 4, alpha: '1e-4', beta: .nan, k: 0, alpha_scaling: caffe}
              |                                                                 ^

            error: layer `c`: `alpha_scaling` should be `sum` (the 2012 paper: alpha times the sum of squares) or `mean` (Caffe, PyTorch, ONNX: alpha / size times the sum), not the text "caffe"
             --> net.yaml:7:83
              |
            7 |   - {name: c, type: lrn, size: 4, alpha: '1e-4', beta: .nan, k: 0, alpha_scaling: caffe}
              |                                                                                   ^^^^^

            error: layer 4: `name` should be a text, not the number 1
             --> net.yaml:8:12
              |
            8 |   - {name: 1, type: [relu], weights: {a: b}}
              |            ^
              = help: write "1"

            error: layer 4: `type` should be a layer type, not a list
             --> net.yaml:8:21
              |
            8 |   - {name: 1, type: [relu], weights: {a: b}}
              |                     ^^^^^^
              = note: the types are `conv`, `max_pool`, `avg_pool`, `lrn`, `relu`, `sigmoid`, `tanh`, `dropout`, `flatten`, `linear`, `softmax`, `batch_norm`, `add` and `concat`

            error: layer 4: `weights` should be a text, not a mapping
             --> net.yaml:8:38
              |
            8 |   - {name: 1, type: [relu], weights: {a: b}}
              |                                      ^^^^^^

            error: layer `a b`: `name` should be a name, not the text "a b"
             --> net.yaml:9:12
              |
            9 |   - {name: 'a b', type: relu}
              |            ^^^^^
              = note: a name has the letters a-z and A-Z, digits and `_`, `-`, `.`, `/` and `:`, and does not begin with `-` or `.`

            error: layer `e`: `kernel_size` should be one number or [h, w], not a mapping
              --> net.yaml:10:44
               |
            10 |   - {name: e, type: max_pool, kernel_size: {h: 1}, ceil_mode: 1, padding: {up: 1, left: x}}
               |                                            ^^^^^^

            error: layer `e`: `ceil_mode` should be true or false, not the number 1
              --> net.yaml:10:63
               |
            10 |   - {name: e, type: max_pool, kernel_size: {h: 1}, ceil_mode: 1, padding: {up: 1, left: x}}
               |                                                               ^
               = help: write true

            error: layer `e`, padding: unknown key `up`
              --> net.yaml:10:76
               |
            10 |   - {name: e, type: max_pool, kernel_size: {h: 1}, ceil_mode: 1, padding: {up: 1, left: x}}
               |                                                                            ^^
               = note: the keys are `top`, `left`, `bottom` and `right`

            error: layer `e`, padding: `left` should be a whole number of at least 0, not the text "x"
              --> net.yaml:10:89
               |
            10 |   - {name: e, type: max_pool, kernel_size: {h: 1}, ceil_mode: 1, padding: {up: 1, left: x}}
               |                                                                                         ^

            error: layer `f`: `out_features` has no value; it should be a whole number of at least 1
              --> net.yaml:11:43
               |
            11 |   - {name: f, type: linear, out_features: ~, bias: ""}
               |                                           ^

            error: layer `f`: `bias` should be true or false, not the text ""
              --> net.yaml:11:52
               |
            11 |   - {name: f, type: linear, out_features: ~, bias: ""}
               |                                                    ^^

            error: layer `g`: `eps` should be a number above 0, not the number 0
              --> net.yaml:12:38
               |
            12 |   - {name: g, type: batch_norm, eps: 0}
               |                                      ^
        "#]],
    );
}

#[test]
fn duplicates_show_both_places() {
    check(
        "name: x\nname: y\ninput: {shape: [1, 3, 8, 8]}\nlayers:
  - {name: a, type: relu}
  - {name: a, type: tanh, type: relu}
  - {name: input, type: relu}
",
        expect![[r#"
            error: the spec: `name` is given twice
             --> net.yaml:2:1
              |
            1 | name: x
              | ---- first here
            2 | name: y
              | ^^^^ again here
              = help: keep one of them

            error: two layers are called `a`
             --> net.yaml:6:12
              |
            5 |   - {name: a, type: relu}
              |            - first here
            6 |   - {name: a, type: tanh, type: relu}
              |            ^ again here
              = help: give each layer a name of its own

            error: layer `a`: `type` is given twice
             --> net.yaml:6:27
              |
            6 |   - {name: a, type: tanh, type: relu}
              |                           ^^^^ again here
              |               ---- first here
              = help: keep one of them

            error: layer `input`: the net's input has this name
             --> net.yaml:7:12
              |
            7 |   - {name: input, type: relu}
              |            ^^^^^
              = help: call the layer something else
        "#]],
    );
}

#[test]
fn preprocessing_makes_the_input() {
    let with = |shape: &str, preprocess: &str| {
        let text = format!(
            "name: n\ninput: {{shape: {shape}}}\npreprocess: {preprocess}\nlayers: [{{name: a, type: relu}}]"
        );
        parse("f", &text).map(|spec| spec.preprocess.unwrap())
    };
    let rgb = "[1, 3, 224, 224]";
    let preprocess = with(rgb, "{resize: 256, crop: 224, mean: [1, 2, 3], std: 2}").unwrap();
    assert_eq!(preprocess.resize, Some(Resize::Shorter(256)));
    assert_eq!((preprocess.mean, preprocess.std), (vec![1.0, 2.0, 3.0], vec![2.0; 3]));
    assert_eq!(with("[1, 1, 8, 8]", "{resize: [8, 8]}").unwrap().color, Color::Gray);
    for (shape, preprocess, message) in [
        (rgb, "{resize: 256, crop: 227}", "makes 227x227 pictures, but the input is 224x224"),
        (rgb, "{resize: 224}", "fits the shorter side alone"),
        (rgb, "{crop: 224, color: gray}", "makes 1 channel, but the input has 3"),
        (rgb, "{crop: 224, color: grey}", "write gray"),
        (rgb, "{crop: 224, mean: [1, 2]}", "one number for each of the 3 channels"),
        (rgb, "{crop: 224, std: 0}", "a number above 0"),
        ("[1, 4, 8, 8]", "{crop: 8}", "makes 3 channels, but the input has 4"),
        ("[1, 10]", "{crop: 8}", "the input is a vector"),
    ] {
        let error = with(shape, preprocess).unwrap_err().to_string();
        assert!(error.contains(message), "{preprocess}:\n{error}");
    }
}

#[test]
fn changes_from_the_command_line() {
    let text = net("  - {name: a.b, type: conv, out_channels: 4, kernel_size: 3}\n");
    let read = |sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let Parsed { spec, mut diagnostics } = parse_with("net.yaml", &text, &sets);
        diagnostics.sort();
        (spec, diagnostics.to_string())
    };
    let (spec, errors) = read(&[
        "a.b.stride=[2, 1]",
        "a.b.stride=3",
        "name=other",
        "input.shape=[1,3,9,9]",
        "preprocess.crop=9",
        "labels=x.txt",
    ]);
    assert_eq!(errors, "");
    let spec = spec.unwrap();
    assert_eq!(spec.name.value, "other");
    assert_eq!(spec.input.value.h(), 9);
    assert_eq!(spec.preprocess.unwrap().crop, Some([9, 9]));
    assert!(matches!(&spec.layers[0].kind, Kind::Conv { window, .. } if window.stride == [3, 3]));
    assert!(spec.layers[0].changed());
    let (_, errors) = read(&[
        "a.b.strid=2",
        "a.c.stride=2",
        "a.b.stride=[2",
        "a.b.kernel_size=0",
        "stride",
        ".x=3",
        "a.b.groups=",
        "=",
        "colour=1",
    ]);
    expect![[r#"
        error: layer `a.b`: unknown key `strid`
         --> --set:1:5
          |
        1 | a.b.strid=2
          |     ^^^^^
          = note: the keys are `out_channels`, `kernel_size`, `stride`, `padding`, `dilation`, `groups`, `bias`, `name`, `type`, `from`, `in_shape`, `out_shape` and `weights`
          = help: did you mean `stride`?

        error: there is no layer `a.c` to change
         --> --set:1:1
          |
        1 | a.c.stride=2
          | ^^^
          = help: did you mean `a.b`?

        error: not YAML: unclosed bracket '['
         --> --set:1:12
          |
        1 | a.b.stride=[2
          |            ^

        error: layer `a.b`: `kernel_size` should be a whole number of at least 1, not the number 0
         --> --set:1:17
          |
        1 | a.b.kernel_size=0
          |                 ^

        error: a change is LAYER.KEY=VALUE
         --> --set:1:1
          |
        1 | stride
          | ^^^^^^
          = help: such as --set conv1.stride=2, --set input.shape=[1,3,227,227] or --set name=net

        error: a change is LAYER.KEY=VALUE
         --> --set:1:1
          |
        1 | .x=3
          | ^^^^
          = help: such as --set conv1.stride=2, --set input.shape=[1,3,227,227] or --set name=net

        error: layer `a.b`: `groups` has no value; it should be a whole number of at least 1
         --> --set:1:12
          |
        1 | a.b.groups=
          |            ^

        error: a change is LAYER.KEY=VALUE
         --> --set:1:1
          |
        1 | =
          | ^
          = help: such as --set conv1.stride=2, --set input.shape=[1,3,227,227] or --set name=net

        error: the spec: unknown key `colour`
         --> --set:1:1
          |
        1 | colour=1
          | ^^^^^^
          = note: the keys are `name`, `input`, `preprocess`, `labels` and `layers`
    "#]].assert_eq(&errors);
}

#[test]
fn files_that_hold_no_spec() {
    for (text, message) in [
        ("", "the file holds no spec"),
        ("# nothing\n", "the file holds no spec"),
        ("~", "the file holds no spec"),
        ("42", "the spec is a mapping of keys to values, not the number 42"),
        ("- a\n- b\n", "the spec is a mapping of keys to values, not a list"),
        ("name: n\ninput: [1, 3, 8, 8]\nlayers: []\n", "`layers` is empty"),
        ("name: n\ninput: {shape: [3, 8, 8]}\nlayers: 3\n", "state the batch too: [1, 3, 8, 8]"),
        ("name: n\n? [a]\n: 3\n", "a key is a word, not a list"),
        ("name: n\n<<: 3\n", "`<<` merges mappings"),
    ] {
        let error = parse("f", text).unwrap_err().to_string();
        assert!(error.contains(message), "{text:?}:\n{error}");
    }
}

/// Pieces that are put into specs.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "0",
            "-1",
            "99999999999999999999",
            "4294967296",
            "1e400",
            ".nan",
            "~",
            "''",
            "[",
            "]",
            "{",
            "}",
            ",",
            ": ",
            "\n",
            "\n  - ",
            "&a ",
            "*a",
            "<<: ",
            "true",
            "from: [conv1, pool1]",
            "conv1",
            "input",
            "padding: 1048576",
            "stride: 3",
            "kernel_size: 224",
            "groups: 96",
            "type: concat",
            "type: add",
            "ceil_mode: true",
            "\t",
            "'",
            "\"",
            "#",
            "|",
            "é",
            "\u{0}",
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,8}",
        any::<u64>().prop_map(|number| number.to_string()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_change_of_a_spec_crashes(
        which in 0..10usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..40usize, piece()), 1..6),
        set in "[a-z0-9.]{0,9}=?[-\\[0-9a-z,.]{0,6}",
        batch in prop::option::of(prop_oneof![1..9usize, Just(usize::MAX)]),
    ) {
        let mut text = specs()[which].1.clone();
        for (place, length, piece) in changes {
            let start = text.floor_char_boundary(place.index(text.len() + 1));
            let end = text.floor_char_boundary((start + length).min(text.len()));
            text.replace_range(start..end, &piece);
        }
        match load("f", &text, &BuildOptions { batch, sets: vec![set] }) {
            Ok((spec, graph)) => {
                prop_assert!(graph.values.iter().all(|value| !value.shape.is_empty()));
                let printed = spec.to_string();
                prop_assert_eq!(parse("f", &printed).unwrap().to_string(), printed);
            }
            Err(errors) => {
                prop_assert!(errors.has_errors());
                prop_assert!(!errors.to_string().is_empty());
                prop_assert!(errors.to_json()["errors"].is_array());
            }
        }
    }

    #[test]
    fn no_text_crashes(text in "\\PC{0,80}") {
        let _ = parse("f", &text).map_err(|errors| errors.to_string());
    }
}
