//! Bilinear scaling with antialiasing in the fixed-point arithmetic of Pillow: the filter is as
//! wide as the scale when a picture shrinks, weights have 22 fractional bits, and each of the two
//! passes (columns first) rounds to 8 bits. Only the part that is kept is computed.
//!
//! Pillow 13 and later begin with the rows of some pictures, those taller than twice their width
//! among them; there the results differ by one level at most.

use std::ops::Range;

use super::Pixels;

/// Fractional bits of a weight: sums of 255 times a weight stay inside 32 bits.
const PRECISION_BITS: u32 = 22;

/// The part of one axis that is kept after scaling.
pub(super) struct Window {
    /// Positions of the scaled picture.
    visible: Range<usize>,
    /// Black in front of them.
    before: usize,
    /// Length of the window, black included.
    length: usize,
}

impl Window {
    /// `length` positions around the middle of `size`, rounded as torchvision's CenterCrop does.
    pub(super) fn centred(size: usize, length: usize) -> Self {
        match size.checked_sub(length) {
            Some(excess) => {
                // Python's round: halves go to the even number.
                let half = excess / 2;
                let start = if excess % 2 == 1 && half % 2 == 1 { half + 1 } else { half };
                Window { visible: start..start + length, before: 0, length }
            }
            None => Window { visible: 0..size, before: (length - size) / 2, length },
        }
    }
}

/// Scales `pixels` to `[height, width]` and returns the window of it, interleaved like the source.
pub(super) fn resample(
    pixels: &Pixels<'_>,
    [height, width]: [usize; 2],
    rows: &Window,
    columns: &Window,
) -> Vec<u8> {
    let channels = pixels.channels;
    let horizontal = Taps::new(pixels.width, width, columns.visible.clone());
    let vertical = Taps::new(pixels.height, height, rows.visible.clone());

    // Rows of the source that any output row needs, each scaled to the columns kept.
    let needed = vertical.sources();
    let row_bytes = columns.visible.len() * channels;
    let mut scaled = Vec::with_capacity(needed.len() * row_bytes);
    for row in
        pixels.bytes.chunks_exact(pixels.width * channels).take(needed.end).skip(needed.start)
    {
        for tap in &horizontal.0 {
            for channel in 0..channels {
                let samples = row[tap.first * channels + channel..].iter().step_by(channels);
                scaled.push(tap.apply(samples));
            }
        }
    }

    let mut output = vec![0; rows.length * columns.length * channels];
    for (y, tap) in vertical.0.iter().enumerate() {
        let start = ((rows.before + y) * columns.length + columns.before) * channels;
        let first_row = (tap.first - needed.start) * row_bytes;
        for (x, byte) in output[start..start + row_bytes].iter_mut().enumerate() {
            *byte = tap.apply(scaled[first_row + x..].iter().step_by(row_bytes));
        }
    }
    output
}

/// What one output position reads: consecutive input positions and their weights.
struct Tap {
    first: usize,
    weights: Vec<i32>,
}

impl Tap {
    fn apply<'a>(&self, samples: impl Iterator<Item = &'a u8>) -> u8 {
        let half = 1 << (PRECISION_BITS - 1);
        let sum = self
            .weights
            .iter()
            .zip(samples)
            .fold(half, |sum, (&weight, &sample)| sum + weight * i32::from(sample));
        (sum >> PRECISION_BITS).clamp(0, 255) as u8
    }
}

/// The taps of several output positions, in order.
struct Taps(Vec<Tap>);

impl Taps {
    /// The taps of `positions` where an axis of `from` samples is scaled to `to`.
    fn new(from: usize, to: usize, positions: Range<usize>) -> Self {
        let scale = from as f64 / to as f64;
        let filter_scale = scale.max(1.0);
        let tap = |position: usize| {
            let centre = (position as f64 + 0.5) * scale;
            // Casts truncate and saturate at zero.
            let first = (centre - filter_scale + 0.5) as usize;
            let end = ((centre + filter_scale + 0.5) as usize).min(from);
            let inverse = 1.0 / filter_scale;
            let triangle = |x: usize| (1.0 - ((x as f64 - centre + 0.5) * inverse).abs()).max(0.0);
            let mut weights: Vec<f64> = (first..end).map(triangle).collect();
            let sum: f64 = weights.iter().sum();
            if sum != 0.0 {
                weights.iter_mut().for_each(|weight| *weight /= sum);
            }
            let one = f64::from(1 << PRECISION_BITS);
            let weights = weights.iter().map(|weight| (0.5 + weight * one) as i32).collect();
            Tap { first, weights }
        };
        Taps(positions.map(tap).collect())
    }

    /// All input positions that are read.
    fn sources(&self) -> Range<usize> {
        let start = self.0.first().map_or(0, |tap| tap.first);
        let end = self.0.last().map_or(start, |tap| tap.first + tap.weights.len());
        start..end
    }
}
