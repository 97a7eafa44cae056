//! Spec to graph: names become values, every shape is inferred and held against what the author
//! stated. All errors of a file are found in one run: after a wrong layer the stated shape is
//! believed, and without one nothing is said about what depends on it.

mod names;

use super::infer;
use super::shape_error::ShapeError;
use super::{BatchNorm, Conv, Graph, Linear, Node, Op, Tensor, Value, ValueId};
use crate::diagnostic::{Diagnostic, Diagnostics, Span};
use crate::shape::Shape;
use crate::spec::{self, Kind, Layer, Spec, is_set};
use std::collections::HashMap;

/// What the command line changes.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// Replaces the spec's batch.
    pub batch: Option<usize>,
    /// `LAYER.KEY=VALUE`, applied in order.
    pub sets: Vec<String>,
}

/// Reads a spec and builds its graph.
///
/// # Errors
/// Everything that is wrong with it: keys and shapes, in the order of the file.
pub fn load(file: &str, text: &str, options: &BuildOptions) -> Result<(Spec, Graph), Diagnostics> {
    let spec::Parsed { spec, mut diagnostics } = spec::parse_with(file, text, &options.sets);
    let built = spec.as_ref().and_then(|spec| build_into(spec, options, &mut diagnostics));
    match (spec, built) {
        (Some(spec), Some(graph)) => diagnostics.or((spec, graph)),
        _ => {
            diagnostics.sort();
            Err(diagnostics)
        }
    }
}

/// Builds the graph of a spec that has been read without errors. `options.sets` are not looked at:
/// they change the spec while it is read (see [`load`]).
///
/// # Errors
/// Names that lead nowhere, shapes that do not follow.
pub fn build(spec: &Spec, options: &BuildOptions) -> Result<Graph, Diagnostics> {
    let mut diagnostics = Diagnostics::new(spec.sources.clone());
    match build_into(spec, options, &mut diagnostics) {
        Some(graph) => diagnostics.or(graph),
        None => {
            diagnostics.sort();
            Err(diagnostics)
        }
    }
}

/// What is known of a value while the graph is built.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// None after an error that leaves it open.
    shape: Option<Shape>,
    /// `--set` changed something that it depends on, so the file's shapes do not speak of it.
    changed: bool,
}

struct Builder<'a> {
    spec: &'a Spec,
    batch: usize,
    diagnostics: &'a mut Diagnostics,
    /// Value 0 is the input, value i + 1 the output of layer i.
    known: Vec<Known>,
    index: HashMap<&'a str, usize>,
    /// Shape of each tensor and the layer that first names it.
    tensors: HashMap<String, (Vec<usize>, &'a Layer)>,
    read: Vec<bool>,
    lost: bool,
}

fn build_into(spec: &Spec, options: &BuildOptions, diagnostics: &mut Diagnostics) -> Option<Graph> {
    let errors = diagnostics.items().len();
    let batch = options.batch.unwrap_or(spec.input.value.n());
    let shape = spec.input.value.with_batch(batch);
    let mut input = Known { shape: Some(shape), changed: is_set(spec.input.span) };
    if let Err(error) = infer::check_shape("the input", shape) {
        let error = describe("`input`".to_owned(), &error);
        diagnostics.push(error.at(spec.input.span, ""));
        input.shape = None;
    }
    let mut builder = Builder {
        spec,
        batch,
        diagnostics,
        known: vec![input],
        index: HashMap::new(),
        tensors: HashMap::new(),
        read: vec![false; spec.layers.len() + 1],
        lost: false,
    };
    let nodes: Vec<Option<Node>> =
        (0..spec.layers.len()).map(|position| builder.layer(position)).collect();
    builder.refuse_unread();
    let shapes: Option<Vec<Shape>> = builder.known.iter().map(|known| known.shape).collect();
    if diagnostics.items().len() > errors {
        return None;
    }
    let names = std::iter::once("input").chain(spec.layers.iter().map(|l| l.name.value.as_str()));
    let values =
        names.zip(shapes?).map(|(name, shape)| Value { name: name.to_owned(), shape }).collect();
    Some(Graph {
        name: spec.name.value.clone(),
        values,
        nodes: nodes.into_iter().collect::<Option<_>>()?,
        input: ValueId(0),
        output: ValueId(u32::try_from(spec.layers.len()).ok()?),
    })
}

impl<'a> Builder<'a> {
    fn layer(&mut self, position: usize) -> Option<Node> {
        let layer = &self.spec.layers[position];
        let inputs = self.inputs(position);
        // The name is known to the layers below only, so that a layer cannot read itself.
        self.index.entry(&layer.name.value).or_insert(position + 1);
        let known: Vec<Known> = match &inputs {
            Some(inputs) => inputs.iter().map(|&input| self.known[input]).collect(),
            None => vec![Known { shape: None, changed: false }],
        };
        let changed = layer.changed() || known.iter().any(|known| known.changed);
        let shapes = self.input_shapes(layer, &known);
        let (op, inferred) = match &shapes {
            Some(shapes) => self.infer(layer, inputs.as_deref(), shapes),
            None => {
                self.check_count(layer, inputs.as_deref());
                (None, None)
            }
        };
        let shape = self.output_shape(layer, changed, shapes.as_deref(), op.as_ref(), inferred);
        self.known.push(Known { shape, changed });
        let inputs = inputs?.into_iter().map(|input| u32::try_from(input).ok().map(ValueId));
        let output = ValueId(u32::try_from(position + 1).ok()?);
        let name = layer.name.value.clone();
        let sources = vec![name.clone()];
        Some(Node { name, op: op?, inputs: inputs.collect::<Option<_>>()?, output, sources })
    }

    /// The shapes that a layer reads: what is known, else what the author states.
    fn input_shapes(&mut self, layer: &Layer, known: &[Known]) -> Option<Vec<Shape>> {
        let Some(stated) = &layer.in_shape else {
            return known.iter().map(|known| known.shape).collect();
        };
        let expected: Vec<&Vec<usize>> = match stated.value.as_slice() {
            [one] => vec![one; known.len()],
            several if several.len() == known.len() => several.iter().collect(),
            several => {
                let message = format!(
                    "layer `{}`: `in_shape` states {} shapes, but the layer reads {}",
                    layer.name.value,
                    several.len(),
                    count(known.len(), "input")
                );
                self.diagnostics.push(
                    Diagnostic::error(message)
                        .at(stated.span, "")
                        .help("state one shape for all inputs, or one for each"),
                );
                return known.iter().map(|known| known.shape).collect();
            }
        };
        let trusted = is_set(stated.span);
        let mut shapes = Vec::new();
        let mut wrong = Vec::new();
        for (known, expected) in known.iter().zip(expected) {
            let believed = with_batch(expected, self.batch);
            let Some(shape) = known.shape else {
                shapes.push(believed);
                continue;
            };
            if let Some(has) = contradiction(layer, shape, expected)
                && (trusted || !known.changed)
            {
                wrong.push((has, expected));
                shapes.push(believed);
            } else {
                shapes.push(Some(shape));
            }
        }
        if !wrong.is_empty() {
            self.refuse_input(layer, stated.span, &wrong);
        }
        shapes.into_iter().collect()
    }

    fn refuse_input(&mut self, layer: &Layer, span: Span, wrong: &[(String, &Vec<usize>)]) {
        let (has, expected) = &wrong[0];
        let name = &layer.name.value;
        let mut error = Diagnostic::error(format!(
            "layer `{name}`: `in_shape` states {expected:?}, but what comes in is {has}"
        ))
        .at(span, format!("comes in as {has}"));
        for (has, expected) in &wrong[1..] {
            error = error.note(format!("`in_shape` states {expected:?} where {has} comes in"));
        }
        self.diagnostics
            .push(error.help("state what comes in, or change the layers above or `from`"));
    }

    /// How many inputs a layer has can be told without their shapes.
    fn check_count(&mut self, layer: &Layer, inputs: Option<&[usize]>) {
        let Some(inputs) = inputs else { return };
        let (op, wants, fits) = match &layer.kind {
            Kind::Invalid => return,
            Kind::Add => ("add", "at least 2 inputs", inputs.len() >= 2),
            Kind::Concat => ("concat", "at least 2 inputs", inputs.len() >= 2),
            _ => ("the layer", "one input", inputs.len() == 1),
        };
        if !fits {
            let wants = wants.to_owned();
            let error = ShapeError::InputCount { op, wants, has: inputs.len() };
            self.refuse(layer, None, &[], &error);
        }
    }

    /// The operator and the shape of its output; an error is reported.
    fn infer(
        &mut self,
        layer: &'a Layer,
        inputs: Option<&[usize]>,
        shapes: &[Shape],
    ) -> (Option<Op>, Option<Shape>) {
        let op = match operator(layer, shapes) {
            Ok(Some(op)) => op,
            Ok(None) => return (None, None),
            Err(error) => {
                self.refuse(layer, inputs, shapes, &error);
                return (None, None);
            }
        };
        match infer::output_shape(&op, shapes) {
            Ok(shape) => {
                self.tensors_of(layer, &op);
                (Some(op), Some(shape))
            }
            Err(error) => {
                self.refuse(layer, inputs, shapes, &error);
                (None, None)
            }
        }
    }

    fn refuse(
        &mut self,
        layer: &Layer,
        inputs: Option<&[usize]>,
        shapes: &[Shape],
        error: &ShapeError,
    ) {
        let layers = &self.spec.layers;
        let place = error.key().map_or_else(|| layer.place("type"), |key| layer.place(key));
        let mut diagnostic = describe(format!("layer `{}`", layer.name.value), error).at(place, "");
        // One input is told with its size; several are told by the error itself.
        if let (Some([input]), [shape]) = (inputs, shapes) {
            let above = match input.checked_sub(1).and_then(|above| layers.get(above)) {
                Some(above) => format!("from layer `{}`", above.name.value),
                None => "the net's input".to_owned(),
            };
            diagnostic.notes.insert(0, format!("what comes in is {} ({above})", shown(*shape)));
        }
        self.diagnostics.push(diagnostic);
    }

    /// Holds the inferred shape against the stated one and tells with which the net goes on.
    fn output_shape(
        &mut self,
        layer: &Layer,
        changed: bool,
        inputs: Option<&[Shape]>,
        op: Option<&Op>,
        inferred: Option<Shape>,
    ) -> Option<Shape> {
        let stated = layer.out_shape.as_ref();
        let believed = stated.and_then(|stated| with_batch(&stated.value, self.batch));
        let (Some(stated), Some(shape)) = (stated, inferred) else {
            return inferred.or(believed);
        };
        let overridden = changed && !is_set(stated.span);
        if overridden || shape.dims()[1..] == *stated.value {
            return Some(shape);
        }
        let follows = shown(shape);
        let mut error = Diagnostic::error(format!(
            "layer `{}`: `out_shape` states {:?}, but {follows} follows",
            layer.name.value, stated.value
        ))
        .at(stated.span, format!("follows as {follows}"));
        if let (Some([input, ..]), Some(op)) = (inputs, op) {
            error = error.note(format!("what comes in is {}", shown(*input)));
            for steps in infer::window_steps(op, *input).into_iter().flatten() {
                error = error.note(format!("{}: {steps}", steps.track.axis));
            }
        }
        let keys: Vec<&str> = match &layer.kind {
            Kind::Conv { .. } => {
                vec!["out_channels", "kernel_size", "stride", "padding", "dilation"]
            }
            Kind::Pool(_) => vec!["kernel_size", "stride", "padding", "ceil_mode"],
            Kind::Linear { .. } => vec!["out_features"],
            _ => vec!["from"],
        };
        let quoted: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
        self.diagnostics.push(
            error.help(format!("write out_shape: {follows}, or change {}", quoted.join(", "))),
        );
        believed
    }

    /// Two layers may share tensors, if they agree on the shape.
    fn tensors_of(&mut self, layer: &'a Layer, op: &Op) {
        for tensor in op.tensors() {
            match self.tensors.get(&tensor.name) {
                None => {
                    self.tensors.insert(tensor.name.clone(), (tensor.shape.clone(), layer));
                }
                Some((shape, _)) if *shape == tensor.shape => {}
                Some((shape, first)) => {
                    let place = |layer: &Layer| {
                        layer.written("weights").unwrap_or_else(|| layer.place("name"))
                    };
                    self.diagnostics.push(
                        Diagnostic::error(format!(
                            "layers `{}` and `{}` share the tensor `{}`, but one needs the shape \
                             {:?} and the other {:?}",
                            first.name.value, layer.name.value, tensor.name, shape, tensor.shape
                        ))
                        .at(place(layer), "")
                        .also(place(first), "first named here")
                        .help("give each its own `weights`"),
                    );
                    return;
                }
            }
        }
    }
}

/// What comes in, where the stated shape is another.
fn contradiction(layer: &Layer, shape: Shape, stated: &[usize]) -> Option<String> {
    let dims = shape.dims();
    // A linear layer flattens, so its author may think of the vector.
    if let (Kind::Linear { .. }, [features], Shape::Map { .. }) = (&layer.kind, stated, shape) {
        let factors: Vec<String> = dims[1..].iter().map(usize::to_string).collect();
        let has = shape.per_image();
        return (has != *features).then(|| format!("{} = {has} features", factors.join(" * ")));
    }
    (dims[1..] != *stated).then(|| shown(shape))
}

/// The operator of a layer over inputs of these shapes; none for a layer with errors.
fn operator(layer: &Layer, inputs: &[Shape]) -> Result<Option<Op>, ShapeError> {
    let tensor = |end: &str, shape: Vec<usize>| Tensor {
        name: format!("{}.{end}", layer.weights.value),
        shape,
    };
    // Operators of one input are checked for their count by `infer`.
    let Some(&first) = inputs.first() else { return Ok(None) };
    Ok(Some(match &layer.kind {
        Kind::Conv { out_channels, window, groups, bias } => {
            let groups = *groups;
            let weight = match first {
                Shape::Map { c, h, w, .. } => {
                    // A kernel that does not fit says more than the size of its weights.
                    window.steps([h, w], false)?;
                    infer::conv_weight(*out_channels, c, groups, window.kernel)?
                }
                // A vector has no channels to be divided; `infer` says so.
                Shape::Vector { .. } => Vec::new(),
            };
            Op::Conv(Conv {
                window: *window,
                out_channels: *out_channels,
                groups,
                weight: tensor("weight", weight),
                bias: bias.then(|| tensor("bias", vec![*out_channels])),
                batch_norm: None,
                epilogue: Vec::new(),
            })
        }
        Kind::Linear { out_features, bias } => Op::Linear(Linear {
            out_features: *out_features,
            weight: tensor("weight", infer::linear_weight(*out_features, first)?),
            bias: bias.then(|| tensor("bias", vec![*out_features])),
            epilogue: Vec::new(),
        }),
        Kind::Pool(pool) => Op::Pool(*pool),
        Kind::Lrn(lrn) => Op::Lrn(*lrn),
        Kind::Activation(activation) => Op::Activation(*activation),
        Kind::Dropout { p } => Op::Dropout { p: *p },
        Kind::Flatten => Op::Flatten,
        Kind::Softmax => Op::Softmax,
        Kind::BatchNorm { eps } => {
            let part = |end: &str| tensor(end, vec![first.c()]);
            Op::BatchNorm(BatchNorm {
                eps: *eps,
                weight: part("weight"),
                bias: part("bias"),
                running_mean: part("running_mean"),
                running_var: part("running_var"),
            })
        }
        Kind::Add => Op::Add,
        Kind::Concat => Op::Concat,
        Kind::Invalid => return Ok(None),
    }))
}

/// A shape error as a diagnostic without its place.
fn describe(what: String, error: &ShapeError) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(format!("{what}: {error}"));
    if let Some(arithmetic) = error.arithmetic() {
        diagnostic = diagnostic.note(arithmetic);
    }
    diagnostic.help(error.remedy())
}

/// A stated shape, `[C, H, W]` or `[features]`; none where no activation can have it.
fn with_batch(dims: &[usize], n: usize) -> Option<Shape> {
    let shape = match *dims {
        [c, h, w] => Shape::map(n, c, h, w),
        [features] => Shape::vector(n, features),
        _ => return None,
    };
    infer::check_shape("the stated shape", shape).is_ok().then_some(shape)
}

/// A shape as specs write it, without N: `[96, 55, 55]`.
fn shown(shape: Shape) -> String {
    format!("{:?}", &shape.dims()[1..])
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
