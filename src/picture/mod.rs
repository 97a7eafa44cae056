//! A file of a picture becomes the input of a net, as the spec's `preprocess` says: decoded here,
//! prepared by the runtime, to the last bit of torchvision's for PNG. JPEG decoders may differ from
//! one another by a level or two.

mod decode;
#[cfg(test)]
mod tests;

use crate::input_file::read_at_most;
use crate::shape::Shape;
use std::path::{Path, PathBuf};

use alexc_runtime::preprocess::PreprocessError;
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
        let fault = |error| fault(error, input);
        preprocess.check(image(input)).map_err(fault)?;
        let decoded = decode::decode(&read(path)?, preprocess.color)?;
        let pixels = decoded.pixels().map_err(fault)?;
        let mut output = vec![0.0; input.per_image()];
        preprocess.apply(pixels, image(input), &mut output).map_err(fault)?;
        Ok(output)
    };
    read().map_err(|fault| PictureError { path: path.to_owned(), fault })
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    read_at_most(path, MAX_BYTES)?
        .ok_or_else(|| Fault::Format(format!("the file has more than {MAX_BYTES} bytes")))
}

/// What the runtime says of one image, said of the net's whole input.
fn fault(error: PreprocessError, input: &Shape) -> Fault {
    match error {
        PreprocessError::Mismatch { problem, .. } => {
            Fault::Preprocess { expected: *input, problem }
        }
        other => Fault::Decode(other.to_string()),
    }
}

/// Channels, rows and columns of one image; a vector has no channels of a picture.
fn image(input: &Shape) -> [usize; 3] {
    if input.is_vector() { [0, 1, 1] } else { [input.c(), input.h(), input.w()] }
}
