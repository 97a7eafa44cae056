//! Convolutions, and linear layers of several images, as one matrix product: rows are output
//! channels, columns the pixels of all images, and the sum runs over the weights of a kernel. The
//! matrix of inputs is never made: a tile of it is gathered from the map when it is needed.
//!
//! A work-group computes a tile. Step by step it brings 16 rows of both matrices into shared
//! memory, while the next ones are on their way in registers; each item multiplies its part. Where
//! the tiles are too few for the device, several groups share a sum, and a second kernel adds
//! their parts.

mod ends;
mod points;
mod tensor;

pub(super) use ends::{Ends, OfChannel};
pub(super) use points::QUAD;

use super::choice::{Choice, Extent, row_groups};
use super::parameters::DEPTH;
use super::{Gpu, shared};
use crate::graph::{Conv, Linear};
use crate::layout::{BLOCK, Layout};
use crate::lower::conv::Reach;
use crate::lower::{Argument, Draft, Fused, LinearPacks, Operand};
use alexc_codegen::builder::{Affine, At, Builder};
use alexc_codegen::ir::{Access, Binary, BufferId, DType, Reg};

/// A matrix product, or several side by side.
pub(super) struct Product<'a> {
    /// Groups of the convolution, or of rows, see [`super::choice::row_groups`].
    pub(super) groups: usize,
    /// From the first channel that one group reads to that of the next; 0 where all read the same.
    pub(super) group_channels: usize,
    /// Output channels of a group.
    pub(super) outputs: usize,
    /// Products in a sum.
    pub(super) depth: usize,
    /// Where the inputs are.
    pub(super) input: Operand,
    /// How its matrix comes about.
    pub(super) columns: Columns<'a>,
    /// Blocks of [`BLOCK`] outputs: `[block][depth][BLOCK]`, or `[block][point][depth][BLOCK]`.
    pub(super) weights: Argument,
    /// Their type.
    pub(super) dtype: DType,
    /// For 8-bit weights what a step of each output stands for.
    pub(super) scales: Option<Argument>,
    /// One for each output.
    pub(super) bias: Argument,
    /// Results.
    pub(super) output: Operand,
    /// What happens to them first.
    pub(super) fused: &'a [Fused],
}

/// How an element of the input's matrix is found.
pub(super) enum Columns<'a> {
    /// The weights run over channel, row and column of the kernel, in this order.
    Flat(&'a Conv),
    /// They run over blocks of 16 channels, row and column of the kernel, and channel of the
    /// block: a step has one place in the kernel.
    ByBlocks(&'a Conv),
    /// The input is one vector an image.
    Vectors,
    /// As many products as the input has images, of which each is a matrix.
    Points,
}

impl Product<'_> {
    /// Products with weights of their own.
    fn points(&self) -> usize {
        if matches!(self.columns, Columns::Points) { self.input.layout.n } else { 1 }
    }
}

impl Gpu<'_> {
    pub(super) fn conv(&mut self, conv: &Conv, input: Operand, output: Operand, fused: &[Fused]) {
        let outputs = conv.out_channels / conv.groups;
        if conv.groups > 1 && !outputs.is_multiple_of(BLOCK) {
            self.scalar_conv(conv, input, output, fused);
            return;
        }
        let channels = input.layout.c / conv.groups;
        let [kh, kw] = conv.window.kernel;
        let by_blocks = channels.is_multiple_of(DEPTH);
        let in_block = if by_blocks { DEPTH } else { 1 };
        let reach = Reach::new(conv, &Layout { block: in_block, ..input.layout });
        let weights = self.base.conv_weights(conv, &reach, in_block, DType::F32);
        let bias = self.base.conv_bias(conv, conv.out_channels);
        let groups = row_groups(conv.groups, conv.out_channels, self.parameters);
        self.product(&Product {
            groups,
            group_channels: if conv.groups > 1 { channels } else { 0 },
            outputs: conv.out_channels / groups,
            depth: channels * kh * kw,
            input,
            columns: if by_blocks { Columns::ByBlocks(conv) } else { Columns::Flat(conv) },
            weights,
            dtype: DType::F32,
            scales: None,
            bias,
            output,
            fused,
        });
    }

    pub(super) fn linear(
        &mut self,
        linear: &Linear,
        input: Operand,
        output: Operand,
        fused: &[Fused],
    ) {
        let il = input.layout;
        let depth = il.c * il.h * il.w;
        let LinearPacks { weights, dtype, scales, bias, .. } =
            self.base.linear_packs(linear, [depth, 1, 1], BLOCK, linear.out_features, None);
        let groups = match il.n {
            1 => 1,
            _ => row_groups(1, linear.out_features, self.parameters),
        };
        let product = Product {
            groups,
            group_channels: 0,
            outputs: linear.out_features / groups,
            depth,
            input,
            columns: Columns::Vectors,
            weights,
            dtype,
            scales,
            bias,
            output,
            fused,
        };
        if il.n == 1 { self.vector(&product) } else { self.product(&product) }
    }

    fn product(&mut self, product: &Product<'_>) {
        let ol = product.output.layout;
        let extent = Extent {
            count: product.groups,
            outputs: product.outputs,
            columns: ol.n * ol.h * ol.w,
            depth: product.depth,
            inputs: product.input.layout.len(),
            added_later: false,
            mma: self.parameters.mma,
        };
        let choice = extent.choose(self.parameters);
        let mut draft =
            Draft::new(if matches!(product.columns, Columns::Vectors) { "linear" } else { "conv" });
        if choice.splits == 1 {
            let writer = Writer::new(&mut draft, product, choice, product.output, true);
            writer.write(&mut draft.b);
            self.base.call(draft);
            return;
        }
        let parts = Operand {
            argument: self.base.temporary_elements(choice.splits * ol.len()),
            layout: Layout { n: ol.n * choice.splits, ..ol },
            first: 0,
        };
        let writer = Writer::new(&mut draft, product, choice, parts, false);
        writer.write(&mut draft.b);
        self.base.call(draft);
        self.add_parts(product, parts, choice.splits);
    }

    /// Sums the parts and finishes the results.
    fn add_parts(&mut self, product: &Product<'_>, parts: Operand, splits: usize) {
        let output = product.output;
        let layout = output.layout;
        let mut draft = Draft::new("add_parts");
        let from = parts.declare(&mut draft, "parts", Access::Read);
        let ends = Ends::declare(&mut draft, product);
        let to = output.declare(&mut draft, "output", Access::Write);
        let b = &mut draft.b;
        let n = b.parallel("n", layout.n);
        let c = b.parallel("c", layout.c);
        let q = b.parallel("q", layout.h * layout.w);
        let at = &n * layout.image() + &c * layout.plane() + q;
        let sum = b.load(1, from, &at);
        b.repeat("part", splits - 1, |b, part| {
            let value = b.load(1, from, &at + part * layout.len() + layout.len());
            b.binary_into(Binary::Add, sum, sum, value);
        });
        let at = At::from(at);
        let of = ends.of_channel(b, &c, &at);
        let value = ends.apply(b, product, sum, of, &at);
        b.store(to, at, value);
        self.base.call(draft);
    }
}

/// Writes the kernel of a product.
struct Writer<'a> {
    product: &'a Product<'a>,
    choice: Choice,
    input: BufferId,
    weights: BufferId,
    /// Absent where the results are parts.
    ends: Option<Ends>,
    target: BufferId,
    /// 16 rows of both tiles; see [`tensor`] for how they lie there.
    left: BufferId,
    right: BufferId,
    /// From one row to the next in `right`.
    pitch: usize,
}

/// Where an item is: its group's tile, what it loads and what it computes.
struct Place {
    item: Affine,
    part: Affine,
    point: Affine,
    group: Affine,
    row_tile: Affine,
    column_tile: Affine,
    /// Of the weights that it loads: block of outputs in the tile, place in a block's 16 rows.
    block: Affine,
    rest: Affine,
    /// Of the inputs that it loads first: row of the step, column of the tile.
    row: Affine,
    column: Affine,
    /// Number of that column among those that are loaded at once.
    fast: Affine,
}

/// A pixel of an image.
struct Pixel {
    image: Affine,
    y: Affine,
    x: Affine,
}

impl<'a> Writer<'a> {
    fn new(
        draft: &mut Draft,
        product: &'a Product<'a>,
        choice: Choice,
        target: Operand,
        whole: bool,
    ) -> Self {
        let tile = choice.tile;
        let input = product.input.declare(draft, "input", Access::Read);
        let blocks = (product.groups * product.outputs).div_ceil(BLOCK);
        let panels = blocks * product.points();
        let weights = draft.weights(product.weights, product.dtype, panels * product.depth * BLOCK);
        let ends = whole.then(|| Ends::declare(draft, product));
        let target = target.declare(draft, "output", Access::Write);
        // Vectors are stored into the tile by columns: four more keep them out of one bank.
        let pitch = tile.columns + if matches!(product.columns, Columns::Vectors) { 4 } else { 0 };
        let (left, right) = match choice.mma {
            None => (DEPTH * tile.rows, DEPTH * pitch),
            Some(_) => (tensor::left_len(tile), tensor::right_len(tile)),
        };
        let (left, right) = (shared(draft, "left", left), shared(draft, "right", right));
        Writer { product, choice, input, weights, ends, target, left, right, pitch }
    }

    /// Items that load one row of the input's tile, or one column of a tile of vectors.
    fn items_across(&self) -> usize {
        match self.product.columns {
            Columns::Vectors => DEPTH,
            _ => self.choice.tile.columns / self.right_lanes(),
        }
    }

    /// Columns of the input that are loaded at once.
    fn right_lanes(&self) -> usize {
        if matches!(self.product.columns, Columns::Points) { QUAD } else { 1 }
    }

    fn all_columns(&self) -> usize {
        let layout = self.product.output.layout;
        match self.product.columns {
            Columns::Points => layout.w,
            _ => layout.n * layout.h * layout.w,
        }
    }

    /// Blocks of outputs in a group.
    fn blocks(&self) -> usize {
        self.product.outputs.div_ceil(BLOCK)
    }

    /// Whether the last part has steps past the end of the sums, or the last step rows.
    fn overhangs(&self) -> bool {
        self.choice.splits * self.choice.steps * DEPTH > self.product.depth
    }

    fn place(&self, b: &mut Builder) -> Place {
        let Choice { tile, splits, .. } = self.choice;
        let part = b.parallel("part", splits);
        let point = b.parallel("point", self.product.points());
        let group = b.parallel("group", self.product.groups);
        let row_tile = b.parallel("row_tile", self.product.outputs.div_ceil(tile.rows));
        let column_tile = b.parallel("column_tile", self.all_columns().div_ceil(tile.columns));
        let item = b.item("item_of_tile", tile.items());
        let block = b.div("block", &item, LOADERS);
        let rest = b.rem("rest", &item, LOADERS);
        let across = self.items_across();
        let (slow, fast) = (b.div("slow", &item, across), b.rem("fast", &item, across));
        let (row, column) = match self.product.columns {
            Columns::Vectors => (fast.clone(), slow),
            _ => (slow, &fast * self.right_lanes()),
        };
        Place { item, part, point, group, row_tile, column_tile, block, rest, row, column, fast }
    }

    fn write(&self, b: &mut Builder) {
        let Choice { tile, steps, .. } = self.choice;
        let place = self.place(b);
        let pixel = match self.product.columns {
            Columns::Vectors | Columns::Points => None,
            _ => {
                let column = b.var("p", &place.column_tile * tile.columns + &place.column);
                Some(self.pixel(b, &column))
            }
        };
        let left: Vec<Reg> = (0..self.left_loads()).map(|_| b.reg(4)).collect();
        let lanes = self.right_lanes() as u8;
        let right: Vec<Reg> = (0..self.right_loads()).map(|_| b.reg(lanes)).collect();
        if let Some(kind) = self.choice.mma {
            self.write_tensor(b, kind, &place, pixel.as_ref(), (&left, &right));
            return;
        }
        let sums: Vec<Vec<Reg>> = (0..tile.item_rows)
            .map(|_| (0..tile.item_columns / 4).map(|_| b.constant(4, 0.0)).collect())
            .collect();
        let first = &place.part * steps;
        self.load(b, &place, pixel.as_ref(), &first, &left, &right);
        b.repeat("step", steps - 1, |b, step| {
            self.share(b, &place, &left, &right);
            b.barrier();
            let next = &first + &step + 1_usize;
            self.load(b, &place, pixel.as_ref(), &next, &left, &right);
            self.multiply(b, &place, &sums);
            b.barrier();
        });
        self.share(b, &place, &left, &right);
        b.barrier();
        self.multiply(b, &place, &sums);
        self.store(b, &place, &sums);
    }

    /// Loads of four weights, and of inputs, that an item does in a step.
    fn left_loads(&self) -> usize {
        DEPTH * self.choice.tile.rows / 4 / self.choice.tile.items()
    }

    fn right_loads(&self) -> usize {
        DEPTH * self.choice.tile.columns / self.right_lanes() / self.choice.tile.items()
    }

    fn pixel(&self, b: &mut Builder, column: &Affine) -> Pixel {
        let layout = self.product.output.layout;
        let image = b.div("image", column, layout.h * layout.w);
        let q = b.rem("q", column, layout.h * layout.w);
        Pixel { image, y: b.div("oy", &q, layout.w), x: b.rem("ox", &q, layout.w) }
    }

    /// The images in which a tile of columns may end.
    fn within_images(&self, at: At, image: &Affine) -> At {
        if self.all_columns().is_multiple_of(self.choice.tile.columns) {
            return at;
        }
        at.within(image, self.product.output.layout.n)
    }

    /// A step's elements of both matrices into registers.
    fn load(
        &self,
        b: &mut Builder,
        place: &Place,
        pixel: Option<&Pixel>,
        step: &Affine,
        left: &[Reg],
        right: &[Reg],
    ) {
        let tile = self.choice.tile;
        let depth = self.product.depth;
        let blocks = self.blocks();
        // Each item's four weights lie behind those of the item before. Where rows may lie past the
        // end of the sums, the address goes by the row that the condition is about.
        let row = self.overhangs().then(|| {
            let row = b.div("weight_row", &place.rest, 4);
            (b.var("k", step * DEPTH + row), b.rem("weight_lane", &place.rest, 4))
        });
        for (load, &reg) in left.iter().enumerate() {
            let of_tile = &place.block + load * (tile.items() / LOADERS);
            let block = &place.row_tile * (tile.rows / BLOCK) + of_tile;
            let guarded = !blocks.is_multiple_of(tile.rows / BLOCK);
            let block = if guarded { b.var("of_group", block) } else { block };
            let panel = (&place.group * blocks + &block) * self.product.points() + &place.point;
            let first = panel * (depth * BLOCK);
            let mut at = match &row {
                None => At::from(first + step * (DEPTH * BLOCK) + &place.rest * 4),
                Some((k, lane)) => At::from(first + k * BLOCK + lane * 4).within(k, depth),
            };
            if guarded {
                at = at.within(&block, blocks);
            }
            b.load_into(reg, self.weights, at);
        }
        match (&self.product.columns, pixel) {
            (Columns::Flat(conv), Some(pixel)) => {
                self.load_flat(b, conv, place, pixel, step, right);
            }
            (Columns::ByBlocks(conv), Some(pixel)) => {
                self.load_by_blocks(b, conv, place, pixel, step, right);
            }
            (Columns::Points, _) => self.load_points(b, place, step, right),
            _ => self.load_vectors(b, place, step, right),
        }
    }

    /// Rows of the input's tile between two loads of an item.
    fn row_step(&self) -> usize {
        self.choice.tile.items() / self.items_across()
    }

    /// The input's element under a kernel's place, of channel `channel` of the group.
    fn under(
        &self,
        conv: &Conv,
        place: &Place,
        pixel: &Pixel,
        (channel, y, x): (&Affine, &Affine, &Affine),
    ) -> At {
        let il = self.product.input.layout;
        let first = &place.group * self.product.group_channels;
        let at = &pixel.image * il.image() + (first + channel) * il.plane() + y * il.row() + x;
        let mut at = self.within_images(at.into(), &pixel.image);
        let padding = conv.window.padding;
        if padding.top + padding.bottom > 0 {
            at = at.within(y, il.h);
        }
        if padding.left + padding.right > 0 {
            at = at.within(x, il.w);
        }
        at
    }

    fn in_map(
        &self,
        b: &mut Builder,
        conv: &Conv,
        pixel: &Pixel,
        (ky, kx): (&Affine, &Affine),
    ) -> (Affine, Affine) {
        let window = &conv.window;
        let y = &pixel.y * window.stride[0] + ky * window.dilation[0];
        let x = &pixel.x * window.stride[1] + kx * window.dilation[1];
        let y = b.var("iy", y + -(window.padding.top as i64));
        let x = b.var("ix", x + -(window.padding.left as i64));
        (y, x)
    }

    fn load_flat(
        &self,
        b: &mut Builder,
        conv: &Conv,
        place: &Place,
        pixel: &Pixel,
        step: &Affine,
        right: &[Reg],
    ) {
        let [kh, kw] = conv.window.kernel;
        for (load, &reg) in right.iter().enumerate() {
            let k = step * DEPTH + &place.row + load * self.row_step();
            let k = b.var("row_of_input", k);
            let channel = b.div("channel", &k, kh * kw);
            let tap = b.rem("tap", &k, kh * kw);
            let (ky, kx) = (b.div("ky", &tap, kw), b.rem("kx", &tap, kw));
            let (y, x) = self.in_map(b, conv, pixel, (&ky, &kx));
            let mut at = self.under(conv, place, pixel, (&channel, &y, &x));
            if self.overhangs() {
                at = at.within(&channel, self.product.input.layout.c / conv.groups);
            }
            b.load_into(reg, self.input, at);
        }
    }

    fn load_by_blocks(
        &self,
        b: &mut Builder,
        conv: &Conv,
        place: &Place,
        pixel: &Pixel,
        step: &Affine,
        right: &[Reg],
    ) {
        let [kh, kw] = conv.window.kernel;
        let step = b.var("place_of_kernel", step.clone());
        let kx = b.rem("kx", &step, kw);
        let row = b.div("kernel_row", &step, kw);
        let ky = b.rem("ky", &row, kh);
        let channels = b.div("channels", &row, kh);
        let (y, x) = self.in_map(b, conv, pixel, (&ky, &kx));
        for (load, &reg) in right.iter().enumerate() {
            let channel = &channels * DEPTH + &place.row + load * self.row_step();
            let mut at = self.under(conv, place, pixel, (&channel, &y, &x));
            if self.overhangs() {
                at = at.within(&channels, self.product.input.layout.c / conv.groups / DEPTH);
            }
            b.load_into(reg, self.input, at);
        }
    }

    fn load_vectors(&self, b: &mut Builder, place: &Place, step: &Affine, right: &[Reg]) {
        let tile = self.choice.tile;
        let k = b.var("row_of_input", step * DEPTH + &place.row);
        for (load, &reg) in right.iter().enumerate() {
            let column = &place.column + load * (tile.items() / DEPTH);
            let image = b.var("image", &place.column_tile * tile.columns + column);
            let mut at = self.within_images((&image * self.product.depth + &k).into(), &image);
            if self.overhangs() {
                at = at.within(&k, self.product.depth);
            }
            b.load_into(reg, self.input, at);
        }
    }

    /// What was loaded into shared memory.
    fn share(&self, b: &mut Builder, place: &Place, left: &[Reg], right: &[Reg]) {
        let tile = self.choice.tile;
        let row = b.div("left_row", &place.rest, 4);
        let lane = b.rem("left_lane", &place.rest, 4);
        for (load, &reg) in left.iter().enumerate() {
            let block = &place.block + load * (tile.items() / LOADERS);
            b.store(self.left, &row * tile.rows + block * BLOCK + &lane * 4, reg);
        }
        for (load, &reg) in right.iter().enumerate() {
            let (row, column) = match self.product.columns {
                Columns::Vectors => {
                    (place.row.clone(), &place.column + load * (tile.items() / DEPTH))
                }
                _ => (&place.row + load * self.row_step(), place.column.clone()),
            };
            b.store(self.right, row * self.pitch + column, reg);
        }
    }

    /// Columns between two runs of four of an item.
    fn run_step(&self) -> usize {
        4 * self.choice.tile.columns / self.choice.tile.item_columns
    }

    /// The item's part of the tile: its first row, and its first column in units of four.
    fn part_of_tile(&self, b: &mut Builder, place: &Place) -> (Affine, Affine) {
        let tile = self.choice.tile;
        let across = tile.columns / tile.item_columns;
        (b.div("item_row", &place.item, across), b.rem("item_column", &place.item, across))
    }

    fn multiply(&self, b: &mut Builder, place: &Place, sums: &[Vec<Reg>]) {
        let tile = self.choice.tile;
        let (row, column) = self.part_of_tile(b, place);
        b.repeat("k", DEPTH, |b, k| {
            let left: Vec<Reg> = (0..tile.item_rows)
                .step_by(4)
                .flat_map(|i| {
                    let four = b.load(4, self.left, &k * tile.rows + &row * tile.item_rows + i);
                    [0, 1, 2, 3].map(|lane| {
                        let weight = b.lane(four, lane);
                        b.broadcast(4, weight)
                    })
                })
                .collect();
            let right: Vec<Reg> = (0..tile.item_columns / 4)
                .map(|run| {
                    let at = &k * self.pitch + &column * 4 + run * self.run_step();
                    b.load(4, self.right, at)
                })
                .collect();
            for (sums, &weight) in sums.iter().zip(&left) {
                for (&sum, &input) in sums.iter().zip(&right) {
                    b.fma_into(sum, weight, input, sum);
                }
            }
        });
    }

    fn store(&self, b: &mut Builder, place: &Place, sums: &[Vec<Reg>]) {
        let tile = self.choice.tile;
        let (row, column) = self.part_of_tile(b, place);
        let rows: Vec<Affine> = (0..tile.item_rows)
            .map(|i| b.var("row", &place.row_tile * tile.rows + &row * tile.item_rows + i))
            .collect();
        if matches!(self.product.columns, Columns::Points) {
            self.store_points(b, place, (&rows, &column), sums);
            return;
        }
        let columns: Vec<Affine> = (0..tile.item_columns)
            .map(|j| &column * 4 + (j / 4 * self.run_step() + j % 4))
            .collect();
        self.store_results(b, place, (&rows, &columns), |b, i, j| {
            b.lane(sums[i][j / 4], (j % 4) as u8)
        });
    }

    /// Stores an item's results: its rows, its columns in the tile, and the sum of each pair.
    fn store_results(
        &self,
        b: &mut Builder,
        place: &Place,
        (rows, columns): (&[Affine], &[Affine]),
        sum: impl Fn(&mut Builder, usize, usize) -> Reg,
    ) {
        let tile = self.choice.tile;
        let layout = self.product.output.layout;
        let outputs = self.product.outputs;
        let channels: Vec<Affine> = rows.iter().map(|row| &place.group * outputs + row).collect();
        let guarded = !outputs.is_multiple_of(tile.rows);
        let within = |at: At, row| if guarded { at.within(row, outputs) } else { at };
        // Before the first store, which for all a driver knows could change them.
        let of: Vec<Option<OfChannel>> = rows
            .iter()
            .zip(&channels)
            .map(|(row, channel)| {
                let at = within(At::default(), row);
                self.ends.as_ref().map(|ends| ends.of_channel(b, channel, &at))
            })
            .collect();
        for (j, of_tile) in columns.iter().enumerate() {
            let p = b.var("p", &place.column_tile * tile.columns + of_tile);
            let image = b.div("image", &p, layout.h * layout.w);
            let q = b.rem("q", &p, layout.h * layout.w);
            for (i, row) in rows.iter().enumerate() {
                let at = &place.part * layout.len()
                    + &image * layout.image()
                    + &channels[i] * layout.plane()
                    + &q;
                let at = within(self.within_images(at.into(), &image), row);
                let sum = sum(b, i, j);
                let value = match (&self.ends, of[i]) {
                    (Some(ends), Some(of)) => ends.apply(b, self.product, sum, of, &at),
                    _ => sum,
                };
                b.store(self.target, at, value);
            }
        }
    }
}

/// Items that load one block of [`BLOCK`] outputs by [`DEPTH`] rows, four weights each.
const LOADERS: usize = DEPTH * BLOCK / 4;
