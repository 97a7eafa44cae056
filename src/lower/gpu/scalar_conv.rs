//! Convolutions whose groups share blocks of 16 outputs (depthwise ones, for example): an item for
//! each element of the result, which reads the channels of its block's reach. Products across
//! groups are with zeros.

use super::Gpu;
use super::product::{Columns, Ends, Product};
use crate::graph::Conv;
use crate::layout::{BLOCK, Layout};
use crate::lower::conv::Reach;
use crate::lower::{Draft, Fused, Operand};
use alexc_codegen::builder::{Affine, At, Builder};
use alexc_codegen::ir::{Access, DType};

impl Gpu<'_> {
    pub(super) fn scalar_conv(
        &mut self,
        conv: &Conv,
        input: Operand,
        output: Operand,
        fused: &[Fused],
    ) {
        let reach = Reach::new(conv, &Layout { block: 1, ..input.layout });
        let [kh, kw] = conv.window.kernel;
        let weights = self.base.conv_weights(conv, &reach, 1, DType::F32);
        let bias = self.base.conv_bias(conv, conv.out_channels);
        let product = Product {
            groups: 1,
            group_channels: 0,
            outputs: conv.out_channels,
            depth: reach.blocks * kh * kw,
            input,
            columns: Columns::Flat(conv),
            weights,
            dtype: DType::F32,
            scales: None,
            bias,
            output,
            fused,
        };
        match reach.pattern() {
            Some((outer, inner, step)) => self.scalar_kernel(conv, &product, |b| {
                let o = b.parallel("group", outer);
                let i = b.parallel("block", inner);
                (&o * inner + i, o * step)
            }),
            None => {
                for (block, &start) in reach.starts.iter().enumerate() {
                    self.scalar_kernel(conv, &product, |_| (block.into(), start.into()));
                }
            }
        }
    }

    fn scalar_kernel(
        &mut self,
        conv: &Conv,
        product: &Product<'_>,
        place: impl FnOnce(&mut Builder) -> (Affine, Affine),
    ) {
        let Product { input, output, depth, .. } = *product;
        let (il, ol) = (input.layout, output.layout);
        let [kh, kw] = conv.window.kernel;
        let [sh, sw] = conv.window.stride;
        let [dh, dw] = conv.window.dilation;
        let padding = conv.window.padding;
        let blocks = conv.out_channels.div_ceil(BLOCK);
        let mut draft = Draft::new("conv");
        let from = input.declare(&mut draft, "input", Access::Read);
        let weights = draft.weights(product.weights, DType::F32, blocks * depth * BLOCK);
        let ends = Ends::declare(&mut draft, product);
        let to = output.declare(&mut draft, "output", Access::Write);
        let b = &mut draft.b;
        let (block, start) = place(b);
        let n = b.parallel("n", ol.n);
        let lane = b.parallel("lane", BLOCK);
        let oy = b.parallel("oy", ol.h);
        let ox = b.parallel("ox", ol.w);
        let sum = b.constant(1, 0.0);
        b.repeat("c", depth / (kh * kw), |b, c| {
            b.repeat("ky", kh, |b, ky| {
                b.repeat("kx", kw, |b, kx| {
                    let y = &oy * sh + &ky * dh + -(padding.top as i64);
                    let x = &ox * sw + &kx * dw + -(padding.left as i64);
                    let (y, x) = (b.var("iy", y), b.var("ix", x));
                    let at = At::from(input.at(&n, &(&start + &c), &y, &x));
                    let value = b.load(1, from, at.within(&y, il.h).within(&x, il.w));
                    let k = (&c * kh + ky) * kw + kx;
                    let weight = b.load(1, weights, (&block * depth + k) * BLOCK + &lane);
                    b.fma_into(sum, weight, value, sum);
                });
            });
        });
        let channel = b.var("channel", &block * BLOCK + &lane);
        let at = At::from(output.at(&n, &channel, &oy, &ox)).within(&channel, ol.c);
        let of = ends.of_channel(b, &channel, &at);
        let value = ends.apply(b, product, sum, of, &at);
        b.store(to, at, value);
        self.base.call(draft);
    }
}
