//! How a picture becomes the input of a net; part of a module, since a net answers nonsense to
//! pictures prepared in another way. It is done as torchvision does it with Pillow (Resize,
//! CenterCrop, ToTensor, Normalize), to the last bit.

mod resample;

use std::fmt;

use resample::Window;

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

/// A decoded picture: rows of pixels of interleaved channels, a byte each.
#[derive(Debug, Clone, Copy)]
pub struct Pixels<'a> {
    bytes: &'a [u8],
    height: usize,
    width: usize,
    channels: usize,
}

/// Why a picture does not become an input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreprocessError {
    /// The net does not say how.
    #[error("the net does not say how a picture becomes its input: its spec has no `preprocess`")]
    Nothing,
    /// The bytes are no such picture.
    #[error(
        "a picture of {height} x {width} pixels (height x width) of {channels} bytes has not {given} bytes"
    )]
    Bytes {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Bytes of a pixel.
        channels: usize,
        /// Bytes that there are.
        given: usize,
    },
    /// No pixels, nothing to see.
    #[error("the picture has no pixels")]
    Empty,
    /// It does not make the net's input.
    #[error("`preprocess` does not make the net's input of {}x{}x{}: {problem}", input[0], input[1], input[2])]
    Mismatch {
        /// The input of one image: channels, height, width.
        input: [usize; 3],
        /// What differs.
        problem: String,
    },
    /// Room for another number of elements.
    #[error("one image of the input has {expected} elements, and there is room for {given}")]
    Length {
        /// What the net takes.
        expected: usize,
        /// Length of the slice.
        given: usize,
    },
}

/// Grey of a colour by ITU-R 601-2, in the 16-bit fixed point of Pillow.
pub fn luminance([red, green, blue]: [u8; 3]) -> u8 {
    let sum = u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471;
    ((sum + 0x8000) >> 16) as u8
}

impl<'a> Pixels<'a> {
    /// Red, green and blue of each pixel.
    pub fn rgb(bytes: &'a [u8], height: usize, width: usize) -> Result<Self, PreprocessError> {
        Self::new(bytes, height, width, 3)
    }

    /// One byte a pixel.
    pub fn gray(bytes: &'a [u8], height: usize, width: usize) -> Result<Self, PreprocessError> {
        Self::new(bytes, height, width, 1)
    }

    fn new(
        bytes: &'a [u8],
        height: usize,
        width: usize,
        channels: usize,
    ) -> Result<Self, PreprocessError> {
        let expected = height.checked_mul(width).and_then(|area| area.checked_mul(channels));
        if expected != Some(bytes.len()) {
            return Err(PreprocessError::Bytes { height, width, channels, given: bytes.len() });
        }
        if bytes.is_empty() {
            return Err(PreprocessError::Empty);
        }
        Ok(Pixels { bytes, height, width, channels })
    }
}

impl Preprocess {
    /// Finds what is wrong for any picture: it can never make an input of these channels, rows and
    /// columns.
    pub fn check(&self, input: [usize; 3]) -> Result<(), PreprocessError> {
        let wrong = |problem| Err(PreprocessError::Mismatch { input, problem });
        let channels = self.color.channels();
        if input[0] != channels {
            let plural = if channels == 1 { "" } else { "s" };
            return wrong(format!("`color: {}` gives {channels} channel{plural}", self.color));
        }
        for (key, list) in [("mean", &self.mean), ("std", &self.std)] {
            if list.len() != 1 && list.len() != channels {
                let numbers = list.len();
                return wrong(format!("`{key}` has {numbers} numbers for {channels} channels"));
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

    /// Makes one image of the input, of these channels, rows and columns, from a picture of any
    /// size. Colours become grey where the net wants grey, and grey stands for all colours where
    /// it wants those.
    pub fn apply(
        &self,
        picture: Pixels<'_>,
        input: [usize; 3],
        output: &mut [f32],
    ) -> Result<(), PreprocessError> {
        self.check(input)?;
        let size = self.resized([picture.height, picture.width]);
        let [height, width] = self.crop.unwrap_or(size);
        if [height, width] != input[1..] {
            let made = if self.crop.is_some() { "`crop`" } else { "this picture without `crop`" };
            let problem = format!("{made} gives {height} x {width} (height x width)");
            return Err(PreprocessError::Mismatch { input, problem });
        }
        let expected = input.into_iter().fold(1, usize::saturating_mul);
        if expected != output.len() {
            return Err(PreprocessError::Length { expected, given: output.len() });
        }
        if output.is_empty() {
            return Ok(());
        }
        let (rows, columns) = (Window::centred(size[0], height), Window::centred(size[1], width));
        let gray;
        let picture = if self.color == Color::Gray && picture.channels == 3 {
            let (pixels, _) = picture.bytes.as_chunks::<3>();
            gray = pixels.iter().map(|&pixel| luminance(pixel)).collect::<Vec<u8>>();
            Pixels { bytes: &gray, channels: 1, ..picture }
        } else {
            picture
        };
        let bytes = resample::resample(&picture, size, &rows, &columns);
        self.normalise(&bytes, picture.channels, output);
        Ok(())
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
    fn normalise(&self, bytes: &[u8], channels: usize, output: &mut [f32]) {
        let planes = output.chunks_exact_mut(bytes.len() / channels);
        for (channel, plane) in planes.enumerate() {
            let of = |list: &[f64]| list[if list.len() == 1 { 0 } else { channel }] as f32;
            let (mean, std) = (of(&self.mean), of(&self.std));
            let source = match self.color {
                _ if channels == 1 => 0,
                Color::Bgr => 2 - channel,
                Color::Rgb | Color::Gray => channel,
            };
            for (value, &byte) in plane.iter_mut().zip(bytes.iter().skip(source).step_by(channels))
            {
                *value = (f32::from(byte) / 255.0 - mean) / std;
            }
        }
    }
}

#[cfg(test)]
mod tests;
