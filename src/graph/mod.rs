//! The Graph IR: operators and values of a net, every value with its shape.
//!
//! Nodes stand in an order in which they can run: a node's inputs are the graph's input or the
//! outputs of nodes before it. `verify` checks this and every shape; it runs after every pass.
//! This room holds no file access and no code generation.

pub mod build;
pub mod cost;
pub mod infer;
pub mod shape_error;
pub mod text;
pub mod verify;
pub mod window;

pub use shape_error::ShapeError;

use crate::shape::Shape;
use std::collections::HashSet;

/// Index of a value in [`Graph::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl ValueId {
    /// The index as `usize`.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One activation.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Name of the layer that makes it, or `input`. Unique in the graph.
    pub name: String,
    /// Shape, batch included. Elements are f32.
    pub shape: Shape,
}

/// A net: one input, one output.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// The spec's `name`.
    pub name: String,
    /// All activations.
    pub values: Vec<Value>,
    /// Operators in an order in which they can run.
    pub nodes: Vec<Node>,
    /// The activation that the caller gives.
    pub input: ValueId,
    /// The activation that the caller gets.
    pub output: ValueId,
}

/// One operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Unique; the name of the spec layer it came from (for a fused node: of its first layer).
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// What it reads; the count is fixed by the operator (see [`Op`]).
    pub inputs: Vec<ValueId>,
    /// What it makes.
    pub output: ValueId,
    /// The spec layers that this node computes, in the order of the spec.
    pub sources: Vec<String>,
}

/// A tensor of the weight file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Name in the weight file, as in `features.0.weight`.
    pub name: String,
    /// Shape in the weight file.
    pub shape: Vec<usize>,
}

impl Tensor {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True where some dimension is zero (never in a verified graph).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Padding of the four sides, in elements of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Columns to the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the right.
    pub right: usize,
}

/// A two-dimensional window over a map: sizes are `[h, w]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Kernel size.
    pub kernel: [usize; 2],
    /// Stride.
    pub stride: [usize; 2],
    /// Dilation (1 for pooling).
    pub dilation: [usize; 2],
    /// Padding.
    pub padding: Padding,
}

/// A convolution. Inputs: the map; one more for each [`Epilogue::Add`], in order.
/// Weight shape `[out_channels, in_channels / groups, kernel h, kernel w]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// Kernel, stride, dilation, padding.
    pub window: Window,
    /// Channels of the output.
    pub out_channels: usize,
    /// Groups; divides both channel counts.
    pub groups: usize,
    /// The kernels.
    pub weight: Tensor,
    /// One number an output channel.
    pub bias: Option<Tensor>,
    /// A batch normalisation that directly follows and is folded into weight and bias when the
    /// weights are packed.
    pub batch_norm: Option<BatchNorm>,
    /// What is applied to the result before it is stored, in order.
    pub epilogue: Vec<Epilogue>,
}

/// A fully connected layer over the flattened (C, H, W) input. Inputs: the map or vector.
/// Weight shape `[out_features, in_features]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Features of the output.
    pub out_features: usize,
    /// The matrix.
    pub weight: Tensor,
    /// One number an output feature.
    pub bias: Option<Tensor>,
    /// Elementwise operators applied to the result before it is stored, in order.
    pub epilogue: Vec<Epilogue>,
}

/// Inference-time batch normalisation, per channel:
/// `y = (x - running_mean) / sqrt(running_var + eps) * weight + bias`. All tensors `[channels]`.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub eps: f64,
    /// gamma.
    pub weight: Tensor,
    /// beta.
    pub bias: Tensor,
    /// Mean over the training set.
    pub running_mean: Tensor,
    /// Variance over the training set.
    pub running_var: Tensor,
}

/// Local response normalisation across channels (2012 paper, section 3.3):
/// `y = x / (k + scale * sum of x^2 over the window)^beta`; the window has `size` channels,
/// centred, cut at the ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lrn {
    /// Channels in the window, odd.
    pub size: usize,
    /// alpha as the spec states it.
    pub alpha: f64,
    /// The exponent.
    pub beta: f64,
    /// The constant term.
    pub k: f64,
    /// Whether alpha is divided by the window's size.
    pub alpha_scaling: AlphaScaling,
}

impl BatchNorm {
    /// The four tensors.
    pub fn tensors(&self) -> [&Tensor; 4] {
        [&self.weight, &self.bias, &self.running_mean, &self.running_var]
    }
}

impl Activation {
    /// As specs and dumps write it.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::Sigmoid => "sigmoid",
            Activation::Tanh => "tanh",
        }
    }
}

impl PoolKind {
    /// As specs and dumps write it.
    pub fn name(self) -> &'static str {
        match self {
            PoolKind::Max => "max_pool",
            PoolKind::Avg => "avg_pool",
        }
    }
}

impl Op {
    /// As specs and dumps write it.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Conv(_) => "conv",
            Op::Linear(_) => "linear",
            Op::Pool(pool) => pool.kind.name(),
            Op::Lrn(_) => "lrn",
            Op::Activation(activation) => activation.name(),
            Op::Dropout { .. } => "dropout",
            Op::Flatten => "flatten",
            Op::Softmax => "softmax",
            Op::BatchNorm(_) => "batch_norm",
            Op::Add => "add",
            Op::Concat => "concat",
        }
    }

    /// The weight tensors that it reads.
    pub fn tensors(&self) -> Vec<&Tensor> {
        match self {
            Op::Conv(Conv { weight, bias, batch_norm, .. }) => std::iter::once(weight)
                .chain(bias)
                .chain(batch_norm.iter().flat_map(BatchNorm::tensors))
                .collect(),
            Op::Linear(Linear { weight, bias, .. }) => {
                std::iter::once(weight).chain(bias).collect()
            }
            Op::BatchNorm(batch_norm) => batch_norm.tensors().to_vec(),
            Op::Pool(_)
            | Op::Lrn(_)
            | Op::Activation(_)
            | Op::Dropout { .. }
            | Op::Flatten
            | Op::Softmax
            | Op::Add
            | Op::Concat => Vec::new(),
        }
    }

    /// What is applied to the result before it is stored; empty for operators without.
    pub fn epilogue(&self) -> &[Epilogue] {
        match self {
            Op::Conv(conv) => &conv.epilogue,
            Op::Linear(linear) => &linear.epilogue,
            _ => &[],
        }
    }
}

impl Graph {
    /// All weight tensors in the order of the nodes, each once though several nodes may share it.
    pub fn tensors(&self) -> Vec<&Tensor> {
        let mut seen = HashSet::new();
        self.nodes
            .iter()
            .flat_map(|node| node.op.tensors())
            .filter(|tensor| seen.insert(tensor.name.as_str()))
            .collect()
    }

    /// The node that makes a value; nothing for the graph's input.
    pub fn maker(&self, value: ValueId) -> Option<usize> {
        self.nodes.iter().position(|node| node.output == value)
    }

    /// The output is that of a softmax: probabilities.
    pub fn ends_with_softmax(&self) -> bool {
        self.maker(self.output).is_some_and(|maker| self.nodes[maker].op == Op::Softmax)
    }

    /// How often each value is read: by nodes (one that reads it twice counts twice) and by the
    /// caller as the graph's output.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.values.len()];
        let read = self.nodes.iter().flat_map(|node| &node.inputs).chain([&self.output]);
        for value in read {
            uses[value.index()] += 1;
        }
        uses
    }
}

impl Lrn {
    /// What the sum of squares is multiplied with.
    pub fn scale(&self) -> f64 {
        match self.alpha_scaling {
            AlphaScaling::Sum => self.alpha,
            AlphaScaling::Mean => self.alpha / self.size as f64,
        }
    }
}

/// How [`Lrn::alpha`] is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlphaScaling {
    /// As in the 2012 paper: alpha times the sum.
    Sum,
    /// As in Caffe, PyTorch and ONNX: alpha / size times the sum.
    Mean,
}

/// Max or average pooling. Padding never wins a maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Max or average.
    pub kind: PoolKind,
    /// Kernel, stride, padding; dilation is 1.
    pub window: Window,
    /// Round the output size up; a last window that would start in the padding is dropped.
    pub ceil_mode: bool,
    /// Average pooling only: count padding zeros in the divisor (cells past the padding, which
    /// `ceil_mode` can reach, never count).
    pub count_include_pad: bool,
}

/// See [`Pool`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// Maximum of the window.
    Max,
    /// Mean of the window.
    Avg,
}

/// Elementwise functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
}

/// What a fused node does to its result before storing it.
#[derive(Debug, Clone, PartialEq)]
pub enum Epilogue {
    /// Elementwise function.
    Activation(Activation),
    /// Adds the node's next further input (shape of the result at that point).
    Add,
    /// Normalisation across channels.
    Lrn(Lrn),
    /// Pooling.
    Pool(Pool),
}

/// Operators. One input where nothing else is said.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a net has a few dozen of them")]
pub enum Op {
    /// Convolution with its epilogue.
    Conv(Conv),
    /// Fully connected layer with its epilogue.
    Linear(Linear),
    /// Max or average pooling.
    Pool(Pool),
    /// Local response normalisation.
    Lrn(Lrn),
    /// ReLU, sigmoid, tanh.
    Activation(Activation),
    /// Identity when the net only runs; `p` is kept for the reader.
    Dropout {
        /// Probability of dropping while training.
        p: f64,
    },
    /// `[N, C, H, W]` to `[N, C*H*W]`.
    Flatten,
    /// Over channels (of a vector: over its features).
    Softmax,
    /// Inference-time batch normalisation that could not be folded.
    BatchNorm(BatchNorm),
    /// Sum of two or more inputs of one shape.
    Add,
    /// Joins the channels of two or more inputs.
    Concat,
}
