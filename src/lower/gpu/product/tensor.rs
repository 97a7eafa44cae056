//! Tiles that warps multiply by tensor cores. A warp has 8 times an item's rows of the tile and 32
//! of its columns: blocks of 16 rows by four of 8 columns.
//!
//! Both matrices lie in shared memory as the warp's items want them in registers, so that an item
//! loads four elements at once and 32 items touch each bank alike. Which row of a block is which
//! row of the small matrices is free, and so are columns and the order of products, as long as both
//! matrices and the results agree; they are numbered so that stores meet no bank twice either, and
//! an item's results are eight columns in a row:
//!
//! - an item `4g + t` of a warp multiplies rows `4(g % 2) + g / 2` and 8 more of each block;
//! - of 32 columns, column `4n + i` is column `n` of block `i`;
//! - of 16 products, number `4j + t` is the `j`-th of the items whose rest is `t`.
//!
//! There are two of each tile, used in turn: a barrier a step is enough.

use super::super::parameters::{DEPTH, Tile};
use super::{Columns, Pixel, Place, Writer};
use crate::layout::BLOCK;
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Mma, Reg};
use alexc_codegen::mma::{COLUMNS, WARP};

/// Elements of 16 rows of weights for eight of the products.
const HALF: usize = 4 * WARP;
/// From one block of eight columns to the next: four more than it has keep the blocks' stores out
/// of one bank.
const PITCH: usize = 4 * WARP + 4;
/// Columns of a warp.
const ACROSS: usize = 32;

fn left_tile(tile: Tile) -> usize {
    tile.rows * DEPTH
}

fn right_tile(tile: Tile) -> usize {
    tile.columns / COLUMNS * PITCH
}

/// Elements of both tiles of weights.
pub(super) fn left_len(tile: Tile) -> usize {
    2 * left_tile(tile)
}

/// Elements of both tiles of inputs.
pub(super) fn right_len(tile: Tile) -> usize {
    2 * right_tile(tile)
}

/// Where an item is in its warp, and the warp in the group.
struct Lane {
    warp_row: Affine,
    warp_column: Affine,
    lane: Affine,
    /// `lane / 4` and `lane % 4`.
    group: Affine,
    rest: Affine,
}

impl Writer<'_> {
    /// The kernel behind its declarations.
    pub(super) fn write_tensor(
        &self,
        b: &mut Builder,
        kind: Mma,
        place: &Place,
        pixel: Option<&Pixel>,
        (left, right): (&[Reg], &[Reg]),
    ) {
        let steps = self.choice.steps;
        let blocks = self.blocks_of_warp();
        let sums: Vec<Vec<Reg>> = (0..blocks)
            .map(|_| (0..ACROSS / COLUMNS).map(|_| b.constant(4, 0.0)).collect())
            .collect();
        let warp = self.lane(b, place);
        let first = &place.part * steps;
        self.load(b, place, pixel, &first, left, right);
        b.repeat("step", steps - 1, |b, step| {
            let turn = b.rem("turn", &step, 2);
            self.share_fragments(b, kind, place, &turn, (left, right));
            b.barrier();
            let next = &first + &step + 1_usize;
            self.load(b, place, pixel, &next, left, right);
            self.multiply_fragments(b, kind, &warp, &turn, &sums);
        });
        let turn = Affine::from((steps - 1) % 2);
        self.share_fragments(b, kind, place, &turn, (left, right));
        b.barrier();
        self.multiply_fragments(b, kind, &warp, &turn, &sums);
        self.store_fragments(b, place, &warp, &sums);
    }

    /// Blocks of 16 rows of a warp.
    fn blocks_of_warp(&self) -> usize {
        self.choice.tile.item_rows / 2
    }

    fn lane(&self, b: &mut Builder, place: &Place) -> Lane {
        let across = self.choice.tile.columns / ACROSS;
        let warp = b.div("warp", &place.item, WARP);
        let lane = b.rem("lane", &place.item, WARP);
        Lane {
            warp_row: b.div("warp_row", &warp, across),
            warp_column: b.rem("warp_column", &warp, across),
            group: b.div("lane_group", &lane, 4),
            rest: b.rem("lane_rest", &lane, 4),
            lane,
        }
    }

    /// What was loaded into shared memory.
    fn share_fragments(
        &self,
        b: &mut Builder,
        kind: Mma,
        place: &Place,
        turn: &Affine,
        (left, right): (&[Reg], &[Reg]),
    ) {
        let tile = self.choice.tile;
        let round = |b: &mut Builder, reg| match kind {
            Mma::Tf32 => b.tf32(reg),
            Mma::F16 => reg,
        };
        // Four rows, number 4q to 4q + 3 of a block, of product 4j + t.
        let (q, k) = (b.rem("quarter", &place.rest, 4), b.div("left_row", &place.rest, 4));
        let (j, t) = (b.div("left_j", &k, 4), b.rem("left_t", &k, 4));
        let (half, odd) = (b.div("left_half", &j, 2), b.rem("left_odd", &j, 2));
        let (lower, parity) = (b.div("lower_rows", &q, 2), b.rem("parity", &q, 2));
        let number = match kind {
            Mma::Tf32 => &lower + &odd * 2,
            Mma::F16 => &odd + &lower * 2,
        };
        for (load, &reg) in left.iter().enumerate() {
            let block = &place.block + load * (tile.items() / super::LOADERS);
            let first = turn * left_tile(tile)
                + (block * 2 + &half) * HALF
                + &parity * 16
                + &t * 4
                + &number;
            let rounded = round(b, reg);
            for row in 0..4_usize {
                let value = b.lane(rounded, row as u8);
                b.store(self.left, &first + row * 32, value);
            }
        }
        let base = turn * right_tile(tile);
        if matches!(self.product.columns, Columns::Vectors) {
            let (j, t) = (b.div("right_j", &place.row, 4), b.rem("right_t", &place.row, 4));
            let first = base + self.right_column(b, &place.column) + &t * 4 + j;
            for (load, &reg) in right.iter().enumerate() {
                let column = load * (tile.items() / DEPTH);
                let value = round(b, reg);
                let at = column / ACROSS * 4 * PITCH + column % ACROSS / 4 * 16;
                b.store(self.right, &first + at, value);
            }
            return;
        }
        // Rows are loaded one, two or four apart: those four apart go together.
        let first = base + self.right_column(b, &place.column) + &place.row * 4;
        for t in (0..4).step_by(self.row_step()) {
            let four = [0, 1, 2, 3].map(|j| right[(t + 4 * j) / self.row_step()]);
            let four = b.join(four);
            let four = round(b, four);
            b.store(self.right, &first + 4 * t, four);
        }
    }

    /// Where a column's elements begin.
    fn right_column(&self, b: &mut Builder, column: &Affine) -> Affine {
        let warp = b.div("column_of_warps", column, ACROSS);
        let of_warp = b.rem("column_of_warp", column, ACROSS);
        let (n, block) = (b.div("block_column", &of_warp, 4), b.rem("column_block", &of_warp, 4));
        (warp * 4 + block) * PITCH + n * 16
    }

    fn multiply_fragments(
        &self,
        b: &mut Builder,
        kind: Mma,
        warp: &Lane,
        turn: &Affine,
        sums: &[Vec<Reg>],
    ) {
        let tile = self.choice.tile;
        let right: Vec<Reg> = (0..ACROSS / COLUMNS)
            .map(|block| {
                let block = &warp.warp_column * (ACROSS / COLUMNS) + block;
                let at = turn * right_tile(tile) + block * PITCH + &warp.lane * 4;
                b.load(4, self.right, at)
            })
            .collect();
        for (block, sums) in sums.iter().enumerate() {
            let block = &warp.warp_row * self.blocks_of_warp() + block;
            let at = turn * left_tile(tile) + block * (2 * HALF) + &warp.lane * 4;
            let left = [b.load(4, self.left, &at), b.load(4, self.left, &at + HALF)];
            for (&sum, &right) in sums.iter().zip(&right) {
                b.mma_into(kind, sum, left, right);
            }
        }
    }

    fn store_fragments(&self, b: &mut Builder, place: &Place, warp: &Lane, sums: &[Vec<Reg>]) {
        let tile = self.choice.tile;
        let (high, low) = (b.div("high", &warp.group, 2), b.rem("low", &warp.group, 2));
        let of_warp = &warp.warp_row * (8 * tile.item_rows) + low * 4 + high;
        let rows: Vec<Affine> = (0..tile.item_rows)
            .map(|i| {
                let row = &of_warp + (i / 2 * BLOCK + i % 2 * 8);
                b.var("row", &place.row_tile * tile.rows + row)
            })
            .collect();
        let columns: Vec<Affine> =
            (0..8_usize).map(|j| &warp.warp_column * ACROSS + &warp.rest * 8 + j).collect();
        // Columns 8t + 4o + i: column 2t + o of block i.
        self.store_results(b, place, (&rows, &columns), |b, i, j: usize| {
            b.lane(sums[i / 2][j % 4], (i % 2 * 2 + j / 4) as u8)
        });
    }
}
