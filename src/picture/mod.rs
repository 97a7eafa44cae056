//! A picture becomes the input of a net, as the spec's `preprocess` says: the way that torchvision
//! takes with Pillow (Resize, CenterCrop, ToTensor, Normalize), to the last bit for PNG. JPEG
//! decoders may differ from one another by a level or two.

mod decode;
mod resample;
#[cfg(test)]
mod tests;

use crate::input_file::read_at_most;
use crate::shape::Shape;
use decode::Pixels;
use resample::Window;
use std::path::{Path, PathBuf};

pub use alexc_runtime::preprocess::{Color, Preprocess, Resize};

/// Largest file that is read: more than the largest picture takes that is decoded.
const MAX_BYTES: u64 = 2 << 30;

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
        check(preprocess, input)?;
        let pixels = decode::decode(&read(path)?, preprocess.color)?;
        apply(preprocess, &pixels, input)
    };
    read().map_err(|fault| PictureError { path: path.to_owned(), fault })
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    read_at_most(path, MAX_BYTES)?
        .ok_or_else(|| Fault::Format(format!("the file has more than {MAX_BYTES} bytes")))
}

/// Finds what can be wrong with any picture.
fn check(preprocess: &Preprocess, input: &Shape) -> Result<(), Fault> {
    let wrong = |problem| Err(Fault::Preprocess { expected: *input, problem });
    let channels = preprocess.color.channels();
    if input.is_vector() || input.c() != channels {
        return wrong(format!(
            "`color: {}` gives {channels} channel{}",
            preprocess.color,
            if channels == 1 { "" } else { "s" }
        ));
    }
    for (key, list) in [("mean", &preprocess.mean), ("std", &preprocess.std)] {
        if list.len() != 1 && list.len() != channels {
            return wrong(format!("`{key}` has {} numbers for {channels} channels", list.len()));
        }
    }
    let size = match preprocess.resize {
        None => [1, 1],
        Some(Resize::Shorter(side)) => [side, side],
        Some(Resize::Exact(size)) => size,
    };
    if size.contains(&0) {
        return wrong("`resize` must not be 0".to_owned());
    }
    if preprocess.std.iter().any(|&std| std as f32 == 0.0) {
        return wrong("`std` must not be 0".to_owned());
    }
    Ok(())
}

fn apply(preprocess: &Preprocess, pixels: &Pixels, input: &Shape) -> Result<Vec<f32>, Fault> {
    let size = resized(preprocess, [pixels.height, pixels.width]);
    let [height, width] = preprocess.crop.unwrap_or(size);
    if [height, width] != [input.h(), input.w()] {
        let made = if preprocess.crop.is_some() { "`crop`" } else { "this picture without `crop`" };
        return Err(Fault::Preprocess {
            expected: *input,
            problem: format!("{made} gives {height} x {width} (height x width)"),
        });
    }
    let rows = Window::centred(size[0], height);
    let columns = Window::centred(size[1], width);
    let bytes = resample::resample(pixels, size, &rows, &columns);
    Ok(normalise(preprocess, &bytes, height * width))
}

/// Height and width after `resize`.
fn resized(preprocess: &Preprocess, [height, width]: [usize; 2]) -> [usize; 2] {
    match preprocess.resize {
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
fn normalise(preprocess: &Preprocess, bytes: &[u8], area: usize) -> Vec<f32> {
    let channels = preprocess.color.channels();
    let mut output = Vec::with_capacity(channels * area);
    for channel in 0..channels {
        let of = |list: &[f64]| list[if list.len() == 1 { 0 } else { channel }] as f32;
        let (mean, std) = (of(&preprocess.mean), of(&preprocess.std));
        let source = if preprocess.color == Color::Bgr { 2 - channel } else { channel };
        let plane = bytes.iter().skip(source).step_by(channels);
        output.extend(plane.map(|&byte| (f32::from(byte) / 255.0 - mean) / std));
    }
    output
}
