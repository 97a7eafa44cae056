//! The matrices of Winograd's minimal filtering F(m, r): m outputs of a filter with r taps from
//! m + r - 1 products, `y = A^T [(G g) . (B^T d)]` (Lavin and Gray, arXiv 1509.09308), built by the
//! Toom-Cook construction from interpolation points.
//!
//! The points decide how rounding errors grow (Barabasz et al., arXiv 1803.10986). Measured
//! against direct f32 convolution: for F(4, 3) the points 0, +-sqrt(1/2),
//! +-sqrt(2) double the error (0, +-1, +-2 make it 4.7 times as large), for F(4, 5) 0, +-1, +-2,
//! +-1/2 make it five times as large.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

/// A dense matrix, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    values: Vec<f64>,
}

impl Matrix {
    fn zeros(rows: usize, columns: usize) -> Self {
        Matrix { rows, columns, values: vec![0.0; rows * columns] }
    }

    /// The entry at row `i`, column `j`.
    pub fn at(&self, i: usize, j: usize) -> f64 {
        self.values[i * self.columns + j]
    }

    fn set(&mut self, i: usize, j: usize, value: f64) {
        self.values[i * self.columns + j] = value;
    }
}

/// The transforms of F(m, r) on one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Winograd {
    /// Outputs.
    pub m: usize,
    /// Taps.
    pub r: usize,
    /// B^T, `n x n`: inputs to the points.
    pub input: Matrix,
    /// G, `n x r`: taps to the points.
    pub weight: Matrix,
    /// A^T, `m x n`: products to outputs.
    pub output: Matrix,
}

impl Winograd {
    /// F(m, r), where a set of points for it is known: 3 <= m + r - 1 <= 8.
    pub fn new(m: usize, r: usize) -> Option<Winograd> {
        if m < 1 || r < 2 {
            return None;
        }
        let points: &[f64] = match m + r - 1 {
            3 => &[0.0, 1.0],
            4 => &[0.0, 1.0, -1.0],
            5 => &[0.0, 1.0, -1.0, 0.5],
            6 => &[0.0, FRAC_1_SQRT_2, -FRAC_1_SQRT_2, SQRT_2, -SQRT_2],
            7 => &[0.0, 1.0, -1.0, 0.5, -0.5, 2.0],
            8 => &[0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5],
            _ => return None,
        };
        Some(Self::from_points(m, r, points))
    }

    /// Finite points; infinity is the last one.
    fn from_points(m: usize, r: usize, points: &[f64]) -> Winograd {
        let n = points.len() + 1;
        let mut input = Matrix::zeros(n, n);
        let mut weight = Matrix::zeros(n, r);
        let mut output = Matrix::zeros(m, n);
        for (j, &point) in points.iter().enumerate() {
            let others: Vec<f64> =
                points.iter().enumerate().filter(|&(k, _)| k != j).map(|(_, &p)| p).collect();
            for (i, &coefficient) in polynomial(&others).iter().enumerate() {
                input.set(j, i, coefficient);
            }
            let denominator: f64 = others.iter().map(|other| point - other).product();
            for k in 0..r {
                weight.set(j, k, point.powi(k as i32) / denominator);
            }
            for i in 0..m {
                output.set(i, j, point.powi(i as i32));
            }
        }
        for (i, &coefficient) in polynomial(points).iter().enumerate() {
            input.set(n - 1, i, coefficient);
        }
        weight.set(n - 1, r - 1, 1.0);
        output.set(m - 1, n - 1, 1.0);
        Winograd { m, r, input, weight, output }
    }

    /// Products: `m + r - 1`.
    pub fn n(&self) -> usize {
        self.m + self.r - 1
    }

    /// Growth of the L2 error against direct f32 convolution, roughly: the figures come from
    /// measurements over random maps, which for seven products used other points (F(5, 3): +-2 in
    /// place of -1/2); sizes that were not measured have the next larger one's.
    pub fn expected_error(&self) -> f64 {
        match (self.m, self.r) {
            (..=2, ..=3) => 0.7,
            (3, ..=3) => 2.5,
            (4, ..=3) => 2.1,
            (5, ..=3) => 6.5,
            (6, ..=3) => 8.3,
            (..=2, _) => 1.4,
            (3, _) => 4.4,
            _ => 5.0,
        }
    }
}

/// Coefficients, lowest first, of the product of (x - root). Products of roots of opposite sign
/// come out exact enough to be cleaned: a coefficient that should vanish does.
fn polynomial(roots: &[f64]) -> Vec<f64> {
    let mut coefficients = vec![1.0];
    for &root in roots {
        coefficients.insert(0, 0.0);
        for i in 0..coefficients.len() - 1 {
            coefficients[i] -= root * coefficients[i + 1];
        }
    }
    // Points are multiples of 1/2 or square roots of them: entries are multiples of 1/16 or of
    // sqrt(2)/16, where rounding left something else.
    for value in &mut coefficients {
        for unit in [1.0 / 16.0, SQRT_2 / 16.0] {
            let whole = (*value / unit).round();
            if (*value / unit - whole).abs() < 1e-12 {
                *value = whole * unit;
                break;
            }
        }
    }
    coefficients
}

#[cfg(test)]
mod tests {
    use super::Winograd;

    fn apply(matrix: &super::Matrix, x: &[f64]) -> Vec<f64> {
        (0..matrix.rows)
            .map(|i| (0..matrix.columns).map(|j| matrix.at(i, j) * x[j]).sum())
            .collect()
    }

    #[test]
    fn filters_as_the_definition_does() {
        for r in 2..=7 {
            for m in 1..=7 {
                let Some(w) = Winograd::new(m, r) else {
                    assert!(m + r - 1 < 3 || m + r - 1 > 8, "F({m}, {r})");
                    continue;
                };
                let d: Vec<f64> = (0..w.n()).map(|i| ((i * 7 + 3) % 11) as f64 - 5.0).collect();
                let g: Vec<f64> = (0..r).map(|i| ((i * 5 + 2) % 7) as f64 - 3.0).collect();
                let products: Vec<f64> = apply(&w.weight, &g)
                    .iter()
                    .zip(apply(&w.input, &d))
                    .map(|(a, b)| a * b)
                    .collect();
                for (i, y) in apply(&w.output, &products).iter().enumerate() {
                    let direct: f64 = (0..r).map(|k| g[k] * d[i + k]).sum();
                    assert!((y - direct).abs() < 1e-9, "F({m}, {r}) output {i}: {y} {direct}");
                }
            }
        }
    }

    #[test]
    fn f23_is_the_published_one() {
        // Lavin and Gray, equation (6), up to the signs of rows that cancel between B^T and G.
        let w = Winograd::new(2, 3).unwrap();
        let row = |i: usize| (0..4).map(|j| w.input.at(i, j)).collect::<Vec<_>>();
        assert_eq!(row(0), [-1.0, 0.0, 1.0, 0.0]);
        assert_eq!(row(1), [0.0, 1.0, 1.0, 0.0]);
        assert_eq!(row(2), [0.0, -1.0, 1.0, 0.0]);
        assert_eq!(row(3), [0.0, -1.0, 0.0, 1.0]);
        assert_eq!((0..3).map(|k| w.weight.at(1, k)).collect::<Vec<_>>(), [0.5, 0.5, 0.5]);
    }
}
