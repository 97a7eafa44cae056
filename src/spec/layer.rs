//! Reads the list of layers.

use super::layer_type::{KEY_SYNONYMS, LayerType, TYPE_SYNONYMS};
use super::table::{Field, Table, count};
use super::yaml::{Content, Node, shortened};
use super::{Kind, Layer, Located};
use crate::diagnostic::{Diagnostic, Diagnostics, Span, did_you_mean, listed};
use crate::graph::shape_error::MAX_ELEMENTS;
use crate::graph::window::MAX_WINDOW;
use crate::graph::{Activation, AlphaScaling, Lrn, Padding, Pool, PoolKind, Window};
use std::collections::HashMap;

/// Characters that layer names may have beside those of every name.
const NAME_MORE: &str = "/:";

/// Reads all layers; those with errors are [`Kind::Invalid`].
pub(super) fn all(node: &Node, diagnostics: &mut Diagnostics) -> Option<Vec<Layer>> {
    let Content::List(list) = &node.content else {
        let error = Field { what: "the spec", key: "layers" }.wrong(node, "a list of layers");
        diagnostics.push(error);
        return None;
    };
    if list.is_empty() {
        diagnostics.push(
            Diagnostic::error("the spec: `layers` is empty")
                .at(node.span, "")
                .help("give at least one layer, such as {name: relu1, type: relu}"),
        );
        return None;
    }
    let mut layers: Vec<Layer> = Vec::new();
    let mut known: HashMap<String, Span> = HashMap::new();
    for (index, node) in list.iter().enumerate() {
        let layer = layer(index, node, diagnostics);
        let Located { value: name, span } = &layer.name;
        if name == "input" {
            diagnostics.push(
                Diagnostic::error("layer `input`: the net's input has this name")
                    .at(*span, "")
                    .help("call the layer something else"),
            );
        } else if let Some(first) = known.get(name) {
            diagnostics.push(
                Diagnostic::error(format!("two layers are called `{name}`"))
                    .at(*span, "again here")
                    .also(*first, "first here")
                    .help("give each layer a name of its own"),
            );
        } else {
            known.insert(name.clone(), *span);
        }
        layers.push(layer);
    }
    Some(layers)
}

/// Reads a layer. One without a name gets one that no other layer can have, so that the layers
/// below it are checked all the same.
fn layer(index: usize, node: &Node, diagnostics: &mut Diagnostics) -> Layer {
    let named = match &node.content {
        Content::Map(map) => map
            .iter()
            .find(|entry| entry.key.text() == Some("name"))
            .and_then(|entry| entry.value.text()),
        _ => None,
    };
    let nameless = || Located { value: format!("(layer {})", index + 1), span: node.span };
    let what = match named {
        Some(name) => format!("layer `{}`", shortened(name)),
        None => format!("layer {}", index + 1),
    };
    let Some(mut table) = Table::new(node, &what, diagnostics) else {
        return Layer {
            name: nameless(),
            kind: Kind::Invalid,
            from: None,
            in_shape: None,
            out_shape: None,
            weights: nameless(),
            keys: Vec::new(),
            type_span: node.span,
        };
    };
    let layer_type = layer_type(&table, diagnostics);
    if let Some(layer_type) = layer_type {
        table.refuse_unknown(&layer_type.all_keys(), &KEY_SYNONYMS, diagnostics);
    }
    let mut reader = Reader { table: &table, diagnostics, failed: false };
    let name = reader.required("name", |field, node| field.name(node, NAME_MORE));
    let kind = layer_type.and_then(|layer_type| reader.kind(layer_type));
    let from = reader.optional("from", from);
    let in_shape = reader.optional("in_shape", |field, node| {
        shapes(field, node).map(|value| Located { value, span: node.span })
    });
    let out_shape = reader.optional("out_shape", |field, node| {
        shape(field, node).map(|value| Located { value, span: node.span })
    });
    let weights = reader.optional("weights", |field, node| field.text(node));
    let kind = if reader.failed { None } else { kind };
    let name = name.unwrap_or_else(nameless);
    Layer {
        kind: kind.unwrap_or(Kind::Invalid),
        from,
        in_shape,
        out_shape,
        weights: weights.unwrap_or_else(|| name.clone()),
        keys: table.places(),
        type_span: table.get("type").map_or(name.span, |node| node.span),
        name,
    }
}

fn layer_type(table: &Table<'_>, diagnostics: &mut Diagnostics) -> Option<LayerType> {
    let names = || LayerType::ALL.map(LayerType::name);
    let types = format!("the types are {}", listed(names()));
    let Some(node) = table.get("type") else {
        table.miss(table.missing("type").note(types), "type", diagnostics);
        return None;
    };
    let field = table.field("type");
    let Some(name) = node.text() else {
        diagnostics.push(field.wrong(node, "a layer type").note(types));
        return None;
    };
    let found = LayerType::from_name(name);
    if found.is_none() {
        let lower = name.to_lowercase();
        let meant = TYPE_SYNONYMS
            .iter()
            .find(|(synonym, _)| *synonym == lower)
            .map(|(_, meant)| *meant)
            .or_else(|| did_you_mean(name, names()));
        let mut diagnostic =
            Diagnostic::error(format!("{}: unknown type `{}`", table.what, shortened(name)))
                .at(node.span, "")
                .note(types);
        if let Some(meant) = meant {
            diagnostic = diagnostic.help(format!("did you mean `{meant}`?"));
        }
        diagnostics.push(diagnostic);
    }
    found
}

/// Reads the keys of one layer and remembers whether one was wrong.
struct Reader<'a, 'b> {
    table: &'a Table<'a>,
    diagnostics: &'b mut Diagnostics,
    failed: bool,
}

impl Reader<'_, '_> {
    fn optional<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(Field<'_>, &Node) -> Result<T, Diagnostic>,
    ) -> Option<T> {
        let node = self.table.get(key)?;
        match read(self.table.field(key), node) {
            Ok(value) => Some(value),
            Err(diagnostic) => {
                self.diagnostics.push(diagnostic);
                self.failed = true;
                None
            }
        }
    }

    fn required<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(Field<'_>, &Node) -> Result<T, Diagnostic>,
    ) -> Option<T> {
        if self.table.get(key).is_none() {
            self.table.miss(self.table.missing(key), key, self.diagnostics);
            self.failed = true;
        }
        self.optional(key, read)
    }

    fn kind(&mut self, layer_type: LayerType) -> Option<Kind> {
        Some(match layer_type {
            LayerType::Conv => {
                // Every key is read before any is missed, so that all errors are told at once.
                let out_channels = self.size("out_channels");
                let kernel = self.kernel();
                let stride = self.window_pair("stride");
                let dilation = self.window_pair("dilation");
                let padding = self.padding();
                let groups =
                    self.optional("groups", |field, node| field.whole(node, 1, MAX_ELEMENTS));
                let bias = self.flag("bias", true);
                let window = Window {
                    kernel: kernel?,
                    stride: stride.unwrap_or([1; 2]),
                    dilation: dilation.unwrap_or([1; 2]),
                    padding,
                };
                let groups = groups.unwrap_or(1);
                Kind::Conv { out_channels: out_channels?, window, groups, bias }
            }
            LayerType::MaxPool => Kind::Pool(self.pool(PoolKind::Max)?),
            LayerType::AvgPool => Kind::Pool(self.pool(PoolKind::Avg)?),
            LayerType::Lrn => Kind::Lrn(self.lrn()?),
            LayerType::Relu => Kind::Activation(Activation::Relu),
            LayerType::Sigmoid => Kind::Activation(Activation::Sigmoid),
            LayerType::Tanh => Kind::Activation(Activation::Tanh),
            LayerType::Dropout => {
                let p = self.required("p", |field, node| {
                    field.number(node, "a number from 0 to 1", |p| (0.0..=1.0).contains(&p))
                });
                Kind::Dropout { p: p? }
            }
            LayerType::Flatten => Kind::Flatten,
            LayerType::Linear => {
                let out_features = self.size("out_features");
                let bias = self.flag("bias", true);
                Kind::Linear { out_features: out_features?, bias }
            }
            LayerType::Softmax => Kind::Softmax,
            LayerType::BatchNorm => {
                let eps = self.optional("eps", |field, node| {
                    field.number(node, "a number above 0", |eps| eps > 0.0)
                });
                Kind::BatchNorm { eps: eps.unwrap_or(1.0e-5) }
            }
            LayerType::Add => Kind::Add,
            LayerType::Concat => Kind::Concat,
        })
    }

    fn size(&mut self, key: &str) -> Option<usize> {
        self.required(key, |field, node| field.whole(node, 1, MAX_ELEMENTS))
    }

    fn kernel(&mut self) -> Option<[usize; 2]> {
        self.required("kernel_size", |field, node| field.pair(node, 1, MAX_WINDOW))
    }

    fn window_pair(&mut self, key: &str) -> Option<[usize; 2]> {
        self.optional(key, |field, node| field.pair(node, 1, MAX_WINDOW))
    }

    fn flag(&mut self, key: &str, default: bool) -> bool {
        self.optional(key, |field, node| field.flag(node)).unwrap_or(default)
    }

    fn padding(&mut self) -> Padding {
        let what = self.table.what;
        let Some(node) = self.table.get("padding") else { return Padding::default() };
        if let Content::Map(_) = &node.content {
            let what = format!("{what}, padding");
            let Some(mut table) = Table::new(node, &what, self.diagnostics) else {
                return Padding::default();
            };
            let sides = ["top", "left", "bottom", "right"];
            table.refuse_unknown(&sides, &[], self.diagnostics);
            let mut reader = Reader { table: &table, diagnostics: self.diagnostics, failed: false };
            let [top, left, bottom, right] = sides.map(|side| {
                let read = reader.optional(side, |field, node| field.whole(node, 0, MAX_WINDOW));
                read.unwrap_or(0)
            });
            self.failed |= reader.failed;
            return Padding { top, left, bottom, right };
        }
        let read = self.optional("padding", |field, node| match &node.content {
            Content::List(list) if list.len() != 2 => Err(field
                .wrong(node, "one number, [before, after] or {top, left, bottom, right}")
                .note(count(list.len()))),
            _ => field.pair(node, 0, MAX_WINDOW),
        });
        let [before, after] = read.unwrap_or([0; 2]);
        Padding { top: before, left: before, bottom: after, right: after }
    }

    fn pool(&mut self, kind: PoolKind) -> Option<Pool> {
        let kernel = self.kernel();
        let stride = self.window_pair("stride");
        let padding = self.padding();
        let ceil_mode = self.flag("ceil_mode", false);
        let count_include_pad = self.flag("count_include_pad", true);
        let kernel = kernel?;
        let stride = stride.unwrap_or(kernel);
        let window = Window { kernel, stride, dilation: [1; 2], padding };
        Some(Pool { kind, window, ceil_mode, count_include_pad })
    }

    fn lrn(&mut self) -> Option<Lrn> {
        let size = self.required("size", |field, node| {
            let size = field.whole(node, 1, MAX_WINDOW)?;
            if size.is_multiple_of(2) {
                return Err(field
                    .wrong(node, "an odd number, for the window has a centre")
                    .help(format!("use {} or {}", size - 1, size + 1)));
            }
            Ok(size)
        });
        let not_negative = |field: Field<'_>, node: &Node| {
            field.number(node, "a number of at least 0", |value| value >= 0.0)
        };
        let alpha = self.required("alpha", not_negative);
        let beta = self.required("beta", not_negative);
        let k = self.required("k", |field, node| {
            field.number(node, "a number above 0", |value| value > 0.0)
        });
        let scaling = "`sum` (the 2012 paper: alpha times the sum of squares) or `mean` (Caffe, \
                       PyTorch, ONNX: alpha / size times the sum)";
        let alpha_scaling = if self.table.get("alpha_scaling").is_none() {
            let missing = self.table.missing("alpha_scaling");
            let missing = missing.help(format!("give {scaling}"));
            self.table.miss(missing, "alpha_scaling", self.diagnostics);
            self.failed = true;
            None
        } else {
            self.optional("alpha_scaling", |field, node| match node.text() {
                Some("sum") => Ok(AlphaScaling::Sum),
                Some("mean") => Ok(AlphaScaling::Mean),
                _ => Err(field.wrong(node, scaling)),
            })
        };
        Some(Lrn { size: size?, alpha: alpha?, beta: beta?, k: k?, alpha_scaling: alpha_scaling? })
    }
}

fn from(field: Field<'_>, node: &Node) -> Result<Vec<Located<String>>, Diagnostic> {
    match &node.content {
        Content::List(list) if list.is_empty() => {
            Err(field.wrong(node, "a layer's name or a list of them").note("the list is empty"))
        }
        Content::List(list) => list.iter().map(|node| field.name(node, NAME_MORE)).collect(),
        Content::Map(_) => Err(field.wrong(node, "a layer's name or a list of them")),
        _ => Ok(vec![field.name(node, NAME_MORE)?]),
    }
}

/// A shape without N: `[C, H, W]` or `[features]`.
fn shape(field: Field<'_>, node: &Node) -> Result<Vec<usize>, Diagnostic> {
    let dims = field.dims(node, MAX_ELEMENTS)?;
    match dims.len() {
        1 | 3 => Ok(dims),
        other => {
            let mut error = field.wrong(node, "[C, H, W] or [features]").note(count(other));
            if let (4, Some((_, rest))) = (other, dims.split_first()) {
                error = error.help(format!("leave N out: {rest:?}"));
            }
            Err(error)
        }
    }
}

/// One shape, or a list with one for each input.
fn shapes(field: Field<'_>, node: &Node) -> Result<Vec<Vec<usize>>, Diagnostic> {
    match &node.content {
        Content::List(list)
            if !list.is_empty()
                && list.iter().all(|node| matches!(node.content, Content::List(_))) =>
        {
            list.iter().map(|node| shape(field, node)).collect()
        }
        _ => Ok(vec![shape(field, node)?]),
    }
}
