//! What happens to a sum of products before it is stored.

use super::Product;
use crate::layout::BLOCK;
use crate::lower::gpu::finish;
use crate::lower::{Draft, declare_addends};
use alexc_codegen::builder::{Affine, At, Builder};
use alexc_codegen::ir::{Access, Binary, BufferId, Reg};

/// What is added to sums at the end.
pub(in crate::lower::gpu) struct Ends {
    bias: BufferId,
    scales: Option<BufferId>,
    addends: Vec<Option<BufferId>>,
}

impl Ends {
    pub(in crate::lower::gpu) fn declare(draft: &mut Draft, product: &Product<'_>) -> Ends {
        let outputs = product.groups * product.outputs;
        let blocks = outputs.next_multiple_of(BLOCK);
        let scales = product.scales;
        let scales = scales.map(|s| draft.buffer("scales", s, blocks, Access::Read));
        let bias = draft.buffer("bias", product.bias, outputs, Access::Read);
        Ends { bias, scales, addends: declare_addends(draft, product.fused) }
    }

    /// Loads what the sums of a channel get, once for all that an item has of it.
    pub(in crate::lower::gpu) fn of_channel(
        &self,
        b: &mut Builder,
        channel: &Affine,
        at: &At,
    ) -> OfChannel {
        let bias = b.load(1, self.bias, at.alike(channel));
        OfChannel { bias, scale: self.scales.map(|scales| b.load(1, scales, at.alike(channel))) }
    }

    /// The result of a sum that is stored at `at`.
    pub(in crate::lower::gpu) fn apply(
        &self,
        b: &mut Builder,
        product: &Product<'_>,
        sum: Reg,
        of: OfChannel,
        at: &At,
    ) -> Reg {
        let value = match of.scale {
            None => b.binary(Binary::Add, sum, of.bias),
            Some(scale) => b.fma(sum, scale, of.bias),
        };
        finish(b, product.fused, &self.addends, value, at)
    }
}

/// See [`Ends::of_channel`].
#[derive(Debug, Clone, Copy)]
pub(in crate::lower::gpu) struct OfChannel {
    bias: Reg,
    scale: Option<Reg>,
}
