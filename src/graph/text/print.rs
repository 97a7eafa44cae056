//! Graph to text.

use super::lexer::is_bare;
use crate::graph::{
    AlphaScaling, BatchNorm, Conv, Epilogue, Graph, Linear, Lrn, Node, Op, Padding, Pool, Tensor,
    ValueId, Window,
};
use crate::shape::Shape;
use std::fmt::{self, Write};

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph {}", Name(&self.name))?;
        let (input, shape) = self.value(self.input);
        writeln!(f, "{}: {shape}", Name(input))?;
        for node in &self.nodes {
            writeln!(f)?;
            self.node(f, node)?;
        }
        writeln!(f)?;
        writeln!(f, "output {}", Name(self.value(self.output).0))
    }
}

impl Graph {
    /// Name and shape; a graph that refers to values that are not there still prints.
    fn value(&self, id: ValueId) -> (&str, Shape) {
        let none = ("?", Shape::vector(0, 0));
        self.values.get(id.index()).map_or(none, |value| (&value.name, value.shape))
    }

    fn node(&self, f: &mut fmt::Formatter<'_>, node: &Node) -> fmt::Result {
        let (output, shape) = self.value(node.output);
        write!(f, "{}", Name(&node.name))?;
        if output != node.name {
            write!(f, " -> {}", Name(output))?;
        }
        write!(f, ": {shape} = {}(", node.op.name())?;
        for (index, &input) in node.inputs.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{}", Name(self.value(input).0))?;
        }
        writeln!(f, ")")?;
        match &node.op {
            Op::Conv(Conv {
                window,
                out_channels,
                groups,
                weight,
                bias,
                batch_norm,
                epilogue: _,
            }) => {
                write!(f, "  {}, out_channels {out_channels}", Attributes::window(window))?;
                if *groups != 1 {
                    write!(f, ", groups {groups}")?;
                }
                writeln!(f)?;
                weight_and_bias(f, weight, bias.as_ref())?;
                if let Some(batch_norm) = batch_norm {
                    writeln!(f, "  batch_norm(eps {:?},", batch_norm.eps)?;
                    batch_norm_tensors(f, batch_norm, "    ", ",", ")")?;
                }
            }
            Op::Linear(Linear { out_features, weight, bias, epilogue: _ }) => {
                writeln!(f, "  out_features {out_features}")?;
                weight_and_bias(f, weight, bias.as_ref())?;
            }
            Op::Pool(pool) => writeln!(f, "  {}", Attributes::pool(pool))?,
            Op::Lrn(lrn) => writeln!(f, "  {}", Attributes::lrn(lrn))?,
            Op::Dropout { p } => writeln!(f, "  p {p:?}")?,
            Op::BatchNorm(batch_norm) => {
                writeln!(f, "  eps {:?}", batch_norm.eps)?;
                batch_norm_tensors(f, batch_norm, "  ", "", "")?;
            }
            Op::Activation(_) | Op::Flatten | Op::Softmax | Op::Add | Op::Concat => {}
        }
        for step in node.op.epilogue() {
            match step {
                Epilogue::Activation(activation) => {
                    writeln!(f, "  then {}", activation.name())?;
                }
                Epilogue::Add => writeln!(f, "  then add")?,
                Epilogue::Lrn(lrn) => writeln!(f, "  then lrn({})", Attributes::lrn(lrn))?,
                Epilogue::Pool(pool) => {
                    writeln!(f, "  then {}({})", pool.kind.name(), Attributes::pool(pool))?;
                }
            }
        }
        if node.sources != [node.name.as_str()] {
            let sources: Vec<String> =
                node.sources.iter().map(|source| Name(source).to_string()).collect();
            writeln!(f, "  from [{}]", sources.join(", "))?;
        }
        Ok(())
    }
}

fn weight_and_bias(
    f: &mut fmt::Formatter<'_>,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> fmt::Result {
    writeln!(f, "  weight {}", TensorText(weight))?;
    bias.map_or(Ok(()), |bias| writeln!(f, "  bias {}", TensorText(bias)))
}

fn batch_norm_tensors(
    f: &mut fmt::Formatter<'_>,
    batch_norm: &BatchNorm,
    indent: &str,
    between: &str,
    end: &str,
) -> fmt::Result {
    let keys = ["weight", "bias", "running_mean", "running_var"];
    for (index, (key, tensor)) in keys.iter().zip(batch_norm.tensors()).enumerate() {
        let after = if index + 1 < keys.len() { between } else { end };
        writeln!(f, "{indent}{key} {}{after}", TensorText(tensor))?;
    }
    Ok(())
}

/// A comma-separated list of keys and values.
struct Attributes(Vec<String>);

impl Attributes {
    fn window(window: &Window) -> Self {
        let &Window { kernel, stride, dilation, padding } = window;
        let pair = |key: &str, [h, w]: [usize; 2]| format!("{key} {h}x{w}");
        let mut list = vec![pair("kernel", kernel), pair("stride", stride)];
        if dilation != [1, 1] {
            list.push(pair("dilation", dilation));
        }
        if padding != Padding::default() {
            let Padding { top, left, bottom, right } = padding;
            list.push(format!("padding [{top}, {left}, {bottom}, {right}]"));
        }
        Attributes(list)
    }

    fn pool(pool: &Pool) -> Self {
        let Pool { kind: _, window, ceil_mode, count_include_pad } = pool;
        let mut attributes = Self::window(window);
        if *ceil_mode {
            attributes.0.push("ceil_mode true".to_owned());
        }
        if !count_include_pad {
            attributes.0.push("count_include_pad false".to_owned());
        }
        attributes
    }

    fn lrn(lrn: &Lrn) -> Self {
        let Lrn { size, alpha, beta, k, alpha_scaling } = lrn;
        let scaling = match alpha_scaling {
            AlphaScaling::Sum => "sum",
            AlphaScaling::Mean => "mean",
        };
        Attributes(vec![format!(
            "size {size}, alpha {alpha:?}, beta {beta:?}, k {k:?}, alpha_scaling {scaling}"
        )])
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

struct TensorText<'a>(&'a Tensor);

impl fmt::Display for TensorText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", Name(&self.0.name), self.0.shape)
    }
}

/// A name, in quotes where it needs them.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_bare(self.0) {
            return f.write_str(self.0);
        }
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}
