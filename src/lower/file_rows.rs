//! Matrices of linear layers that stay in their file, for nets that run once: packing a large matrix
//! takes many times as long as multiplying by it, most of it for fresh memory. Kernels bring one
//! panel at a time into the order of packed weights, in scratch that stays in the caches, and then
//! do as ever: results have the same bits.
//!
//! Rows of a matrix are often a multiple of 4096 bytes apart, so that the same column of all of them
//! falls into one set of the first-level cache. A run of columns is copied side by side first, as
//! where weights are packed (pack.rs).

use super::tile::largest_divisor;
use super::{Argument, Draft, LinearPacks, Lowering};
use crate::graph::Linear;
use crate::layout::BLOCK;
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, BufferId, DType};

/// Most columns that are copied side by side: sixteen rows of them are half of the first-level
/// cache.
const RUN: usize = 256;

/// Keeps the copied rows out of one another's cache sets.
const GAP: usize = 16;

/// A matrix as the file has it, `[outputs][channels][pixels]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileRows {
    outputs: usize,
    channels: usize,
    pixels: usize,
}

impl Lowering<'_> {
    /// The matrix of a linear layer, for inputs of `pixels` pixels of `channels` channels in blocks
    /// of `in_block`, if it stays in its file: whole blocks on both sides, as f32.
    pub(super) fn file_rows(
        &self,
        linear: &Linear,
        [channels, pixels, in_block]: [usize; 3],
    ) -> Option<FileRows> {
        let outputs = linear.out_features;
        let whole = in_block == BLOCK
            && channels.is_multiple_of(BLOCK)
            && outputs.is_multiple_of(BLOCK)
            && self.weights == DType::F32;
        let in_file = self.in_file.is_some_and(|names| names.contains(&linear.weight.name));
        (whole && in_file).then_some(FileRows { outputs, channels, pixels })
    }
}

/// The panels of a linear layer's weights as its kernel reads them.
pub(super) struct Panels {
    pub(super) buffer: BufferId,
    /// Elements of a panel.
    len: usize,
    /// Where the matrix stays in its file, `buffer` is scratch for one panel of [`BLOCK`] outputs.
    transposed: Option<Transposed>,
}

impl Panels {
    /// Declares the buffers of a kernel that reads `count` panels of `len` elements.
    pub(super) fn declare(
        draft: &mut Draft,
        packs: &LinearPacks,
        count: usize,
        len: usize,
    ) -> Panels {
        match packs.rows {
            None => {
                let buffer = draft.weights(packs.weights, packs.dtype, count * len);
                Panels { buffer, len, transposed: None }
            }
            Some(matrix) => {
                let transposed = matrix.declare(draft, packs.weights);
                let buffer = draft.buffer("panel", Argument::Local, len, Access::Local);
                Panels { buffer, len, transposed: Some(transposed) }
            }
        }
    }

    /// To be called first, in the iteration of a panel that may be in the file.
    pub(super) fn fill(&self, b: &mut Builder, panel: &Affine, lanes: u8) {
        if let Some(transposed) = &self.transposed {
            transposed.fill(b, self.buffer, panel, lanes);
        }
    }

    /// The first element of a panel: scratch holds one alone.
    pub(super) fn at(&self, panel: &Affine) -> Affine {
        if self.transposed.is_some() { Affine::default() } else { panel * self.len }
    }
}

/// The buffers of a kernel that reads a matrix in its file.
struct Transposed {
    matrix: FileRows,
    rows: BufferId,
    side_by_side: BufferId,
}

impl FileRows {
    fn row(&self) -> usize {
        self.channels * self.pixels
    }

    /// Channels whose columns are copied side by side, and those that follow one another in a
    /// panel: all of them where there is one pixel.
    fn runs(&self) -> (usize, usize) {
        let together = if self.pixels == 1 { self.channels } else { BLOCK };
        (largest_divisor(together, (RUN / self.pixels).max(1)), together)
    }

    /// Declares the buffers.
    fn declare(self, draft: &mut Draft, weights: Argument) -> Transposed {
        let row = self.row();
        let rows = draft.weights(weights, DType::F32, self.outputs * row);
        let side = BLOCK * (self.runs().0 * self.pixels + GAP);
        let side_by_side = draft.buffer("side_by_side", Argument::Local, side, Access::Local);
        Transposed { matrix: self, rows, side_by_side }
    }
}

impl Transposed {
    /// Fills `panel` with the weights of block `ob` of the outputs.
    fn fill(&self, b: &mut Builder, panel: BufferId, ob: &Affine, lanes: u8) {
        let (row, pixels) = (self.matrix.row(), self.matrix.pixels);
        let (channels, together) = self.matrix.runs();
        let columns = channels * pixels;
        let stride = columns + GAP;
        // Narrower vectors where a run does not end with one of the widest.
        let lanes =
            [lanes, 8, 4, 1].into_iter().find(|&l| l <= lanes && columns % usize::from(l) == 0);
        let lanes = lanes.unwrap_or(1);
        let step = usize::from(lanes);
        b.repeat("together", self.matrix.channels / together, |b, block| {
            b.repeat("run", together / channels, |b, run| {
                let first = &block * (together * pixels) + &run * columns;
                b.repeat("row", BLOCK, |b, r| {
                    let from = (ob * BLOCK + &r) * row + &first;
                    b.repeat("vector", columns / step, |b, v| {
                        let value = b.load(lanes, self.rows, &from + &v * step);
                        b.store(self.side_by_side, &r * stride + v * step, value);
                    });
                });
                b.repeat("channel", channels, |b, c| {
                    b.repeat("pixel", pixels, |b, pixel| {
                        let to = &block * (together * pixels) + &pixel * together;
                        let to = (to + &run * channels + &c) * BLOCK;
                        for r in 0..BLOCK {
                            let from = &c * pixels + &pixel + r * stride;
                            let value = b.load(1, self.side_by_side, from);
                            b.store(panel, &to + r, value);
                        }
                    });
                });
            });
        });
    }
}
