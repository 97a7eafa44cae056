use super::parse;
use crate::graph::{
    Activation, AlphaScaling, BatchNorm, Conv, Epilogue, Graph, Linear, Lrn, Node, Op, Padding,
    Pool, PoolKind, Tensor, Value, ValueId, Window, verify::verify,
};
use crate::shape::Shape;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const EXAMPLE: &str = r#"graph alexnet
input: 1x3x224x224

conv1 -> pool1: 1x96x27x27 = conv(input)
  kernel 11x11, stride 4x4, padding [1, 1, 2, 2], out_channels 96
  weight features.0.weight [96, 3, 11, 11]
  bias features.0.bias [96]
  then relu
  then lrn(size 5, alpha 0.0001, beta 0.75, k 2.0, alpha_scaling sum)
  then max_pool(kernel 3x3, stride 2x2)
  from [conv1, relu1, norm1, pool1]

"conv 2 -> \"b\"" -> "ünder\n": 1x96x27x27 = conv(pool1, pool1)
  kernel 1x1, stride 1x1, out_channels 96, groups 96
  weight w [96, 1, 1, 1]
  batch_norm(eps 1e-5,
    weight bn.weight [96],
    bias bn.bias [96],
    running_mean bn.running_mean [96],
    running_var bn.running_var [96])
  then add

output "ünder\n"
"#;

#[test]
fn the_example_reads_and_prints() {
    let graph = parse(EXAMPLE).unwrap();
    assert_eq!(graph.name, "alexnet");
    assert_eq!(graph.values[0].shape, Shape::map(1, 3, 224, 224));
    assert_eq!(graph.nodes[1].name, "conv 2 -> \"b\"");
    assert_eq!(graph.values[2].name, "ünder\n");
    assert_eq!(graph.nodes[1].sources, ["conv 2 -> \"b\""]);
    assert_eq!(graph.nodes[0].sources, ["conv1", "relu1", "norm1", "pool1"]);
    let Op::Conv(conv) = &graph.nodes[0].op else { panic!() };
    assert_eq!(conv.window.padding, Padding { top: 1, left: 1, bottom: 2, right: 2 });
    assert_eq!(conv.epilogue.len(), 3);
    assert_eq!(verify(&graph), Ok(()));
    assert_eq!(graph.to_string(), EXAMPLE);
}

#[test]
fn errors_name_the_place() {
    let error = |text: &str| parse(text).unwrap_err().to_string();
    assert_eq!(error(""), "1:1: expected `graph`, found the end of the text");
    assert_eq!(
        error("graph g\ninput: 1x2x3"),
        "2:8: expected a shape, as in `1x3x224x224` or `1x1000`"
    );
    assert_eq!(
        error("graph g\ninput: 1x2xq"),
        "2:8: expected a shape, as in `1x3x224x224` or `1x1000`, found `1x2xq`"
    );
    let head = "graph g\ninput: 1x8x4x4\n";
    let at = |rest: &str| error(&format!("{head}{rest}"));
    assert_eq!(at("a: 1x8x4x4 = rely(input)\noutput a"), "3:14: no operator is called `rely`");
    assert_eq!(at("a: 1x8x4x4 = relu(b)\noutput a"), "3:19: no value is named `b`");
    assert_eq!(at("a: 1x8x4x4 = relu(input)\noutput b"), "4:8: no value is named `b`");
    assert_eq!(
        at("a -> input: 1x8x4x4 = relu(input)\noutput a"),
        "3:1: a second value is named `input`"
    );
    assert_eq!(
        at("a: 1x8x4x4 = relu(input)\n  size 3\noutput a"),
        "4:3: relu has no attribute `size`"
    );
    assert_eq!(
        at("a: 1x8x4x4 = lrn(input)\n  size 3, size 3\noutput a"),
        "4:11: `size` is given twice"
    );
    assert_eq!(at("a: 1x8x4x4 = lrn(input)\n  size 3\noutput a"), "3:14: `alpha` is missing");
    assert_eq!(
        at("a: 1x8x4x4 = dropout(input)\n  p half\noutput a"),
        "4:5: expected a number, found `half`"
    );
    assert_eq!(
        at("a: 1x8x4x4 = max_pool(input)\n  kernel 3, stride 1x1\noutput a"),
        "4:10: expected rows x columns, as in `3x3`"
    );
    assert_eq!(
        at("a: 1x8x4x4 = linear(input)\n  then dance\noutput a"),
        "4:8: no epilogue is called `dance`"
    );
    assert_eq!(
        at("a: 1x8x4x4 = relu(input)"),
        "3:25: expected a node or `output`, found the end of the text"
    );
    assert_eq!(at("output input\nx"), "4:1: expected nothing after the output, found `x`");
    assert_eq!(at("\"a\noutput a"), "3:1: this quoted name does not end on its line");
    assert_eq!(at("\"\\q\""), "3:1: this name has an escape other than \\\" \\\\ \\n \\t \\u{..}");
    assert_eq!(at("é"), "3:1: unexpected character 'é'");
    assert_eq!(
        at("a: 1x99999999999999999999999 = flatten(input)\noutput a"),
        "3:4: expected a shape, as in `1x3x224x224` or `1x1000`, found \
         `1x99999999999999999999999`"
    );
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9_./+-]{1,6}", any::<String>(), "[\"\\\\\n\t# ->u{}]{0,6}"]
}

fn pair() -> impl Strategy<Value = [usize; 2]> {
    (any::<usize>(), 0usize..3).prop_map(|(h, w)| [h, w])
}

fn window() -> impl Strategy<Value = Window> {
    (pair(), pair(), prop_oneof![Just([1, 1]), pair()], [0usize..2, 0..2, 0..2, 0..2]).prop_map(
        |(kernel, stride, dilation, [top, left, bottom, right])| Window {
            kernel,
            stride,
            dilation,
            padding: Padding { top, left, bottom, right },
        },
    )
}

fn tensor() -> impl Strategy<Value = Tensor> {
    (name(), vec(any::<usize>(), 0..5)).prop_map(|(name, shape)| Tensor { name, shape })
}

fn finite() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("NaN equals nothing", |number| !number.is_nan())
}

fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![Just(Activation::Relu), Just(Activation::Sigmoid), Just(Activation::Tanh)]
}

fn lrn() -> impl Strategy<Value = Lrn> {
    let scaling = prop_oneof![Just(AlphaScaling::Sum), Just(AlphaScaling::Mean)];
    (any::<usize>(), finite(), finite(), finite(), scaling).prop_map(
        |(size, alpha, beta, k, alpha_scaling)| Lrn { size, alpha, beta, k, alpha_scaling },
    )
}

fn pool() -> impl Strategy<Value = Pool> {
    let kind = prop_oneof![Just(PoolKind::Max), Just(PoolKind::Avg)];
    (kind, window(), any::<bool>(), any::<bool>()).prop_map(
        |(kind, window, ceil_mode, count_include_pad)| Pool {
            kind,
            window,
            ceil_mode,
            count_include_pad,
        },
    )
}

fn batch_norm() -> impl Strategy<Value = BatchNorm> {
    (finite(), tensor(), tensor(), tensor(), tensor()).prop_map(
        |(eps, weight, bias, running_mean, running_var)| BatchNorm {
            eps,
            weight,
            bias,
            running_mean,
            running_var,
        },
    )
}

fn epilogue() -> impl Strategy<Value = Vec<Epilogue>> {
    let step = prop_oneof![
        activation().prop_map(Epilogue::Activation),
        Just(Epilogue::Add),
        lrn().prop_map(Epilogue::Lrn),
        pool().prop_map(Epilogue::Pool),
    ];
    vec(step, 0..4)
}

fn op() -> impl Strategy<Value = Op> {
    let conv = (
        window(),
        any::<usize>(),
        0usize..3,
        tensor(),
        option::of(tensor()),
        option::of(batch_norm()),
        epilogue(),
    )
        .prop_map(|(window, out_channels, groups, weight, bias, batch_norm, epilogue)| {
            Op::Conv(Conv { window, out_channels, groups, weight, bias, batch_norm, epilogue })
        });
    let linear = (any::<usize>(), tensor(), option::of(tensor()), epilogue()).prop_map(
        |(out_features, weight, bias, epilogue)| {
            Op::Linear(Linear { out_features, weight, bias, epilogue })
        },
    );
    prop_oneof![
        conv,
        linear,
        pool().prop_map(Op::Pool),
        lrn().prop_map(Op::Lrn),
        activation().prop_map(Op::Activation),
        finite().prop_map(|p| Op::Dropout { p }),
        Just(Op::Flatten),
        Just(Op::Softmax),
        batch_norm().prop_map(Op::BatchNorm),
        Just(Op::Add),
        Just(Op::Concat),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        (any::<usize>(), 0usize..9, 0usize..9, 0usize..9)
            .prop_map(|(n, c, h, w)| Shape::map(n, c, h, w)),
        (any::<usize>(), any::<usize>()).prop_map(|(n, features)| Shape::vector(n, features)),
    ]
}

/// Not graphs that make sense: anything that the types can hold, values numbered by their makers.
fn graph() -> impl Strategy<Value = Graph> {
    let node = (
        name(),
        op(),
        vec(any::<prop::sample::Index>(), 0..4),
        option::of(vec(name(), 0..4)),
        (option::of(name()), shape()),
    );
    (name(), (name(), shape()), vec(node, 0..5), any::<prop::sample::Index>()).prop_filter_map(
        "value names are unique",
        |(name, (input, input_shape), nodes, output)| {
            let mut graph = Graph {
                name,
                values: vec![Value { name: input, shape: input_shape }],
                nodes: Vec::new(),
                input: ValueId(0),
                output: ValueId(output.index(nodes.len() + 1) as u32),
            };
            let count = nodes.len() + 1;
            for (index, (name, op, inputs, sources, (value, shape))) in
                nodes.into_iter().enumerate()
            {
                let value = value.unwrap_or_else(|| name.clone());
                if graph.values.iter().any(|other| other.name == value) {
                    return None;
                }
                graph.values.push(Value { name: value, shape });
                graph.nodes.push(Node {
                    sources: sources.unwrap_or_else(|| vec![name.clone()]),
                    name,
                    op,
                    inputs: inputs.iter().map(|i| ValueId(i.index(count) as u32)).collect(),
                    output: ValueId(index as u32 + 1),
                });
            }
            Some(graph)
        },
    )
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(graph in graph()) {
        let text = graph.to_string();
        match parse(&text) {
            Ok(read) => prop_assert_eq!(read, graph, "{}", text),
            Err(error) => prop_assert!(false, "{}\n{}", error, text),
        }
    }

    #[test]
    fn no_text_panics(
        text in prop_oneof![
            any::<String>(),
            "graph g\ninput: 1x2\n( ?[a-z0-9:=()\\[\\],\"\\\\#\n>-]{0,8}){0,20}",
        ],
        cut in any::<prop::sample::Index>(),
        put in "[ -~]{0,3}",
    ) {
        let _ = parse(&text);
        // The example with a few characters put in somewhere, which cuts a token or two.
        let mut changed = EXAMPLE.to_owned();
        let at = changed.char_indices().nth(cut.index(EXAMPLE.chars().count())).unwrap().0;
        changed.insert_str(at, &put);
        if let Ok(graph) = parse(&changed) {
            let _ = verify(&graph);
        }
    }
}
