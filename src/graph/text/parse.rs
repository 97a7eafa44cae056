//! Text to graph. Whether the graph is a good one is the verifier's question.

use super::lexer::{Kind, Token, tokens};
use crate::graph::{
    Activation, AlphaScaling, BatchNorm, Conv, Epilogue, Graph, Linear, Lrn, Node, Op, Padding,
    Pool, PoolKind, Tensor, Value, ValueId, Window,
};
use crate::shape::Shape;
use std::collections::HashMap;
use thiserror::Error;

/// Text that is no graph.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{line}:{column}: {what}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub what: String,
}

/// Reads a graph. Values are numbered as they stand in the text: the input first, then the nodes'
/// outputs. A node may read a value that is made further down; the verifier then objects.
///
/// # Errors
/// The first thing that cannot be read, with its place.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, at: 0 };
    let (name, input) = parser.header()?;
    let mut values = vec![input];
    let mut items = Vec::new();
    let output = loop {
        if parser.at_word("output") && !matches!(parser.after().kind, Kind::Mark(':') | Kind::Arrow)
        {
            parser.next();
            break parser.name("the name of the output value")?;
        }
        let item = parser.node()?;
        values.push(item.value.clone());
        items.push(item);
    };
    match parser.peek() {
        Token { kind: Kind::End, .. } => {}
        token => return Err(expected("nothing after the output", token)),
    }

    let mut ids: HashMap<&str, ValueId> = HashMap::new();
    let places =
        std::iter::once(Place { line: 2, column: 1 }).chain(items.iter().map(|item| item.place));
    for (index, (value, place)) in values.iter().zip(places).enumerate() {
        if ids.insert(&value.name, ValueId(index as u32)).is_some() {
            return Err(place.error(format!("a second value is named `{}`", value.name)));
        }
    }
    let resolve = |(name, place): &(String, Place)| {
        ids.get(name.as_str())
            .copied()
            .ok_or_else(|| place.error(format!("no value is named `{name}`")))
    };
    let nodes = items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            Ok(Node {
                name: item.name.clone(),
                op: item.op.clone(),
                inputs: item.inputs.iter().map(resolve).collect::<Result<_, _>>()?,
                output: ValueId(index as u32 + 1),
                sources: item.sources.clone(),
            })
        })
        .collect::<Result<Vec<Node>, ParseError>>()?;
    let output = resolve(&output)?;
    Ok(Graph { name, values, nodes, input: ValueId(0), output })
}

#[derive(Debug, Clone, Copy)]
struct Place {
    line: usize,
    column: usize,
}

impl Place {
    fn error(self, what: String) -> ParseError {
        ParseError { line: self.line, column: self.column, what }
    }
}

/// A node whose inputs are not looked up yet.
struct Item {
    place: Place,
    name: String,
    value: Value,
    op: Op,
    inputs: Vec<(String, Place)>,
    sources: Vec<String>,
}

fn expected(what: &str, token: &Token<'_>) -> ParseError {
    place(token).error(format!("expected {what}, found {}", token.kind.describe()))
}

fn place(token: &Token<'_>) -> Place {
    Place { line: token.line, column: token.column }
}

/// Everything that may stand behind an operator, gathered before it is known which of it the
/// operator wants.
#[derive(Default)]
struct Attributes {
    window: [Option<[usize; 2]>; 3],
    padding: Padding,
    counts: HashMap<&'static str, usize>,
    numbers: HashMap<&'static str, f64>,
    flags: HashMap<&'static str, bool>,
    tensors: HashMap<&'static str, Tensor>,
    alpha_scaling: Option<AlphaScaling>,
    batch_norm: Option<BatchNorm>,
    epilogue: Vec<Epilogue>,
    sources: Option<Vec<String>>,
    seen: Vec<String>,
}

/// What the attributes of an operator may be called, by the operator's name.
fn allowed(op: &str) -> Option<&'static [&'static str]> {
    Some(match op {
        "conv" => &[
            "kernel",
            "stride",
            "dilation",
            "padding",
            "out_channels",
            "groups",
            "weight",
            "bias",
            "batch_norm",
            "then",
            "from",
        ],
        "linear" => &["out_features", "weight", "bias", "then", "from"],
        "max_pool" | "avg_pool" => {
            &["kernel", "stride", "dilation", "padding", "ceil_mode", "count_include_pad", "from"]
        }
        "lrn" => &["size", "alpha", "beta", "k", "alpha_scaling", "from"],
        "dropout" => &["p", "from"],
        "batch_norm" => &["eps", "weight", "bias", "running_mean", "running_var", "from"],
        "relu" | "sigmoid" | "tanh" | "flatten" | "softmax" | "add" | "concat" => &["from"],
        _ => return None,
    })
}

fn activation(name: &str) -> Option<Activation> {
    Some(match name {
        "relu" => Activation::Relu,
        "sigmoid" => Activation::Sigmoid,
        "tanh" => Activation::Tanh,
        _ => return None,
    })
}

struct Parser<'t> {
    tokens: &'t [Token<'t>],
    at: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> &'t Token<'t> {
        &self.tokens[self.at]
    }

    fn after(&self) -> &'t Token<'t> {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> &'t Token<'t> {
        let token = self.peek();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn at_word(&self, word: &str) -> bool {
        self.peek().kind == Kind::Word(word)
    }

    fn accept(&mut self, mark: char) -> bool {
        let found = self.peek().kind == Kind::Mark(mark);
        if found {
            self.next();
        }
        found
    }

    fn mark(&mut self, mark: char) -> Result<(), ParseError> {
        match self.next() {
            Token { kind: Kind::Mark(found), .. } if *found == mark => Ok(()),
            token => Err(expected(&format!("`{mark}`"), token)),
        }
    }

    fn word(&mut self, what: &str) -> Result<(&'t str, Place), ParseError> {
        match self.next() {
            token @ Token { kind: Kind::Word(word), .. } => Ok((word, place(token))),
            token => Err(expected(what, token)),
        }
    }

    fn name(&mut self, what: &str) -> Result<(String, Place), ParseError> {
        match self.next() {
            token @ Token { kind: Kind::Word(word), .. } => Ok(((*word).to_owned(), place(token))),
            token @ Token { kind: Kind::Quoted(name), .. } => Ok((name.clone(), place(token))),
            token => Err(expected(what, token)),
        }
    }

    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, ParseError> {
        let (word, place) = self.word(what)?;
        word.parse().map_err(|_| place.error(format!("expected {what}, found `{word}`")))
    }

    /// `2x3x4`, split at each `x`.
    fn dims(&mut self, what: &str) -> Result<(Vec<usize>, Place), ParseError> {
        let (word, place) = self.word(what)?;
        let dims = word
            .split('x')
            .map(|dim| {
                dim.parse().map_err(|_| place.error(format!("expected {what}, found `{word}`")))
            })
            .collect::<Result<_, _>>()?;
        Ok((dims, place))
    }

    fn pair(&mut self) -> Result<[usize; 2], ParseError> {
        let what = "rows x columns, as in `3x3`";
        let (dims, place) = self.dims(what)?;
        dims.try_into().map_err(|_| place.error(format!("expected {what}")))
    }

    fn shape(&mut self) -> Result<Shape, ParseError> {
        let what = "a shape, as in `1x3x224x224` or `1x1000`";
        let (dims, place) = self.dims(what)?;
        match dims[..] {
            [n, c, h, w] => Ok(Shape::map(n, c, h, w)),
            [n, features] => Ok(Shape::vector(n, features)),
            _ => Err(place.error(format!("expected {what}"))),
        }
    }

    /// `[a, b, ...]`
    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        self.mark('[')?;
        self.rest_of_list(']', &mut item)
    }

    fn rest_of_list<T>(
        &mut self,
        end: char,
        item: &mut impl FnMut(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut items = Vec::new();
        if self.accept(end) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.accept(end) {
                return Ok(items);
            }
            self.mark(',')?;
        }
    }

    fn header(&mut self) -> Result<(String, Value), ParseError> {
        match self.next() {
            Token { kind: Kind::Word("graph"), .. } => {}
            token => return Err(expected("`graph`", token)),
        }
        let (name, _) = self.name("the graph's name")?;
        let (input, _) = self.name("the name of the input value")?;
        self.mark(':')?;
        Ok((name, Value { name: input, shape: self.shape()? }))
    }

    fn node(&mut self) -> Result<Item, ParseError> {
        let (name, place) = self.name("a node or `output`")?;
        let value = if self.peek().kind == Kind::Arrow {
            self.next();
            self.name("the name of the value that the node makes")?.0
        } else {
            name.clone()
        };
        self.mark(':')?;
        let value = Value { name: value, shape: self.shape()? };
        self.mark('=')?;
        let (op, op_place) = self.word("an operator")?;
        let keys =
            allowed(op).ok_or_else(|| op_place.error(format!("no operator is called `{op}`")))?;
        self.mark('(')?;
        let inputs = self.rest_of_list(')', &mut |this: &mut Self| this.name("a value"))?;
        let mut attributes = Attributes::default();
        // What belongs to a node is indented.
        while self.peek().kind != Kind::End && self.peek().column > 1 {
            self.attribute(op, keys, &mut attributes)?;
            self.accept(',');
        }
        let sources = attributes.sources.take().unwrap_or_else(|| vec![name.clone()]);
        let op = operator(op, op_place, attributes)?;
        Ok(Item { place, name, value, op, inputs, sources })
    }

    /// `(key value, ...)`
    fn arguments(&mut self, op: &str) -> Result<Attributes, ParseError> {
        let keys = allowed(op).unwrap_or(&[]);
        let mut attributes = Attributes::default();
        self.mark('(')?;
        self.rest_of_list(')', &mut |this: &mut Self| this.attribute(op, keys, &mut attributes))?;
        Ok(attributes)
    }

    fn attribute(
        &mut self,
        op: &str,
        keys: &[&'static str],
        into: &mut Attributes,
    ) -> Result<(), ParseError> {
        let (word, place) = self.word("an attribute")?;
        let Some(&key) = keys.iter().find(|key| **key == word) else {
            return Err(place.error(format!("{op} has no attribute `{word}`")));
        };
        if key != "then" {
            if into.seen.iter().any(|seen| seen == key) {
                return Err(place.error(format!("`{key}` is given twice")));
            }
            into.seen.push(key.to_owned());
        }
        match key {
            "kernel" => into.window[0] = Some(self.pair()?),
            "stride" => into.window[1] = Some(self.pair()?),
            "dilation" => into.window[2] = Some(self.pair()?),
            "padding" => {
                let sides = self.list(|this| this.number("a number of rows or columns"))?;
                let [top, left, bottom, right] = sides[..] else {
                    return Err(place.error("padding is [top, left, bottom, right]".to_owned()));
                };
                into.padding = Padding { top, left, bottom, right };
            }
            "out_channels" | "groups" | "out_features" | "size" => {
                into.counts.insert(key, self.number("a whole number")?);
            }
            "alpha" | "beta" | "k" | "p" | "eps" => {
                into.numbers.insert(key, self.number("a number")?);
            }
            "ceil_mode" | "count_include_pad" => {
                into.flags.insert(key, self.number("`true` or `false`")?);
            }
            "alpha_scaling" => {
                into.alpha_scaling = Some(match self.word("`sum` or `mean`")? {
                    ("sum", _) => AlphaScaling::Sum,
                    ("mean", _) => AlphaScaling::Mean,
                    (other, place) => {
                        let what = format!("expected `sum` or `mean`, found `{other}`");
                        return Err(place.error(what));
                    }
                });
            }
            "batch_norm" => {
                let arguments = self.arguments("batch_norm")?;
                into.batch_norm = Some(batch_norm(arguments, place)?);
            }
            "then" => {
                let step = self.epilogue()?;
                into.epilogue.push(step);
            }
            "from" => into.sources = Some(self.list(|this| Ok(this.name("a layer")?.0))?),
            tensor => {
                let (name, _) = self.name("the name of a tensor")?;
                let shape = self.list(|this| this.number("a dimension"))?;
                into.tensors.insert(tensor, Tensor { name, shape });
            }
        }
        Ok(())
    }

    fn epilogue(&mut self) -> Result<Epilogue, ParseError> {
        let (step, place) = self.word("a step of an epilogue")?;
        Ok(match step {
            "add" => Epilogue::Add,
            "lrn" => Epilogue::Lrn(lrn(self.arguments("lrn")?, place)?),
            "max_pool" | "avg_pool" => Epilogue::Pool(pool(step, self.arguments(step)?, place)?),
            other => match activation(other) {
                Some(activation) => Epilogue::Activation(activation),
                None => return Err(place.error(format!("no epilogue is called `{other}`"))),
            },
        })
    }
}

impl Attributes {
    fn missing(place: Place, key: &str) -> ParseError {
        place.error(format!("`{key}` is missing"))
    }

    fn window(&self, place: Place) -> Result<Window, ParseError> {
        let [kernel, stride, dilation] = self.window;
        Ok(Window {
            kernel: kernel.ok_or_else(|| Self::missing(place, "kernel"))?,
            stride: stride.ok_or_else(|| Self::missing(place, "stride"))?,
            dilation: dilation.unwrap_or([1, 1]),
            padding: self.padding,
        })
    }

    fn count(&self, place: Place, key: &str) -> Result<usize, ParseError> {
        self.counts.get(key).copied().ok_or_else(|| Self::missing(place, key))
    }

    fn number(&self, place: Place, key: &str) -> Result<f64, ParseError> {
        self.numbers.get(key).copied().ok_or_else(|| Self::missing(place, key))
    }

    fn tensor(&mut self, place: Place, key: &str) -> Result<Tensor, ParseError> {
        self.tensors.remove(key).ok_or_else(|| Self::missing(place, key))
    }
}

fn lrn(attributes: Attributes, place: Place) -> Result<Lrn, ParseError> {
    Ok(Lrn {
        size: attributes.count(place, "size")?,
        alpha: attributes.number(place, "alpha")?,
        beta: attributes.number(place, "beta")?,
        k: attributes.number(place, "k")?,
        alpha_scaling: attributes
            .alpha_scaling
            .ok_or_else(|| Attributes::missing(place, "alpha_scaling"))?,
    })
}

fn pool(op: &str, attributes: Attributes, place: Place) -> Result<Pool, ParseError> {
    let flag = |key: &str| attributes.flags.get(key).copied();
    Ok(Pool {
        kind: if op == "max_pool" { PoolKind::Max } else { PoolKind::Avg },
        window: attributes.window(place)?,
        ceil_mode: flag("ceil_mode").unwrap_or(false),
        count_include_pad: flag("count_include_pad").unwrap_or(true),
    })
}

fn batch_norm(mut attributes: Attributes, place: Place) -> Result<BatchNorm, ParseError> {
    Ok(BatchNorm {
        eps: attributes.number(place, "eps")?,
        weight: attributes.tensor(place, "weight")?,
        bias: attributes.tensor(place, "bias")?,
        running_mean: attributes.tensor(place, "running_mean")?,
        running_var: attributes.tensor(place, "running_var")?,
    })
}

fn operator(op: &str, place: Place, mut attributes: Attributes) -> Result<Op, ParseError> {
    Ok(match op {
        "conv" => Op::Conv(Conv {
            window: attributes.window(place)?,
            out_channels: attributes.count(place, "out_channels")?,
            groups: attributes.counts.get("groups").copied().unwrap_or(1),
            weight: attributes.tensor(place, "weight")?,
            bias: attributes.tensors.remove("bias"),
            batch_norm: attributes.batch_norm,
            epilogue: attributes.epilogue,
        }),
        "linear" => Op::Linear(Linear {
            out_features: attributes.count(place, "out_features")?,
            weight: attributes.tensor(place, "weight")?,
            bias: attributes.tensors.remove("bias"),
            epilogue: attributes.epilogue,
        }),
        "max_pool" | "avg_pool" => Op::Pool(pool(op, attributes, place)?),
        "lrn" => Op::Lrn(lrn(attributes, place)?),
        "dropout" => Op::Dropout { p: attributes.number(place, "p")? },
        "flatten" => Op::Flatten,
        "softmax" => Op::Softmax,
        "batch_norm" => Op::BatchNorm(batch_norm(attributes, place)?),
        "add" => Op::Add,
        "concat" => Op::Concat,
        other => match activation(other) {
            Some(activation) => Op::Activation(activation),
            None => return Err(place.error(format!("no operator is called `{other}`"))),
        },
    })
}
