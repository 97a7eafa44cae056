//! A product for each point of Winograd's method, side by side: an image of the input and of the
//! output stands for a point, and its rows lie four by four.

use super::{Place, Product, Writer};
use crate::layout::Layout;
use crate::lower::gpu::Gpu;
use crate::lower::gpu::choice::Choice;
use crate::lower::{Draft, Operand};
use alexc_codegen::builder::{Affine, At, Builder};
use alexc_codegen::ir::Reg;

/// Columns that are loaded and stored at once; rows of the input and of the output are a multiple
/// of this long.
pub(in crate::lower::gpu) const QUAD: usize = 4;

impl Gpu<'_> {
    /// Writes the products into `parts`, which hold those of each part of the sums one after the
    /// other.
    pub(in crate::lower::gpu) fn points(
        &mut self,
        product: &Product<'_>,
        choice: Choice,
        parts: Operand,
    ) {
        let mut draft = Draft::new("multiply_points");
        let writer = Writer::new(&mut draft, product, choice, parts, false);
        writer.write(&mut draft.b);
        self.base.call(draft);
    }
}

impl Writer<'_> {
    pub(super) fn load_points(&self, b: &mut Builder, place: &Place, step: &Affine, right: &[Reg]) {
        let depth = self.product.depth;
        let layout = self.product.input.layout;
        for (load, &reg) in right.iter().enumerate() {
            let k = step * super::DEPTH + &place.row + load * self.row_step();
            let k = if self.overhangs() { b.var("channel", k) } else { k };
            let channel = &place.group * self.product.group_channels + &k;
            let mut at = self.quad(b, place, layout, &channel, &place.fast);
            if self.overhangs() {
                at = at.within(&k, depth);
            }
            b.load_into(reg, self.input, at);
        }
    }

    pub(super) fn store_points(
        &self,
        b: &mut Builder,
        place: &Place,
        (rows, column): (&[Affine], &Affine),
        sums: &[Vec<Reg>],
    ) {
        let outputs = self.product.outputs;
        let layout = self.product.output.layout;
        for run in 0..self.choice.tile.item_columns / QUAD {
            let of_tile = column + run * (self.run_step() / QUAD);
            for (row, sums) in rows.iter().zip(sums) {
                let channel = &place.group * outputs + row + &place.part * (layout.n * layout.c);
                let mut at = self.quad(b, place, layout, &channel, &of_tile);
                if !outputs.is_multiple_of(self.choice.tile.rows) {
                    at = at.within(row, outputs);
                }
                b.store(self.target, at, sums[run]);
            }
        }
    }

    /// Four columns of a row of the point at work; `of_tile` counts fours.
    fn quad(
        &self,
        b: &mut Builder,
        place: &Place,
        layout: Layout,
        row: &Affine,
        of_tile: &Affine,
    ) -> At {
        let columns = self.choice.tile.columns;
        let quad = &place.column_tile * (columns / QUAD) + of_tile;
        let row = &place.point * layout.image() + row * layout.plane();
        if layout.w.is_multiple_of(columns) {
            return At::from(row + quad * QUAD);
        }
        let quad = b.var("quad", quad);
        At::from(row + &quad * QUAD).within(&quad, layout.w / QUAD)
    }
}
