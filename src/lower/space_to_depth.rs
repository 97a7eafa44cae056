//! The caller's input with the phases of a stride as channels, see
//! [`SpaceToDepth`](crate::algorithm::SpaceToDepth).

use super::convert::dense;
use super::{Argument, Draft, Lowering, Operand};
use crate::algorithm::{Algorithm, SpaceToDepth};
use crate::graph::{Op, Padding};
use crate::layout::BLOCK;
use crate::shape::Shape;
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, BufferId};

/// Rows (or columns) of the new map whose phases lie inside the picture alike.
struct Span {
    first: usize,
    count: usize,
    /// Phases inside the picture.
    inside: Vec<usize>,
}

/// Cuts `size` rows of the new map; the picture has `picture` rows behind `before` of padding.
fn spans(size: usize, s: usize, picture: usize, before: usize) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for row in 0..size {
        let inside: Vec<usize> =
            (0..s).filter(|p| (before..before + picture).contains(&(row * s + p))).collect();
        match spans.last_mut() {
            Some(last) if last.inside == inside => last.count += 1,
            _ => spans.push(Span { first: row, count: 1, inside }),
        }
    }
    spans
}

/// One part of the map being written.
struct Writer<'a> {
    folded: &'a SpaceToDepth,
    picture: Shape,
    padding: Padding,
    from: BufferId,
    to: BufferId,
    target: Operand,
}

impl Lowering<'_> {
    /// What the reader of the net's input makes of it.
    pub(super) fn folded_input(&self, algorithms: &[Algorithm]) -> Option<(SpaceToDepth, Padding)> {
        let shape = self.graph.values[self.graph.input.index()].shape;
        self.graph.nodes.iter().zip(algorithms).find_map(|(node, &algorithm)| {
            match (&node.op, algorithm) {
                (Op::Conv(conv), Algorithm::SpaceToDepth { m }) => {
                    Some((SpaceToDepth::new(conv, shape, m)?, conv.window.padding))
                }
                _ => None,
            }
        })
    }

    /// Every element of the new map is written once: a pixel, or zero.
    pub(super) fn input_by_phases(
        &mut self,
        (folded, padding): &(SpaceToDepth, Padding),
        target: Operand,
    ) {
        let picture = self.graph.values[self.graph.input.index()].shape;
        let len = target.layout.n * self.image_of(Argument::Input);
        let rows = spans(target.layout.h, folded.s, picture.h(), padding.top);
        let columns = spans(target.layout.w, folded.s, picture.w(), padding.left);
        for row in &rows {
            let mut draft = Draft::new("read_phases");
            let from = draft.buffer("input", Argument::Input, len, Access::Read);
            let to = target.declare(&mut draft, "output", Access::Write);
            let b = &mut draft.b;
            let n = b.parallel("n", target.layout.n);
            let y = b.parallel("y", row.count);
            let writer = Writer { folded, picture, padding: *padding, from, to, target };
            for column in &columns {
                b.repeat("x", column.count, |b, x| {
                    writer.pixel(b, &n, (&y, row), (&x, column));
                });
            }
            self.call(draft);
        }
    }
}

impl Writer<'_> {
    /// All channels of one pixel of the new map.
    fn pixel(
        &self,
        b: &mut Builder,
        n: &Affine,
        (y, row): (&Affine, &Span),
        (x, column): (&Affine, &Span),
    ) {
        let (s, c) = (self.folded.s, self.picture.c());
        let zero = b.constant(1, 0.0);
        for channel in 0..self.target.layout.blocks() * BLOCK {
            let (phase, i) = (channel / c, channel % c);
            let (py, px) = (phase / s, phase % s);
            let inside = channel < self.folded.channels
                && row.inside.contains(&py)
                && column.inside.contains(&px);
            let value = if inside {
                let row_of = |at: &Affine, span: &Span, phase: usize, before: usize| {
                    at * s + ((span.first * s + phase) as i64 - before as i64)
                };
                let from_y = row_of(y, row, py, self.padding.top);
                let from_x = row_of(x, column, px, self.padding.left);
                b.load(1, self.from, dense(self.picture, n, &i.into(), &from_y, &from_x))
            } else {
                zero
            };
            let block = (channel / BLOCK).into();
            let at = self.target.at(n, &block, &(y + row.first), &(x + column.first));
            b.store(self.to, at + channel % BLOCK, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::spans;

    #[test]
    fn rows_of_alexnets_first_layer() {
        // 224 rows behind one of padding, in steps of 4: row 0 lacks phase 0, row 56 has only
        // phase 0 (row 224 of the padded map is the picture's last).
        let found: Vec<(usize, usize, Vec<usize>)> =
            spans(58, 4, 224, 1).into_iter().map(|s| (s.first, s.count, s.inside)).collect();
        assert_eq!(
            found,
            vec![
                (0, 1, vec![1, 2, 3]),
                (1, 55, vec![0, 1, 2, 3]),
                (56, 1, vec![0]),
                (57, 1, vec![])
            ]
        );
    }
}
