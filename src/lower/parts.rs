//! A batch a few images at a time: through a convolution, what follows it in its node, and what
//! brings the net's input into its layout, so that each finds what the one before it made in the
//! caches.

use super::{Argument, Lowering};
use crate::algorithm::{self, Algorithm};
use crate::graph::{Conv, Epilogue, Node, Op, Padding, ValueId};
use crate::layout::{BLOCK, Layout};

impl Lowering<'_> {
    /// Images that go together through the kernels of a convolution and of what follows it: few,
    /// where the map between them is read again while it lies in the caches. Winograd's method takes
    /// few images at a time anyway; by definition the weights are read for each few, so they have to
    /// lie in the caches, too. Two devices share all images.
    pub(super) fn images_together(
        &self,
        algorithm: Algorithm,
        conv: &Conv,
        whole: &Layout,
    ) -> usize {
        const BYTES: usize = 2 << 20;
        const WEIGHTS_BYTES: usize = 128 << 10;
        let stored =
            conv.epilogue.iter().any(|e| matches!(e, Epilogue::Lrn(_) | Epilogue::Pool(_)));
        let heavy = algorithm == Algorithm::Direct && 4 * conv.weight.len() > WEIGHTS_BYTES;
        if heavy || !stored || self.halves {
            return whole.n;
        }
        // Each core has its own where there are two.
        let least = if whole.n.is_multiple_of(2) { 2 } else { 1 };
        let few =
            |images: &usize| whole.n.is_multiple_of(*images) && 4 * images * whole.image() <= BYTES;
        (1..=whole.n / least).rev().map(|count| count * least).find(few).unwrap_or(least)
    }

    /// What a convolution makes before LRN and pooling.
    pub(super) fn whole(&self, node: &Node, conv: &Conv) -> Layout {
        let shape = self.graph.values[node.inputs[0].index()].shape;
        let [h, w] = conv.window.output_size([shape.h(), shape.w()]);
        let halo = Padding::default();
        Layout { n: shape.n(), c: conv.out_channels, h, w, block: BLOCK, halo }
    }

    /// Whether a node alone reads the net's input, and takes a few images at a time: it brings them
    /// into their layout itself, so that they are read again while they lie in the caches.
    pub(super) fn reads_input_in_parts(&self, node: &Node, algorithm: Algorithm) -> bool {
        let Op::Conv(conv) = &node.op else { return false };
        let whole = self.whole(node, conv);
        algorithm::reads_input_alone(self.graph, node)
            && self.images_together(algorithm, conv, &whole) < whole.n
    }

    /// The calls from `start` on, which are for the first `images` of `all` images, again for the
    /// others. Between them they use the same temporaries.
    pub(super) fn repeat_for(&mut self, start: usize, images: usize, all: usize) {
        let calls = self.out.calls[start..].to_vec();
        for first in (images..all).step_by(images) {
            for call in &calls {
                let mut call = call.clone();
                for (place, argument) in call.firsts.iter_mut().zip(&call.arguments) {
                    *place += first * self.image_of(*argument);
                }
                self.out.calls.push(call);
            }
        }
    }

    /// Elements of an image where an argument holds all images.
    pub(super) fn image_of(&self, argument: Argument) -> usize {
        let dense = |value: ValueId| {
            let shape = self.graph.values[value.index()].shape;
            shape.len() / shape.n()
        };
        match argument {
            Argument::Input => dense(self.graph.input),
            Argument::Output => dense(self.graph.output),
            Argument::Value(value) => self.layouts[value.index()].image(),
            Argument::Temporary(_) | Argument::Weights(_) | Argument::Local => 0,
        }
    }
}
