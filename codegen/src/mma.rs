//! Products of small matrices by a warp: how their elements lie in the registers of its 32 items.
//!
//! The layouts are those of the PTX ISA's `mma.m16n8k8` with tf32 operands, two of them one behind
//! the other in k, and `mma.m16n8k16` with f16 operands; sums are f32 in both. The items of a warp
//! are 32 in a row of a group's.

use crate::ir::Mma;

/// Items that work on a product together.
pub const WARP: usize = 32;
/// Rows of the left matrix and of the sums.
pub const ROWS: usize = 16;
/// Columns of the right matrix and of the sums.
pub const COLUMNS: usize = 8;
/// Products that each sum gets.
pub const DEPTH: usize = 16;

impl Mma {
    /// Row and column, in the left matrix, of lane `lane` of an item's register `half`.
    pub fn left(self, item: usize, half: usize, lane: usize) -> (usize, usize) {
        let (group, place) = (item / 4, item % 4);
        match self {
            Mma::Tf32 => (group + 8 * (lane % 2), 8 * half + place + 4 * (lane / 2)),
            Mma::F16 => (group + 8 * (lane / 2), 8 * half + 2 * place + lane % 2),
        }
    }

    /// Row and column, in the right matrix, of lane `lane` of an item's register.
    pub fn right(self, item: usize, lane: usize) -> (usize, usize) {
        let (group, place) = (item / 4, item % 4);
        match self {
            Mma::Tf32 => (8 * (lane / 2) + place + 4 * (lane % 2), group),
            Mma::F16 => (8 * (lane / 2) + 2 * place + lane % 2, group),
        }
    }

    /// Row and column of a sum.
    pub fn sum(self, item: usize, lane: usize) -> (usize, usize) {
        (item / 4 + 8 * (lane / 2), 2 * (item % 4) + lane % 2)
    }

    /// An operand as the product takes it.
    pub fn operand(self, value: f32) -> f32 {
        match self {
            // The lower bits of a tf32 do not count.
            Mma::Tf32 => f32::from_bits(value.to_bits() & TF32_BITS),
            Mma::F16 => half::f16::from_f32(value).to_f32(),
        }
    }
}

/// Sign, exponent and the ten bits of a fraction that a tf32 has.
const TF32_BITS: u32 = 0xffff_e000;

/// To the nearest tf32, ties away from zero.
pub fn round_tf32(value: f32) -> f32 {
    if value.is_nan() {
        return f32::NAN;
    }
    // A carry goes into the exponent, up to infinity's.
    f32::from_bits((value.to_bits() + 0x1000) & TF32_BITS)
}

/// Adds to the sums of a warp, each item's in turn, the product of its matrices.
pub(crate) fn multiply(
    kind: Mma,
    left: impl Fn(usize, usize) -> [f32; 4],
    right: impl Fn(usize) -> [f32; 4],
    sums: &mut [[f32; 4]; WARP],
) {
    let mut a = [[0.0_f32; DEPTH]; ROWS];
    let mut b = [[0.0_f32; COLUMNS]; DEPTH];
    for item in 0..WARP {
        for lane in 0..4 {
            for half in 0..2 {
                let (row, k) = kind.left(item, half, lane);
                a[row][k] = kind.operand(left(item, half)[lane]);
            }
            let (k, column) = kind.right(item, lane);
            b[k][column] = kind.operand(right(item)[lane]);
        }
    }
    for (item, sums) in sums.iter_mut().enumerate() {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let (row, column) = kind.sum(item, lane);
            *sum = (0..DEPTH).fold(*sum, |sum, k| a[row][k].mul_add(b[k][column], sum));
        }
    }
}
