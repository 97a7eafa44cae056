//! Packed weights in the type that memory holds: f32, or fewer bytes where the user asked for them.

use super::pack::Pack;
use crate::graph::Tensor;
use crate::layout::BLOCK;
use crate::weights::TensorSource;
use alexc_codegen::ir::DType;
use alexc_runtime::memory::cast_mut_f32;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::ops::Range;

/// A pack and the type of its elements. In I8 an element is the nearest integer to the weight
/// divided by its output's scale (see [`Pack::Scales`]).
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
            DType::I8 => {
                let scales = scales(&values);
                let quantised = values.chunks_exact(BLOCK).flat_map(|row| {
                    row.iter().zip(&scales).map(|(&value, &scale)| {
                        let steps = if scale > 0.0 { (value / scale).round() } else { 0.0 };
                        (steps.clamp(-127.0, 127.0) as i8).to_le_bytes()
                    })
                });
                copy(quantised, out);
            }
        }
    }
}

fn copy<const N: usize>(values: impl Iterator<Item = [u8; N]>, out: &mut [u8]) {
    for (out, value) in out.chunks_exact_mut(N).zip(values) {
        out.copy_from_slice(&value);
    }
}

/// What one step of an 8-bit integer stands for, for each output of a panel: its largest weight
/// is 127 steps.
pub(super) fn scales(panel: &[f32]) -> [f32; BLOCK] {
    let mut largest = [0.0f32; BLOCK];
    for row in panel.chunks_exact(BLOCK) {
        for (largest, value) in largest.iter_mut().zip(row) {
            *largest = largest.max(value.abs());
        }
    }
    largest.map(|value| value / 127.0)
}

#[cfg(test)]
mod tests {
    use super::scales;

    #[test]
    fn the_largest_weight_of_an_output_is_127_steps() {
        let mut panel = [0.0f32; 32];
        (panel[3], panel[19]) = (-2.54, 1.0);
        let scales = scales(&panel);
        assert_eq!(scales[3], 2.54 / 127.0);
        assert_eq!(scales[0], 0.0);
    }
}
