//! The layer table of a spec: every size, what was read out of short notations, and what the net
//! asks of a machine.

use super::table::{Align, Table, bytes, grouped};
use crate::graph::window::{Axis, Steps};
use crate::graph::{Conv, Graph, Node, Op, Padding, Pool, cost, infer};
use crate::shape::Shape;
use crate::spec::Spec;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;

/// What `alexc check` tells about a net that is right.
#[derive(Debug, Clone)]
pub struct Check {
    model: String,
    input: Shape,
    layers: Vec<Row>,
    tensors: Vec<(String, Vec<usize>)>,
    alive_bytes: u64,
}

/// A layer.
#[derive(Debug, Clone)]
struct Row {
    name: String,
    layer_type: &'static str,
    inputs: Vec<Shape>,
    output: Shape,
    parameters: u64,
    flops: u64,
    padding: Option<Padding>,
    steps: Option<[Steps; 2]>,
    /// Output size `[h, w]` that `ceil_mode: true` would make, where it is another.
    with_ceil_mode: Option<[usize; 2]>,
}

impl Check {
    /// Looks at the graph of a spec before any pass, one node a layer.
    pub fn new(spec: &Spec, graph: &Graph) -> Self {
        let shape = |id: crate::graph::ValueId| graph.values[id.index()].shape;
        let layers = graph
            .nodes
            .iter()
            .map(|node| {
                let inputs: Vec<Shape> = node.inputs.iter().map(|&input| shape(input)).collect();
                let tensors = node.op.tensors();
                let parameters = tensors.iter().filter(|tensor| is_trained(&tensor.name));
                Row {
                    name: node.name.clone(),
                    layer_type: node.op.name(),
                    output: shape(node.output),
                    parameters: parameters.map(|tensor| tensor.len() as u64).sum(),
                    flops: cost::flops(graph, node),
                    padding: padding(node),
                    steps: inputs.first().and_then(|&input| infer::window_steps(&node.op, input)),
                    with_ceil_mode: inputs.first().and_then(|&input| ceil_mode(node, input)),
                    inputs,
                }
            })
            .collect();
        let tensors = graph.tensors();
        Check {
            model: spec.name.value.clone(),
            input: shape(graph.input),
            layers,
            tensors: tensors.iter().map(|t| (t.name.clone(), t.shape.clone())).collect(),
            alive_bytes: cost::alive_bytes(graph),
        }
    }

    /// Parameters of all tensors; those that layers share count once.
    fn parameters(&self) -> u64 {
        let trained = self.tensors.iter().filter(|(name, _)| is_trained(name));
        trained.map(|(_, shape)| elements(shape)).sum()
    }

    fn weights_bytes(&self) -> u64 {
        self.tensors.iter().map(|(_, shape)| 4 * elements(shape)).sum()
    }

    fn flops(&self) -> u64 {
        self.layers.iter().fold(0, |sum, row| sum.saturating_add(row.flops))
    }

    /// Stable keys; shapes have N.
    pub fn to_json(&self) -> Value {
        let layers: Vec<Value> = self.layers.iter().map(Row::json).collect();
        let tensors: Vec<Value> = self
            .tensors
            .iter()
            .map(|(name, shape)| json!({ "name": name, "shape": shape }))
            .collect();
        json!({
            "model": self.model,
            "input_shape": self.input.dims(),
            "output_shape": self.layers.last().map(|row| row.output.dims()),
            "batch": self.input.n(),
            "layers": layers,
            "parameters": self.parameters(),
            "flops": self.flops(),
            "weights_bytes": self.weights_bytes(),
            "activations_alive_bytes": self.alive_bytes,
            "tensors": tensors,
        })
    }
}

impl Row {
    fn json(&self) -> Value {
        let inputs: Vec<Vec<usize>> = self.inputs.iter().map(Shape::dims).collect();
        let mut object = json!({
            "name": self.name,
            "type": self.layer_type,
            "in_shapes": inputs,
            "out_shape": self.output.dims(),
            "parameters": self.parameters,
            "flops": self.flops,
            "output_bytes": 4 * self.output.len() as u64,
        });
        if let Some(Padding { top, left, bottom, right }) = self.padding {
            object["padding"] =
                json!({ "top": top, "left": left, "bottom": bottom, "right": right });
        }
        if let Some([rows, columns]) = self.steps {
            object["unused_rows"] = json!(rows.unused);
            object["unused_columns"] = json!(columns.unused);
        }
        if let Some(size) = self.with_ceil_mode {
            object["with_ceil_mode"] = json!(size);
        }
        object
    }

    /// What the division leaves, as a sentence.
    fn left_over(&self) -> Option<String> {
        let unused: Vec<Steps> = self.steps?.into_iter().filter(|steps| steps.unused > 0).collect();
        if unused.is_empty() {
            return None;
        }
        let counts: Vec<String> = unused
            .iter()
            .map(|steps| format!("{} {}", steps.unused, steps.track.axis.noun(steps.unused)))
            .collect();
        let origin = if unused.iter().all(|steps| steps.unused_data == 0) {
            " of padding"
        } else if unused.iter().any(|steps| steps.unused_data < steps.unused) {
            ", padding among them"
        } else {
            ""
        };
        let mut sentence = format!("no window reaches the last {}{origin}", counts.join(" and "));
        if let Some([h, w]) = self.with_ceil_mode {
            sentence += &format!("; ceil_mode: true would make {h}x{w}");
        }
        Some(sentence)
    }

    /// A last window that `ceil_mode` made and that was dropped again.
    fn dropped(&self) -> Option<String> {
        let steps = self.steps?;
        let axes: Vec<String> = steps
            .iter()
            .filter(|steps| steps.dropped)
            .map(|steps| format!("{}: {steps}", steps.track.axis))
            .collect();
        (!axes.is_empty()).then(|| axes.join("; "))
    }
}

/// The table, then the notes under it.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = self.input.dims().iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        writeln!(f, "{}, input {input}\n", self.model)?;
        let (unit, one) = if self.flops() < 10_000_000 { ("kFLOP", 1e3) } else { ("MFLOP", 1e6) };
        let mut table = Table::new(&[
            ("layer", Align::Left),
            ("type", Align::Left),
            ("in", Align::Left),
            ("out", Align::Left),
            ("parameters", Align::Right),
            (unit, Align::Right),
            ("out KiB", Align::Right),
        ]);
        let scaled = |flops: u64| tenths(flops as f64 / one);
        for row in &self.layers {
            table.row([
                row.name.clone(),
                row.layer_type.to_owned(),
                inputs(&row.inputs),
                one_image(row.output),
                if row.parameters > 0 { grouped(row.parameters) } else { String::new() },
                if row.flops > 0 { scaled(row.flops) } else { String::new() },
                tenths(4.0 * row.output.len() as f64 / 1024.0),
            ]);
        }
        table.rule();
        let [name, layer_type, inputs, output] = ["total", "", "", ""].map(str::to_owned);
        let parameters = grouped(self.parameters());
        table.row([name, layer_type, inputs, output, parameters, scaled(self.flops())]);
        write!(f, "{table}")?;
        writeln!(
            f,
            "\nmemory in f32: weights {}, activations at most {} at one time (layer by layer)",
            bytes(self.weights_bytes()),
            bytes(self.alive_bytes)
        )?;
        let padding = |row: &Row| row.padding.map(described);
        section(f, "padding was read as", &self.layers, padding)?;
        section(f, "left over by the division", &self.layers, Row::left_over)?;
        section(f, "ceil_mode", &self.layers, Row::dropped)
    }
}

/// Notes on layers; those of which the same is said stand on one line.
fn section(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    layers: &[Row],
    note: impl Fn(&Row) -> Option<String>,
) -> fmt::Result {
    let mut notes: Vec<(String, Vec<&str>)> = Vec::new();
    for row in layers {
        let Some(text) = note(row) else { continue };
        match notes.iter_mut().find(|(other, _)| *other == text) {
            Some((_, names)) => names.push(&row.name),
            None => notes.push((text, vec![&row.name])),
        }
    }
    if notes.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}")?;
    for (text, names) in notes {
        // In a deep net the same is true of dozens of layers.
        let names = match names.as_slice() {
            [a, b, c, _, _, _, ..] => format!("{a}, {b}, {c} and {} more", names.len() - 3),
            _ => names.join(", "),
        };
        writeln!(f, "  {names}: {text}")?;
    }
    Ok(())
}

fn padding(node: &Node) -> Option<Padding> {
    let (Op::Conv(Conv { window, .. }) | Op::Pool(Pool { window, .. })) = &node.op else {
        return None;
    };
    (window.padding != Padding::default()).then_some(window.padding)
}

fn described(Padding { top, left, bottom, right }: Padding) -> String {
    let sides = BTreeSet::from([top, left, bottom, right]);
    if sides.len() == 1 {
        return format!("{top} on every side");
    }
    let side =
        |count: usize, axis: Axis, place: &str| format!("{count} {} {place}", axis.noun(count));
    [
        side(top, Axis::Rows, "above"),
        side(bottom, Axis::Rows, "below"),
        side(left, Axis::Columns, "to the left"),
        side(right, Axis::Columns, "to the right"),
    ]
    .join(", ")
}

fn ceil_mode(node: &Node, input: Shape) -> Option<[usize; 2]> {
    let Op::Pool(pool) = &node.op else { return None };
    let size = [input.h(), input.w()];
    let up = Pool { ceil_mode: true, ..*pool }.output_size(size);
    (!pool.ceil_mode && up != pool.output_size(size)).then_some(up)
}

fn is_trained(tensor: &str) -> bool {
    !tensor.ends_with(".running_mean") && !tensor.ends_with(".running_var")
}

fn elements(shape: &[usize]) -> u64 {
    shape.iter().map(|&dim| dim as u64).product()
}

/// `96x55x55`, without N.
fn one_image(shape: Shape) -> String {
    let dims: Vec<String> = shape.dims()[1..].iter().map(usize::to_string).collect();
    dims.join("x")
}

/// All inputs: `2 of 64x56x56`, `64x55x55 + 32x55x55`; of many the first ones.
fn inputs(shapes: &[Shape]) -> String {
    match shapes {
        [first, _, ..] if shapes.iter().all(|shape| shape == first) => {
            format!("{} of {}", shapes.len(), one_image(*first))
        }
        [a, b, c, _, ..] => {
            let firsts = [a, b, c].map(|shape| one_image(*shape)).join(" + ");
            format!("{firsts} + {} more", shapes.len() - 3)
        }
        _ => shapes.iter().map(|&shape| one_image(shape)).collect::<Vec<_>>().join(" + "),
    }
}

/// One decimal, thousands grouped.
fn tenths(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    let whole = grouped(rounded.trunc() as u64);
    format!("{whole}.{}", ((rounded.fract() * 10.0).round() as u64).min(9))
}
