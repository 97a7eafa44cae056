//! Which algorithm computes each node. Chosen before layouts, because an algorithm decides how
//! much halo its input needs.

use crate::graph::{Activation, Conv, Epilogue, Graph, Node, Op, Padding, Window};
use crate::layout::BLOCK;
use crate::shape::Shape;
use crate::winograd::{Cover, Winograd, point_sets};
use alexc_codegen::ir::DType;
use std::fmt;
use std::ops::RangeInclusive;

/// How much freedom the compiler has with rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Math {
    /// Direct convolution, sums in a fixed order.
    Strict,
    /// Winograd where it is faster.
    #[default]
    Fast,
    /// As [`Math::Fast`], but where a device has tensor cores, products of operands that are
    /// rounded to tf32, by definition, with sums in f32.
    Tf32,
    /// The same with operands that are rounded to f16.
    F16,
}

impl Math {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Math::Strict => "strict",
            Math::Fast => "fast",
            Math::Tf32 => "tf32",
            Math::F16 => "f16",
        }
    }

    /// Whether it is for tensor cores.
    pub fn wants_tensor_cores(self) -> bool {
        matches!(self, Math::Tf32 | Math::F16)
    }
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
    /// A strided convolution of the net's input: phases of the stride become channels, and what
    /// is left, a convolution with stride 1, goes by Winograd's method.
    SpaceToDepth {
        /// Outputs of a tile on each axis.
        m: usize,
    },
    /// A linear layer of one image that passes over inputs of zero and their weights.
    Nonzero,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Algorithm::Direct => f.write_str("direct"),
            Algorithm::Winograd { m } => write!(f, "winograd{m}"),
            Algorithm::SpaceToDepth { m } => write!(f, "space_to_depth{m}"),
            Algorithm::Nonzero => f.write_str("nonzero"),
        }
    }
}

/// Sizes of tiles that are considered.
const TILES: RangeInclusive<usize> = 2..=8;

/// A name that is no algorithm's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no algorithm; there are direct, winograd2 to winograd8, for a strided convolution of \
     the net's input space_to_depth2 to space_to_depth8, and for linear layers nonzero"
)]
pub struct UnknownAlgorithm(pub String);

impl std::str::FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Algorithm, UnknownAlgorithm> {
        let unknown = || UnknownAlgorithm(text.to_owned());
        match text {
            "direct" => return Ok(Algorithm::Direct),
            "nonzero" => return Ok(Algorithm::Nonzero),
            _ => {}
        }
        let size =
            |digits: &str| digits.parse().ok().filter(|m| TILES.contains(m)).ok_or_else(unknown);
        if let Some(digits) = text.strip_prefix("winograd") {
            return Ok(Algorithm::Winograd { m: size(digits)? });
        }
        let digits = text.strip_prefix("space_to_depth").ok_or_else(unknown)?;
        Ok(Algorithm::SpaceToDepth { m: size(digits)? })
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
    /// No such layer, or there is no choice.
    #[error("algorithm: `{layer}` is no convolution and no linear layer of this net")]
    NoChoice {
        /// As given.
        layer: String,
    },
    /// Winograd needs square kernels, stride 1, dilation 1.
    #[error(
        "algorithm: {layer} cannot use {algorithm}: it has a {kernel} kernel with stride {stride}. \
         winogradM needs a square kernel with stride 1, dilation 1 and M + kernel - 1 <= 10; \
         space_to_depthM needs the net's input, read by this layer alone, a square kernel and \
         stride S > 1, one group, dilation 1 and M + ceil(kernel / S) - 1 <= 10"
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
    /// A linear layer is no convolution, and a convolution no linear layer.
    #[error(
        "algorithm: {layer} cannot use {algorithm}: linear layers have direct and, for one image, \
         nonzero"
    )]
    UnsuitedLinear {
        /// The layer.
        layer: String,
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// Kernels for GPUs have no such method.
    #[error(
        "algorithm: {layer} cannot use {algorithm} on a GPU: there are direct and winogradM, the \
         latter for one group, or for groups with a multiple of 16 output channels each"
    )]
    NotOnGpus {
        /// The layer.
        layer: String,
        /// The algorithm.
        algorithm: Algorithm,
    },
}

/// The algorithm of every node, in their order, for weights of a type. `passes_over_zeros`: linear
/// layers do so where zeros can be expected.
pub fn choose(
    graph: &Graph,
    math: Math,
    overrides: &[Override],
    weights: DType,
    passes_over_zeros: bool,
) -> Result<Vec<Algorithm>, AlgorithmError> {
    let by_cost = |node: &Node, conv: &Conv, input: Shape, most_error: f64| {
        cheapest(conv, input, reads_input_alone(graph, node), most_error, weights)
    };
    choose_by(graph, math, overrides, &by_cost, passes_over_zeros)
}

/// Whether a linear layer has one image, whose elements lie as one run.
fn suits_nonzero(graph: &Graph, node: &Node) -> bool {
    graph.values[node.inputs[0].index()].shape.n() == 1
}

/// Whether a linear layer waits for its weights, and inputs without effect can be expected: they
/// come from ReLU, perhaps through layers that make zeros of zeros.
fn reads_many_zeros(graph: &Graph, node: &Node) -> bool {
    let Op::Linear(linear) = &node.op else { return false };
    let large = linear.weight.len() >= LARGE_WEIGHTS && linear.out_features >= LARGE_OUTPUTS;
    if !large || !suits_nonzero(graph, node) {
        return false;
    }
    let mut value = node.inputs[0];
    while let Some(before) = graph.nodes.iter().find(|n| n.output == value) {
        let epilogue = match &before.op {
            Op::Conv(conv) => &conv.epilogue[..],
            Op::Linear(linear) => &linear.epilogue,
            Op::Activation(activation) => return *activation == Activation::Relu,
            Op::Pool(_) | Op::Lrn(_) | Op::Dropout { .. } | Op::Flatten => {
                value = before.inputs[0];
                continue;
            }
            Op::Softmax | Op::BatchNorm(_) | Op::Add | Op::Concat => return false,
        };
        let keeps_zeros = |stage: &&Epilogue| matches!(stage, Epilogue::Lrn(_) | Epilogue::Pool(_));
        let last = epilogue.iter().rev().find(|stage| !keeps_zeros(stage));
        return last == Some(&Epilogue::Activation(Activation::Relu));
    }
    false
}

/// What a convolution takes unasked: of the node, the convolution, its input and the largest
/// expected error that the net bears.
pub(crate) type Estimate<'a> = &'a dyn Fn(&Node, &Conv, Shape, f64) -> Algorithm;

/// The same with other costs.
pub(crate) fn choose_by(
    graph: &Graph,
    math: Math,
    overrides: &[Override],
    estimate: Estimate<'_>,
    passes_over_zeros: bool,
) -> Result<Vec<Algorithm>, AlgorithmError> {
    let has_choice = |layer: &str| {
        let mut nodes = graph.nodes.iter();
        nodes.any(|n| n.name == layer && matches!(n.op, Op::Conv(_) | Op::Linear(_)))
    };
    if let Some(wrong) = overrides.iter().find(|o| !has_choice(&o.layer)) {
        return Err(AlgorithmError::NoChoice { layer: wrong.layer.clone() });
    }
    let most_error = most_error(graph);
    let of_node = |conv: &Conv, node: &Node, input| match math {
        // What tensor cores round away would be larger behind a transform.
        Math::Strict | Math::Tf32 | Math::F16 => Algorithm::Direct,
        Math::Fast => estimate(node, conv, input, most_error),
    };
    let passes_over_zeros = math == Math::Fast && passes_over_zeros;
    let choose = |node: &Node| match &node.op {
        Op::Conv(conv) => choose_conv(graph, node, conv, overrides, &of_node),
        _ => choose_other(graph, node, overrides, passes_over_zeros),
    };
    graph.nodes.iter().map(choose).collect()
}

fn choose_other(
    graph: &Graph,
    node: &Node,
    overrides: &[Override],
    passes_over_zeros: bool,
) -> Result<Algorithm, AlgorithmError> {
    let asked = overrides.iter().find(|o| o.layer == node.name).map(|o| o.algorithm);
    match asked {
        Some(Algorithm::Direct) => Ok(Algorithm::Direct),
        Some(Algorithm::Nonzero) if suits_nonzero(graph, node) => Ok(Algorithm::Nonzero),
        Some(algorithm) => {
            Err(AlgorithmError::UnsuitedLinear { layer: node.name.clone(), algorithm })
        }
        None if passes_over_zeros && reads_many_zeros(graph, node) => Ok(Algorithm::Nonzero),
        None => Ok(Algorithm::Direct),
    }
}

fn choose_conv(
    graph: &Graph,
    node: &Node,
    conv: &Conv,
    overrides: &[Override],
    otherwise: &dyn Fn(&Conv, &Node, Shape) -> Algorithm,
) -> Result<Algorithm, AlgorithmError> {
    let input = graph.values[node.inputs[0].index()].shape;
    if let Some(o) = overrides.iter().find(|o| o.layer == node.name) {
        if !suits(graph, node, conv, o.algorithm) {
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
    Ok(otherwise(conv, node, input))
}

fn suits(graph: &Graph, node: &Node, conv: &Conv, algorithm: Algorithm) -> bool {
    algorithm == Algorithm::Direct || transforms(graph, node, conv, algorithm).is_some()
}

/// The transforms of a method by tiles, where it applies.
fn transforms(graph: &Graph, node: &Node, conv: &Conv, algorithm: Algorithm) -> Option<Winograd> {
    match algorithm {
        Algorithm::Direct | Algorithm::Nonzero => None,
        Algorithm::Winograd { m } => winograd(conv, m),
        Algorithm::SpaceToDepth { m } => {
            let input = graph.values[node.inputs[0].index()].shape;
            let folded = SpaceToDepth::new(conv, input, m)?;
            reads_input_alone(graph, node).then_some(folded.winograd)
        }
    }
}

/// The largest expected error with which a method is chosen unasked.
fn most_error(graph: &Graph) -> f64 {
    let tiled = |node: &&Node| matches!(&node.op, Op::Conv(conv) if winograd(conv, 2).is_some());
    let deep = graph.nodes.iter().filter(tiled).count() > DEEP;
    if deep { MOST_ERROR_DEEP } else { MOST_ERROR }
}

/// Whether a net bears the expected error of a convolution by tiles, whose output has rows and
/// columns of `size`: less where its weights become integers.
fn bears(
    winograd: &Winograd,
    images: usize,
    size: [usize; 2],
    most_error: f64,
    weights: DType,
) -> bool {
    let narrow = points_dtype(weights, images, covers(winograd, size)) != DType::F32;
    let most = if narrow { most_error.min(MOST_ERROR_NARROW) } else { most_error };
    winograd.expected_error() <= most
}

/// What is worth a measurement for a node, for weights of a type: nothing where there is no choice.
pub fn candidates(graph: &Graph, node: &Node, weights: DType) -> Vec<Algorithm> {
    let Op::Conv(conv) = &node.op else {
        // Without expected zeros a plain stream is never slower.
        let choice = [Algorithm::Direct, Algorithm::Nonzero];
        return if reads_many_zeros(graph, node) { choice.to_vec() } else { Vec::new() };
    };
    let input = graph.values[node.inputs[0].index()].shape;
    let size = conv.window.output_size([input.h(), input.w()]);
    let channels = input.c().min(conv.out_channels);
    // Transforms for each of many small groups take longer to compile than they could ever save.
    let tiles = conv.groups == 1 || channels / conv.groups >= BLOCK;
    let sizes = TILES.filter(|_| tiles);
    let by_tiles = sizes.flat_map(|m| [Algorithm::Winograd { m }, Algorithm::SpaceToDepth { m }]);
    let most_error = most_error(graph);
    let by_tiles = by_tiles.filter(|&algorithm| {
        transforms(graph, node, conv, algorithm)
            .is_some_and(|winograd| bears(&winograd, input.n(), size, most_error, weights))
    });
    let found: Vec<Algorithm> = std::iter::once(Algorithm::Direct).chain(by_tiles).collect();
    if found.len() > 1 { found } else { Vec::new() }
}

/// The transforms of a convolution by tiles of `m` by `m`, where Winograd's method applies.
pub fn winograd(conv: &Conv, m: usize) -> Option<Winograd> {
    let [kh, kw] = conv.window.kernel;
    let plain = kh == kw && conv.window.stride == [1, 1] && conv.window.dilation == [1, 1];
    if plain && m >= 2 { Winograd::new(m, kh) } else { None }
}

/// The node is the only reader of the net's input, so it may choose how that lies.
pub(crate) fn reads_input_alone(graph: &Graph, node: &Node) -> bool {
    let readers = graph.nodes.iter().flat_map(|n| &n.inputs).filter(|&&v| v == graph.input);
    node.inputs[0] == graph.input && readers.count() == 1 && graph.output != graph.input
}

/// A strided convolution after its phases became channels: channel `(py * s + px) * c + i` of
/// the new map holds the padded map's pixels `(s y + py, s x + px)` of channel `i`.
#[derive(Debug, Clone, PartialEq)]
pub struct SpaceToDepth {
    /// The stride.
    pub s: usize,
    /// The transforms of what is left.
    pub winograd: Winograd,
    /// Channels of the new map.
    pub channels: usize,
    /// Rows and columns of the new map, as many as whole tiles read.
    pub size: [usize; 2],
    /// What is left: kernel ceil(k / s), stride 1, no padding. Its weight stays the spec's.
    pub conv: Conv,
}

impl SpaceToDepth {
    /// For tiles of `m` by `m`, where it applies.
    pub fn new(conv: &Conv, input: Shape, m: usize) -> Option<SpaceToDepth> {
        let [k, kw] = conv.window.kernel;
        let [s, sw] = conv.window.stride;
        let plain = k == kw && s == sw && s > 1 && conv.window.dilation == [1, 1];
        if !plain || conv.groups != 1 || m < 2 {
            return None;
        }
        let winograd = Winograd::new(m, k.div_ceil(s))?;
        let outputs = conv.window.output_size([input.h(), input.w()]);
        let window = Window {
            kernel: [winograd.r; 2],
            stride: [1, 1],
            dilation: [1, 1],
            padding: Padding::default(),
        };
        Some(SpaceToDepth {
            s,
            channels: input.c() * s * s,
            size: outputs.map(|output| Cover::new(&winograd, output).inputs()),
            conv: Conv { window, ..conv.clone() },
            winograd,
        })
    }
}

/// Methods with a larger expected error (see [`Winograd::expected_error`]) are used on demand
/// only: of an AlexNet, conv2 by F(6, 5) would be 1.1e-5 from exact, and conv1 by F(8, 3) would
/// bring the logits to 5e-6.
const MOST_ERROR: f64 = 30.0;

/// The same for nets with more than [`DEEP`] convolutions that tiles suit, since errors add up:
/// with F(7, 3) throughout, the logits of vgg16 were 6.4e-6 from exact.
const MOST_ERROR_DEEP: f64 = 20.0;

/// The same for weights in integers, whose rounding grows alike: an AlexNet with all such layers by
/// F(7, 3) would be 4.9e-4 from exact, by F(5, 3) it is 3.8e-4, of which linear layers in f16 make
/// 3.4e-4.
const MOST_ERROR_NARROW: f64 = 15.0;

/// Elements of the smallest matrix, and the fewest outputs, for which a linear layer passes over
/// zeros unasked: those of smaller ones stay in the caches, or their rows are short.
const LARGE_WEIGHTS: usize = 1 << 18;
const LARGE_OUTPUTS: usize = 512;

/// See [`MOST_ERROR_DEEP`].
const DEEP: usize = 8;

/// Multiply-adds of products in the time that a weight takes from memory (f32, 54 GB/s beside
/// 236 GFLOP/s). The two go on side by side: the slower one counts, and a part of the other, since
/// they do not overlap perfectly.
const WEIGHT_COST: f64 = 8.8;
const OVERLAP_COST: f64 = 0.2;

/// Multiply-adds of products in the time of a step of a transform, from the profile of
/// alexnet.yaml at batch 16: between 3 (conv2) and 6 (conv4), most of it for moving data.
const TRANSFORM_COST: f64 = 4.0;

/// Type of the transformed weights of maps with these rows and columns of tiles, where weights of
/// type `weights` were asked for. Those that wait for memory are worth narrowing; f16 is too coarse, because the
/// method multiplies rounding several times over, and 16-bit integers with a scale for each output
/// and point, of the same size, have a sixth of its rounding.
pub(crate) fn points_dtype(weights: DType, images: usize, [rows, columns]: [Cover; 2]) -> DType {
    let tiles = (rows.tiles() * columns.tiles()) as f64;
    let waits = images == 1 && tiles < 2.0 * WEIGHT_COST;
    if waits && weights == DType::F16 { DType::I16 } else { DType::F32 }
}

/// Time for `weights` that are used `times` times each, in multiply-adds. One takes `weight` from
/// memory.
fn products_cost(weights: f64, times: f64, weight: f64) -> f64 {
    weights * (times.max(weight) + OVERLAP_COST * times.min(weight))
}

/// The algorithm with the least estimated time. Blocks of channels are counted whole, but for an
/// input that lies in a narrower one.
fn cheapest(conv: &Conv, input: Shape, alone: bool, most_error: f64, weights: DType) -> Algorithm {
    let whole = |c: usize| c.next_multiple_of(BLOCK) as f64;
    let inputs = whole(input.c() / conv.groups);
    let outputs = whole(conv.out_channels);
    let [h, w] = conv.window.output_size([input.h(), input.w()]);
    let taps = (conv.window.kernel[0] * conv.window.kernel[1]) as f64;
    let images = input.n() as f64;
    let read =
        if alone && input.c() < BLOCK && conv.groups == 1 { input.c() as f64 } else { inputs };
    let direct = products_cost(read * outputs * taps, (h * w) as f64 * images, WEIGHT_COST);
    let mut best = (direct, Algorithm::Direct);
    let bears = |winograd: &Winograd| bears(winograd, input.n(), [h, w], most_error, weights);
    if alone {
        for m in TILES {
            let Some(folded) = SpaceToDepth::new(conv, input, m) else { continue };
            if !bears(&folded.winograd) {
                continue;
            }
            let cost = tiles_cost(
                &folded.winograd,
                [h, w],
                images,
                whole(folded.channels),
                outputs,
                weights,
            );
            if cost < best.0 {
                best = (cost, Algorithm::SpaceToDepth { m });
            }
        }
    }
    // Below one block of channels the transforms outweigh what they save.
    if input.c() / conv.groups < BLOCK || conv.out_channels / conv.groups < BLOCK {
        return best.1;
    }
    for m in TILES {
        let Some(winograd) = winograd(conv, m) else { continue };
        if !bears(&winograd) {
            continue;
        }
        let cost = tiles_cost(&winograd, [h, w], images, inputs, outputs, weights);
        let more_groups =
            (conv.groups - 1) as f64 * transforms_cost(&winograd, [h, w], images, inputs, 0.0);
        let cost = cost + more_groups;
        if cost < best.0 {
            best = (cost, Algorithm::Winograd { m });
        }
    }
    best.1
}

/// How tiles cover a map.
fn covers(winograd: &Winograd, size: [usize; 2]) -> [Cover; 2] {
    size.map(|size| Cover::new(winograd, size))
}

fn transforms_cost(
    winograd: &Winograd,
    size: [usize; 2],
    images: f64,
    inputs: f64,
    outputs: f64,
) -> f64 {
    let (m, n) = (winograd.m as f64, winograd.n() as f64);
    let [rows, columns] = covers(winograd, size);
    let products = (rows.products() * columns.products()) as f64 * images;
    products * (inputs * n + outputs * m) * TRANSFORM_COST
}

/// Cost of Winograd's method for one group (of several: for all of their outputs).
fn tiles_cost(
    winograd: &Winograd,
    size: [usize; 2],
    images: f64,
    inputs: f64,
    outputs: f64,
    weights: DType,
) -> f64 {
    let [rows, columns] = covers(winograd, size);
    let dtype = points_dtype(weights, images as usize, [rows, columns]);
    let weight = WEIGHT_COST * dtype.bytes() as f64 / DType::F32.bytes() as f64;
    let products: f64 = point_sets(&rows, &columns)
        .iter()
        .map(|set| {
            let weights = set.count as f64 * inputs * outputs;
            products_cost(weights, set.tiles as f64 * images, weight)
        })
        .sum();
    products + transforms_cost(winograd, size, images, inputs, outputs)
}

/// Zeros that the convolution's input needs around it.
pub fn halo(conv: &Conv, algorithm: Algorithm, input: Shape) -> Padding {
    let padding = conv.window.padding;
    let m = match algorithm {
        Algorithm::Direct | Algorithm::Nonzero => return padding,
        // Its map holds the padding as data.
        Algorithm::SpaceToDepth { .. } => return Padding::default(),
        Algorithm::Winograd { m } => m,
    };
    let Some(winograd) = winograd(conv, m) else { return padding };
    let [rows, columns] = covers(&winograd, conv.window.output_size([input.h(), input.w()]));
    // The last tile may reach past what the outputs need.
    let after =
        |cover: Cover, before: usize, size: usize| cover.inputs().saturating_sub(before + size);
    Padding {
        bottom: padding.bottom.max(after(rows, padding.top, input.h())),
        right: padding.right.max(after(columns, padding.left, input.w())),
        ..padding
    }
}
