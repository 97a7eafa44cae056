//! How a picture becomes the input of a net; part of a module, since a net answers nonsense to
//! pictures prepared in another way.

use std::fmt;

/// How a picture becomes the input of a net.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    /// Scaling, done first.
    pub resize: Option<Resize>,
    /// Height and width of the part that is cut out of the middle. Where the picture is smaller,
    /// black is added around it.
    pub crop: Option<[usize; 2]>,
    /// The channels of the input.
    pub color: Color,
    /// Subtracted from each channel of the input (of values from 0 to 1); one number may stand
    /// for all channels.
    pub mean: Vec<f64>,
    /// Divides each channel afterwards.
    pub std: Vec<f64>,
}

/// The size that a picture is scaled to, bilinear and with antialiasing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// The shorter side gets this length, the other keeps the proportion (rounded down).
    Shorter(usize),
    /// Height and width, whatever the proportion was.
    Exact([usize; 2]),
}

/// Channels of the input, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Color {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red: nets trained with OpenCV or Caffe.
    Bgr,
    /// Luminance, 0.299 R + 0.587 G + 0.114 B.
    Gray,
}

impl Color {
    /// Number of channels.
    pub fn channels(self) -> usize {
        match self {
            Color::Rgb | Color::Bgr => 3,
            Color::Gray => 1,
        }
    }
}

/// As the spec writes it.
impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Color::Rgb => "rgb",
            Color::Bgr => "bgr",
            Color::Gray => "gray",
        })
    }
}
