//! Prints a spec as YAML in which every default is written out. It parses back to the same net.

use super::{Kind, Layer, Spec};
use crate::graph::{Activation, AlphaScaling, Padding, PoolKind, Window};
use alexc_runtime::preprocess::{Preprocess, Resize};
use std::fmt;

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "name: {}", word(&self.name.value))?;
        writeln!(f, "input: {{shape: {}}}", list(&self.input.value.dims()))?;
        if let Some(preprocess) = &self.preprocess {
            writeln!(f, "preprocess: {}", Preprocessing(preprocess))?;
        }
        if let Some(labels) = &self.labels {
            writeln!(f, "labels: {}", word(&labels.value))?;
        }
        writeln!(f, "layers:")?;
        self.layers.iter().try_for_each(|layer| writeln!(f, "  - {layer}"))
    }
}

struct Preprocessing<'a>(&'a Preprocess);

impl fmt::Display for Preprocessing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Preprocess { resize, crop, color, mean, std } = self.0;
        f.write_str("{")?;
        match resize {
            Some(Resize::Shorter(side)) => write!(f, "resize: {side}, ")?,
            Some(Resize::Exact(size)) => write!(f, "resize: {}, ", list(size))?,
            None => {}
        }
        if let Some(crop) = crop {
            write!(f, "crop: {}, ", list(crop))?;
        }
        write!(f, "color: {color}, mean: {}, std: {}}}", numbers(mean), numbers(std))
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{name: {}, {}", word(&self.name.value), self.kind)?;
        if let Some(from) = &self.from {
            let from: Vec<String> = from.iter().map(|name| word(&name.value)).collect();
            write!(f, ", from: [{}]", from.join(", "))?;
        }
        if let Some(shapes) = &self.in_shape {
            match shapes.value.as_slice() {
                [one] => write!(f, ", in_shape: {}", list(one))?,
                several => {
                    let shapes: Vec<String> = several.iter().map(|shape| list(shape)).collect();
                    write!(f, ", in_shape: [{}]", shapes.join(", "))?;
                }
            }
        }
        if let Some(shape) = &self.out_shape {
            write!(f, ", out_shape: {}", list(&shape.value))?;
        }
        if self.weights.value != self.name.value {
            write!(f, ", weights: {}", word(&self.weights.value))?;
        }
        f.write_str("}")
    }
}

/// The type and its keys.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Conv { out_channels, window, groups, bias } => write!(
                f,
                "type: conv, out_channels: {out_channels}, {}, dilation: {}, groups: {groups}, \
                 bias: {bias}",
                keys(window),
                pair(window.dilation)
            ),
            Kind::Pool(pool) => {
                let (name, average) = match pool.kind {
                    PoolKind::Max => ("max_pool", false),
                    PoolKind::Avg => ("avg_pool", true),
                };
                write!(f, "type: {name}, {}, ceil_mode: {}", keys(&pool.window), pool.ceil_mode)?;
                if average {
                    write!(f, ", count_include_pad: {}", pool.count_include_pad)?;
                }
                Ok(())
            }
            Kind::Lrn(lrn) => write!(
                f,
                "type: lrn, size: {}, alpha: {}, beta: {}, k: {}, alpha_scaling: {}",
                lrn.size,
                number(lrn.alpha),
                number(lrn.beta),
                number(lrn.k),
                match lrn.alpha_scaling {
                    AlphaScaling::Sum => "sum",
                    AlphaScaling::Mean => "mean",
                }
            ),
            Kind::Activation(Activation::Relu) => f.write_str("type: relu"),
            Kind::Activation(Activation::Sigmoid) => f.write_str("type: sigmoid"),
            Kind::Activation(Activation::Tanh) => f.write_str("type: tanh"),
            Kind::Dropout { p } => write!(f, "type: dropout, p: {}", number(*p)),
            Kind::Flatten => f.write_str("type: flatten"),
            Kind::Linear { out_features, bias } => {
                write!(f, "type: linear, out_features: {out_features}, bias: {bias}")
            }
            Kind::Softmax => f.write_str("type: softmax"),
            Kind::BatchNorm { eps } => write!(f, "type: batch_norm, eps: {}", number(*eps)),
            Kind::Add => f.write_str("type: add"),
            Kind::Concat => f.write_str("type: concat"),
            Kind::Invalid => f.write_str("type: ?"),
        }
    }
}

fn keys(window: &Window) -> String {
    let Padding { top, left, bottom, right } = window.padding;
    let padding = if [top, bottom] == [left, right] {
        if top == bottom { top.to_string() } else { list(&[top, bottom]) }
    } else {
        format!("{{top: {top}, left: {left}, bottom: {bottom}, right: {right}}}")
    };
    let (kernel, stride) = (pair(window.kernel), pair(window.stride));
    format!("kernel_size: {kernel}, stride: {stride}, padding: {padding}")
}

fn pair(pair: [usize; 2]) -> String {
    if pair[0] == pair[1] { pair[0].to_string() } else { list(&pair) }
}

fn list(numbers: &[usize]) -> String {
    let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
    format!("[{}]", numbers.join(", "))
}

fn numbers(values: &[f64]) -> String {
    let values: Vec<String> = values.iter().map(|&value| number(value)).collect();
    format!("[{}]", values.join(", "))
}

/// Shortest form that reads back to the same number and is a number to every YAML reader: with a
/// point also before an exponent.
fn number(value: f64) -> String {
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0e{exponent}"),
        _ => text,
    }
}

/// A text, in quotes unless it is plainly a word.
fn word(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true"
                | "false"
                | "null"
                | "yes"
                | "no"
                | "on"
                | "off"
                | "y"
                | "n"
                | "nan"
                | "inf"
                | "infinity"
        );
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
