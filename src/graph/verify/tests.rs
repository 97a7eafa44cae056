use super::{GraphError, verify};
use crate::graph::{Graph, ValueId, text::parse};

/// A convolution with everything, a branch, and a linear layer.
const GOOD: &str = "graph g
input: 1x8x6x6

conv -> pool: 1x4x2x2 = conv(input)
  kernel 3x3, stride 1x1, out_channels 4
  weight w [4, 8, 3, 3]
  then relu
  then lrn(size 3, alpha 0.5, beta 0.75, k 1.0, alpha_scaling mean)
  then max_pool(kernel 2x2, stride 2x2)
  from [conv, relu, lrn, pool]

side: 1x4x2x2 = sigmoid(pool)

sum: 1x4x2x2 = add(pool, side)

fc: 1x10 = linear(sum)
  out_features 10
  weight fc.weight [10, 16]
  then relu

output fc
";

fn good() -> Graph {
    parse(GOOD).unwrap()
}

/// What the verifier says of the good graph with some text replaced.
fn errors(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    messages(&parse(&GOOD.replacen(from, to, 1)).unwrap())
}

fn messages(graph: &Graph) -> Vec<String> {
    verify(graph).unwrap_err().iter().map(GraphError::to_string).collect()
}

#[test]
fn a_good_graph() {
    assert_eq!(verify(&good()), Ok(()));
}

#[test]
fn names_are_unique() {
    assert_eq!(errors("side: 1x4", "sum -> side: 1x4"), ["two nodes are named `sum`"]);
    let mut graph = good();
    graph.values[2].name = "pool".to_owned();
    assert_eq!(messages(&graph), ["two values are named `pool`"]);
}

#[test]
fn nodes_come_from_layers() {
    assert_eq!(
        errors("from [conv, relu, lrn, pool]", "from []"),
        ["node `conv` names no layer of the spec that it came from"]
    );
}

#[test]
fn nodes_stand_in_an_order_in_which_they_can_run() {
    assert_eq!(
        errors("sigmoid(pool)", "sigmoid(sum)"),
        ["node `side` reads `sum`, which no node before it makes"]
    );
    assert_eq!(
        errors("sigmoid(pool)", "sigmoid(side)"),
        ["node `side` reads `side`, which no node before it makes"]
    );
}

#[test]
fn values_are_made_once() {
    let mut graph = good();
    graph.nodes[2].output = graph.nodes[1].output;
    assert_eq!(
        messages(&graph),
        [
            "node `sum` makes `side`, which is there already",
            "node `fc` reads `sum`, which no node before it makes",
            "no node makes `sum`",
        ]
    );
    let mut graph = good();
    graph.nodes[1].output = graph.input;
    assert!(messages(&graph)[0].contains("node `side` makes `input`, which is there already"));
}

#[test]
fn values_exist() {
    let mut graph = good();
    graph.nodes[1].inputs[0] = ValueId(9);
    assert_eq!(messages(&graph), ["node `side` refers to value 9, but the graph has 5"]);
    assert!(graph.to_string().contains("sigmoid(\"?\")"), "a broken graph still prints");
    let mut graph = good();
    graph.output = ValueId(5);
    assert_eq!(messages(&graph), ["the output refers to value 5, but the graph has 5"]);
}

#[test]
fn shapes_follow() {
    assert_eq!(
        errors("pool: 1x4x2x2", "pool: 1x4x3x2")[0],
        "`pool` has shape 1x4x3x2, but node `conv` makes 1x4x2x2"
    );
    assert_eq!(
        errors("weight w [4, 8, 3, 3]", "weight w [4, 8, 3, 2]"),
        ["node `conv`: tensor `w` has shape [4, 8, 3, 2], but conv needs [4, 8, 3, 3]"]
    );
    assert_eq!(
        errors("add(pool, side)", "add(pool)"),
        ["node `sum`: add reads at least 2 inputs, but has 1"]
    );
    assert_eq!(
        errors("then relu\n  then lrn", "then add\n  then lrn"),
        ["node `conv`: conv reads 2 inputs, but has 1"]
    );
    assert_eq!(
        errors("input: 1x8", "input: 0x8")[0],
        "the input has shape 0x8x6x6, which holds nothing"
    );
}

#[test]
fn a_tensor_has_one_shape() {
    let mut graph = good();
    let text = graph.to_string().replace("fc.weight", "w");
    assert_eq!(
        messages(&parse(&text).unwrap()),
        ["node `fc` reads tensor `w` as [10, 16], a node before it as [4, 8, 3, 3]"]
    );
    graph.nodes.truncate(3);
    assert_eq!(graph.tensors().len(), 1);
}

#[test]
fn linear_layers_have_elementwise_epilogues() {
    let pool = "[10, 16]\n  then max_pool(kernel 1x1, stride 1x1)";
    let messages = errors("[10, 16]", pool);
    assert!(
        messages
            .contains(&"node `fc`: pooling cannot follow a linear layer inside its kernel".into()),
        "{messages:?}"
    );
}

#[test]
fn numbers_are_finite() {
    assert_eq!(errors("beta 0.75", "beta inf"), ["node `conv`: beta is inf"]);
    assert_eq!(errors("alpha 0.5", "alpha NaN"), ["node `conv`: alpha is NaN"]);
}
