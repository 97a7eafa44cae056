//! Packed weights in the type that memory holds: f32, or fewer bytes where the user asked for them.

use super::pack::Pack;
use crate::graph::Tensor;
use crate::weights::TensorSource;
use alexc_codegen::ir::DType;
use alexc_runtime::memory::cast_mut_f32;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::ops::Range;

/// A pack and the type of its elements. In I8 and I16 an element is the nearest integer to the
/// weight divided by its output's scale (see [`Pack::Scales`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    /// What is packed.
    pub pack: Pack,
    /// The stored type.
    pub dtype: DType,
}

impl Packed {
    /// Bytes in all.
    pub fn bytes(&self) -> usize {
        self.pack.len() * self.dtype.bytes()
    }

    /// Bytes of one part.
    pub fn part_bytes(&self) -> usize {
        self.pack.part_len() * self.dtype.bytes()
    }

    /// The elements of tensors that only this part reads.
    pub fn reads(&self, part: usize) -> Option<(&Tensor, Range<usize>)> {
        self.pack.reads(part)
    }

    /// Makes one part in `out`, which has [`Packed::part_bytes`] bytes and the alignment of f32.
    pub fn write(&self, part: usize, source: &dyn TensorSource, out: &mut [u8]) {
        if self.dtype == DType::F32 {
            if let Some(out) = cast_mut_f32(out) {
                self.pack.write(part, source, out);
            }
            return;
        }
        let mut values = vec![0.0f32; self.pack.part_len()];
        self.pack.write(part, source, &mut values);
        match self.dtype {
            DType::F32 => {}
            DType::F16 => {
                let mut narrow = vec![f16::ZERO; values.len()];
                narrow.convert_from_f32_slice(&values);
                copy(narrow.iter().map(|v| v.to_le_bytes()), out);
            }
            DType::Bf16 => {
                copy(values.iter().map(|&v| bf16::from_f32(v).to_le_bytes()), out);
            }
            DType::I16 => {
                copy(self.steps(&values).map(|steps| (steps as i16).to_le_bytes()), out);
            }
            DType::I8 => copy(self.steps(&values).map(|steps| (steps as i8).to_le_bytes()), out),
        }
    }
}

impl Packed {
    /// Every value in whole steps.
    fn steps(&self, values: &[f32]) -> impl Iterator<Item = f32> {
        let most = most_steps(self.dtype);
        values.chunks_exact(values.len() / self.pack.runs()).flat_map(move |run| {
            let scales = scales(run, self.pack.part_outputs(), most);
            let scales = (0..run.len()).map(move |i| scales[i % scales.len()]);
            run.iter().zip(scales).map(move |(&value, scale)| {
                let steps = if scale > 0.0 { (value / scale).round() } else { 0.0 };
                steps.clamp(-most, most)
            })
        })
    }
}

/// The largest integer that a type of weights uses, on both sides of zero.
pub(super) fn most_steps(dtype: DType) -> f32 {
    if dtype == DType::I16 { 32767.0 } else { 127.0 }
}

fn copy<const N: usize>(values: impl Iterator<Item = [u8; N]>, out: &mut [u8]) {
    for (out, value) in out.chunks_exact_mut(N).zip(values) {
        out.copy_from_slice(&value);
    }
}

/// What one step of an integer stands for, for each of the `width` outputs of a panel: its largest
/// weight is `most` steps.
pub(super) fn scales(panel: &[f32], width: usize, most: f32) -> Vec<f32> {
    let mut largest = vec![0.0f32; width];
    for row in panel.chunks_exact(width) {
        for (largest, value) in largest.iter_mut().zip(row) {
            *largest = largest.max(value.abs());
        }
    }
    largest.iter().map(|value| value / most).collect()
}

#[cfg(test)]
mod tests {
    use super::{Packed, scales};
    use crate::graph::Tensor;
    use crate::layout::BLOCK;
    use crate::lower::pack::Pack;
    use crate::weights::Random;
    use alexc_codegen::ir::DType;

    #[test]
    fn every_point_of_transformed_weights_has_its_scale() {
        let weight = Tensor { name: "w".into(), shape: vec![16, 16, 3, 3] };
        let pack = Pack::Winograd {
            weight,
            batch_norm: None,
            groups: 1,
            m: 2,
            phases: 1,
            in_block: BLOCK,
            in_blocks: 1,
            starts: vec![0],
        };
        let source = Random::new(3);
        let mut exact = vec![0.0; pack.part_len()];
        pack.write(0, &source, &mut exact);
        let dtype = DType::I16;
        let mut scales = vec![0.0; 16 * BLOCK];
        Pack::Scales { of: Box::new(pack.clone()), dtype }.write(0, &source, &mut scales);
        let packed = Packed { pack, dtype };
        let mut bytes = vec![0; packed.part_bytes()];
        packed.write(0, &source, &mut bytes);
        let run = BLOCK * BLOCK;
        let mut largest = vec![0i16; 16 * BLOCK];
        for (i, (&exact, steps)) in exact.iter().zip(bytes.as_chunks::<2>().0).enumerate() {
            let (steps, output) = (i16::from_le_bytes(*steps), i / run * BLOCK + i % BLOCK);
            let scale = scales[output];
            assert!((exact - f32::from(steps) * scale).abs() <= 0.51 * scale, "element {i}");
            largest[output] = largest[output].max(steps.abs());
        }
        assert!(largest.into_iter().all(|steps| steps == 32767));
    }

    #[test]
    fn the_largest_weight_of_an_output_is_127_steps() {
        let mut panel = [0.0f32; 32];
        (panel[3], panel[19]) = (-2.54, 1.0);
        let scales = scales(&panel, BLOCK, 127.0);
        assert_eq!(scales[3], 2.54 / 127.0);
        assert_eq!(scales[0], 0.0);
    }
}
