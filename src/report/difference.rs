//! How far one tensor is from another.

use ndarray::{ArrayBase, Data, IxDyn};

/// An element.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Its index: n, c, h, w or n, feature.
    pub index: Vec<usize>,
    /// What was found there.
    pub found: f64,
    /// What should be there.
    pub expected: f64,
}

/// How far a tensor is from what it should be. Equal infinities and two NaN agree; where only one
/// side is infinite or NaN, the error is infinite.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Elements compared.
    pub elements: usize,
    /// Largest |found - expected|.
    pub max_abs: f64,
    /// The first element that has it; nothing where no element differs.
    pub max_abs_at: Option<Place>,
    /// Largest |found - expected| / max(|expected|, root mean square of all expected): relative
    /// errors of elements near zero are held against the tensor's own scale.
    pub max_rel: f64,
    /// The first element that has it; nothing where no element differs.
    pub max_rel_at: Option<Place>,
    /// Root of the sum of (found - expected)^2 over that of expected^2.
    pub rel_l2: f64,
    /// Elements of which only one side is finite, or that are different infinities.
    pub not_finite: usize,
}

/// Compares two tensors of one shape, elements in the order of the shape.
///
/// # Errors
/// Both shapes, where they differ.
pub fn difference<F, E, SF, SE>(
    found: &ArrayBase<SF, IxDyn>,
    expected: &ArrayBase<SE, IxDyn>,
) -> Result<Difference, (Vec<usize>, Vec<usize>)>
where
    F: Into<f64> + Copy,
    E: Into<f64> + Copy,
    SF: Data<Elem = F>,
    SE: Data<Elem = E>,
{
    if found.shape() != expected.shape() {
        return Err((found.shape().to_vec(), expected.shape().to_vec()));
    }
    let finite = || expected.iter().map(|&x| x.into()).filter(|x: &f64| x.is_finite());
    let squares: f64 = finite().map(|x| x * x).sum();
    let scale = (squares / finite().count().max(1) as f64).sqrt();

    let mut wrong_squares = 0.0;
    let mut not_finite = 0;
    let (mut abs, mut rel) = (Peak::default(), Peak::default());
    for (position, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let (found, expected): (f64, f64) = (found.into(), expected.into());
        if found == expected || (found.is_nan() && expected.is_nan()) {
            continue;
        }
        let mut error = (found - expected).abs();
        let mut relative = error / expected.abs().max(scale);
        if !error.is_finite() {
            not_finite += 1;
            (error, relative) = (f64::INFINITY, f64::INFINITY);
        }
        wrong_squares += error * error;
        abs.see(error, position, found, expected);
        rel.see(relative, position, found, expected);
    }
    let shape = found.shape();
    let place = |peak: &Peak| {
        peak.at.map(|(position, found, expected)| Place {
            index: index_of(position, shape),
            found,
            expected,
        })
    };
    Ok(Difference {
        elements: found.len(),
        max_abs: abs.error,
        max_abs_at: place(&abs),
        max_rel: rel.error,
        max_rel_at: place(&rel),
        rel_l2: if wrong_squares == 0.0 { 0.0 } else { (wrong_squares / squares).sqrt() },
        not_finite,
    })
}

/// The largest error so far.
#[derive(Default)]
struct Peak {
    error: f64,
    /// Position, found, expected.
    at: Option<(usize, f64, f64)>,
}

impl Peak {
    fn see(&mut self, error: f64, position: usize, found: f64, expected: f64) {
        if error > self.error {
            *self = Peak { error, at: Some((position, found, expected)) };
        }
    }
}

/// Index of an element from its position in the order of the shape.
fn index_of(mut position: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (index, &size) in index.iter_mut().zip(shape).rev() {
        *index = position % size;
        position /= size;
    }
    index
}

/// How much difference is rounding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Largest [`Difference::rel_l2`].
    pub rel_l2: f64,
    /// Largest [`Difference::max_rel`].
    pub max_rel: f64,
}

impl Tolerance {
    /// By the error of whole tensors; single elements may be a hundred times worse, as rounding
    /// leaves some of them in any large tensor.
    pub fn new(rel_l2: f64) -> Self {
        Tolerance { rel_l2, max_rel: 100.0 * rel_l2 }
    }

    /// True where the difference is rounding.
    pub fn allows(&self, difference: &Difference) -> bool {
        difference.not_finite == 0
            && difference.rel_l2 <= self.rel_l2
            && difference.max_rel <= self.max_rel
    }
}

/// f32 arithmetic over a few dozen layers against f64 stays below 1e-5; a mistake in a single
/// element does not.
impl Default for Tolerance {
    fn default() -> Self {
        Tolerance::new(1e-5)
    }
}

#[cfg(test)]
mod tests {
    use super::{Tolerance, difference};
    use ndarray::{ArrayD, IxDyn};

    fn array<T: Clone>(shape: &[usize], values: &[T]) -> ArrayD<T> {
        ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap()
    }

    #[test]
    fn errors_and_their_places() {
        let shape = [1, 2, 1, 3];
        let expected = array(&shape, &[3.0, 0.0, 4.0, 0.0, 0.0, 0.0]);
        let found = array(&shape, &[3.0f32, 0.0, 4.5, 0.0, 0.25, 0.0]);
        let found = difference(&found, &expected).unwrap();
        assert_eq!((found.elements, found.not_finite), (6, 0));
        assert_eq!(found.max_abs, 0.5);
        let at = found.max_abs_at.unwrap();
        assert_eq!((at.index, at.found, at.expected), (vec![0, 0, 0, 2], 4.5, 4.0));
        // Root mean square: sqrt(25 / 6) = 2.04; 0.25 / 2.04 = 0.1225 < 0.5 / 4 = 0.125.
        assert_eq!(found.max_rel, 0.125);
        // sqrt(0.25 + 0.0625) / 5
        assert!((found.rel_l2 - 0.3125f64.sqrt() / 5.0).abs() < 1e-15);
        let larger = array(&shape, &[3.0f32, 0.0, 4.5, 0.0, 0.26, 0.0]);
        let found = difference(&larger, &expected).unwrap();
        assert_eq!(found.max_rel_at.unwrap().index, [0, 1, 0, 1]);
    }

    #[test]
    fn what_is_not_finite() {
        let inf = f64::INFINITY;
        let expected = array(&[1, 4], &[f64::NAN, inf, 1.0, 2.0]);
        let same = array(&[1, 4], &[f32::NAN, f32::INFINITY, 1.0, 2.0]);
        let found = difference(&same, &expected).unwrap();
        assert_eq!((found.max_abs, found.rel_l2, found.not_finite), (0.0, 0.0, 0));
        assert_eq!(found.max_abs_at, None);
        for wrong in [
            [0.0, f32::INFINITY, 1.0, 2.0],
            [f32::NAN, f32::NEG_INFINITY, 1.0, 2.0],
            [f32::NAN, f32::INFINITY, f32::NAN, 2.0],
            [f32::NAN, f32::INFINITY, f32::INFINITY, 2.0],
        ] {
            let found = difference(&array(&[1, 4], &wrong), &expected).unwrap();
            assert_eq!((found.max_abs, found.max_rel, found.not_finite), (inf, inf, 1));
            assert!(!Tolerance::new(inf).allows(&found));
        }
    }

    #[test]
    fn zeros_agree_only_with_zeros() {
        let zeros = array(&[1, 2], &[0.0, 0.0]);
        let found = difference(&zeros, &zeros).unwrap();
        assert!(Tolerance::new(0.0).allows(&found));
        let found = difference(&array(&[1, 2], &[0.0f32, 1e-30]), &zeros).unwrap();
        assert!(!Tolerance::new(1.0).allows(&found), "{found:?}");
    }

    #[test]
    fn one_wrong_element_of_many_is_seen() {
        let mut found: Vec<f32> = (0..290_400).map(|i| (i % 7) as f32).collect();
        let expected: Vec<f64> = found.iter().map(|&x| f64::from(x)).collect();
        let shape = [1, 96, 55, 55];
        found[3 * 55 * 55 + 2 * 55 + 1] += 0.05;
        let found = difference(&array(&shape, &found), &array(&shape, &expected)).unwrap();
        assert!(!Tolerance::default().allows(&found), "{found:?}");
        assert_eq!(found.max_abs_at.unwrap().index, [0, 3, 2, 1]);
    }

    #[test]
    fn shapes_are_no_matter_of_tolerance() {
        let (a, b) = (array(&[1, 2], &[0f32; 2]), array(&[2, 1], &[0f64; 2]));
        assert_eq!(difference(&a, &b), Err((vec![1, 2], vec![2, 1])));
    }
}
