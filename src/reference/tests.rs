//! Expected numbers are worked out by hand, as the comments show; small integers are exact in
//! f32 and f64 alike.

use super::{Real, ReferenceError, conv::conv_within, run};
use crate::graph::text::parse;
use crate::graph::verify::verify;
use crate::graph::{Conv, Op, Padding, Tensor, Window};
use crate::weights::{Random, TensorSource};
use ndarray::{ArrayD, IxDyn};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// Tensors by name.
struct Given(HashMap<&'static str, Vec<f32>>);

impl TensorSource for Given {
    fn slice(&self, tensor: &Tensor, range: Range<usize>) -> Cow<'_, [f32]> {
        Cow::Borrowed(&self.0[tensor.name.as_str()][range])
    }
}

fn given<const N: usize>(tensors: [(&'static str, &[f32]); N]) -> Given {
    Given(tensors.map(|(name, values)| (name, values.to_vec())).into())
}

/// Runs a graph of one node, given as the input's shape and the node, in f64 and in f32; the two
/// must agree to `1e-6`.
fn of(input_shape: &str, node: &str, source: &dyn TensorSource, input: &[f32]) -> Vec<f64> {
    let text = format!("graph g\ninput: {input_shape}\n{node}\noutput y\n");
    let graph = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    verify(&graph).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    let dims = graph.values[0].shape.dims();
    let input = ArrayD::from_shape_vec(IxDyn(&dims), input.to_vec()).unwrap();
    let narrow = run::<f32>(&graph, source, &input).unwrap();
    let wide = run::<f64>(&graph, source, &input).unwrap();
    let (narrow, wide) = (&narrow[graph.output.index()], &wide[graph.output.index()]);
    assert_eq!(wide.shape(), graph.values[graph.output.index()].shape.dims());
    assert_eq!(wide.shape(), narrow.shape());
    for (&narrow, &wide) in narrow.iter().zip(wide) {
        let same = (narrow.wide() - wide).abs() <= 1e-6 * wide.abs() || narrow.wide() == wide;
        assert!(same || (narrow.is_nan() && wide.is_nan()), "{narrow} {wide}");
    }
    wide.iter().copied().collect()
}

fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-7 * expected.abs(), "{found} {expected}");
    }
}

fn nothing() -> Given {
    given([])
}

#[test]
fn convolution_with_padding_on_one_side() {
    // One zero row above, one zero column to the right:
    //   0 0 0 0
    //   1 2 3 0      kernel   1   10
    //   4 5 6 0             100 1000
    let node = "y: 1x1x2x3 = conv(input)
  kernel 2x2, stride 1x1, padding [1, 0, 0, 1], out_channels 1, weight w [1, 1, 2, 2]";
    let source = given([("w", &[1.0, 10.0, 100.0, 1000.0])]);
    let y = of("1x1x2x3", node, &source, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(y, [2100.0, 3200.0, 300.0, 5421.0, 6532.0, 603.0]);
}

#[test]
fn convolution_with_dilation_and_stride() {
    // Rows 0 and 2 under the kernel; columns 0, 1 and then 3, 4.
    let node = "y: 1x1x1x2 = conv(input)
  kernel 2x2, stride 1x3, dilation 2x1, out_channels 1, weight w [1, 1, 2, 2]";
    let source = given([("w", &[1.0, 10.0, 100.0, 1000.0])]);
    let input: Vec<f32> = (1..=15).map(|x| x as f32).collect();
    let y = of("1x1x3x5", node, &source, &input);
    assert_eq!(y, [1.0 + 20.0 + 1100.0 + 12000.0, 4.0 + 50.0 + 1400.0 + 15000.0]);
}

#[test]
fn convolution_in_groups_of_two_images() {
    // Output 0 reads channels 0 and 1, output 1 channels 2 and 3.
    let node = "y: 2x2x1x1 = conv(input)
  kernel 1x1, stride 1x1, out_channels 2, groups 2, weight w [2, 2, 1, 1], bias b [2]";
    let source = given([("w", &[1.0, 10.0, 100.0, 1000.0]), ("b", &[0.5, -1.0])]);
    let y = of("2x4x1x1", node, &source, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    assert_eq!(y, [21.5, 4299.0, 65.5, 8699.0]);
}

/// The seven loops of the definition.
fn seven_loops(op: &Conv, weight: &[f32], input: &ArrayD<f64>) -> ArrayD<f64> {
    let &[images, channels, h, w] = input.shape() else { unreachable!() };
    let Window { kernel: [kh, kw], stride, dilation, padding } = op.window;
    let size = |axis: usize, size: usize, pad: usize| {
        (size + pad - dilation[axis] * (op.window.kernel[axis] - 1) - 1) / stride[axis] + 1
    };
    let rows = size(0, h, padding.top + padding.bottom);
    let columns = size(1, w, padding.left + padding.right);
    let (ins, outs) = (channels / op.groups, op.out_channels / op.groups);
    ArrayD::from_shape_fn(IxDyn(&[images, op.out_channels, rows, columns]), |at| {
        let mut sum = 0.0;
        for i in 0..ins {
            for ky in 0..kh {
                for kx in 0..kw {
                    let y = (at[2] * stride[0] + ky * dilation[0]) as i64 - padding.top as i64;
                    let x = (at[3] * stride[1] + kx * dilation[1]) as i64 - padding.left as i64;
                    if (0..h as i64).contains(&y) && (0..w as i64).contains(&x) {
                        let channel = at[1] / outs * ins + i;
                        sum += input[[at[0], channel, y as usize, x as usize]]
                            * f64::from(weight[((at[1] * ins + i) * kh + ky) * kw + kx]);
                    }
                }
            }
        }
        sum
    })
}

#[test]
fn convolution_agrees_with_its_definition() {
    let source = Random::new(3);
    for (kernel, stride, dilation, groups, padding) in [
        ([3, 3], [1, 1], [1, 1], 1, [1, 1, 1, 1]),
        ([5, 3], [2, 3], [1, 2], 2, [0, 3, 4, 1]),
        ([1, 1], [2, 2], [1, 1], 6, [0, 0, 0, 0]),
        ([11, 7], [4, 1], [1, 1], 3, [5, 2, 0, 9]),
    ] {
        let [top, left, bottom, right] = padding;
        let weight = Tensor { name: "w".into(), shape: vec![12, 6 / groups, kernel[0], kernel[1]] };
        let values = source.all(&weight).into_owned();
        let op = Conv {
            window: Window {
                kernel,
                stride,
                dilation,
                padding: Padding { top, left, bottom, right },
            },
            out_channels: 12,
            groups,
            weight,
            bias: None,
            batch_norm: None,
            epilogue: vec![],
        };
        let input = source.input(2 * 6 * 13 * 9).into_iter().map(f64::from).collect();
        let input = ArrayD::from_shape_vec(IxDyn(&[2, 6, 13, 9]), input).unwrap();
        let expected = seven_loops(&op, &values, &input);
        // All rows at once, several at a time, and one by one.
        for most in [usize::MAX, 2000, 1] {
            let found = conv_within(most, &op, &source, &input);
            assert_eq!(found.shape(), expected.shape());
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-12, "{found} {expected}");
            }
        }
    }
}

#[test]
fn linear_flattens_channels_then_rows_then_columns() {
    // Features in the order (c, y, x): 1 2 3 4 | 5 6 7 8.
    let node = "y: 2x3 = linear(input)\n  out_features 3, weight w [3, 4], bias b [3]";
    let source = given([
        ("w", &[1.0, 10.0, 100.0, 1000.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]),
        ("b", &[0.0, 0.25, 0.0]),
    ]);
    let y = of("2x2x1x2", node, &source, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    assert_eq!(y, [4321.0, 1.25, -4.0, 8765.0, 5.25, -8.0]);
    let flat = of("2x2x1x2", "y: 2x4 = flatten(input)", &nothing(), &[0.0; 8]);
    assert_eq!(flat.len(), 8);
}

#[test]
fn lrn_sums_over_channels_and_not_over_images() {
    // Two images, four channels. Sums of squares over three channels of 1 2 3 4: 5, 14, 29, 25;
    // of 0 -1 0 2: 1, 1, 5, 4.
    let node = |scaling: &str| {
        format!(
            "y: 2x4x1x1 = lrn(input)
  size 3, alpha 1.0, beta 1.0, k 1.0, alpha_scaling {scaling}"
        )
    };
    let input = [1.0, 2.0, 3.0, 4.0, 0.0, -1.0, 0.0, 2.0];
    let y = of("2x4x1x1", &node("sum"), &nothing(), &input);
    let sums = [5.0, 14.0, 29.0, 25.0, 1.0, 1.0, 5.0, 4.0];
    let expected: Vec<f64> =
        input.iter().zip(sums).map(|(&x, sum)| f64::from(x) / (1.0 + sum)).collect();
    close(&y, &expected);
    let y = of("2x4x1x1", &node("mean"), &nothing(), &input);
    let expected: Vec<f64> =
        input.iter().zip(sums).map(|(&x, sum)| f64::from(x) / (1.0 + sum / 3.0)).collect();
    close(&y, &expected);
}

#[test]
fn lrn_takes_its_numbers_as_the_paper_does() {
    // (7 + 1 * 3^2)^0.75 = 16^0.75 = 8; with more channels in the window than there are.
    let node = "y: 1x1x1x2 = lrn(input)\n  size 5, alpha 1.0, beta 0.75, k 7.0, alpha_scaling sum";
    close(&of("1x1x1x2", node, &nothing(), &[3.0, -3.0]), &[3.0 / 8.0, -3.0 / 8.0]);
    // alpha 5 over a window of 5 is alpha 1, also where the window is cut.
    let node = "y: 1x1x1x2 = lrn(input)\n  size 5, alpha 5.0, beta 0.75, k 7.0, alpha_scaling mean";
    close(&of("1x1x1x2", node, &nothing(), &[3.0, -3.0]), &[3.0 / 8.0, -3.0 / 8.0]);
}

#[test]
fn pooling_rounds_down_or_up() {
    let input = [1.0, 2.0, 3.0, 4.0, 5.0];
    let pool = |size: usize, rest: &str| {
        let node = format!("y: 1x1x1x{size} = {rest}");
        of("1x1x1x5", &node, &nothing(), &input)
    };
    let max = "max_pool(input)\n  kernel 1x2, stride 1x2";
    assert_eq!(pool(2, max), [2.0, 4.0]);
    assert_eq!(pool(3, &format!("{max}, ceil_mode true")), [2.0, 4.0, 5.0]);
    // The last window holds the 5 alone; what lies past the map never counts.
    let avg = "avg_pool(input)\n  kernel 1x2, stride 1x2, ceil_mode true";
    assert_eq!(pool(3, avg), [1.5, 3.5, 5.0]);
    assert_eq!(pool(3, &format!("{avg}, count_include_pad false")), [1.5, 3.5, 5.0]);
}

#[test]
fn average_pooling_counts_padding_or_not() {
    // Windows of three over 0 1 2 3 4 0, every second: (0 1 2), (2 3 4), (4 0 and one cell past
    // the padding). As PyTorch: the last one divides by 2 with padding, by 1 without.
    let node = "y: 1x1x1x3 = avg_pool(input)
  kernel 1x3, stride 1x2, padding [0, 1, 0, 1], ceil_mode true";
    let input = [1.0, 2.0, 3.0, 4.0];
    assert_eq!(of("1x1x1x4", node, &nothing(), &input), [1.0, 3.0, 2.0]);
    let node = format!("{node}, count_include_pad false");
    assert_eq!(of("1x1x1x4", &node, &nothing(), &input), [1.5, 3.0, 4.0]);
}

#[test]
fn padding_never_wins_a_maximum_and_nan_always_does() {
    let node = "y: 1x1x2x2 = max_pool(input)\n  kernel 2x2, stride 2x2, padding [1, 1, 1, 1]";
    let y = of("1x1x2x2", node, &nothing(), &[-1.0, -2.0, -3.0, -4.0]);
    assert_eq!(y, [-1.0, -2.0, -3.0, -4.0]);
    let node = "y: 1x1x1x1 = max_pool(input)\n  kernel 1x3, stride 1x1";
    for place in 0..3 {
        let mut input = [1.0, 2.0, 3.0];
        input[place] = f32::NAN;
        assert!(of("1x1x1x3", node, &nothing(), &input)[0].is_nan());
    }
}

#[test]
fn pooling_windows_that_overlap() {
    // Rows of 1..9; AlexNet's 3x3 windows at distance 2, over a map of 5 x 3.
    let input: Vec<f32> = (1..=15).map(|x| x as f32).collect();
    let node = "y: 1x1x2x1 = max_pool(input)\n  kernel 3x3, stride 2x2";
    assert_eq!(of("1x1x5x3", node, &nothing(), &input), [9.0, 15.0]);
    let node = "y: 1x1x2x1 = avg_pool(input)\n  kernel 3x3, stride 2x2";
    assert_eq!(of("1x1x5x3", node, &nothing(), &input), [5.0, 11.0]);
}

#[test]
fn activations() {
    let of = |op: &str, input: &[f32; 3]| of("1x3", &format!("y: 1x3 = {op}"), &nothing(), input);
    let relu = of("relu(input)", &[-1.5, 2.5, f32::NAN]);
    assert_eq!(relu[..2], [0.0, 2.5]);
    assert!(relu[2].is_nan());
    // 1 / (1 + e^-ln 3) = 3/4.
    let ln3 = 3f32.ln();
    close(&of("sigmoid(input)", &[0.0, ln3, -ln3]), &[0.5, 0.75, 0.25]);
    // tanh(ln 3) = (3 - 1/3) / (3 + 1/3) = 4/5.
    close(&of("tanh(input)", &[0.0, ln3, -ln3]), &[0.0, 0.8, -0.8]);
    assert_eq!(of("sigmoid(input)", &[-1000.0, 1000.0, 0.0]), [0.0, 1.0, 0.5]);
    assert_eq!(of("dropout(input)\n  p 0.5", &[1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]);
}

#[test]
fn softmax_over_channels() {
    let (one, two, three) = (0.0, 2f32.ln(), 3f32.ln());
    let y = of("1x3", "y: 1x3 = softmax(input)", &nothing(), &[one, two, three]);
    close(&y, &[1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0]);
    let y = of("1x2", "y: 1x2 = softmax(input)", &nothing(), &[3.0e38, 3.0e38]);
    assert_eq!(y, [0.5, 0.5]);
    // Of maps: at each position over its channels; here (0, ln 3) and (ln 3, 0).
    let y = of("1x2x1x2", "y: 1x2x1x2 = softmax(input)", &nothing(), &[one, three, three, one]);
    close(&y, &[0.25, 0.75, 0.75, 0.25]);
}

#[test]
fn batch_norm_with_its_statistics() {
    // (5 - 1) / sqrt(3.75 + 0.25) * 3 + 7 = 13, and (2 - 0) / sqrt(0 + 0.25) * 1 + 0 = 4.
    let node = "y: 1x2x1x1 = batch_norm(input)
  eps 0.25, weight w [2], bias b [2], running_mean m [2], running_var v [2]";
    let source =
        given([("w", &[3.0, 1.0]), ("b", &[7.0, 0.0]), ("m", &[1.0, 0.0]), ("v", &[3.75, 0.0])]);
    assert_eq!(of("1x2x1x1", node, &source, &[5.0, 2.0]), [13.0, 4.0]);
}

#[test]
fn sums_and_joined_channels() {
    let node = "a: 2x1x1x2 = relu(input)\ny: 2x1x1x2 = add(a, input, a)";
    let input = [1.0, -2.0, 3.0, 4.0];
    assert_eq!(of("2x1x1x2", node, &nothing(), &input), [3.0, -2.0, 9.0, 12.0]);
    let node = "a: 2x1x1x2 = relu(input)\ny: 2x2x1x2 = concat(a, input)";
    let y = of("2x1x1x2", node, &nothing(), &input);
    assert_eq!(y, [1.0, 0.0, 1.0, -2.0, 3.0, 4.0, 3.0, 4.0]);
}

#[test]
fn a_fused_node_applies_its_steps_in_order() {
    // 2x + 1 is 3 -3 7; the norm with mean 1, deviation 2, weight 4 makes 4 -8 12; the input added:
    // 5 -10 15; ReLU 5 0 15; then a maximum of two.
    let node = "y: 1x1x1x2 = conv(input, input)
  kernel 1x1, stride 1x1, out_channels 1, weight w [1, 1, 1, 1], bias b [1]
  batch_norm(eps 1.0, weight g [1], bias z [1], running_mean m [1], running_var v [1])
  then add
  then relu
  then max_pool(kernel 1x2, stride 1x1)";
    let source = given([
        ("w", &[2.0]),
        ("b", &[1.0]),
        ("g", &[4.0]),
        ("z", &[0.0]),
        ("m", &[1.0]),
        ("v", &[3.0]),
    ]);
    assert_eq!(of("1x1x1x3", node, &source, &[1.0, -2.0, 3.0]), [5.0, 15.0]);
}

#[test]
fn an_input_of_another_shape_is_refused() {
    let graph = parse("graph g\ninput: 1x3x4x4\ny: 1x3x4x4 = relu(input)\noutput y").unwrap();
    let input = ArrayD::zeros(IxDyn(&[1, 3, 4, 5]));
    assert_eq!(
        run::<f32>(&graph, &nothing(), &input),
        Err(ReferenceError::InputShape { has: vec![1, 3, 4, 5], wants: vec![1, 3, 4, 4] })
    );
    assert!(matches!(graph.nodes[0].op, Op::Activation(_)));
}
