//! `random:SEED`: weights for a trial run, drawn by a counter-based generator, so that any element
//! of any tensor can be computed alone and packing can draw on all threads.
//!
//! The definition (`tests/golden/generator.py` is its twin in numpy):
//!
//! - `s0` = FNV-1a, 64 bits, of the tensor's name in UTF-8, xor SEED.
//! - Element `i` of the flattened tensor: `z` = the finaliser of SplitMix64 applied to
//!   `s0 + (i + 1) * 0x9E3779B97F4A7C15`, modulo 2^64; `u` = the upper 24 bits of `z`, times 2^-24,
//!   which lies in [0, 1); `v = 2 u - 1`.
//! - A tensor of rank 2 or more holds `v * sqrt(6 / fan_in)`, with `fan_in` the product of all
//!   dimensions but the first (He et al. 2015, uniform): activations keep their scale through any
//!   depth of ReLU layers.
//! - `*.running_var`, and `*.weight` of rank 1 (the gamma of a batch norm): `0.5 + u`.
//! - Everything else (biases, running means): `0.1 * v`.
//!
//! All of it in f64, the result rounded to f32 once. A trial input is the stream of the name
//! `input`, its elements `v`.

use super::{TensorSource, WeightsError};
use crate::graph::Tensor;
use std::borrow::Cow;
use std::ops::Range;

/// Weights drawn from a seed; see the top of this file for the definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Random {
    seed: u64,
}

impl Random {
    /// The source for a seed.
    pub fn new(seed: u64) -> Self {
        Random { seed }
    }

    /// Where the stream of [`Random::input`] begins, `s0` of the definition.
    pub fn input_stream(&self) -> u64 {
        fnv1a(b"input") ^ self.seed
    }

    /// A network's input of `len` elements, uniform in [-1, 1).
    pub fn input(&self, len: usize) -> Vec<f32> {
        let stream = self.input_stream();
        (0..len as u64).map(|i| (2.0 * unit(stream, i) - 1.0) as f32).collect()
    }

    /// Reads the SEED of `random:SEED`, decimal or with `0x` in front.
    pub(super) fn parse(seed: &str) -> Result<Self, WeightsError> {
        let parsed = match seed.strip_prefix("0x") {
            Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
            Some(_) => None,
            None if seed.starts_with('+') => None,
            None => seed.parse().ok(),
        };
        parsed
            .map(Random::new)
            .ok_or_else(|| WeightsError::Seed { argument: format!("random:{seed}") })
    }
}

impl TensorSource for Random {
    fn slice(&self, tensor: &Tensor, range: Range<usize>) -> Cow<'_, [f32]> {
        let stream = fnv1a(tensor.name.as_bytes()) ^ self.seed;
        let drawn = range.map(|i| unit(stream, i as u64));
        Cow::Owned(match Scale::of(tensor) {
            Scale::Symmetric(scale) => drawn.map(|u| ((2.0 * u - 1.0) * scale) as f32).collect(),
            Scale::Positive => drawn.map(|u| (0.5 + u) as f32).collect(),
        })
    }
}

/// How a number in [0, 1) becomes an element.
enum Scale {
    /// `v * scale`, with `v` in [-1, 1).
    Symmetric(f64),
    /// `0.5 + u`.
    Positive,
}

impl Scale {
    fn of(tensor: &Tensor) -> Self {
        let rank = tensor.shape.len();
        if rank >= 2 {
            let fan_in: usize = tensor.shape[1..].iter().product();
            Scale::Symmetric((6.0 / fan_in as f64).sqrt())
        } else if tensor.name.ends_with(".running_var")
            || (rank == 1 && tensor.name.ends_with(".weight"))
        {
            Scale::Positive
        } else {
            Scale::Symmetric(0.1)
        }
    }
}

/// Element `i` of a stream, in [0, 1).
fn unit(stream: u64, i: u64) -> f64 {
    let z = stream.wrapping_add((i.wrapping_add(1)).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let z = z ^ (z >> 31);
    (z >> 40) as f64 * (1.0 / (1u64 << 24) as f64)
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str, shape: &[usize], seed: u64) -> [f32; 4] {
        let tensor = Tensor { name: name.to_owned(), shape: shape.to_vec() };
        let all = Random::new(seed).all(&tensor).into_owned();
        assert_eq!(all.len(), tensor.len());
        [all[0], all[1], all[2], all[63]]
    }

    // The numbers were computed with Python's integers, step by step from the definition.
    #[test]
    fn definition() {
        assert_eq!(
            at("conv1.weight", &[96, 3, 11, 11], 7),
            [0.068302006, -0.12052917, 0.009608624, 0.11006789]
        );
        assert_eq!(
            at("conv1.bias", &[96], 7),
            [-0.01724125, 0.047964524, 0.026064575, -0.008417082]
        );
        assert_eq!(at("bn1.weight", &[64], 0), [0.860204, 1.324409, 1.0691879, 0.98451245]);
        assert_eq!(
            at("bn1.running_var", &[64], 1 << 63),
            [1.01177, 0.5318577, 1.3814464, 1.1064198]
        );
        assert_eq!(
            at("bn1.running_mean", &[64], u64::MAX),
            [-0.059995603, 0.062639154, 0.0641738, 0.08826722]
        );
    }

    #[test]
    fn any_part_alone() {
        let tensor = Tensor { name: "fc.weight".into(), shape: vec![30, 70] };
        let random = Random::new(11);
        let all = random.all(&tensor);
        assert_eq!(*random.slice(&tensor, 1999..2100), all[1999..2100]);
        assert!(random.slice(&tensor, 5..5).is_empty());
    }

    /// He's scale: the standard deviation is sqrt(2 / fan_in).
    #[test]
    fn scale() {
        let tensor = Tensor { name: "w".into(), shape: vec![1000, 50, 2, 2] };
        let all = Random::new(1).all(&tensor).into_owned();
        let count = all.len() as f64;
        let mean = all.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let variance = all.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
        let expected = (2.0f64 / 200.0).sqrt();
        assert!((variance.sqrt() / expected - 1.0).abs() < 0.01, "{variance}");
        assert!(mean.abs() < 0.01 * expected, "{mean}");
    }

    #[test]
    fn seeds() {
        assert_eq!(Random::parse("42").unwrap(), Random::new(42));
        assert_eq!(Random::parse("0xff").unwrap(), Random::new(255));
        assert_eq!(Random::parse("18446744073709551615").unwrap(), Random::new(u64::MAX));
        for wrong in ["", "-1", "+1", "0x", "0x+1", "seven", "1.0", "18446744073709551616", " 1"] {
            assert!(Random::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
