//! Functions spelled out in multiplications, additions, square roots and powers of two, so that
//! every emitter computes them alike.

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

/// Least argument for [`power_minus_three_quarters`]: the iteration needs a normal number.
const ROOT_LEAST: f64 = 1e-6;

/// x^(-3/4) for x >= [`ROOT_LEAST`], relative error at most 5.3e-7: the cube of x^(-1/4), which
/// three steps of Newton's iteration z' = z (5/4 - x/4 z^4) find from a guess within 3.2%. Half
/// the time of two square roots and a division, and the same bits on every CPU.
fn power_minus_three_quarters(b: &mut Builder, x: Reg) -> Reg {
    let minus_quarter = constant_like(b, x, -0.25);
    let five_quarters = constant_like(b, x, 1.25);
    let scaled = b.binary(Binary::Mul, x, minus_quarter);
    let mut z = b.unary(Unary::RootGuess, x);
    for _ in 0..3 {
        let square = b.binary(Binary::Mul, z, z);
        let fourth = b.binary(Binary::Mul, square, square);
        let factor = b.fma(scaled, fourth, five_quarters);
        z = b.binary(Binary::Mul, z, factor);
    }
    let square = b.binary(Binary::Mul, z, z);
    b.binary(Binary::Mul, square, z)
}

/// `value / base^beta` of a response normalisation.
pub(super) fn normalised(b: &mut Builder, value: Reg, base: Reg, lrn: &Lrn) -> Reg {
    if lrn.beta == 0.75 && lrn.k >= ROOT_LEAST {
        let factor = power_minus_three_quarters(b, base);
        b.binary(Binary::Mul, value, factor)
    } else {
        let divisor = power(b, base, lrn.beta);
        b.binary(Binary::Div, value, divisor)
    }
}
