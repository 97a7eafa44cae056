//! Which algorithm computes each node. Chosen before layouts, because an algorithm decides how
//! much halo its input needs.

use crate::graph::{Conv, Graph, Node, Op, Padding};
use crate::layout::BLOCK;
use crate::shape::Shape;
use crate::winograd::Winograd;
use std::fmt;

/// How much freedom the compiler has with rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Math {
    /// Direct convolution, sums in a fixed order.
    Strict,
    /// Winograd where it is faster.
    #[default]
    Fast,
}

/// How a node is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// By its definition.
    Direct,
    /// F(m x m, r x r): tiles of m by m outputs.
    Winograd {
        /// Outputs of a tile on each axis.
        m: usize,
    },
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Algorithm::Direct => f.write_str("direct"),
            Algorithm::Winograd { m } => write!(f, "winograd{m}"),
        }
    }
}

/// A name that [`parse`] does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no algorithm; there are direct and winograd2 to winograd6")]
pub struct UnknownAlgorithm(pub String);

impl std::str::FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Algorithm, UnknownAlgorithm> {
        let unknown = || UnknownAlgorithm(text.to_owned());
        if text == "direct" {
            return Ok(Algorithm::Direct);
        }
        let m = text.strip_prefix("winograd").ok_or_else(unknown)?;
        let m = m.parse().ok().filter(|m| (2..=6).contains(m)).ok_or_else(unknown)?;
        Ok(Algorithm::Winograd { m })
    }
}

/// The user's choice for a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// A layer of the spec.
    pub layer: String,
    /// What it shall use.
    pub algorithm: Algorithm,
}

/// Why an override cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlgorithmError {
    /// No such layer, or it is no convolution.
    #[error("algorithm: `{layer}` is no convolution of this net")]
    NoConvolution {
        /// As given.
        layer: String,
    },
    /// Winograd needs square kernels of 2 to 7 taps, stride 1, dilation 1.
    #[error(
        "algorithm: {layer} cannot use {algorithm}: it has a {kernel} kernel with stride {stride}, \
         and Winograd needs a square one with stride 1, dilation 1 and m + kernel - 1 <= 8"
    )]
    Unsuited {
        /// The layer.
        layer: String,
        /// The algorithm.
        algorithm: Algorithm,
        /// Height x width.
        kernel: String,
        /// Rows x columns.
        stride: String,
    },
}

/// The algorithm of every node, in their order.
pub fn choose(
    graph: &Graph,
    math: Math,
    overrides: &[Override],
) -> Result<Vec<Algorithm>, AlgorithmError> {
    let is_conv = |layer: &str| {
        let found = graph.nodes.iter().find(|n| n.sources.iter().any(|s| s == layer));
        found.is_some_and(|n| matches!(n.op, Op::Conv(_)) && n.sources[0] == layer)
    };
    if let Some(wrong) = overrides.iter().find(|o| !is_conv(&o.layer)) {
        return Err(AlgorithmError::NoConvolution { layer: wrong.layer.clone() });
    }
    graph.nodes.iter().map(|node| choose_node(graph, node, math, overrides)).collect()
}

fn choose_node(
    graph: &Graph,
    node: &Node,
    math: Math,
    overrides: &[Override],
) -> Result<Algorithm, AlgorithmError> {
    let Op::Conv(conv) = &node.op else { return Ok(Algorithm::Direct) };
    let input = graph.values[node.inputs[0].index()].shape;
    if let Some(o) = overrides.iter().find(|o| node.sources.contains(&o.layer)) {
        if let Algorithm::Winograd { m } = o.algorithm
            && winograd(conv, m).is_none()
        {
            let [kh, kw] = conv.window.kernel;
            let [sh, sw] = conv.window.stride;
            return Err(AlgorithmError::Unsuited {
                layer: o.layer.clone(),
                algorithm: o.algorithm,
                kernel: format!("{kh}x{kw}"),
                stride: format!("{sh}x{sw}"),
            });
        }
        return Ok(o.algorithm);
    }
    Ok(match math {
        Math::Strict => Algorithm::Direct,
        Math::Fast => cheapest(conv, input),
    })
}

/// The transforms of a convolution by tiles of `m` by `m`, where Winograd's method applies.
pub fn winograd(conv: &Conv, m: usize) -> Option<Winograd> {
    let [kh, kw] = conv.window.kernel;
    let plain = kh == kw && conv.window.stride == [1, 1] && conv.window.dilation == [1, 1];
    if plain && m >= 2 { Winograd::new(m, kh) } else { None }
}

/// Relative cost of reading a byte of weights from memory and of a multiply-add of the
/// transforms, both in multiply-adds of a product: measured on two cores that share memory.
const BYTE_COST: f64 = 0.55;
const TRANSFORM_COST: f64 = 2.0;

/// The algorithm with the least estimated time. Blocks of channels are counted whole.
fn cheapest(conv: &Conv, input: Shape) -> Algorithm {
    let whole = |c: usize| c.next_multiple_of(BLOCK) as f64;
    let inputs = whole(input.c() / conv.groups);
    let outputs = whole(conv.out_channels);
    let [h, w] = conv.window.output_size([input.h(), input.w()]);
    let taps = (conv.window.kernel[0] * conv.window.kernel[1]) as f64;
    let images = input.n() as f64;
    let weights = inputs * outputs;
    let direct = weights * taps * (h * w) as f64 * images + weights * taps * 4.0 * BYTE_COST;
    let mut best = (direct, Algorithm::Direct);
    // Below one block of channels the transforms outweigh what they save.
    if input.c() / conv.groups < BLOCK || conv.out_channels / conv.groups < BLOCK {
        return best.1;
    }
    for m in 2..=6 {
        let Some(winograd) = winograd(conv, m) else { continue };
        let n = winograd.n() as f64;
        let tiles = (h.div_ceil(m) * w.div_ceil(m)) as f64 * images;
        let products = n * n * weights * (tiles + 4.0 * BYTE_COST);
        let transforms = tiles * n * n * (inputs * n + outputs * m as f64) * TRANSFORM_COST / 16.0
            * conv.groups as f64;
        let cost = products + transforms;
        if cost < best.0 {
            best = (cost, Algorithm::Winograd { m });
        }
    }
    best.1
}

/// Zeros that the convolution's input needs around it.
pub fn halo(conv: &Conv, algorithm: Algorithm, input: Shape) -> Padding {
    let padding = conv.window.padding;
    let Algorithm::Winograd { m } = algorithm else { return padding };
    let [h, w] = conv.window.output_size([input.h(), input.w()]);
    let [kh, kw] = conv.window.kernel;
    // The last tile may reach past what the outputs need.
    let after = |output: usize, kernel: usize, before: usize, size: usize| {
        (output.div_ceil(m) * m + kernel - 1).saturating_sub(before + size)
    };
    Padding {
        bottom: padding.bottom.max(after(h, kh, padding.top, input.h())),
        right: padding.right.max(after(w, kw, padding.left, input.w())),
        ..padding
    }
}
