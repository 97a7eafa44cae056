//! Shapes of values. Every activation is either a batch of maps `[N, C, H, W]` or a batch of
//! vectors `[N, F]`; nothing else exists in the nets that alexc compiles.

use std::fmt;

/// The shape of an activation, batch included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// `[n, c, h, w]`.
    Map {
        /// Images in the batch.
        n: usize,
        /// Channels.
        c: usize,
        /// Rows.
        h: usize,
        /// Columns.
        w: usize,
    },
    /// `[n, features]`.
    Vector {
        /// Images in the batch.
        n: usize,
        /// Features of one image.
        features: usize,
    },
}

impl Shape {
    /// A batch of maps.
    pub fn map(n: usize, c: usize, h: usize, w: usize) -> Self {
        Shape::Map { n, c, h, w }
    }

    /// A batch of vectors.
    pub fn vector(n: usize, features: usize) -> Self {
        Shape::Vector { n, features }
    }

    /// Images in the batch.
    pub fn n(&self) -> usize {
        match *self {
            Shape::Map { n, .. } | Shape::Vector { n, .. } => n,
        }
    }

    /// Channels of a map, features of a vector.
    pub fn c(&self) -> usize {
        match *self {
            Shape::Map { c, .. } => c,
            Shape::Vector { features, .. } => features,
        }
    }

    /// Rows of a map, 1 for a vector.
    pub fn h(&self) -> usize {
        match *self {
            Shape::Map { h, .. } => h,
            Shape::Vector { .. } => 1,
        }
    }

    /// Columns of a map, 1 for a vector.
    pub fn w(&self) -> usize {
        match *self {
            Shape::Map { w, .. } => w,
            Shape::Vector { .. } => 1,
        }
    }

    /// True for `[n, features]`.
    pub fn is_vector(&self) -> bool {
        matches!(self, Shape::Vector { .. })
    }

    /// Elements of one image.
    pub fn per_image(&self) -> usize {
        self.c() * self.h() * self.w()
    }

    /// Elements of the whole batch.
    pub fn len(&self) -> usize {
        self.n() * self.per_image()
    }

    /// True where some dimension is zero (never in a verified graph).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same shape for another batch size.
    pub fn with_batch(self, batch: usize) -> Self {
        match self {
            Shape::Map { c, h, w, .. } => Shape::Map { n: batch, c, h, w },
            Shape::Vector { features, .. } => Shape::Vector { n: batch, features },
        }
    }

    /// The dimensions as a list, outermost first: `[n, c, h, w]` or `[n, features]`.
    pub fn dims(&self) -> Vec<usize> {
        match *self {
            Shape::Map { n, c, h, w } => vec![n, c, h, w],
            Shape::Vector { n, features } => vec![n, features],
        }
    }
}

/// Prints `1x96x55x55` or `1x4096`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.dims().iter().map(usize::to_string).collect();
        f.write_str(&dims.join("x"))
    }
}
