//! Random nets as YAML specs, out of choices that shrink well: zeros choose the simplest.
//!
//! The generator computes every shape by itself and states it in the spec, so that the builder's
//! shape rules are held against a second opinion.

use proptest::prelude::*;
use std::fmt::{self, Write};

/// A random spec, in YAML.
#[derive(Clone)]
pub struct Net(pub String);

/// As it would stand in a file.
impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", self.0)
    }
}

/// Nets of up to a dozen layers.
pub fn nets() -> impl Strategy<Value = Net> {
    proptest::collection::vec(any::<u32>(), 0..200).prop_map(|choices| net(&choices))
}

/// Multiply-adds of one layer, batch included: keeps the interpreter's time in bounds.
const MOST_PRODUCTS: usize = 150_000;
/// Elements of one activation, batch included.
const MOST_ELEMENTS: usize = 12_000;

/// The choices in order; zeros when they run out.
struct Choices<'a>(std::slice::Iter<'a, u32>);

impl Choices<'_> {
    fn below(&mut self, count: usize) -> usize {
        self.0.next().map_or(0, |&c| c as usize % count)
    }

    fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// True once in `count`.
    fn rarely(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }
}

/// Shape without N.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Dims {
    Map([usize; 3]),
    Vector(usize),
}

impl Dims {
    fn elements(self) -> usize {
        match self {
            Dims::Map(dims) => dims.iter().product(),
            Dims::Vector(features) => features,
        }
    }

    fn text(self) -> String {
        match self {
            Dims::Map([c, h, w]) => format!("[{c}, {h}, {w}]"),
            Dims::Vector(features) => format!("[{features}]"),
        }
    }
}

struct Generator<'a> {
    choices: Choices<'a>,
    batch: usize,
    layers: String,
    /// Names and shapes of all values, the input first.
    values: Vec<(String, Dims)>,
    /// Of each value, whether some layer reads it.
    read: Vec<bool>,
}

fn net(choices: &[u32]) -> Net {
    let mut choices = Choices(choices.iter());
    let batch = 1 + choices.below(5);
    let channels = 1 + choices.below(40);
    let size = [1 + choices.below(20), 1 + choices.below(20)];
    let input = match choices.rarely(10) {
        false => Dims::Map([channels, size[0], size[1]]),
        true => Dims::Vector(channels * size[0]),
    };
    let values = vec![("input".to_owned(), input)];
    let mut generator =
        Generator { choices, batch, layers: String::new(), values, read: vec![false] };
    for _ in 0..1 + generator.choices.below(10) {
        generator.layer();
    }
    generator.join_ends();
    let shape = input.text().replace('[', &format!("[{batch}, "));
    let layers = generator.layers;
    Net(format!("name: random\ninput: {{shape: {shape}}}\nlayers:\n{layers}"))
}

/// A window on one axis: kernel, stride, dilation, padding before and after.
type Track = [usize; 5];

impl Generator<'_> {
    fn push(&mut self, kind: &str, keys: &str, from: &[usize], dims: Dims) {
        let name = format!("{kind}{}", self.values.len());
        let mut line = format!("  - {{name: {name}, type: {kind}{keys}");
        let last = self.values.len() - 1;
        let names: Vec<&str> = from.iter().map(|&value| self.values[value].0.as_str()).collect();
        if from != [last] {
            let _ = write!(line, ", from: [{}]", names.join(", "));
        }
        let _ = writeln!(line, ", out_shape: {}}}", dims.text());
        self.layers.push_str(&line);
        for &value in from {
            self.read[value] = true;
        }
        self.values.push((name, dims));
        self.read.push(false);
    }

    /// A spec may not have layers that its output does not depend on: a linear layer over the end
    /// of each branch, and all of them joined.
    fn join_ends(&mut self) {
        let ends: Vec<usize> = (1..self.values.len()).filter(|&value| !self.read[value]).collect();
        if ends.len() < 2 {
            return;
        }
        let first = self.values.len();
        for end in ends {
            self.linear(end);
        }
        let joined: Vec<usize> = (first..self.values.len()).collect();
        let features = joined.iter().map(|&value| self.values[value].1.elements()).sum();
        self.push("concat", "", &joined, Dims::Vector(features));
    }

    fn layer(&mut self) {
        let last = self.values.len() - 1;
        let from = if self.choices.rarely(5) { self.choices.below(last + 1) } else { last };
        let dims = self.values[from].1;
        let Dims::Map(map) = dims else {
            match self.choices.below(6) {
                0 | 1 => self.linear(from),
                2 => self.elementwise(from),
                3 => self.push("softmax", "", &[from], dims),
                4 => self.add(from),
                _ => self.concat(from),
            }
            return;
        };
        match self.choices.below(20) {
            0..=5 => self.conv(from, map),
            6..=8 => self.pool(from, map),
            9 | 10 => self.elementwise(from),
            11 => self.lrn(from),
            12 | 13 => self.add(from),
            14 | 15 => self.concat(from),
            16 => self.push("batch_norm", "", &[from], dims),
            17 => self.push("softmax", "", &[from], dims),
            18 => self.linear(from),
            _ => self.push("flatten", "", &[from], Dims::Vector(dims.elements())),
        }
    }

    fn elementwise(&mut self, from: usize) {
        let kind = self.choices.one_of(&["relu", "sigmoid", "tanh", "dropout"]);
        let keys = if kind == "dropout" { ", p: 0.5" } else { "" };
        self.push(kind, keys, &[from], self.values[from].1);
    }

    fn lrn(&mut self, from: usize) {
        let size = self.choices.one_of(&[5, 1, 3, 7, 9, 33]);
        let alpha = self.choices.one_of(&["1.0e-4", "0.1", "1.0"]);
        let beta = self.choices.one_of(&["0.75", "0.5", "1.0", "0.3", "2.25", "0.0", "9.0"]);
        let k = self.choices.one_of(&["2.0", "1.0", "0.5"]);
        let scaling = self.choices.one_of(&["sum", "mean"]);
        let keys = format!(
            ", size: {size}, alpha: {alpha}, beta: {beta}, k: {k}, alpha_scaling: {scaling}"
        );
        self.push("lrn", &keys, &[from], self.values[from].1);
    }

    fn linear(&mut self, from: usize) {
        let features = 1 + self.choices.below(70);
        let most = MOST_PRODUCTS / (self.values[from].1.elements() * self.batch);
        let features = features.min(most.max(1));
        let keys = format!(", out_features: {features}{}", self.bias());
        self.push("linear", &keys, &[from], Dims::Vector(features));
    }

    fn bias(&mut self) -> &'static str {
        if self.choices.rarely(4) { ", bias: false" } else { "" }
    }

    /// Two or three values of one shape; where there are none, one twice.
    fn add(&mut self, from: usize) {
        let dims = self.values[from].1;
        let others = self.fitting(|other| other == dims);
        let from = self.with_others(from, &others);
        self.push("add", "", &from, dims);
    }

    fn concat(&mut self, from: usize) {
        let beside = |dims: Dims| match dims {
            Dims::Map([_, h, w]) => Some([h, w]),
            Dims::Vector(_) => None,
        };
        let wants = beside(self.values[from].1);
        let others = self.fitting(|other| beside(other) == wants);
        let from = self.with_others(from, &others);
        let channels = |value: &usize| match self.values[*value].1 {
            Dims::Map([c, ..]) | Dims::Vector(c) => c,
        };
        let channels: usize = from.iter().map(channels).sum();
        let dims = match wants {
            Some([h, w]) => Dims::Map([channels, h, w]),
            None => Dims::Vector(channels),
        };
        if dims.elements() * self.batch > MOST_ELEMENTS {
            return self.elementwise(from[0]);
        }
        self.push("concat", "", &from, dims);
    }

    fn fitting(&self, fits: impl Fn(Dims) -> bool) -> Vec<usize> {
        (0..self.values.len()).rev().filter(|&value| fits(self.values[value].1)).collect()
    }

    fn with_others(&mut self, from: usize, others: &[usize]) -> Vec<usize> {
        let mut list = vec![from];
        for _ in 0..1 + self.choices.below(2) {
            list.push(self.choices.one_of(others));
        }
        list.rotate_left(self.choices.below(2));
        list
    }

    /// Kernel, stride and padding on both axes over a map, and their keys.
    fn window(&mut self, map: [usize; 3], conv: bool) -> ([Track; 2], String) {
        let square = !self.choices.rarely(4);
        let same_padding = !self.choices.rarely(2);
        let large = !conv && self.choices.rarely(4);
        let mut tracks = [[1; 5]; 2];
        for axis in 0..2 {
            let size = map[1 + axis];
            let kernel = 1 + match (conv, large) {
                (true, _) => self.choices.below(11),
                (false, true) => self.choices.below(20),
                (false, false) => self.choices.below(4),
            };
            let stride = self.choices.one_of(&[1, 1, 2, 3, 4]);
            let dilation =
                if conv && self.choices.rarely(4) { 1 + self.choices.below(3) } else { 1 };
            let most = if conv { 1 + self.choices.below(6) } else { kernel / 2 + 1 };
            let before = self.choices.below(most);
            let after = if same_padding { before } else { self.choices.below(most) };
            tracks[axis] = [kernel, stride, dilation, before, after];
            if axis == 1 && square {
                tracks[1] = tracks[0];
            }
            // The window must fit.
            let [kernel, _, dilation, before, after] = &mut tracks[axis];
            while *dilation * (*kernel - 1) >= size + *before + *after {
                *kernel -= 1;
                *dilation = 1;
            }
            if !conv {
                *before = (*before).min(*kernel / 2);
                *after = (*after).min(*kernel / 2);
                while *kernel > size + *before + *after {
                    *kernel -= 1;
                    *before = (*before).min(*kernel / 2);
                    *after = (*after).min(*kernel / 2);
                }
            }
        }
        let [rows, columns] = tracks;
        let pair = |i: usize| match rows[i] == columns[i] {
            true => rows[i].to_string(),
            false => format!("[{}, {}]", rows[i], columns[i]),
        };
        let padding = match (rows[3..] == columns[3..], rows[3] == rows[4]) {
            (true, true) => rows[3].to_string(),
            (true, false) => format!("[{}, {}]", rows[3], rows[4]),
            _ => format!(
                "{{top: {}, left: {}, bottom: {}, right: {}}}",
                rows[3], columns[3], rows[4], columns[4]
            ),
        };
        let mut keys =
            format!(", kernel_size: {}, stride: {}, padding: {padding}", pair(0), pair(1));
        if conv {
            let _ = write!(keys, ", dilation: {}", pair(2));
        }
        (tracks, keys)
    }

    fn conv(&mut self, from: usize, map: [usize; 3]) {
        let (tracks, window) = self.window(map, true);
        let output = [0, 1].map(|axis| {
            let [kernel, stride, dilation, before, after] = tracks[axis];
            (map[1 + axis] + before + after - dilation * (kernel - 1) - 1) / stride + 1
        });
        let divisors: Vec<usize> = (1..=map[0]).filter(|&g| map[0].is_multiple_of(g)).collect();
        let groups = if self.choices.rarely(3) { self.choices.one_of(&divisors) } else { 1 };
        // Channels of one group, as many as the limits allow.
        let cells = self.batch * output[0] * output[1];
        let each = cells * (map[0] / groups) * tracks[0][0] * tracks[1][0];
        let most = (70 / groups).min(MOST_PRODUCTS / (each * groups)).min(MOST_ELEMENTS / cells);
        let channels = groups * (1 + self.choices.below(most.max(1)));
        if channels * cells > MOST_ELEMENTS {
            return self.elementwise(from);
        }
        let keys = format!(", out_channels: {channels}, groups: {groups}{window}{}", self.bias());
        self.push("conv", &keys, &[from], Dims::Map([channels, output[0], output[1]]));
    }

    fn pool(&mut self, from: usize, map: [usize; 3]) {
        let kind = self.choices.one_of(&["max_pool", "avg_pool"]);
        let (tracks, mut keys) = self.window(map, false);
        let ceil = self.choices.rarely(2);
        let output = [0, 1].map(|axis| {
            let size = map[1 + axis];
            let [kernel, stride, _, before, after] = tracks[axis];
            let room = size + before + after - kernel;
            let windows = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
            // One that begins past the map is no window.
            if (windows - 1) * stride >= size + before { windows - 1 } else { windows }
        });
        let _ = write!(keys, ", ceil_mode: {ceil}");
        if kind == "avg_pool" {
            let _ = write!(keys, ", count_include_pad: {}", !self.choices.rarely(2));
        }
        let elements = map[0] * output[0] * output[1] * self.batch;
        if elements > MOST_ELEMENTS {
            return self.elementwise(from);
        }
        self.push(kind, &keys, &[from], Dims::Map([map[0], output[0], output[1]]));
    }
}
