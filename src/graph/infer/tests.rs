//! Shapes worked out by hand or taken from PyTorch's documentation, and every rule broken once.

use super::*;
use crate::graph::{Activation, AlphaScaling, Padding, PoolKind};

fn tensor(name: &str, shape: &[usize]) -> Tensor {
    Tensor { name: name.into(), shape: shape.to_vec() }
}

fn window(kernel: usize, stride: usize, padding: [usize; 2]) -> Window {
    let [before, after] = padding;
    Window {
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [1; 2],
        padding: Padding { top: before, left: before, bottom: after, right: after },
    }
}

fn conv(window: Window, channels: [usize; 2], groups: usize) -> Conv {
    let [inputs, outputs] = channels;
    let [kh, kw] = window.kernel;
    Conv {
        window,
        out_channels: outputs,
        groups,
        weight: tensor("c.weight", &[outputs, inputs / groups.max(1), kh, kw]),
        bias: Some(tensor("c.bias", &[outputs])),
        batch_norm: None,
        epilogue: vec![],
    }
}

fn pool(kernel: usize, stride: usize, padding: usize) -> Pool {
    Pool {
        kind: PoolKind::Max,
        window: window(kernel, stride, [padding; 2]),
        ceil_mode: false,
        count_include_pad: true,
    }
}

const LRN: Lrn = Lrn { size: 5, alpha: 1e-4, beta: 0.75, k: 2.0, alpha_scaling: AlphaScaling::Sum };

fn linear(inputs: usize, outputs: usize) -> Linear {
    Linear {
        out_features: outputs,
        weight: tensor("l.weight", &[outputs, inputs]),
        bias: Some(tensor("l.bias", &[outputs])),
        epilogue: vec![],
    }
}

#[test]
fn alexnets_sizes() {
    let conv1 = conv(window(11, 4, [1, 2]), [3, 96], 1);
    let input = Shape::map(2, 3, 224, 224);
    let output = output_shape(&Op::Conv(conv1.clone()), &[input]);
    assert_eq!(output, Ok(Shape::map(2, 96, 55, 55)));
    let fused = Conv {
        epilogue: vec![
            Epilogue::Activation(Activation::Relu),
            Epilogue::Lrn(LRN),
            Epilogue::Pool(pool(3, 2, 0)),
        ],
        ..conv1
    };
    assert_eq!(output_shape(&Op::Conv(fused), &[input]), Ok(Shape::map(2, 96, 27, 27)));
    let grouped = conv(window(5, 1, [2, 2]), [96, 256], 2);
    let output = output_shape(&Op::Conv(grouped), &[Shape::map(1, 96, 27, 27)]);
    assert_eq!(output, Ok(Shape::map(1, 256, 27, 27)));
    let flat = output_shape(&Op::Linear(linear(9216, 4096)), &[Shape::map(2, 256, 6, 6)]);
    assert_eq!(flat, Ok(Shape::vector(2, 4096)));
    assert_eq!(output_shape(&Op::Flatten, &[Shape::map(2, 256, 6, 6)]), Ok(Shape::vector(2, 9216)));
}

#[test]
fn branches() {
    let map = Shape::map(1, 8, 5, 5);
    let other = Shape::map(1, 3, 5, 5);
    assert_eq!(output_shape(&Op::Concat, &[map, other, map]), Ok(Shape::map(1, 19, 5, 5)));
    assert_eq!(output_shape(&Op::Add, &[map, map]), Ok(map));
    let message = |op, inputs: &[Shape]| output_shape(&op, inputs).unwrap_err().to_string();
    assert_eq!(
        message(Op::Add, &[map, map, other]),
        "add needs inputs of one shape, but input 3 is 1x3x5x5 and the first is 1x8x5x5"
    );
    assert_eq!(message(Op::Add, &[map]), "add reads at least 2 inputs, but has 1");
    assert!(message(Op::Concat, &[map, Shape::map(1, 8, 4, 5)]).contains("input 2 is 1x8x4x5"));
    assert!(message(Op::Concat, &[map, Shape::vector(1, 8)]).contains("input 2 is 1x8"));
    let residual = Conv { epilogue: vec![Epilogue::Add], ..conv(window(3, 1, [1, 1]), [8, 8], 1) };
    assert_eq!(output_shape(&Op::Conv(residual.clone()), &[map, map]), Ok(map));
    assert!(message(Op::Conv(residual.clone()), &[map, other]).contains("input 2 is 1x3x5x5"));
    assert_eq!(message(Op::Conv(residual), &[map]), "conv reads 2 inputs, but has 1");
}

#[test]
fn every_rule_is_told_with_numbers() {
    let map = Shape::map(1, 96, 7, 9);
    let vector = Shape::vector(1, 10);
    let cases: Vec<(Op, Shape, &str, Option<&str>)> = vec![
        (
            Op::Conv(conv(window(11, 4, [1, 2]), [96, 8], 1)),
            map,
            "the kernel covers 11 rows, but the padded input has 10",
            Some("rows: 1*(11-1) + 1 = 11 > 1 + 7 + 2 = 10"),
        ),
        (
            Op::Conv(conv(window(1, 1, [0, 0]), [96, 8], 5)),
            map,
            "5 groups do not divide 96 input channels",
            Some("96 = 5*19 + 1"),
        ),
        (
            Op::Conv(conv(window(1, 1, [0, 0]), [96, 8], 3)),
            map,
            "3 groups do not divide 8 output channels",
            Some("8 = 3*2 + 2"),
        ),
        (Op::Conv(conv(window(1, 1, [0, 0]), [96, 8], 0)), map, "groups is 0", None),
        (Op::Conv(conv(window(1, 0, [0, 0]), [96, 8], 1)), map, "stride is 0", None),
        (
            Op::Conv(conv(window(1, 1, [0, 0]), [96, 1_000_000_000], 1)),
            map,
            "the weight would have more than 4294967296 elements (16 GiB of f32)",
            Some("1000000000 * 96 * 1 * 1 = 9.6e10"),
        ),
        (
            Op::Conv(conv(window(1, 1, [0, 0]), [96, 8], 1)),
            vector,
            "conv needs maps [C, H, W], but its input is a vector of 10 features",
            None,
        ),
        (
            Op::Conv(conv(window(1, 1, [0, 0]), [95, 8], 1)),
            map,
            "tensor `c.weight` has shape [8, 95, 1, 1], but conv needs [8, 96, 1, 1]",
            None,
        ),
        (
            Op::Pool(pool(3, 2, 2)),
            map,
            "padding 2 is more than half of the kernel's 3 rows",
            Some("floor(3 / 2) = 1 < 2"),
        ),
        (
            Op::Lrn(Lrn { size: 4, ..LRN }),
            map,
            "the window of an lrn layer has a centre, so its size is odd, not 4",
            None,
        ),
        (Op::Lrn(LRN), Shape::map(1, 0, 7, 7), "a dimension is 0", None),
        (Op::Linear(linear(96 * 63, 0)), map, "out_features is 0", None),
    ];
    for (op, input, message, arithmetic) in cases {
        let error = output_shape(&op, &[input]).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.arithmetic().as_deref(), arithmetic, "{message}");
        assert!(!error.remedy().is_empty());
    }
}

#[test]
fn nothing_overflows() {
    let huge = usize::MAX;
    let shapes =
        [Shape::map(huge, huge, huge, huge), Shape::map(1, huge, 1, 1), Shape::vector(huge, 2)];
    let mut wide = window(3, 1, [huge, huge]);
    wide.dilation = [huge; 2];
    let mut giant = conv(window(1, 1, [0, 0]), [1, 1], 1);
    giant.out_channels = huge;
    giant.groups = huge;
    let ops = [
        Op::Conv(conv(wide, [huge, huge], huge)),
        Op::Conv(giant),
        Op::Pool(pool(huge, huge, huge)),
        Op::Linear(linear(huge, huge)),
        Op::Flatten,
        Op::Add,
        Op::Concat,
    ];
    for op in &ops {
        for shape in shapes {
            assert!(output_shape(op, &[shape]).is_err());
            assert!(output_shape(op, &[shape, shape]).is_err());
        }
        assert!(output_shape(op, &[]).is_err());
    }
    // Channels that fit alone, but not together.
    let half = Shape::map(1, 1 << 31, 1, 1);
    assert!(output_shape(&Op::Concat, &[half, half]).is_ok());
    assert!(output_shape(&Op::Concat, &[half, half, half]).is_err());
    // Padding counts: it lies in memory as zeros.
    let padded = conv(window(1, 1 << 20, [1 << 20, 1 << 20]), [1, 1], 1);
    assert!(matches!(
        output_shape(&Op::Conv(padded), &[Shape::map(1, 1, 1, 1)]),
        Err(ShapeError::TooLarge { what: "the padded input", .. })
    ));
}
