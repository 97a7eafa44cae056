//! Lowering: fused graph nodes to calls of kernels. One file an operator; `tile` is the register
//! tile that convolution and linear layers share, `pack` says how weights are laid out for it.
//!
//! A kernel knows shapes and layouts, never addresses: its buffers are bound to values, weights
//! and temporaries here, and `plan` gives those their places.

mod conv;
mod convert;
mod depthwise;
mod elementwise;
mod file_rows;
pub mod gpu;
mod linear;
mod lrn;
mod math;
mod nonzero;
pub mod pack;
pub mod packed;
mod parts;
mod pool;
mod softmax;
mod space_to_depth;
mod tile;
mod transform;
mod winograd;

use crate::algorithm::{self, Algorithm, SpaceToDepth};
use crate::graph::{Activation, Conv, Epilogue, Graph, Linear, Node, Op, Padding, ValueId};
use crate::layout::Layout;
use crate::shape::Shape;
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, BufferId, DType, Kernel, Reg};
use conv::Reach;
use file_rows::FileRows;
use pack::Pack;
use packed::Packed;
use std::collections::BTreeSet;
use winograd::Tiles;

/// Vector registers that lowerings tile for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vectors {
    /// f32 lanes of a register: 4, 8 or 16.
    pub lanes: u8,
    /// Registers of the machine.
    pub registers: usize,
}

impl Vectors {
    /// 128-bit registers, sixteen of them: what every x86-64 has.
    pub const SSE: Vectors = Vectors { lanes: 4, registers: 16 };

    /// Whether kernels hint at what they read next. Where a vector is less than a block they have
    /// the time (Zen 3, AVX2: products 5 to 20 % faster); with 512-bit vectors (Zen 4) hints beside
    /// a stream that is read in order made it slower, and others were not measured.
    pub(crate) fn fetches_ahead(self) -> bool {
        self.per_block() > 1
    }

    /// Registers that hold one block of channels.
    pub(crate) fn per_block(self) -> usize {
        crate::layout::BLOCK / usize::from(self.lanes)
    }
}

/// What a kernel's buffer is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Argument {
    /// The caller's input.
    Input,
    /// The caller's output.
    Output,
    /// An activation.
    Value(ValueId),
    /// Index into [`Lowered::temporaries`].
    Temporary(usize),
    /// Index into [`Lowered::packs`].
    Weights(usize),
    /// Scratch of the running thread.
    Local,
}

/// One call of a kernel over its whole parallel space.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Name of the graph node it belongs to.
    pub node: String,
    /// The kernel.
    pub kernel: Kernel,
    /// One for each of the kernel's buffers.
    pub arguments: Vec<Argument>,
    /// For each buffer the first element of its argument that the kernel sees.
    pub firsts: Vec<usize>,
}

impl Call {
    /// For people: `node.kernel`.
    pub fn label(&self) -> String {
        format!("{}.{}", self.node, self.kernel.name)
    }
}

/// A lowered graph.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lowered {
    /// In order.
    pub calls: Vec<Call>,
    /// Elements of each temporary.
    pub temporaries: Vec<usize>,
    /// The packed weights.
    pub packs: Vec<Packed>,
}

/// Lowers a whole graph, from the caller's dense input to the caller's dense output. With `halves`
/// two devices shall share each kernel's work by channels; matrices among the tensors `in_file`
/// stay as they are, where their sizes allow it.
pub fn lower(
    graph: &Graph,
    algorithms: &[Algorithm],
    layouts: &[Layout],
    vectors: Vectors,
    weights: DType,
    halves: bool,
    in_file: &BTreeSet<String>,
) -> Lowered {
    let (node, out) = ("input".to_owned(), Lowered::default());
    let (folded, in_file) = (None, Some(in_file));
    let mut lowering =
        Lowering { graph, layouts, vectors, weights, halves, in_file, folded, node, out };
    lowering.folded = lowering.folded_input(algorithms);
    let mut nodes = graph.nodes.iter().zip(algorithms);
    if !nodes.any(|(node, &algorithm)| lowering.reads_input_in_parts(node, algorithm)) {
        lowering.input(lowering.operand(graph.input));
    }
    for (node, &algorithm) in graph.nodes.iter().zip(algorithms) {
        lowering.node.clone_from(&node.name);
        lowering.lower_node(node, algorithm);
    }
    lowering.output();
    lowering.out
}

/// State of a lowering.
struct Lowering<'g> {
    graph: &'g Graph,
    layouts: &'g [Layout],
    vectors: Vectors,
    /// Type of the weights of linear layers, see also `streamed`.
    weights: DType,
    /// Two devices share the work.
    halves: bool,
    /// Tensors that kernels may read in their file.
    in_file: Option<&'g BTreeSet<String>>,
    /// What a convolution wants to be made of the net's input, and its padding.
    folded: Option<(SpaceToDepth, Padding)>,
    /// Name of the node at work.
    node: String,
    out: Lowered,
}

/// A kernel being written together with what its buffers are bound to.
struct Draft {
    b: Builder,
    arguments: Vec<Argument>,
    firsts: Vec<usize>,
}

impl Draft {
    fn new(name: &str) -> Self {
        Draft { b: Builder::new(name), arguments: Vec::new(), firsts: Vec::new() }
    }

    fn buffer(&mut self, name: &str, argument: Argument, len: usize, access: Access) -> BufferId {
        self.arguments.push(argument);
        self.firsts.push(0);
        self.b.buffer(name, len, access)
    }

    /// Weights of any type.
    fn weights(&mut self, argument: Argument, dtype: DType, len: usize) -> BufferId {
        self.arguments.push(argument);
        self.firsts.push(0);
        self.b.typed_buffer("weights", dtype, len, Access::Read)
    }
}

/// An activation as a kernel sees it: where it is and how it lies.
#[derive(Debug, Clone, Copy)]
struct Operand {
    argument: Argument,
    layout: Layout,
    /// Elements of the argument in front of the first image.
    first: usize,
}

impl Operand {
    fn declare(&self, draft: &mut Draft, name: &str, access: Access) -> BufferId {
        let id = draft.buffer(name, self.argument, self.layout.len(), access);
        draft.firsts[usize::from(id.0)] = self.first;
        id
    }

    /// Some of its images.
    fn images(self, first: usize, count: usize) -> Operand {
        let layout = Layout { n: count, ..self.layout };
        Operand { layout, first: self.first + first * layout.image(), ..self }
    }

    /// Position of block `cb`, row `y`, column `x` of image `n`, halo skipped.
    fn at(&self, n: &Affine, cb: &Affine, y: &Affine, x: &Affine) -> Affine {
        n * self.layout.image()
            + cb * self.layout.plane()
            + y * self.layout.row()
            + x * self.layout.block
            + self.layout.origin()
    }
}

/// What a linear layer reads beside its input.
struct LinearPacks {
    /// Panels, or rows as the file has them.
    weights: Argument,
    rows: Option<FileRows>,
    /// Their type.
    dtype: DType,
    /// For 8-bit weights what a step of each output stands for.
    scales: Option<Argument>,
    bias: Argument,
}

impl Lowering<'_> {
    fn operand(&self, value: ValueId) -> Operand {
        Operand { argument: Argument::Value(value), layout: self.layouts[value.index()], first: 0 }
    }

    fn temporary(&mut self, layout: Layout) -> Operand {
        Operand { argument: self.temporary_elements(layout.len()), layout, first: 0 }
    }

    fn temporary_elements(&mut self, elements: usize) -> Argument {
        self.out.temporaries.push(elements);
        Argument::Temporary(self.out.temporaries.len() - 1)
    }

    /// Type of a direct convolution's weights: narrower than f32 only at batch 1, where reading
    /// them takes time, and only as f16.
    fn streamed(&self, images: usize) -> DType {
        if images == 1 && self.weights == DType::F16 { DType::F16 } else { DType::F32 }
    }

    /// What a step of a pack's integers stands for.
    fn scales(&mut self, pack: &Pack, dtype: DType) -> Argument {
        self.pack(Pack::Scales { of: Box::new(pack.clone()), dtype })
    }

    fn pack(&mut self, pack: Pack) -> Argument {
        self.pack_as(pack, DType::F32)
    }

    fn pack_as(&mut self, pack: Pack, dtype: DType) -> Argument {
        self.out.packs.push(Packed { pack, dtype });
        Argument::Weights(self.out.packs.len() - 1)
    }

    /// The weights of a direct convolution whose output blocks reach `reach` of input blocks of
    /// `in_block` channels.
    fn conv_weights(
        &mut self,
        conv: &Conv,
        reach: &Reach,
        in_block: usize,
        dtype: DType,
    ) -> Argument {
        let pack = Pack::Conv {
            weight: conv.weight.clone(),
            batch_norm: conv.batch_norm.clone(),
            groups: conv.groups,
            in_block,
            in_blocks: reach.blocks,
            starts: reach.starts.clone(),
        };
        self.pack_as(pack, dtype)
    }

    /// `len` elements of a convolution's bias.
    fn conv_bias(&mut self, conv: &Conv, len: usize) -> Argument {
        let (bias, batch_norm) = (conv.bias.clone(), conv.batch_norm.clone());
        self.pack(Pack::Bias { bias, batch_norm, len })
    }

    /// What a linear layer needs, for inputs of `pixels` pixels of `channels` channels in blocks of
    /// `in_block`, in panels of `width` outputs (or rows of the
    /// file) and with `len` elements of bias.
    fn linear_packs(
        &mut self,
        linear: &Linear,
        [channels, pixels, in_block]: [usize; 3],
        width: usize,
        len: usize,
        rows: Option<FileRows>,
    ) -> LinearPacks {
        let dtype = self.weights;
        let weight = linear.weight.clone();
        let pack = match rows {
            Some(_) => Pack::Rows { weight },
            None => Pack::Linear { weight, channels, pixels, in_block, width },
        };
        let scales = (dtype == DType::I8).then(|| self.scales(&pack, dtype));
        let weights = self.pack_as(pack, dtype);
        let bias = self.pack(Pack::Bias { bias: linear.bias.clone(), batch_norm: None, len });
        LinearPacks { weights, rows, dtype, scales, bias }
    }

    fn call(&mut self, draft: Draft) {
        self.out.calls.push(Call {
            node: self.node.clone(),
            kernel: draft.b.finish(),
            arguments: draft.arguments,
            firsts: draft.firsts,
        });
    }

    fn lower_node(&mut self, node: &Node, algorithm: Algorithm) {
        let output = self.operand(node.output);
        self.halo(output);
        let input = self.operand(node.inputs[0]);
        match &node.op {
            Op::Conv(conv) => {
                let shape = self.graph.values[node.inputs[0].index()].shape;
                let whole = self.whole(node, conv);
                let images = self.images_together(algorithm, conv, &whole);
                let first = self.out.calls.len();
                let mut input = input.images(0, images);
                if self.reads_input_in_parts(node, algorithm) {
                    input = self.temporary(input.layout);
                    self.input(input);
                }
                let some = Layout { n: images, ..whole };
                self.lower_fused(node, &conv.epilogue, some, |this, out, prefix| {
                    this.conv_by(algorithm, conv, shape, input, out, prefix);
                });
                self.repeat_for(first, images, shape.n());
            }
            Op::Linear(linear) => {
                let whole = Layout { halo: Padding::default(), ..output.layout };
                self.lower_fused(
                    node,
                    &linear.epilogue,
                    whole,
                    |this, out, prefix| match algorithm {
                        Algorithm::Nonzero => this.linear_nonzero(linear, input, out, prefix),
                        _ => this.linear(linear, input, out, prefix),
                    },
                );
            }
            Op::Pool(pool) => self.pool(pool, input, output),
            Op::Lrn(lrn) => self.lrn(lrn, input, output),
            Op::Activation(activation) => self.activation(*activation, input, output),
            Op::Dropout { .. } => self.copy(input, output),
            Op::Flatten => self.flatten(input, output),
            Op::Softmax => self.softmax(input, output),
            Op::BatchNorm(norm) => self.batch_norm(norm, input, output),
            Op::Add => {
                let inputs: Vec<Operand> = node.inputs.iter().map(|&v| self.operand(v)).collect();
                self.add(&inputs, output);
            }
            Op::Concat => {
                let inputs: Vec<Operand> = node.inputs.iter().map(|&v| self.operand(v)).collect();
                self.concat(&inputs, output);
            }
        }
    }

    /// A convolution by the chosen algorithm; `shape` is its input's in the graph.
    fn conv_by(
        &mut self,
        algorithm: Algorithm,
        conv: &Conv,
        shape: Shape,
        input: Operand,
        output: Operand,
        fused: &[Fused],
    ) {
        let tiles = match algorithm {
            Algorithm::Direct | Algorithm::Nonzero => None,
            Algorithm::Winograd { m } => algorithm::winograd(conv, m),
            Algorithm::SpaceToDepth { m } => {
                if let Some(folded) = SpaceToDepth::new(conv, shape, m) {
                    let tiles = Tiles { winograd: &folded.winograd, phases: folded.s };
                    self.winograd(&folded.conv, tiles, input, output, fused);
                    return;
                }
                None
            }
        };
        match tiles {
            Some(winograd) => {
                let tiles = Tiles { winograd: &winograd, phases: 1 };
                self.winograd(conv, tiles, input, output, fused);
            }
            None if depthwise::is_depthwise(conv, &input.layout) => {
                self.depthwise(conv, input, output, fused);
            }
            None => self.conv(conv, input, output, fused),
        }
    }

    /// Splits an epilogue into the elementwise part that the producing kernel applies in
    /// registers and the stages after it (LRN, pooling), which get kernels of their own. `whole` is
    /// the layout of the result before those, perhaps of the first images only.
    fn lower_fused(
        &mut self,
        node: &Node,
        epilogue: &[Epilogue],
        whole: Layout,
        produce: impl FnOnce(&mut Self, Operand, &[Fused]),
    ) {
        let some = |value| self.operand(value).images(0, whole.n);
        let output = some(node.output);
        let addends: Vec<Operand> = node.inputs[1..].iter().map(|&value| some(value)).collect();
        let mut addends = addends.into_iter();
        let (prefix, mut rest) = split_epilogue(epilogue, &mut addends);
        if rest.is_empty() {
            produce(self, output, &prefix);
            return;
        }
        let mut current = self.temporary(whole);
        produce(self, current, &prefix);
        while let [first, tail @ ..] = rest {
            match (first, tail) {
                (Epilogue::Lrn(lrn), [Epilogue::Pool(pool), tail @ ..])
                    if lrn::fusible(pool, &current.layout) =>
                {
                    let next =
                        self.stage_output(tail, pool::output_layout(pool, &current.layout), output);
                    self.lrn_pool(lrn, pool, current, next);
                    current = next;
                    rest = tail;
                }
                (Epilogue::Lrn(lrn), tail) => {
                    let next = self.stage_output(tail, current.layout, output);
                    self.lrn(lrn, current, next);
                    current = next;
                    rest = tail;
                }
                (Epilogue::Pool(pool), tail) => {
                    let next =
                        self.stage_output(tail, pool::output_layout(pool, &current.layout), output);
                    self.pool(pool, current, next);
                    current = next;
                    rest = tail;
                }
                (Epilogue::Activation(activation), tail) => {
                    let next = self.stage_output(tail, current.layout, output);
                    self.activation(*activation, current, next);
                    current = next;
                    rest = tail;
                }
                (Epilogue::Add, tail) => {
                    let next = self.stage_output(tail, current.layout, output);
                    if let Some(addend) = addends.next() {
                        self.add(&[current, addend], next);
                    }
                    current = next;
                    rest = tail;
                }
            }
        }
    }

    /// Where a stage of an epilogue stores: the node's output if it is the last one.
    fn stage_output(&mut self, rest: &[Epilogue], layout: Layout, output: Operand) -> Operand {
        if rest.is_empty() { output } else { self.temporary(layout) }
    }
}

/// Splits an epilogue into what the producing kernel does in registers, with its addends, and the
/// stages behind that.
fn split_epilogue<'e>(
    epilogue: &'e [Epilogue],
    addends: &mut impl Iterator<Item = Operand>,
) -> (Vec<Fused>, &'e [Epilogue]) {
    let mut prefix = Vec::new();
    let mut rest = epilogue;
    while let [first, tail @ ..] = rest {
        match first {
            Epilogue::Activation(activation) => prefix.push(Fused::Activation(*activation)),
            Epilogue::Add => match addends.next() {
                Some(operand) => prefix.push(Fused::Add(operand)),
                None => break,
            },
            Epilogue::Lrn(_) | Epilogue::Pool(_) => break,
        }
        rest = tail;
    }
    (prefix, rest)
}

/// Elementwise work that a kernel does before it stores.
#[derive(Debug, Clone, Copy)]
enum Fused {
    Activation(Activation),
    Add(Operand),
}

impl Fused {
    /// The same for some of the images.
    fn images(self, first: usize, count: usize) -> Fused {
        match self {
            Fused::Activation(_) => self,
            Fused::Add(operand) => Fused::Add(operand.images(first, count)),
        }
    }
}

/// Declares the addends of an epilogue; `apply` loads them.
fn declare_addends(draft: &mut Draft, fused: &[Fused]) -> Vec<Option<BufferId>> {
    fused
        .iter()
        .enumerate()
        .map(|(index, step)| match step {
            Fused::Add(operand) => {
                Some(operand.declare(draft, &format!("addend{index}"), Access::Read))
            }
            Fused::Activation(_) => None,
        })
        .collect()
}

/// Applies an epilogue to a register that holds the lanes from `lane` of the block at
/// (n, cb, y, x).
fn apply(
    b: &mut Builder,
    fused: &[Fused],
    addends: &[Option<BufferId>],
    mut value: Reg,
    place: (&Affine, &Affine, &Affine, &Affine),
    lane: &Affine,
) -> Reg {
    for (step, buffer) in fused.iter().zip(addends) {
        value = match (step, buffer) {
            (Fused::Activation(activation), _) => math::activation(b, *activation, value),
            (Fused::Add(operand), Some(buffer)) => {
                let (n, cb, y, x) = place;
                let lanes = b.lanes(value);
                let addend = b.load(lanes, *buffer, operand.at(n, cb, y, x) + lane);
                b.binary(alexc_codegen::ir::Binary::Add, value, addend)
            }
            (Fused::Add(_), None) => value,
        };
    }
    value
}
