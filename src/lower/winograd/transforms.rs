//! The transforms of Winograd's method: tiles of maps to points, and products back to maps.

use super::super::{Argument, Draft, Fused, Lowering, Operand, apply, declare_addends, transform};
use super::Grid;
use super::products::Product;
use crate::graph::Conv;
use crate::layout::BLOCK;
use crate::winograd::{Part, Winograd, point, point_sets};
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, Binary, BufferId, Reg};

/// The points of one block of channels of an image.
struct Points<'a> {
    grid: Grid,
    n: usize,
    /// Elements from a point to the next one.
    step: usize,
    /// Index of the image among those at work.
    image: &'a Affine,
    /// Block of channels.
    block: &'a Affine,
}

/// A tile of those at work.
struct Place<'a> {
    points: &'a Points<'a>,
    rows: Part,
    columns: Part,
    /// Which tile of `rows`, and of `columns`.
    row: &'a Affine,
    column: &'a Affine,
}

impl Place<'_> {
    /// Row and column of the tile's first output.
    fn corner(&self) -> (Affine, Affine) {
        let Place { rows, columns, .. } = self;
        (self.row * rows.kept + rows.start, self.column * columns.kept + columns.start)
    }

    /// Where point (y, x) lies; `None` is the one at infinity, which fewer tiles have.
    fn at(&self, y: Option<&Affine>, x: Option<&Affine>) -> Affine {
        let Points { grid, n, step, image, block } = *self.points;
        let rows = grid.rows.tiles_at(y.is_none());
        let columns = grid.columns.tiles_at(x.is_none());
        let (row, column) = (self.row + self.rows.first, self.column + self.columns.first);
        let tile = (image * rows + row) * columns + column;
        let plane = rows * columns * grid.parts * grid.images * BLOCK;
        let finite = n - 1;
        let first = |at: Option<&Affine>| if at.is_some() { 0 } else { finite };
        let mut index = Affine::from(point(n, first(y), first(x)));
        if let Some(y) = y {
            index = index + y * if x.is_some() { finite } else { 1 };
        }
        if let Some(x) = x {
            index = index + x;
        }
        index * step + block * plane + tile * BLOCK
    }
}

/// Calls `each` for every finite point of an axis, in a loop, and for the one at infinity if the
/// tile has it (`None`).
fn along(
    b: &mut Builder,
    name: &'static str,
    n: usize,
    part: Part,
    mut each: impl FnMut(&mut Builder, Option<&Affine>),
) {
    b.repeat(name, n - 1, |b, i| each(b, Some(&i)));
    if part.points == n {
        each(b, None);
    }
}

/// Rows of tiles as a dimension of the parallel space, where all are alike.
fn shared_row(b: &mut Builder, grid: &Grid) -> Option<Affine> {
    let mut rows = grid.rows.parts();
    match (rows.next(), rows.next()) {
        (Some(rows), None) => Some(b.parallel("row", rows.count)),
        _ => None,
    }
}

/// Calls `each` for every tile, or for those of a row.
fn over_tiles(
    b: &mut Builder,
    points: &Points<'_>,
    shared: Option<Affine>,
    mut each: impl FnMut(&mut Builder, &Place<'_>),
) {
    for rows in points.grid.rows.parts() {
        let count = if shared.is_some() { 1 } else { rows.count };
        b.repeat("row", count, |b, row| {
            let row = &shared.clone().unwrap_or(row);
            for columns in points.grid.columns.parts() {
                b.repeat("column", columns.count, |b, column| {
                    each(b, &Place { points, rows, columns, row, column: &column });
                });
            }
        });
    }
}

/// Fewest blocks of channels of which each tile of one fetches what the same tile of the next one
/// reads: a map's lines are too short for the processor to see where they lead.
const FETCHED: usize = 4;

impl Lowering<'_> {
    /// B^T d B of every tile.
    pub(super) fn transform_input(
        &mut self,
        conv: &Conv,
        winograd: &Winograd,
        grid: Grid,
        input: Operand,
        (transformed, step): (Argument, usize),
    ) {
        let n = winograd.n();
        let lanes = self.vectors.lanes;
        let il = input.layout;
        let mut draft = Draft::new("transform_input");
        let x_buffer = input.declare(&mut draft, "input", Access::Read);
        let v_buffer = draft.buffer("points", transformed, n * n * step, Access::Write);
        let half = draft.buffer("half", Argument::Local, n * n * BLOCK, Access::Local);
        let b = &mut draft.b;
        let (image, index, cb) = grid.blocks(b, ("cb", il.blocks()));
        let map = &image * il.image() + &cb * il.plane() + il.corner(conv.window.padding);
        let points = Points { grid, n, step, image: &index, block: &cb };
        let row = shared_row(b, &grid);
        over_tiles(b, &points, row, |b, place| {
            let (rows, columns) = (place.rows, place.columns);
            let (first_row, first_column) = place.corner();
            let corner = &map + first_row * il.row() + first_column * il.block;
            let down = winograd.input.corner(rows.points, rows.points);
            let across = winograd.input.corner(columns.points, columns.points);
            for lane in (0..BLOCK).step_by(usize::from(lanes)) {
                let from = &corner + lane;
                let hints = lane == 0 && self.vectors.fetches_ahead() && il.blocks() >= FETCHED;
                b.repeat("x", columns.points, |b, x| {
                    if hints {
                        for y in 0..rows.points {
                            let at = &from + &x * il.block + (y * il.row() + il.plane());
                            b.prefetch(x_buffer, at);
                        }
                    }
                    let values: Vec<Reg> = (0..rows.points)
                        .map(|y| b.load(lanes, x_buffer, &from + &x * il.block + y * il.row()))
                        .collect();
                    for (y, value) in transform::apply(b, &down, &values).into_iter().enumerate() {
                        b.store(half, (&x + y * n) * BLOCK + lane, value);
                    }
                });
                along(b, "y", n, rows, |b, y| {
                    let line = y.map_or(Affine::from(n - 1), Affine::clone) * n;
                    let values: Vec<Reg> = (0..columns.points)
                        .map(|x| b.load(lanes, half, (&line + x) * BLOCK + lane))
                        .collect();
                    for (x, value) in transform::apply(b, &across, &values).into_iter().enumerate()
                    {
                        let x = (x < n - 1).then(|| Affine::from(x));
                        b.store(v_buffer, place.at(y, x.as_ref()) + lane, value);
                    }
                });
            }
        });
        self.call(draft);
    }

    /// A^T m A of every tile, bias and epilogue.
    pub(super) fn transform_output(
        &mut self,
        winograd: &Winograd,
        grid: Grid,
        (products, step): (Argument, usize),
        bias: Argument,
        output: Operand,
        fused: &[Fused],
    ) {
        let n = winograd.n();
        let mut draft = Draft::new("transform_output");
        let from = draft.buffer("products", products, n * n * step, Access::Read);
        let to = Output::declare(&mut draft, winograd, bias, output, fused);
        let b = &mut draft.b;
        let (image, index, ob) = grid.blocks(b, ("ob", output.layout.blocks()));
        let points = Points { grid, n, step, image: &index, block: &ob };
        let row = shared_row(b, &grid);
        over_tiles(b, &points, row, |b, place| {
            let hints = self.vectors.fetches_ahead();
            to.tile(b, winograd, self.vectors.lanes, (from, hints), place, (&image, &ob));
        });
        self.call(draft);
    }

    /// The products of a part of the batch and a block of outputs, kept in the caches of the thread
    /// that makes them, and what [`Lowering::transform_output`] makes of them.
    pub(super) fn multiply_and_transform(
        &mut self,
        product: &Product,
        (winograd, grid): (&Winograd, Grid),
        bias: Argument,
        output: Operand,
        fused: &[Fused],
        place: impl FnOnce(&mut Builder) -> (Affine, Affine),
    ) {
        let n = winograd.n();
        let own = grid.part();
        let step = own.point_step(1);
        let mut draft = Draft::new("multiply_points_to_output");
        let buffers = product.declare(&mut draft, (Argument::Local, n * n * step));
        let to = Output::declare(&mut draft, winograd, bias, output, fused);
        let b = &mut draft.b;
        let part = b.parallel("half", grid.parts);
        let (ob, first) = place(b);
        for set in point_sets(&grid.rows, &grid.columns) {
            b.repeat("point", set.count, |b, point| {
                let to = (&point + set.first) * step;
                let site = product.site(set, (&point, &ob, &first, &part), to);
                product.multiply(b, self.vectors, set, &buffers, &site, true);
            });
        }
        b.repeat("n", grid.images, |b, index| {
            let image = &part * grid.share + &index;
            let zero = Affine::default();
            let points = Points { grid: own, n, step, image: &index, block: &zero };
            over_tiles(b, &points, None, |b, place| {
                let from = (buffers.to, false);
                to.tile(b, winograd, self.vectors.lanes, from, place, (&image, &ob));
            });
        });
        self.call(draft);
    }
}

/// Where an output's transform writes, and what it does with it before.
struct Output<'f> {
    operand: Operand,
    buffer: BufferId,
    bias: BufferId,
    fused: &'f [Fused],
    addends: Vec<Option<BufferId>>,
    /// Columns that are transformed, rows that are not yet.
    half: BufferId,
}

impl<'f> Output<'f> {
    fn declare(
        draft: &mut Draft,
        winograd: &Winograd,
        bias: Argument,
        operand: Operand,
        fused: &'f [Fused],
    ) -> Self {
        let len = operand.layout.blocks() * BLOCK;
        let bias = draft.buffer("bias", bias, len, Access::Read);
        let addends = declare_addends(draft, fused);
        let buffer = operand.declare(draft, "output", Access::Write);
        let len = winograd.m * winograd.n() * BLOCK;
        let half = draft.buffer("half", Argument::Local, len, Access::Local);
        Output { operand, buffer, bias, fused, addends, half }
    }

    /// A tile of block `ob` of an image of the batch. `hints`: the next tile is fetched meanwhile.
    fn tile(
        &self,
        b: &mut Builder,
        winograd: &Winograd,
        lanes: u8,
        (products, hints): (BufferId, bool),
        place: &Place<'_>,
        (image, ob): (&Affine, &Affine),
    ) {
        let n = winograd.n();
        let half = self.half;
        let (rows, columns) = (place.rows, place.columns);
        let (first_row, first_column) = place.corner();
        let down = winograd.output.corner(rows.kept, rows.points);
        let across = winograd.output.corner(columns.kept, columns.points);
        for lane in (0..BLOCK).step_by(usize::from(lanes)) {
            along(b, "x", n, columns, |b, x| {
                let at = |y: usize| {
                    let y = (y < n - 1).then(|| Affine::from(y));
                    place.at(y.as_ref(), x)
                };
                // One line a point: too many streams for the processor.
                if lane == 0 && hints {
                    (0..rows.points).for_each(|y| b.prefetch(products, at(y) + BLOCK));
                }
                let values: Vec<Reg> =
                    (0..rows.points).map(|y| b.load(lanes, products, at(y) + lane)).collect();
                let x = x.map_or(Affine::from(n - 1), Affine::clone);
                for (y, value) in transform::apply(b, &down, &values).into_iter().enumerate() {
                    b.store(half, (&x + y * n) * BLOCK + lane, value);
                }
            });
            let bias = b.load(lanes, self.bias, ob * BLOCK + lane);
            b.repeat("y", rows.kept, |b, y| {
                let values: Vec<Reg> = (0..columns.points)
                    .map(|x| b.load(lanes, half, (&y * n + x) * BLOCK + lane))
                    .collect();
                let row = &first_row + y;
                let results = transform::apply(b, &across, &values);
                for (x, value) in results.into_iter().enumerate() {
                    let value = b.binary(Binary::Add, value, bias);
                    let at = (image, ob, &row, &(&first_column + x));
                    let value = apply(b, self.fused, &self.addends, value, at, &lane.into());
                    let to = self.operand.at(image, ob, &row, at.3) + lane;
                    b.store(self.buffer, to, value);
                }
            });
        }
    }
}
