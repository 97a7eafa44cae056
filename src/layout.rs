//! How activations lie in memory: `[n][c / block][rows][columns][block]`, rows and columns with a
//! halo of zeros, so that a padded convolution reads its padding as data.
//!
//! Blocks are 16 channels wide on every target: one 512-bit, two 256-bit or four 128-bit vectors;
//! packed weights are then the same for all of them. Only an input with fewer channels that dense
//! convolutions alone read lies with all its channels in one narrower block.

use crate::algorithm::{self, Algorithm, SpaceToDepth};
use crate::graph::{Graph, Op, Padding};
use crate::shape::Shape;
use std::fmt;

/// Channels of a block of activations and rows of a panel of packed weights.
pub const BLOCK: usize = 16;

/// The layout of one activation. All counts in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Images.
    pub n: usize,
    /// Channels or features, without the padding of the last block.
    pub c: usize,
    /// Rows without halo.
    pub h: usize,
    /// Columns without halo.
    pub w: usize,
    /// Channels that lie next to each other.
    pub block: usize,
    /// Zeros around each map.
    pub halo: Padding,
}

impl Layout {
    /// A layout in blocks of [`BLOCK`] without halo.
    pub fn blocked(shape: Shape) -> Self {
        Layout {
            n: shape.n(),
            c: shape.c(),
            h: shape.h(),
            w: shape.w(),
            block: BLOCK,
            halo: Padding::default(),
        }
    }

    /// Blocks of one image; the last may be partly padding.
    pub fn blocks(&self) -> usize {
        self.c.div_ceil(self.block)
    }

    /// From one row to the next.
    pub fn row(&self) -> usize {
        (self.halo.left + self.w + self.halo.right) * self.block
    }

    /// From one block of channels to the next.
    pub fn plane(&self) -> usize {
        (self.halo.top + self.h + self.halo.bottom) * self.row()
    }

    /// From one image to the next.
    pub fn image(&self) -> usize {
        self.blocks() * self.plane()
    }

    /// Elements in all.
    pub fn len(&self) -> usize {
        self.n * self.image()
    }

    /// True where nothing is stored (never for a verified graph).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Position of the first element inside the halo.
    pub fn origin(&self) -> usize {
        self.halo.top * self.row() + self.halo.left * self.block
    }

    /// Position of a window's first element where it stands at the first output; the halo is at
    /// least the window's `padding`.
    pub fn corner(&self, padding: Padding) -> usize {
        (self.halo.top - padding.top) * self.row() + (self.halo.left - padding.left) * self.block
    }

    /// The activation in `data` (as this layout says) as the caller sees it: `[N, C, H, W]`
    /// without halo and padding.
    pub fn to_dense(&self, data: &[f32]) -> Vec<f32> {
        let mut dense = Vec::with_capacity(self.n * self.c * self.h * self.w);
        for n in 0..self.n {
            for c in 0..self.c {
                let plane = n * self.image() + c / self.block * self.plane() + self.origin();
                for y in 0..self.h {
                    let row = plane + y * self.row() + c % self.block;
                    dense.extend((0..self.w).map(|x| data[row + x * self.block]));
                }
            }
        }
        dense
    }

    /// True where there is a halo.
    pub fn has_halo(&self) -> bool {
        self.halo != Padding::default()
    }
}

/// Prints `[1][6][55][55][16]`, with `+halo(t,l,b,r)` where there is one.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}][{}][{}][{}][{}]", self.n, self.blocks(), self.h, self.w, self.block)?;
        if self.has_halo() {
            let Padding { top, left, bottom, right } = self.halo;
            write!(f, "+halo({top},{left},{bottom},{right})")?;
        }
        Ok(())
    }
}

/// Every value as the caller sees it, `[n][c][h][w]`: blocks of one channel and no halo.
pub fn dense(graph: &Graph) -> Vec<Layout> {
    let dense = |shape| Layout { block: 1, ..Layout::blocked(shape) };
    graph.values.iter().map(|value| dense(value.shape)).collect()
}

/// Chooses the layout of every value from what reads it.
pub fn assign(graph: &Graph, algorithms: &[Algorithm]) -> Vec<Layout> {
    let mut layouts: Vec<Layout> =
        graph.values.iter().map(|value| Layout::blocked(value.shape)).collect();
    let mut only_dense_convolutions = true;
    for (node, &algorithm) in graph.nodes.iter().zip(algorithms) {
        for (position, &input) in node.inputs.iter().enumerate() {
            match &node.op {
                Op::Conv(conv) if position == 0 => {
                    let shape = graph.values[input.index()].shape;
                    let padding = algorithm::halo(conv, algorithm, shape);
                    let halo = &mut layouts[input.index()].halo;
                    halo.top = halo.top.max(padding.top);
                    halo.left = halo.left.max(padding.left);
                    halo.bottom = halo.bottom.max(padding.bottom);
                    halo.right = halo.right.max(padding.right);
                    let dense = conv.groups == 1 && algorithm == Algorithm::Direct;
                    only_dense_convolutions &= input != graph.input || dense;
                }
                _ => only_dense_convolutions &= input != graph.input,
            }
        }
    }
    for (node, &algorithm) in graph.nodes.iter().zip(algorithms) {
        if let (Op::Conv(conv), Algorithm::SpaceToDepth { m }) = (&node.op, algorithm)
            && let Some(folded) =
                SpaceToDepth::new(conv, graph.values[graph.input.index()].shape, m)
        {
            let [h, w] = folded.size;
            let input = &mut layouts[graph.input.index()];
            *input = Layout { c: folded.channels, h, w, block: BLOCK, ..*input };
            return layouts;
        }
    }
    let input = &mut layouts[graph.input.index()];
    if only_dense_convolutions && graph.output != graph.input && input.c < BLOCK {
        input.block = input.c;
    }
    layouts
}

#[cfg(test)]
mod tests {
    use super::Layout;
    use crate::graph::Padding;

    #[test]
    fn dense_order_without_halo_and_padding() {
        // Two images of three channels in blocks of two, maps of 1 x 2 with a column of halo on
        // the left and a row above. 0 stands for what is not data.
        let layout = Layout {
            n: 2,
            c: 3,
            h: 1,
            w: 2,
            block: 2,
            halo: Padding { top: 1, left: 1, bottom: 0, right: 0 },
        };
        let row = |a: [f32; 4]| [[0.0; 8], [0.0, 0.0, a[0], a[1], a[2], a[3], 0.0, 0.0]];
        let image = |first: f32| {
            // Channels 0 and 1 of both columns, then channel 2.
            let [c0, c1, c2] = [first, first + 2.0, first + 4.0];
            let blocks = [row([c0, c1, c0 + 1.0, c1 + 1.0]), row([c2, 0.0, c2 + 1.0, 0.0])];
            let cells = blocks.concat();
            cells.iter().flat_map(|row| row[..6].to_vec()).collect::<Vec<f32>>()
        };
        let data = [image(1.0), image(7.0)].concat();
        assert_eq!(data.len(), layout.len());
        let expected: Vec<f32> = (1..=12).map(|x| x as f32).collect();
        assert_eq!(layout.to_dense(&data), expected);
    }
}
