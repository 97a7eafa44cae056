//! Decoding of PNG and JPEG to 8 bits a channel, as `Image.open(path).convert("RGB")` or `"L"` of
//! Pillow does it: alpha is dropped, 16 bits keep their upper byte, orientation tags and colour
//! profiles are not applied. (16 bits of grey are clipped to white by Pillow, which serves nobody:
//! they keep their upper byte here too.)

use super::{Color, Fault};
use alexc_runtime::preprocess::{Pixels, PreprocessError, luminance};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;

/// Where Pillow, too, calls a picture a decompression bomb.
pub(super) const MAX_PIXELS: u64 = 178_956_970;

/// A decoded picture that owns its pixels.
pub(super) struct Decoded {
    width: usize,
    height: usize,
    /// 3 (red, green, blue) or 1.
    channels: usize,
    bytes: Vec<u8>,
}

impl Decoded {
    /// As the runtime takes it.
    pub(super) fn pixels(&self) -> Result<Pixels<'_>, PreprocessError> {
        let make = if self.channels == 1 { Pixels::gray } else { Pixels::rgb };
        make(&self.bytes, self.height, self.width)
    }
}

/// Decodes a file's bytes. The result has three channels for `Rgb` and for `Bgr`, one for `Gray`.
pub(super) fn decode(file: &[u8], color: Color) -> Result<Decoded, Fault> {
    let format = format_of(file)?;
    if format == ImageFormat::Jpeg && !jpeg_is_whole(file) {
        return Err(Fault::Decode("the file is cut short".to_owned()));
    }
    let failed = |error: image::ImageError| Fault::Decode(error.to_string());
    let mut decoder =
        ImageReader::with_format(Cursor::new(file), format).into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Fault::TooLarge { width, height });
    }
    if width == 0 || height == 0 {
        return Err(Fault::Decode("it has no pixels".to_owned()));
    }
    // The pixels were counted; 16 bits and four channels of them fit in this.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_PIXELS * 16);
    decoder.set_limits(limits).map_err(failed)?;
    let image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    let bytes = to_color(image, color)?;
    Ok(Decoded {
        width: width as usize,
        height: height as usize,
        channels: color.channels(),
        bytes,
    })
}

fn format_of(file: &[u8]) -> Result<ImageFormat, Fault> {
    match image::guess_format(file) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => Ok(format),
        Ok(other) => Err(Fault::Format(format!("this is a picture of the format {other:?}"))),
        Err(_) if file.is_empty() => Err(Fault::Format("the file is empty".to_owned())),
        Err(_) => Err(Fault::Format("this is no picture of a known format".to_owned())),
    }
}

/// Interleaved bytes of three channels or one.
fn to_color(image: DynamicImage, color: Color) -> Result<Vec<u8>, Fault> {
    let gray = color == Color::Gray;
    let upper = |sample: &u16| (sample >> 8) as u8;
    // Channels of the file, and whether the last of them is alpha.
    let (bytes, channels, alpha) = match image {
        DynamicImage::ImageLuma8(image) => (image.into_raw(), 1, false),
        DynamicImage::ImageLumaA8(image) => (image.into_raw(), 2, true),
        DynamicImage::ImageRgb8(image) => (image.into_raw(), 3, false),
        DynamicImage::ImageRgba8(image) => (image.into_raw(), 4, true),
        DynamicImage::ImageLuma16(image) => (image.iter().map(upper).collect(), 1, false),
        DynamicImage::ImageLumaA16(image) => (image.iter().map(upper).collect(), 2, true),
        DynamicImage::ImageRgb16(image) => (image.iter().map(upper).collect(), 3, false),
        DynamicImage::ImageRgba16(image) => (image.iter().map(upper).collect(), 4, true),
        other => {
            let what = format!("pixels of the type {:?} are not read", other.color());
            return Err(Fault::Decode(what));
        }
    };
    let colors = channels - usize::from(alpha);
    let pixels = bytes.chunks_exact(channels);
    Ok(match (colors, gray) {
        (1, true) | (3, false) if !alpha => bytes,
        (1, true) => pixels.map(|pixel| pixel[0]).collect(),
        (1, false) => pixels.flat_map(|pixel| [pixel[0]; 3]).collect(),
        (_, false) => pixels.flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        (_, true) => pixels.map(|pixel| luminance([pixel[0], pixel[1], pixel[2]])).collect(),
    })
}

/// Follows a JPEG's markers to its end. The decoder fills what is missing with grey and says
/// nothing.
fn jpeg_is_whole(file: &[u8]) -> bool {
    let mut at = 2;
    loop {
        // Entropy-coded data lie between segments: there 0xFF is followed by 0 or a restart mark.
        let Some(found) = file[at.min(file.len())..].windows(2).position(|pair| {
            pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xFF | 0x01 | 0xD0..=0xD8)
        }) else {
            return false;
        };
        at += found + 2;
        if file[at - 1] == 0xD9 {
            return true;
        }
        let Some(length) = file.get(at..at + 2) else { return false };
        at += usize::from(u16::from_be_bytes([length[0], length[1]]));
    }
}
