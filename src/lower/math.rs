//! Functions spelled out in multiplications, additions, square roots and powers of two, so that
//! every emitter computes them alike.

use super::Vectors;
use crate::graph::{Activation, Lrn};
use alexc_codegen::builder::Builder;
use alexc_codegen::ir::{Binary, Reg, Unary};

/// Applies an activation function.
pub(super) fn activation(b: &mut Builder, activation: Activation, x: Reg) -> Reg {
    match activation {
        Activation::Relu => relu(b, x),
        Activation::Sigmoid => sigmoid(b, x),
        Activation::Tanh => tanh(b, x),
    }
}

fn constant_like(b: &mut Builder, x: Reg, value: f32) -> Reg {
    let lanes = b.lanes(x);
    b.constant(lanes, value)
}

/// max(0, x); NaN stays NaN, as PyTorch has it.
fn relu(b: &mut Builder, x: Reg) -> Reg {
    let zero = constant_like(b, x, 0.0);
    b.binary(Binary::Max, zero, x)
}

/// n and p with e^x = 2^n (1 + p), x clamped to where f32 has a normal result.
///
/// Range reduction by Cody and Waite (x - n ln 2 in two parts, |r| <= ln 2 / 2), then the Taylor
/// polynomial of e^r - 1 to r^7, whose truncation error (0.3466^8 / 8!) is below half an ulp.
fn exp_parts(b: &mut Builder, x: Reg) -> (Reg, Reg) {
    let low = constant_like(b, x, -87.0);
    let high = constant_like(b, x, 88.0);
    // The order of the arguments lets NaN pass.
    let x = b.binary(Binary::Max, low, x);
    let x = b.binary(Binary::Min, high, x);
    let log2e = constant_like(b, x, std::f32::consts::LOG2_E);
    let scaled = b.binary(Binary::Mul, x, log2e);
    let n = b.unary(Unary::Round, scaled);
    // ln 2 = 0.693359375 - 2.12194440e-4, the first with few enough bits that n times it is exact.
    let ln2_high = constant_like(b, x, -0.693_359_4);
    let ln2_low = constant_like(b, x, 2.121_944_4e-4);
    let r = b.fma(n, ln2_high, x);
    let r = b.fma(n, ln2_low, r);
    let mut p = constant_like(b, x, 1.0 / 5040.0);
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0] {
        let c = constant_like(b, x, coefficient);
        p = b.fma(p, r, c);
    }
    let p = b.binary(Binary::Mul, p, r);
    (b.unary(Unary::Pow2, n), p)
}

/// e^x.
pub(super) fn exp(b: &mut Builder, x: Reg) -> Reg {
    let (scale, p) = exp_parts(b, x);
    b.fma(p, scale, scale)
}

/// 1 / (1 + e^-x).
fn sigmoid(b: &mut Builder, x: Reg) -> Reg {
    let minus = b.unary(Unary::Neg, x);
    let e = exp(b, minus);
    let one = constant_like(b, x, 1.0);
    let denominator = b.binary(Binary::Add, one, e);
    b.binary(Binary::Div, one, denominator)
}

/// m / (m + 2) with m = e^2x - 1, which keeps full relative precision near zero.
/// |x| is limited to 10, where tanh is 1 in f32.
fn tanh(b: &mut Builder, x: Reg) -> Reg {
    let low = constant_like(b, x, -10.0);
    let high = constant_like(b, x, 10.0);
    let x = b.binary(Binary::Max, low, x);
    let x = b.binary(Binary::Min, high, x);
    let twice = b.binary(Binary::Add, x, x);
    let (scale, p) = exp_parts(b, twice);
    let one = constant_like(b, x, 1.0);
    let two = constant_like(b, x, 2.0);
    let rest = b.binary(Binary::Sub, scale, one);
    let m = b.fma(p, scale, rest);
    let denominator = b.binary(Binary::Add, m, two);
    b.binary(Binary::Div, m, denominator)
}

/// x^exponent for x > 0 and exponent >= 0: x^2.75 = x^2 * sqrt(x) * sqrt(sqrt(x)). Fractions that
/// are no sum of few halves take up to 24 roots.
fn power(b: &mut Builder, x: Reg, exponent: f64) -> Reg {
    let mut product: Option<Reg> = None;
    let multiply = |b: &mut Builder, product: Option<Reg>, factor: Reg| match product {
        Some(p) => Some(b.binary(Binary::Mul, p, factor)),
        None => Some(factor),
    };
    let mut whole = exponent.floor() as u64;
    let mut square = x;
    while whole > 0 {
        if whole % 2 == 1 {
            product = multiply(b, product, square);
        }
        whole /= 2;
        if whole > 0 {
            square = b.binary(Binary::Mul, square, square);
        }
    }
    let mut fraction = exponent - exponent.floor();
    let mut root = x;
    for _ in 0..24 {
        if fraction == 0.0 {
            break;
        }
        root = b.unary(Unary::Sqrt, root);
        fraction *= 2.0;
        if fraction >= 1.0 {
            fraction -= 1.0;
            product = multiply(b, product, root);
        }
    }
    product.unwrap_or_else(|| constant_like(b, x, 1.0))
}

/// Least argument for [`Root`]: the guess needs a normal number.
const ROOT_LEAST: f64 = 1e-6;

/// 5/4 of the bits of 1.0, less what makes the guess's largest error least: see
/// [`Binary::SubQuarter`].
const ROOT_GUESS: u32 = 0x4f58_4000;

/// (1 + t)^(-3/4) for -0.1211 <= t <= 0.1276 with a relative error of 6e-8 at most (Remez's
/// polynomial), highest power first.
const ROOT_POLYNOMIAL: [f32; 6] =
    [-0.538_222_1, 0.575_922_9, -0.601_632_65, 0.656_181, -0.749_999_7, 1.0];

/// x^(-3/4) for x >= [`ROOT_LEAST`], relative error at most 4e-7: z, a guess of x^(-1/4) within
/// 3.2%, gives z^3, and what it lacks is a function of t = x z^4 - 1. Ten multiplications and the same
/// bits on every CPU; a CPU's own estimates of roots differ, and cost as much on some.
struct Root {
    guess: Reg,
    minus_one: Reg,
    /// Where they have registers of their own all the time: the coefficients.
    polynomial: Option<[Reg; 6]>,
}

impl Root {
    fn new(b: &mut Builder, vectors: Vectors) -> Self {
        let lanes = vectors.lanes;
        let constants = |b: &mut Builder| ROOT_POLYNOMIAL.map(|c| b.constant(lanes, c));
        Root {
            guess: b.constant(lanes, f32::from_bits(ROOT_GUESS)),
            minus_one: b.constant(lanes, -1.0),
            polynomial: (vectors.registers >= 32).then(|| constants(b)),
        }
    }

    /// `value * x^(-3/4)` for each (value, x). Step by step for all together: one after the other,
    /// what waits for the results of the first would fill the processor's queues.
    fn scale<const N: usize>(&self, b: &mut Builder, pairs: [(Reg, Reg); N]) -> [Reg; N] {
        let cells = pairs.map(|(value, x)| {
            let z = b.binary(Binary::SubQuarter, self.guess, x);
            (value, x, z, b.binary(Binary::Mul, z, z))
        });
        let cells = cells.map(|(value, x, z, square)| {
            (value, x, z, square, b.binary(Binary::Mul, square, square))
        });
        let cells = cells.map(|(value, x, z, square, fourth)| {
            (value, z, square, b.fma(x, fourth, self.minus_one))
        });
        let coefficient = |b: &mut Builder, index: usize| match &self.polynomial {
            Some(held) => held[index],
            None => constant_like(b, self.guess, ROOT_POLYNOMIAL[index]),
        };
        let first = coefficient(b, 0);
        let mut cells = cells.map(|(value, z, square, t)| (value, z, square, t, first));
        for index in 1..ROOT_POLYNOMIAL.len() {
            let next = coefficient(b, index);
            cells = cells.map(|(value, z, square, t, p)| (value, z, square, t, b.fma(p, t, next)));
        }
        cells.map(|(value, z, square, _, p)| {
            let scaled = b.binary(Binary::Mul, z, value);
            let scaled = b.binary(Binary::Mul, square, scaled);
            b.binary(Binary::Mul, scaled, p)
        })
    }
}

/// `value / (k + scale * sum)^beta` of a response normalisation. Its constants lie in registers
/// from where it was made, as far as the machine has many.
pub(super) struct Normaliser {
    scale: Reg,
    k: Reg,
    beta: f64,
    root: Option<Root>,
}

impl Normaliser {
    pub(super) fn new(b: &mut Builder, lrn: &Lrn, vectors: Vectors) -> Self {
        let lanes = vectors.lanes;
        let scale = b.constant(lanes, lrn.scale() as f32);
        let k = b.constant(lanes, lrn.k as f32);
        let by_root = lrn.beta == 0.75 && lrn.k >= ROOT_LEAST;
        Normaliser { scale, k, beta: lrn.beta, root: by_root.then(|| Root::new(b, vectors)) }
    }

    /// The values of some channels, given (value, sum of the squares around it) of each.
    pub(super) fn apply<const N: usize>(
        &self,
        b: &mut Builder,
        cells: [(Reg, Reg); N],
    ) -> [Reg; N] {
        let pairs = cells.map(|(value, sum)| (value, b.fma(sum, self.scale, self.k)));
        match &self.root {
            Some(root) => root.scale(b, pairs),
            None => pairs.map(|(value, base)| {
                let divisor = power(b, base, self.beta);
                b.binary(Binary::Div, value, divisor)
            }),
        }
    }
}
