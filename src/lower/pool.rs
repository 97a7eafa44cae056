//! Max and average pooling over blocked activations.
//!
//! Windows that padding or the map's edge cut are told apart when the kernel is written: positions
//! with the same cut share a loop, so no bound is tested while running.

use super::{Draft, Lowering, Operand};
use crate::graph::{Padding, Pool, PoolKind, Window};
use crate::layout::{BLOCK, Layout};
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, Binary, Reg};
use std::ops::Range;

/// Cells of a window that are written out one after the other; those of larger ones are loops.
pub(super) const WRITTEN_OUT: usize = 64;

/// Pairs of spans that are written out; where there would be more, the axes are pooled one after
/// the other.
const MOST_CUTS: usize = 64;

/// Consecutive output positions of one axis whose windows are cut alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    /// First output position.
    pub(super) first: usize,
    /// How many.
    pub(super) count: usize,
    /// Cells of the window inside the map.
    pub(super) cells: Range<usize>,
    /// Cells of the window inside the padded map.
    pub(super) padded: usize,
}

/// The spans of one axis.
pub(super) fn spans(
    size: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    before: usize,
    after: usize,
) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for position in 0..output {
        let start = position * stride;
        let cells = before.saturating_sub(start)..(size + before - start).min(kernel);
        let padded = (size + before + after - start).min(kernel);
        match spans.last_mut() {
            Some(last) if last.cells == cells && last.padded == padded => last.count += 1,
            _ => spans.push(Span { first: position, count: 1, cells, padded }),
        }
    }
    spans
}

/// Spans of both axes: rows, columns.
pub(super) fn spans_of(pool: &Pool, input: &Layout, output: &Layout) -> (Vec<Span>, Vec<Span>) {
    let [kh, kw] = pool.window.kernel;
    let [sh, sw] = pool.window.stride;
    let Padding { top, left, bottom, right } = pool.window.padding;
    (spans(input.h, output.h, kh, sh, top, bottom), spans(input.w, output.w, kw, sw, left, right))
}

/// Layout of a pooled map without halo.
pub(super) fn output_layout(pool: &Pool, input: &Layout) -> Layout {
    let [h, w] = pool.output_size([input.h, input.w]);
    Layout { h, w, halo: Padding::default(), block: BLOCK, ..*input }
}

/// Gives the cell of a map at (row, column).
pub(super) type Cell<'a> = &'a dyn Fn(&mut Builder, &Affine, &Affine) -> Reg;

/// One pooled vector: the cells of the window at (y, x) of the padded map's origin.
pub(super) fn window(
    b: &mut Builder,
    pool: &Pool,
    cell: Cell<'_>,
    (ys, xs): (&Span, &Span),
    (y, x): (&Affine, &Affine),
) -> Reg {
    let Padding { top, left, .. } = pool.window.padding;
    let (rows, columns) = (ys.cells.len(), xs.cells.len());
    let row = y + (ys.cells.start as i64 - top as i64);
    let column = x + (xs.cells.start as i64 - left as i64);
    let load = |b: &mut Builder, ky: Affine, kx: Affine| cell(b, &(&row + ky), &(&column + kx));
    let total = load(b, Affine::default(), Affine::default());
    let add = |b: &mut Builder, cell: Reg| join_into(b, pool.kind, total, total, cell);
    if rows * columns <= WRITTEN_OUT {
        for cell in 1..rows * columns {
            let cell = load(b, (cell / columns).into(), (cell % columns).into());
            add(b, cell);
        }
    } else {
        // The first row without the first cell, then the others.
        b.repeat("kx", columns - 1, |b, kx| {
            let cell = load(b, Affine::default(), kx + 1_usize);
            add(b, cell);
        });
        b.repeat("ky", rows - 1, |b, ky| {
            b.repeat("kx", columns, |b, kx| {
                let cell = load(b, &ky + 1_usize, kx);
                add(b, cell);
            });
        });
    }
    let cells = if pool.count_include_pad {
        ys.padded * xs.padded
    } else {
        ys.cells.len() * xs.cells.len()
    };
    finished(b, pool.kind, total, cells)
}

/// `dst` becomes what two parts of a window give together.
fn join_into(b: &mut Builder, kind: PoolKind, dst: Reg, total: Reg, part: Reg) {
    match kind {
        PoolKind::Max => b.binary_into(Binary::Max, dst, part, total),
        PoolKind::Avg => b.binary_into(Binary::Add, dst, total, part),
    }
}

/// All parts of a window, joined.
pub(super) fn joined(b: &mut Builder, kind: PoolKind, first: Reg, others: &[Reg]) -> Reg {
    let mut total = first;
    for &part in others {
        let both = b.reg(b.lanes(first));
        join_into(b, kind, both, total, part);
        total = both;
    }
    total
}

/// What a window of `cells` cells gives whose parts are joined.
pub(super) fn finished(b: &mut Builder, kind: PoolKind, total: Reg, cells: usize) -> Reg {
    match kind {
        PoolKind::Max => total,
        PoolKind::Avg => {
            let cells = b.constant(b.lanes(total), cells as f32);
            b.binary(Binary::Div, total, cells)
        }
    }
}

/// Makes the cells of a row at some columns.
pub(super) type Cells<'a> = &'a dyn Fn(&mut Builder, usize, &[Affine]) -> Vec<Reg>;

/// Pools the cells of each of `rows` rows under `count` windows side by side, none of which is cut.
/// Cells that a window shares with the next one are made once and stay in registers. `cells` makes
/// those at (row, columns); `sink` gets each window's position and, for each row, what its cells
/// give together.
pub(super) fn slide(
    b: &mut Builder,
    pool: &Pool,
    (rows, count): (usize, usize),
    cells: Cells<'_>,
    sink: &dyn Fn(&mut Builder, &Affine, Vec<Reg>),
) {
    let ([_, kernel], [_, stride]) = (pool.window.kernel, pool.window.stride);
    let shared = if count > 1 { kernel.saturating_sub(stride) } else { 0 };
    let first: Vec<Affine> = (0..shared).map(Affine::from).collect();
    let kept: Vec<Vec<Reg>> = (0..rows).map(|row| cells(b, row, &first)).collect();
    b.repeat("ox", count, |b, ox| {
        let mut pooled = Vec::new();
        for (row, kept) in kept.iter().enumerate() {
            let fresh: Vec<Affine> = (shared..kernel).map(|column| &ox * stride + column).collect();
            let mut all = kept.clone();
            all.extend(cells(b, row, &fresh));
            if let [first, others @ ..] = &all[..] {
                pooled.push(joined(b, pool.kind, *first, others));
            }
            // Those at the left go first: each takes the place of one that is no longer needed.
            for (&place, &cell) in kept.iter().zip(&all[stride.min(kernel)..]) {
                b.copy_into(place, cell);
            }
        }
        sink(b, &ox, pooled);
    });
}

impl Lowering<'_> {
    pub(super) fn pool(&mut self, pool: &Pool, input: Operand, output: Operand) {
        let (rows, columns) = spans_of(pool, &input.layout, &output.layout);
        if rows.len() == 1 || columns.len() == 1 || rows.len() * columns.len() <= MOST_CUTS {
            self.pool_kernel(pool, input, output);
            return;
        }
        let [kh, kw] = pool.window.kernel;
        let [sh, sw] = pool.window.stride;
        let Padding { top, left, bottom, right } = pool.window.padding;
        let along = |kernel, stride, padding| Pool {
            window: Window { kernel, stride, padding, ..pool.window },
            ..*pool
        };
        let in_rows = along([1, kw], [1, sw], Padding { left, right, ..Padding::default() });
        let in_columns = along([kh, 1], [sh, 1], Padding { top, bottom, ..Padding::default() });
        let between = self.temporary(output_layout(&in_rows, &input.layout));
        self.pool_kernel(&in_rows, input, between);
        self.pool_kernel(&in_columns, between, output);
    }

    fn pool_kernel(&mut self, pool: &Pool, input: Operand, output: Operand) {
        let lanes = self.vectors.lanes;
        let (rows, columns) = spans_of(pool, &input.layout, &output.layout);
        let [sh, sw] = pool.window.stride;

        let mut draft = Draft::new("pool");
        let x_buffer = input.declare(&mut draft, "input", Access::Read);
        let y_buffer = output.declare(&mut draft, "output", Access::Write);
        let b = &mut draft.b;
        let n = b.parallel("n", output.layout.n);
        let cb = b.parallel("cb", output.layout.blocks());
        // Rows join the parallel space where their windows are all alike.
        let row_in_space = (rows.len() == 1).then(|| b.parallel("oy", output.layout.h));

        for span in &rows {
            let count = if row_in_space.is_some() { 1 } else { span.count };
            b.repeat("y", count, |b, y| {
                let oy = match &row_in_space {
                    Some(oy) => oy.clone(),
                    None => y + span.first,
                };
                for column in &columns {
                    b.repeat("x", column.count, |b, x| {
                        let ox = x + column.first;
                        for lane in (0..BLOCK).step_by(usize::from(lanes)) {
                            let cell = |b: &mut Builder, y: &Affine, x: &Affine| {
                                b.load(lanes, x_buffer, input.at(&n, &cb, y, x) + lane)
                            };
                            let corner = (&(&oy * sh), &(&ox * sw));
                            let value = window(b, pool, &cell, (span, column), corner);
                            b.store(y_buffer, output.at(&n, &cb, &oy, &ox) + lane, value);
                        }
                    });
                }
            });
        }
        self.call(draft);
    }
}

#[cfg(test)]
mod tests {
    use super::{Span, spans};

    #[test]
    fn windows_inside_are_one_span() {
        assert_eq!(
            spans(55, 27, 3, 2, 0, 0),
            vec![Span { first: 0, count: 27, cells: 0..3, padded: 3 }]
        );
    }

    #[test]
    fn padding_and_the_far_edge_cut_windows() {
        // 5 cells, kernel 3, stride 2, one cell of padding before, rounded up: windows start at
        // -1, 1, 3; the last one reaches one cell past the map and past its (absent) padding.
        assert_eq!(
            spans(5, 3, 3, 2, 1, 0),
            vec![
                Span { first: 0, count: 1, cells: 1..3, padded: 3 },
                Span { first: 1, count: 1, cells: 0..3, padded: 3 },
                Span { first: 2, count: 1, cells: 0..2, padded: 2 },
            ]
        );
    }
}
