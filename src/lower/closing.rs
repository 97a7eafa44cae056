//! The end of a linear layer whose sums lie in memory: scales, bias, and what was fused to it.

use super::{Draft, Fused, LinearPacks, apply, declare_addends};
use crate::layout::BLOCK;
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, Binary, BufferId};

/// What is left to do with the sums.
pub(super) struct Closing<'f> {
    bias: BufferId,
    scales: Option<BufferId>,
    fused: &'f [Fused],
    addends: Vec<Option<BufferId>>,
}

impl<'f> Closing<'f> {
    pub(super) fn declare(
        draft: &mut Draft,
        packs: &LinearPacks,
        len: usize,
        fused: &'f [Fused],
    ) -> Self {
        Closing {
            bias: draft.buffer("bias", packs.bias, len, Access::Read),
            scales: packs.scales.map(|scales| draft.buffer("scales", scales, len, Access::Read)),
            fused,
            addends: declare_addends(draft, fused),
        }
    }

    /// One block of outputs of image `n`, each image of so many elements.
    pub(super) fn block(
        &self,
        b: &mut Builder,
        lanes: u8,
        (from, to): (BufferId, BufferId),
        (n, image): (&Affine, usize),
        block: &Affine,
    ) {
        let zero = Affine::default();
        for lane in (0..BLOCK).step_by(usize::from(lanes)) {
            let output = block * BLOCK + lane;
            let at = n * image + &output;
            let sum = b.load(lanes, from, &at);
            let bias = b.load(lanes, self.bias, &output);
            let total = match self.scales {
                None => b.binary(Binary::Add, sum, bias),
                Some(scales) => {
                    let scale = b.load(lanes, scales, &output);
                    b.fma(sum, scale, bias)
                }
            };
            let place = (n, block, &zero, &zero);
            let value = apply(b, self.fused, &self.addends, total, place, &lane.into());
            b.store(to, at, value);
        }
    }
}
