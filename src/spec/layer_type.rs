//! The types of layers and their keys: the table that the reader, its messages and the tests of
//! docs/spec.md share.

/// A `type` of the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerType {
    /// Convolution.
    Conv,
    /// Max pooling.
    MaxPool,
    /// Average pooling.
    AvgPool,
    /// Local response normalisation.
    Lrn,
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// Nothing when the net only runs.
    Dropout,
    /// Map to vector.
    Flatten,
    /// Fully connected.
    Linear,
    /// Over channels.
    Softmax,
    /// Inference-time batch normalisation.
    BatchNorm,
    /// Sum of several layers.
    Add,
    /// Channels of several layers, joined.
    Concat,
}

/// Keys of every layer.
pub(super) const COMMON: [&str; 6] = ["name", "type", "from", "in_shape", "out_shape", "weights"];

impl LayerType {
    /// All of them, in the order of the documentation.
    pub const ALL: [LayerType; 14] = [
        LayerType::Conv,
        LayerType::MaxPool,
        LayerType::AvgPool,
        LayerType::Lrn,
        LayerType::Relu,
        LayerType::Sigmoid,
        LayerType::Tanh,
        LayerType::Dropout,
        LayerType::Flatten,
        LayerType::Linear,
        LayerType::Softmax,
        LayerType::BatchNorm,
        LayerType::Add,
        LayerType::Concat,
    ];

    /// As the spec writes it.
    pub fn name(self) -> &'static str {
        match self {
            LayerType::Conv => "conv",
            LayerType::MaxPool => "max_pool",
            LayerType::AvgPool => "avg_pool",
            LayerType::Lrn => "lrn",
            LayerType::Relu => "relu",
            LayerType::Sigmoid => "sigmoid",
            LayerType::Tanh => "tanh",
            LayerType::Dropout => "dropout",
            LayerType::Flatten => "flatten",
            LayerType::Linear => "linear",
            LayerType::Softmax => "softmax",
            LayerType::BatchNorm => "batch_norm",
            LayerType::Add => "add",
            LayerType::Concat => "concat",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layer_type| layer_type.name() == name)
    }

    /// Its own keys, without those that every layer has.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            LayerType::Conv => {
                &["out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias"]
            }
            LayerType::MaxPool => &["kernel_size", "stride", "padding", "ceil_mode"],
            LayerType::AvgPool => {
                &["kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"]
            }
            LayerType::Lrn => &["size", "alpha", "beta", "k", "alpha_scaling"],
            LayerType::Dropout => &["p"],
            LayerType::Linear => &["out_features", "bias"],
            LayerType::BatchNorm => &["eps"],
            LayerType::Relu
            | LayerType::Sigmoid
            | LayerType::Tanh
            | LayerType::Flatten
            | LayerType::Softmax
            | LayerType::Add
            | LayerType::Concat => &[],
        }
    }

    /// Its own keys and those that every layer has.
    pub(super) fn all_keys(self) -> Vec<&'static str> {
        self.keys().iter().chain(&COMMON).copied().collect()
    }
}

/// What other tools call our keys.
pub(super) const KEY_SYNONYMS: [(&str, &str); 25] = [
    ("filters", "out_channels"),
    ("num_filters", "out_channels"),
    ("channels", "out_channels"),
    ("num_output", "out_channels"),
    ("num_output", "out_features"),
    ("units", "out_features"),
    ("num_classes", "out_features"),
    ("features", "out_features"),
    ("kernel", "kernel_size"),
    ("kernel_shape", "kernel_size"),
    ("ksize", "kernel_size"),
    ("size", "kernel_size"),
    ("pad", "padding"),
    ("pads", "padding"),
    ("group", "groups"),
    ("use_bias", "bias"),
    ("bias_term", "bias"),
    ("local_size", "size"),
    ("depth_radius", "size"),
    ("epsilon", "eps"),
    ("dropout_ratio", "p"),
    ("rate", "p"),
    ("bottom", "from"),
    ("inputs", "from"),
    ("input", "from"),
];

/// What other tools call our types, in lower case.
pub(super) const TYPE_SYNONYMS: [(&str, &str); 29] = [
    ("conv2d", "conv"),
    ("convolution", "conv"),
    ("convolutional", "conv"),
    ("maxpool", "max_pool"),
    ("maxpool2d", "max_pool"),
    ("pool", "max_pool"),
    ("pooling", "max_pool"),
    ("avgpool", "avg_pool"),
    ("avgpool2d", "avg_pool"),
    ("averagepool", "avg_pool"),
    ("average_pool", "avg_pool"),
    ("global_avg_pool", "avg_pool"),
    ("localresponsenorm", "lrn"),
    ("local_response_norm", "lrn"),
    ("norm", "lrn"),
    ("fc", "linear"),
    ("dense", "linear"),
    ("gemm", "linear"),
    ("innerproduct", "linear"),
    ("inner_product", "linear"),
    ("fully_connected", "linear"),
    ("batchnorm", "batch_norm"),
    ("batchnorm2d", "batch_norm"),
    ("bn", "batch_norm"),
    ("eltwise", "add"),
    ("sum", "add"),
    ("cat", "concat"),
    ("view", "flatten"),
    ("reshape", "flatten"),
];
