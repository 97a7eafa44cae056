//! Convolution by Winograd's method in three kernels: tiles of the input to the points, for each
//! point a product of matrices over the channels (`product`), and the points back to tiles of the
//! output, where parts of sums are added up and bias and epilogue follow.
//!
//! Points lie as `[point][channel][tile]`, the tiles of all images in a row: items next to each
//! other transform tiles next to each other, and so store in order. An item keeps all points of its
//! tile in registers.

use super::choice::{Extent, row_groups};
use super::product::{Columns, Product, QUAD};
use super::{Gpu, Parameters, finish};
use crate::graph::{Conv, Padding};
use crate::layout::Layout;
use crate::lower::conv::Reach;
use crate::lower::pack::Pack;
use crate::lower::{Draft, Fused, Operand, declare_addends, transform};
use crate::shape::Shape;
use crate::winograd::{Matrix, Winograd, point};
use alexc_codegen::builder::{Affine, At, Builder};
use alexc_codegen::ir::{Access, Binary, DType, Reg};

/// How maps are cut into tiles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    images: usize,
    rows: usize,
    columns: usize,
}

/// Parallel dimensions of a transform.
struct Place {
    channel: Affine,
    image: Affine,
    row: Affine,
    column: Affine,
    /// Number of the tile.
    tile: Affine,
}

impl Grid {
    /// Of the images that go through the three kernels together: as few times as the memory for
    /// points allows, and about as many each time.
    pub(super) fn new(conv: &Conv, winograd: &Winograd, input: Shape, p: &Parameters) -> Grid {
        let size = conv.window.output_size([input.h(), input.w()]);
        let [rows, columns] = size.map(|outputs| outputs.div_ceil(winograd.m));
        let points = winograd.n() * winograd.n() * (input.c() + conv.out_channels);
        let most = (p.points_bytes / (4 * points * rows * columns)).max(1);
        let images = input.n().div_ceil(input.n().div_ceil(most));
        Grid { images, rows, columns }
    }

    /// Images at work together.
    pub(super) fn images(self) -> usize {
        self.images
    }

    /// From a channel's tiles to the next one's. What is behind the last tile holds nothing, and
    /// what is computed of it is stored behind the last tile.
    pub(super) fn pitch(self) -> usize {
        (self.images * self.rows * self.columns).next_multiple_of(QUAD)
    }

    /// Where `channels` of all tiles lie at each point.
    fn layout(self, points: usize, channels: usize) -> Layout {
        let w = self.pitch();
        Layout { n: points, c: channels, h: 1, w, block: 1, halo: Padding::default() }
    }

    fn place(self, b: &mut Builder, channels: usize) -> Place {
        let channel = b.parallel("c", channels);
        let image = b.parallel("n", self.images);
        let row = b.parallel("row", self.rows);
        let column = b.parallel("column", self.columns);
        let tile = (&image * self.rows + &row) * self.columns + &column;
        Place { channel, image, row, column, tile }
    }
}

/// The rows of a tile (or its columns) on a map.
struct Axis {
    /// Each as it stands in an address.
    at: Vec<Affine>,
    /// Whether some tile has it outside of the map.
    outside: Vec<bool>,
    /// Of the map.
    size: usize,
}

impl Axis {
    /// `count` of them from `step` times the number of the tile on, less `before`.
    fn new(
        b: &mut Builder,
        name: &str,
        (tile, tiles): (&Affine, usize),
        (step, before, count): (usize, usize, usize),
        size: usize,
    ) -> Axis {
        let last = (tiles - 1) * step;
        let outside: Vec<bool> =
            (0..count).map(|i| i < before || last + i >= before + size).collect();
        let at = outside.iter().enumerate().map(|(i, &outside)| {
            let at = tile * step + (i as i64 - before as i64);
            if outside { b.var(name, at) } else { at }
        });
        Axis { at: at.collect(), outside, size }
    }

    fn guard(&self, at: At, i: usize) -> At {
        if self.outside[i] { at.within(&self.at[i], self.size) } else { at }
    }
}

/// `matrix` times a square of values from both sides: `matrix x values x matrix^T`.
fn both_sides(b: &mut Builder, matrix: &Matrix, values: &[Vec<Reg>]) -> Vec<Vec<Reg>> {
    let columns: Vec<Vec<Reg>> = (0..matrix.columns)
        .map(|x| {
            let column: Vec<Reg> = values.iter().map(|row| row[x]).collect();
            transform::apply(b, matrix, &column)
        })
        .collect();
    (0..matrix.rows)
        .map(|y| {
            let row: Vec<Reg> = columns.iter().map(|column| column[y]).collect();
            transform::apply(b, matrix, &row)
        })
        .collect()
}

impl Gpu<'_> {
    pub(super) fn winograd(
        &mut self,
        conv: &Conv,
        winograd: &Winograd,
        input: Operand,
        output: Operand,
        fused: &[Fused],
    ) {
        let (il, ol) = (input.layout, output.layout);
        let points = winograd.n() * winograd.n();
        let grid = Grid::new(conv, winograd, Shape::map(il.n, il.c, il.h, il.w), self.parameters);
        // A block of each channel alone.
        let reach = Reach::new(conv, &il);
        let weights = self.base.pack(Pack::Winograd {
            weight: conv.weight.clone(),
            batch_norm: conv.batch_norm.clone(),
            groups: conv.groups,
            m: winograd.m,
            phases: 1,
            in_block: il.block,
            in_blocks: reach.blocks,
            starts: reach.starts,
        });
        let bias = self.base.conv_bias(conv, ol.c);
        for first in (0..ol.n).step_by(grid.images) {
            let grid = Grid { images: grid.images.min(ol.n - first), ..grid };
            let extent = Extent::points(conv, il.c, winograd, grid, self.parameters);
            let choice = extent.choose(self.parameters);
            let transformed = self.base.temporary(grid.layout(points, il.c));
            let layout = grid.layout(points, ol.c);
            let parts = self.base.temporary(Layout { n: choice.splits * points, ..layout });
            let images = |operand: Operand| operand.images(first, grid.images);
            let fused: Vec<Fused> =
                fused.iter().map(|step| step.images(first, grid.images)).collect();
            let product = Product {
                groups: row_groups(conv.groups, conv.out_channels, self.parameters),
                group_channels: if conv.groups > 1 { extent.depth } else { 0 },
                outputs: extent.outputs,
                depth: extent.depth,
                input: transformed,
                columns: Columns::Points,
                weights,
                dtype: DType::F32,
                scales: None,
                bias,
                output: Operand { layout, ..parts },
                fused: &fused,
            };
            self.transform_input(conv, winograd, grid, images(input), transformed);
            self.points(&product, choice, parts);
            self.transform_output(winograd, grid, &product, parts, images(output));
        }
    }

    /// B^T d B of every tile.
    fn transform_input(
        &mut self,
        conv: &Conv,
        winograd: &Winograd,
        grid: Grid,
        input: Operand,
        transformed: Operand,
    ) {
        let n = winograd.n();
        let il = input.layout;
        let padding = conv.window.padding;
        let mut draft = Draft::new("transform_input");
        let from = input.declare(&mut draft, "input", Access::Read);
        let to = transformed.declare(&mut draft, "points", Access::Write);
        let b = &mut draft.b;
        let place = grid.place(b, il.c);
        let m = winograd.m;
        let y = Axis::new(b, "iy", (&place.row, grid.rows), (m, padding.top, n), il.h);
        let x = Axis::new(b, "ix", (&place.column, grid.columns), (m, padding.left, n), il.w);
        let values: Vec<Vec<Reg>> = (0..n)
            .map(|i| {
                let element = |j: usize| {
                    let at = input.at(&place.image, &place.channel, &y.at[i], &x.at[j]);
                    x.guard(y.guard(at.into(), i), j)
                };
                (0..n).map(|j| b.load(1, from, element(j))).collect()
            })
            .collect();
        let layout = transformed.layout;
        let first = &place.channel * layout.plane() + &place.tile;
        for (i, value) in both_sides(b, &winograd.input, &values).into_iter().flatten().enumerate()
        {
            b.store(to, &first + point(n, i / n, i % n) * layout.image(), value);
        }
        self.base.call(draft);
    }

    /// A^T m A of every tile, bias and epilogue.
    fn transform_output(
        &mut self,
        winograd: &Winograd,
        grid: Grid,
        product: &Product<'_>,
        parts: Operand,
        output: Operand,
    ) {
        let (m, n) = (winograd.m, winograd.n());
        let ol = output.layout;
        let layout = product.output.layout;
        let mut draft = Draft::new("transform_output");
        let from = parts.declare(&mut draft, "products", Access::Read);
        let bias = draft.buffer("bias", product.bias, ol.c, Access::Read);
        let addends = declare_addends(&mut draft, product.fused);
        let to = output.declare(&mut draft, "output", Access::Write);
        let b = &mut draft.b;
        let place = grid.place(b, ol.c);
        let first = &place.channel * layout.plane() + &place.tile;
        let at = |y: usize, x: usize| &first + point(n, y, x) * layout.image();
        let values: Vec<Vec<Reg>> =
            (0..n).map(|y| (0..n).map(|x| b.load(1, from, at(y, x))).collect()).collect();
        let more = parts.layout.n / layout.n - 1;
        b.repeat("part", more, |b, part| {
            for (i, &value) in values.iter().flatten().enumerate() {
                let at = at(i / n, i % n);
                let next = b.load(1, from, at + &part * layout.len() + layout.len());
                b.binary_into(Binary::Add, value, value, next);
            }
        });
        let results = both_sides(b, &winograd.output, &values);
        let bias = b.load(1, bias, &place.channel);
        let y = Axis::new(b, "oy", (&place.row, grid.rows), (m, 0, m), ol.h);
        let x = Axis::new(b, "ox", (&place.column, grid.columns), (m, 0, m), ol.w);
        for (i, row) in results.into_iter().enumerate() {
            for (j, value) in row.into_iter().enumerate() {
                let value = b.binary(Binary::Add, value, bias);
                let at = output.at(&place.image, &place.channel, &y.at[i], &x.at[j]);
                let at = x.guard(y.guard(at.into(), i), j);
                let value = finish(b, product.fused, &addends, value, &at);
                b.store(to, at, value);
            }
        }
        self.base.call(draft);
    }
}
