//! The layer spec: what its author wrote, typed, every key with its place in the file.
//!
//! `yaml` makes a tree with places, `table` reads values out of it, `input` and `layer` know the
//! keys, `layer_type` lists them. Shapes are not this room's business: `graph::build` checks them.

mod file;
mod input;
mod labels;
mod layer;
mod layer_type;
mod set;
mod table;
mod text;
mod yaml;

pub use file::read;
pub use labels::read as read_labels;
pub use layer_type::LayerType;

use crate::diagnostic::{Diagnostic, Diagnostics, Source, Sources, Span};
use crate::graph::{Activation, Lrn, Pool, Window};
use crate::shape::Shape;
use alexc_runtime::preprocess::Preprocess;
use std::sync::Arc;
use table::Table;
use yaml::{Content, Node};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

/// A net as its author wrote it.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The net's name: letters, digits, `_`, `-` and `.`.
    pub name: Located<String>,
    /// Shape of the input, with the spec's batch.
    pub input: Located<Shape>,
    /// How a picture becomes the input.
    pub preprocess: Option<Preprocess>,
    /// File of class names, relative to the spec's folder.
    pub labels: Option<Located<String>>,
    /// The layers, in the order of the file; names are unique.
    pub layers: Vec<Layer>,
    /// The texts that spans point into: the file, then each `--set`.
    pub sources: Arc<Sources>,
}

impl Spec {
    /// The name as a C identifier: `alexnet-2gpu` becomes `alexnet_2gpu`.
    pub fn c_identifier(&self) -> String {
        let mut identifier: String = self
            .name
            .value
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        if !identifier.starts_with(|c: char| c.is_ascii_alphabetic()) {
            identifier.insert_str(0, "net_");
        }
        identifier
    }
}

/// A layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Unique in the spec.
    pub name: Located<String>,
    /// What it does.
    pub kind: Kind,
    /// What it reads; `None` is the layer above.
    pub from: Option<Vec<Located<String>>>,
    /// What the author expects to come in, without N: one shape, or one for each input.
    pub in_shape: Option<Located<Vec<Vec<usize>>>>,
    /// What the author expects to come out, without N.
    pub out_shape: Option<Located<Vec<usize>>>,
    /// What its tensors' names begin with.
    pub weights: Located<String>,
    /// Where each key's value stands.
    keys: Vec<(String, Span)>,
    /// Where the type stands.
    type_span: Span,
}

/// What a layer does, with its keys.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `conv`.
    Conv {
        /// `out_channels`.
        out_channels: usize,
        /// `kernel_size`, `stride`, `padding`, `dilation`.
        window: Window,
        /// `groups`.
        groups: usize,
        /// `bias`.
        bias: bool,
    },
    /// `max_pool` and `avg_pool`.
    Pool(Pool),
    /// `lrn`.
    Lrn(Lrn),
    /// `relu`, `sigmoid`, `tanh`.
    Activation(Activation),
    /// `dropout`.
    Dropout {
        /// `p`.
        p: f64,
    },
    /// `flatten`.
    Flatten,
    /// `linear`.
    Linear {
        /// `out_features`.
        out_features: usize,
        /// `bias`.
        bias: bool,
    },
    /// `softmax`.
    Softmax,
    /// `batch_norm`.
    BatchNorm {
        /// `eps`.
        eps: f64,
    },
    /// `add`.
    Add,
    /// `concat`.
    Concat,
    /// A layer whose keys are wrong: an error has been reported. Only in a [`Parsed`] with errors.
    Invalid,
}

impl Layer {
    /// Where the value of `key` stands; the type's place where the key is not written.
    pub fn place(&self, key: &str) -> Span {
        self.written(key).unwrap_or(self.type_span)
    }

    /// Where the value of `key` stands, if it is written.
    pub fn written(&self, key: &str) -> Option<Span> {
        self.keys.iter().find(|(written, _)| written == key).map(|(_, span)| *span)
    }

    /// True where `--set` changed what the layer computes, so that what the file says about shapes
    /// from here on was meant for another net.
    pub fn changed(&self) -> bool {
        self.keys.iter().any(|(key, span)| {
            is_set(*span) && !matches!(key.as_str(), "in_shape" | "out_shape" | "weights")
        })
    }
}

/// True where the place is in a `--set`, not in the file.
pub fn is_set(span: Span) -> bool {
    span.source > 0
}

/// A spec with what is wrong in it.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// What could be read; layers with errors are [`Kind::Invalid`]. `None` where too little is
    /// left to look at shapes.
    pub spec: Option<Spec>,
    /// The errors.
    pub diagnostics: Diagnostics,
}

/// Reads a spec.
///
/// # Errors
/// Everything that is wrong with its keys. Shapes are checked by [`crate::graph::build`].
pub fn parse(file: &str, text: &str) -> Result<Spec, Diagnostics> {
    let Parsed { spec, mut diagnostics } = parse_with(file, text, &[]);
    match spec {
        Some(spec) if !diagnostics.has_errors() => Ok(spec),
        _ => {
            diagnostics.sort();
            Err(diagnostics)
        }
    }
}

/// Reads as much of a spec as possible, after changing it by `sets` (`LAYER.KEY=VALUE`).
pub fn parse_with(file: &str, text: &str, sets: &[String]) -> Parsed {
    let mut sources = Sources::default();
    let source = Source::new(file, text);
    let tree = yaml::parse(&source, 0, 0);
    sources.add(source);
    let mut problems = Vec::new();
    let mut edits = Vec::new();
    for (index, set) in sets.iter().enumerate() {
        let source = Source::new("--set", set);
        match set::parse(&source, index + 1) {
            Ok(edit) => edits.push(edit),
            Err(diagnostic) => problems.push(diagnostic),
        }
        sources.add(source);
    }
    let sources = Arc::new(sources);
    let mut diagnostics = Diagnostics::new(sources.clone());
    problems.into_iter().for_each(|problem| diagnostics.push(problem));
    let start = Span { source: 0, start: 0, end: 0 };
    let spec = match tree {
        Err(diagnostic) => {
            diagnostics.push(diagnostic);
            None
        }
        Ok(None | Some(Node { content: Content::Null, .. })) => {
            diagnostics.push(
                Diagnostic::error("the file holds no spec")
                    .at(start, "")
                    .help("give `name`, `input` and `layers`"),
            );
            None
        }
        Ok(Some(mut root)) => {
            for edit in edits {
                if let Err(diagnostic) = set::apply(&mut root, edit) {
                    diagnostics.push(diagnostic);
                }
            }
            net(&root, sources, &mut diagnostics)
        }
    };
    Parsed { spec, diagnostics }
}

const KEYS: [&str; 5] = ["name", "input", "preprocess", "labels", "layers"];

fn net(root: &Node, sources: Arc<Sources>, diagnostics: &mut Diagnostics) -> Option<Spec> {
    let mut table = Table::new(root, "the spec", diagnostics)?;
    table.refuse_unknown(&KEYS, &[], diagnostics);
    let name = table.required("name", diagnostics).and_then(|node| {
        table.field("name").name(node, "").map_err(|error| diagnostics.push(error)).ok()
    });
    let input =
        table.required("input", diagnostics).and_then(|node| input::shape(node, diagnostics));
    let preprocess = table.get("preprocess").and_then(|node| {
        input::preprocess(node, input.as_ref().map(|shape| shape.value), diagnostics)
    });
    let labels = table.get("labels").and_then(|node| {
        table.field("labels").text(node).map_err(|error| diagnostics.push(error)).ok()
    });
    let layers =
        table.required("layers", diagnostics).and_then(|node| layer::all(node, diagnostics));
    Some(Spec { name: name?, input: input?, preprocess, labels, layers: layers?, sources })
}

#[cfg(test)]
mod tests;
