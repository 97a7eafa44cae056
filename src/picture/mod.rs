//! A picture becomes the input of a net, as the spec's `preprocess` says: the way that torchvision
//! takes with Pillow (Resize, CenterCrop, ToTensor, Normalize), to the last bit for PNG. JPEG
//! decoders may differ from one another by a level or two.

mod decode;
mod resample;
#[cfg(test)]
mod tests;

use crate::shape::Shape;
use decode::Pixels;
use resample::Window;
use std::fmt;
use std::path::{Path, PathBuf};

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

/// A picture that cannot become the input.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct PictureError {
    /// The picture.
    pub path: PathBuf,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a picture, or with what the spec makes of it.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The file is no PNG and no JPEG.
    #[error("{0}; pictures are read from PNG and JPEG")]
    Format(String),
    /// The file is damaged or uses a rare feature of its format.
    #[error("the picture cannot be decoded: {0}")]
    Decode(String),
    /// More pixels than any sensible picture has.
    #[error(
        "the picture says it has {width} x {height} pixels; more than {} are refused",
        decode::MAX_PIXELS
    )]
    TooLarge {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// The spec does not say how a picture becomes the input.
    #[error(
        "the spec has no `preprocess`, which says how a picture becomes the input; add it, or give \
         the input as .npy"
    )]
    NoPreprocess,
    /// The spec's `preprocess` and its input do not belong together.
    #[error("the spec's `preprocess` does not make the net's input of {expected}: {problem}")]
    Preprocess {
        /// The net's input.
        expected: Shape,
        /// What differs.
        problem: String,
    },
}

/// True where the name ends as the names of pictures do.
pub fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    ["png", "jpg", "jpeg"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Reads a picture as one image of the net's input: `[C, H, W]`, whatever the batch of `input` is.
pub fn load(
    path: &Path,
    preprocess: Option<&Preprocess>,
    input: &Shape,
) -> Result<Vec<f32>, PictureError> {
    let read = || {
        let preprocess = preprocess.ok_or(Fault::NoPreprocess)?;
        preprocess.check(input)?;
        let pixels = decode::decode(&std::fs::read(path)?, preprocess.color)?;
        preprocess.apply(&pixels, input)
    };
    read().map_err(|fault| PictureError { path: path.to_owned(), fault })
}

impl Preprocess {
    /// Finds what can be wrong with any picture.
    fn check(&self, input: &Shape) -> Result<(), Fault> {
        let wrong = |problem| Err(Fault::Preprocess { expected: *input, problem });
        let channels = self.color.channels();
        if input.is_vector() || input.c() != channels {
            return wrong(format!(
                "`color: {}` gives {channels} channel{}",
                self.color,
                if channels == 1 { "" } else { "s" }
            ));
        }
        for (key, list) in [("mean", &self.mean), ("std", &self.std)] {
            if list.len() != 1 && list.len() != channels {
                return wrong(format!(
                    "`{key}` has {} numbers for {channels} channels",
                    list.len()
                ));
            }
        }
        let size = match self.resize {
            None => [1, 1],
            Some(Resize::Shorter(side)) => [side, side],
            Some(Resize::Exact(size)) => size,
        };
        if size.contains(&0) {
            return wrong("`resize` must not be 0".to_owned());
        }
        if self.std.iter().any(|&std| std as f32 == 0.0) {
            return wrong("`std` must not be 0".to_owned());
        }
        Ok(())
    }

    fn apply(&self, pixels: &Pixels, input: &Shape) -> Result<Vec<f32>, Fault> {
        let resized = self.resized([pixels.height, pixels.width]);
        let [height, width] = self.crop.unwrap_or(resized);
        if [height, width] != [input.h(), input.w()] {
            let made = if self.crop.is_some() { "`crop`" } else { "this picture without `crop`" };
            return Err(Fault::Preprocess {
                expected: *input,
                problem: format!("{made} gives {height} x {width} (height x width)"),
            });
        }
        let rows = Window::centred(resized[0], height);
        let columns = Window::centred(resized[1], width);
        let bytes = resample::resample(pixels, resized, &rows, &columns);
        Ok(self.normalise(&bytes, height * width))
    }

    /// Height and width after `resize`.
    fn resized(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        match self.resize {
            None => [height, width],
            Some(Resize::Exact(size)) => size,
            Some(Resize::Shorter(size)) => {
                let longer = |long: usize, short: usize| {
                    let exact = size as u128 * long as u128 / short as u128;
                    usize::try_from(exact).unwrap_or(usize::MAX)
                };
                if width <= height {
                    [longer(height, width), size]
                } else {
                    [size, longer(width, height)]
                }
            }
        }
    }

    /// From interleaved bytes to planes of `(byte / 255 - mean) / std`, each step in f32 as torch
    /// does it.
    fn normalise(&self, bytes: &[u8], area: usize) -> Vec<f32> {
        let channels = self.color.channels();
        let mut output = Vec::with_capacity(channels * area);
        for channel in 0..channels {
            let of = |list: &[f64]| list[if list.len() == 1 { 0 } else { channel }] as f32;
            let (mean, std) = (of(&self.mean), of(&self.std));
            let source = if self.color == Color::Bgr { 2 - channel } else { channel };
            let plane = bytes.iter().skip(source).step_by(channels);
            output.extend(plane.map(|&byte| (f32::from(byte) / 255.0 - mean) / std));
        }
        output
    }
}
