//! What a net's outputs say of classes: the most likely ones, and how many of many images are named
//! rightly.

use serde_json::{Value as Json, json};
use std::fmt;

/// The classes with the largest values, largest first; among equals the first, NaN last.
pub fn top(values: &[f32], count: usize) -> Vec<usize> {
    let key = |class: usize| match values[class] {
        value if value.is_nan() => f32::NEG_INFINITY,
        value => value,
    };
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
    order.truncate(count);
    order
}

/// The class that an image's outputs name; none where one of them is no number.
pub fn answer(values: &[f32]) -> Option<usize> {
    if values.iter().any(|value| value.is_nan()) {
        return None;
    }
    top(values, 1).first().copied()
}

/// How many of many images are named rightly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accuracy {
    /// How many there are, at least one.
    pub images: usize,
    /// Those whose class is the net's first answer.
    pub right: usize,
    /// The same net in f32, where this one is narrower.
    pub in_f32: Option<Baseline>,
}

/// What a net in f32 says of the same images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Baseline {
    /// Those that it names rightly.
    pub right: usize,
    /// Those that both name alike, rightly or not.
    pub alike: usize,
}

impl Accuracy {
    /// Counts `answers`, of as many images as there are classes in `expected`; `in_f32`: those of
    /// the same net in f32.
    pub fn of(
        expected: &[usize],
        answers: &[Option<usize>],
        in_f32: Option<&[Option<usize>]>,
    ) -> Self {
        let right = |answers: &[Option<usize>]| {
            expected.iter().zip(answers).filter(|&(&class, &answer)| answer == Some(class)).count()
        };
        let baseline = |other: &[Option<usize>]| Baseline {
            right: right(other),
            alike: answers.iter().zip(other).filter(|(a, b)| a.is_some() && a == b).count(),
        };
        Accuracy { images: expected.len(), right: right(answers), in_f32: in_f32.map(baseline) }
    }

    /// The accuracy with stable keys.
    pub fn json(&self) -> Json {
        let in_f32 =
            self.in_f32.map(|Baseline { right, alike }| json!({ "right": right, "alike": alike }));
        json!({ "images": self.images, "right": self.right, "f32": in_f32 })
    }
}

/// One line.
impl fmt::Display for Accuracy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Accuracy { images, right, in_f32 } = self;
        let percent = |right: usize| 100.0 * right as f64 / images as f64;
        write!(f, "{right} of {images} images named rightly ({:.2} %)", percent(right))?;
        if let Some(Baseline { right, alike }) = in_f32 {
            let percent = percent(right);
            write!(f, "; in f32 {right} ({percent:.2} %), {alike} named alike by both")?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first() {
        let values = [0.5, f32::NAN, 2.0, 2.0, -1.0];
        assert_eq!(top(&values, 2), [2, 3]);
        assert_eq!(top(&values, 9), [2, 3, 0, 4, 1]);
        assert_eq!(answer(&values), None);
        assert_eq!(answer(&values[2..]), Some(0));
    }

    #[test]
    fn answers_are_counted() {
        let expected = [3, 1, 4, 1, 5];
        let answers = [Some(3), None, Some(4), Some(2), Some(0)];
        let f32 = [Some(3), None, Some(0), Some(2), Some(5)];
        let accuracy = Accuracy::of(&expected, &answers, Some(&f32));
        let in_f32 = Some(Baseline { right: 2, alike: 2 });
        assert_eq!(accuracy, Accuracy { images: 5, right: 2, in_f32 });
        assert_eq!(
            accuracy.to_string(),
            "2 of 5 images named rightly (40.00 %); in f32 2 (40.00 %), 2 named alike by both\n"
        );
        let alone = Accuracy::of(&expected, &answers, None);
        assert_eq!(alone.to_string(), "2 of 5 images named rightly (40.00 %)\n");
        assert_eq!(alone.json(), json!({ "images": 5, "right": 2, "f32": null }));
    }
}
