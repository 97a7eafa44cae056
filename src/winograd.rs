//! The matrices of Winograd's minimal filtering F(m, r): m outputs of a filter with r taps from
//! m + r - 1 products, `y = A^T [(G g) . (B^T d)]` (Lavin and Gray, arXiv 1509.09308), built by the
//! Toom-Cook construction from interpolation points.
//!
//! The points decide how rounding errors grow (Barabasz et al., arXiv 1803.10986). Measured
//! against direct f32 convolution: for F(4, 3) the points 0, +-sqrt(1/2),
//! +-sqrt(2) double the error (0, +-1, +-2 make it 4.7 times as large), for F(4, 5) 0, +-1, +-2,
//! +-1/2 make it five times as large. The points for nine and ten products were searched among
//! pairs of opposite sign, for the least error over random maps.

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

    /// The first `rows` rows of the first `columns` columns.
    pub fn corner(&self, rows: usize, columns: usize) -> Matrix {
        let mut corner = Matrix::zeros(rows, columns);
        for i in 0..rows {
            for j in 0..columns {
                corner.set(i, j, self.at(i, j));
            }
        }
        corner
    }
}

/// Largest `m + r - 1` for which points are known.
pub const MOST_PRODUCTS: usize = 10;

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
    /// F(m, r), where a set of points for it is known: 3 <= m + r - 1 <= [`MOST_PRODUCTS`].
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
            9 => &[0.25, -0.25, 2.0 / 3.0, -2.0 / 3.0, 1.125, -1.125, 2.0, -2.0],
            10 => &[0.0, 0.375, -0.375, 0.875, -0.875, 1.25, -1.25, 2.5, -2.5],
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

    /// Growth of the L2 error against direct f32 convolution, as measured over random maps without
    /// negative values: of 256 channels for three taps and fewer, of 96 for more. Sizes that were
    /// not measured have the next larger one's.
    pub fn expected_error(&self) -> f64 {
        match (self.m, self.r) {
            (..=2, ..=3) => 1.7,
            (3, ..=3) => 6.1,
            (4, ..=3) => 4.8,
            (5, ..=3) => 15.0,
            (6, ..=3) => 20.0,
            (7, ..=3) => 21.0,
            (8.., ..=3) => 46.0,
            (..=2, _) => 3.2,
            (3, _) => 9.3,
            (4, _) => 12.0,
            (5, _) => 15.0,
            _ => 35.0,
        }
    }
}

/// How tiles lie along one axis of a map: some that keep all `m` outputs, then some that keep
/// fewer.
///
/// The point at infinity, which is the last one, counts for the last output of a tile alone, and
/// only it needs the tile's last input. So a tile that keeps fewer outputs does without both: what
/// is left is F(m - 1, r) by the same finite points, with the same weights. 13 outputs are a tile of
/// 7 and one of 6, by 9 + 8 products instead of 18.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cover {
    /// Points of a tile that keeps all.
    n: usize,
    /// Outputs of a tile that keeps all.
    m: usize,
    /// Tiles that keep all outputs.
    pub full: usize,
    /// Tiles behind them that keep fewer.
    pub short: usize,
    /// Outputs that each of those keeps.
    kept: usize,
}

/// Tiles of one kind along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// First tile.
    pub first: usize,
    /// Tiles.
    pub count: usize,
    /// First output of the first tile.
    pub start: usize,
    /// Outputs that each tile keeps, which is also the way from one to the next.
    pub kept: usize,
    /// Points, and inputs, of each tile.
    pub points: usize,
}

impl Cover {
    /// Tiles of F(m, r) over `size` outputs.
    pub fn new(winograd: &Winograd, size: usize) -> Cover {
        let (m, n) = (winograd.m, winograd.n());
        let tiles = size.div_ceil(m);
        let lack = tiles * m - size;
        let (short, kept) = match lack {
            0 => (0, m),
            // Each tile that lacks an output lacks one.
            _ if lack < tiles => (lack, m - 1),
            _ => (1, size % m),
        };
        Cover { n, m, full: tiles - short, short, kept }
    }

    /// Tiles in all.
    pub fn tiles(&self) -> usize {
        self.full + self.short
    }

    /// Tiles that have the finite points, or the one at infinity.
    pub fn tiles_at(&self, infinity: bool) -> usize {
        if infinity { self.full } else { self.tiles() }
    }

    /// Products along the axis.
    pub fn products(&self) -> usize {
        self.full * self.n + self.short * (self.n - 1)
    }

    /// Inputs from the first that a tile reads to the last.
    pub fn inputs(&self) -> usize {
        self.parts().last().map_or(0, |p| p.start + (p.count - 1) * p.kept + p.points)
    }

    /// The kinds of tiles that there are.
    pub fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        let Cover { n, m, full, short, kept } = *self;
        [
            Part { first: 0, count: full, start: 0, kept: m, points: n },
            Part { first: full, count: short, start: full * m, kept, points: n - 1 },
        ]
        .into_iter()
        .filter(|part| part.count > 0)
    }
}

/// As in `3*5+3*4`: three tiles of five outputs, then three of four.
impl std::fmt::Display for Cover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in self.parts() {
            let plus = if part.first > 0 { "+" } else { "" };
            write!(f, "{plus}{}*{}", part.count, part.kept)?;
        }
        Ok(())
    }
}

/// The place of point (y, x) among the `n * n` points of a tile: points that are finite on both
/// axes come first, then those with x, those with y, and the one with both at infinity.
pub fn point(n: usize, y: usize, x: usize) -> usize {
    let finite = n - 1;
    match (y < finite, x < finite) {
        (true, true) => y * finite + x,
        (true, false) => finite * finite + y,
        (false, true) => finite * finite + finite + x,
        (false, false) => n * n - 1,
    }
}

/// Points that follow one another and that equally many tiles have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PointSet {
    /// Place of the first.
    pub first: usize,
    /// Points.
    pub count: usize,
    /// Tiles of one map that have them.
    pub tiles: usize,
}

/// The sets of points of a map, in the order of [`point`].
pub fn point_sets(rows: &Cover, columns: &Cover) -> Vec<PointSet> {
    let n = rows.n;
    let mut sets: Vec<PointSet> = Vec::new();
    for (y, x) in [(0, 0), (0, n - 1), (n - 1, 0), (n - 1, n - 1)] {
        let along = |at: usize| if at == 0 { n - 1 } else { 1 };
        let tiles = rows.tiles_at(y > 0) * columns.tiles_at(x > 0);
        let (first, count) = (point(n, y, x), along(y) * along(x));
        match sets.last_mut() {
            Some(last) if last.tiles == tiles => last.count += count,
            _ => sets.push(PointSet { first, count, tiles }),
        }
    }
    sets.retain(|set| set.tiles > 0);
    sets
}

/// Coefficients, lowest first, of the product of (x - root).
///
/// Roots of opposite sign are multiplied first, as x^2 - root^2: coefficients that vanish are
/// exactly zero then, and polynomials that mirror each other have exactly equal or opposite
/// coefficients, which [`crate::lower`] relies on to share work.
fn polynomial(roots: &[f64]) -> Vec<f64> {
    let mut coefficients = vec![1.0];
    let mut times = |factor: &[f64]| {
        let mut product = vec![0.0; coefficients.len() + factor.len() - 1];
        for (i, c) in coefficients.iter().enumerate() {
            for (k, f) in factor.iter().enumerate() {
                product[i + k] += c * f;
            }
        }
        coefficients = product;
    };
    let paired = |root: f64| root != 0.0 && roots.contains(&-root);
    for &root in roots.iter().filter(|&&root| root > 0.0 && paired(root)) {
        // Squares of square roots are not exact.
        let square = root * root;
        let whole = (square * 16.0).round() / 16.0;
        times(&[-(if (square - whole).abs() < 1e-12 { whole } else { square }), 0.0, 1.0]);
    }
    for &root in roots.iter().filter(|&&root| !paired(root)) {
        times(&[-root, 1.0]);
    }
    coefficients
}

#[cfg(test)]
mod tests {
    use super::{Cover, MOST_PRODUCTS, PointSet, Winograd, point, point_sets};

    fn apply(matrix: &super::Matrix, x: &[f64]) -> Vec<f64> {
        (0..matrix.rows)
            .map(|i| (0..matrix.columns).map(|j| matrix.at(i, j) * x[j]).sum())
            .collect()
    }

    #[test]
    fn filters_as_the_definition_does() {
        for r in 2..=7 {
            for m in 1..=9 {
                let Some(w) = Winograd::new(m, r) else {
                    assert!(m + r - 1 < 3 || m + r - 1 > MOST_PRODUCTS, "F({m}, {r})");
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
    fn tiles_that_keep_fewer_do_without_infinity() {
        for r in 2..=5 {
            for m in 2..=9 {
                let Some(w) = Winograd::new(m, r) else { continue };
                for size in 1..=60 {
                    let cover = Cover::new(&w, size);
                    let d: Vec<f64> =
                        (0..cover.inputs()).map(|i| ((i * 7 + 3) % 11) as f64 - 5.0).collect();
                    let g: Vec<f64> = (0..r).map(|i| ((i * 5 + 2) % 7) as f64 - 3.0).collect();
                    let weights = apply(&w.weight, &g);
                    let mut y = Vec::new();
                    let mut products = 0;
                    for part in cover.parts() {
                        assert_eq!(
                            (part.start, part.first > 0),
                            (y.len(), part.first == cover.full && part.first > 0)
                        );
                        let n = part.points;
                        for tile in 0..part.count {
                            let from = part.start + tile * part.kept;
                            let values = apply(&w.input.corner(n, n), &d[from..from + n]);
                            let values: Vec<f64> =
                                values.iter().zip(&weights).map(|(a, b)| a * b).collect();
                            products += n;
                            y.extend(apply(&w.output.corner(part.kept, n), &values));
                        }
                    }
                    assert_eq!((y.len(), products), (size, cover.products()), "F({m}, {r})");
                    for (i, y) in y.iter().enumerate() {
                        let direct: f64 = (0..r).map(|k| g[k] * d[i + k]).sum();
                        assert!(
                            (y - direct).abs() < 1e-8,
                            "F({m}, {r}) of {size}, {i}: {y} {direct}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn alexnets_maps_are_covered_without_waste() {
        let cover = |m, r, size| Cover::new(&Winograd::new(m, r).unwrap(), size);
        // 7 + 6, and 5 + 5 + 5 + 4 + 4 + 4.
        let (small, large) = (cover(7, 3, 13), cover(5, 5, 27));
        assert_eq!((small.full, small.short, small.products(), small.inputs()), (1, 1, 17, 15));
        assert_eq!((large.full, large.short, large.products(), large.inputs()), (3, 3, 51, 31));
        assert_eq!((small.to_string(), large.to_string()), ("1*7+1*6".into(), "3*5+3*4".into()));
        let set = |first, count, tiles| PointSet { first, count, tiles };
        assert_eq!(point_sets(&small, &small), [set(0, 64, 4), set(64, 16, 2), set(80, 1, 1)]);
        let exact = cover(7, 3, 14);
        assert_eq!(point_sets(&exact, &exact), [set(0, 81, 4)]);
        // A map smaller than a tile needs no point at infinity.
        assert_eq!(point_sets(&cover(7, 3, 5), &exact), [set(0, 72, 2)]);
        let mut places: Vec<usize> = (0..81).map(|i| point(9, i / 9, i % 9)).collect();
        places.sort_unstable();
        assert!(places.into_iter().eq(0..81));
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
