//! Pictures against what torchvision makes of them with Pillow
//! (tests/golden/make_pictures.py), and files that are no good pictures.

use super::*;
use crate::arrays::Arrays;
use serde_json::Value;
use std::fs;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures").join(name)
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// One integer or a list of two.
fn size(value: &Value) -> (Option<usize>, Option<[usize; 2]>) {
    let whole = |value: &Value| value.as_u64().map(|n| n as usize);
    match value.as_array() {
        Some(list) => (None, Some([whole(&list[0]).unwrap(), whole(&list[1]).unwrap()])),
        None => (whole(value), None),
    }
}

fn preprocess_of(case: &Value) -> Preprocess {
    let (shorter, exact) = size(&case["resize"]);
    let (square, crop) = size(&case["crop"]);
    Preprocess {
        resize: shorter.map(Resize::Shorter).or(exact.map(Resize::Exact)),
        crop: square.map(|side| [side, side]).or(crop),
        color: match case["color"].as_str().unwrap() {
            "bgr" => Color::Bgr,
            "gray" => Color::Gray,
            _ => Color::Rgb,
        },
        mean: numbers(&case["mean"]),
        std: numbers(&case["std"]),
    }
}

/// The largest and the mean difference to torchvision, in levels (1/255) of the picture.
fn difference(case: &Value, expected: &mut Arrays) -> (f64, f64) {
    let preprocess = preprocess_of(case);
    let shape: Vec<usize> = numbers(&case["shape"]).iter().map(|&n| n as usize).collect();
    let [c, h, w] = shape[..] else { panic!("{case}") };
    let input = Shape::map(2, c, h, w);
    let found = load(&golden(case["file"].as_str().unwrap()), Some(&preprocess), &input).unwrap();
    assert_eq!(found.len(), c * h * w);
    let expected = expected.read(case["name"].as_str().unwrap()).unwrap().unwrap();
    let step = case["step"].as_u64().unwrap() as usize;
    let (mut largest, mut sum) = (0f64, 0.0);
    for ((channel, y, x), &value) in
        expected.view().into_dimensionality::<ndarray::Ix3>().unwrap().indexed_iter()
    {
        let found = found[(channel * h + y * step) * w + x * step];
        let std = preprocess.std[channel % preprocess.std.len()];
        let levels = f64::from((found - value).abs()) * std * 255.0;
        largest = largest.max(levels);
        sum += levels;
    }
    (largest, sum / expected.len() as f64)
}

#[test]
fn as_torchvision_does_it() {
    let text = fs::read_to_string(golden("cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() > 40);
    let mut expected = Arrays::open(&golden("expected.npz")).unwrap();
    for case in &cases {
        let (largest, mean) = difference(case, &mut expected);
        let file = case["file"].as_str().unwrap();
        let (most, on_average) = match case["levels"].as_f64() {
            Some(levels) => (levels, levels),
            None if file.ends_with(".png") => (0.0, 0.0),
            // JPEG decoders round the inverse transform differently, and more so the chroma
            // channels where these are stored at half the size.
            None if ["full", "gray", "cmyk"].iter().any(|kind| file.starts_with(kind)) => {
                (1.0, 0.03)
            }
            None => (3.0, 0.4),
        };
        // Levels of an f32 that was divided by 255.
        let most = most * (1.0 + 1e-5);
        assert!(largest <= most && mean <= on_average, "{largest}, {mean}: {case}");
    }
}

/// A preprocess that changes nothing.
fn plain(color: Color) -> Preprocess {
    Preprocess { resize: None, crop: None, color, mean: vec![0.0], std: vec![1.0] }
}

fn levels(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| (value * 255.0).round()).collect()
}

fn fault(bytes: &[u8], preprocess: &Preprocess, input: Shape) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.png");
    fs::write(&path, bytes).unwrap();
    load(&path, Some(preprocess), &input).unwrap_err().fault.to_string()
}

#[test]
fn sixteen_bits_keep_their_upper_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gray16.png");
    let samples = vec![0u16, 255, 256, 1000, 0x8000, 0xFFFF];
    image::ImageBuffer::<image::Luma<u16>, _>::from_raw(3, 2, samples)
        .unwrap()
        .save(&path)
        .unwrap();
    let found = load(&path, Some(&plain(Color::Gray)), &Shape::map(1, 1, 2, 3)).unwrap();
    assert_eq!(levels(&found), [0.0, 0.0, 1.0, 3.0, 128.0, 255.0]);
}

#[test]
fn preprocess_that_does_not_make_the_input() {
    let picture = fs::read(golden("rgb.png")).unwrap();
    let rgb = plain(Color::Rgb);
    for (preprocess, input, expected) in [
        (
            rgb.clone(),
            Shape::map(1, 3, 24, 24),
            "the net's input of 1x3x24x24: this picture without `crop` gives 47 x 61 (height x \
             width)",
        ),
        (
            Preprocess { resize: Some(Resize::Shorter(24)), ..rgb.clone() },
            Shape::map(1, 3, 24, 24),
            "without `crop` gives 24 x 31",
        ),
        (
            Preprocess { crop: Some([20, 20]), ..rgb.clone() },
            Shape::map(1, 3, 24, 24),
            "`crop` gives 20 x 20",
        ),
        (rgb.clone(), Shape::map(1, 1, 47, 61), "`color: rgb` gives 3 channels"),
        (plain(Color::Gray), Shape::map(1, 3, 47, 61), "`color: gray` gives 1 channel"),
        (rgb.clone(), Shape::vector(1, 3), "the net's input of 1x3: `color: rgb`"),
        (
            Preprocess { mean: vec![0.1, 0.2], ..rgb.clone() },
            Shape::map(1, 3, 47, 61),
            "`mean` has 2 numbers for 3 channels",
        ),
        (
            Preprocess { std: vec![0.1, 1e-60, 1.0], ..rgb.clone() },
            Shape::map(1, 3, 47, 61),
            "`std` must not be 0",
        ),
        (
            Preprocess { resize: Some(Resize::Shorter(0)), ..rgb.clone() },
            Shape::map(1, 3, 47, 61),
            "`resize` must not be 0",
        ),
    ] {
        let text = fault(&picture, &preprocess, input);
        assert!(text.contains(expected), "{text}");
    }
    let error = load(&golden("rgb.png"), None, &Shape::map(1, 3, 47, 61)).unwrap_err();
    assert!(error.to_string().contains("rgb.png: the spec has no `preprocess`"), "{error}");
}

/// A picture one pixel wide becomes millions of rows at most in thought.
#[test]
fn extreme_proportions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.png");
    image::GrayImage::from_fn(1, 60_000, |_, y| image::Luma([(y / 300) as u8]))
        .save(&path)
        .unwrap();
    let preprocess = Preprocess {
        resize: Some(Resize::Shorter(1 << 40)),
        crop: Some([2, 2]),
        ..plain(Color::Gray)
    };
    let found = load(&path, Some(&preprocess), &Shape::map(1, 1, 2, 2)).unwrap();
    assert_eq!(levels(&found), [100.0; 4]);
}

#[test]
fn files_that_are_no_pictures() {
    let input = Shape::map(1, 3, 47, 61);
    for (bytes, expected) in [
        (&b""[..], "the file is empty; pictures are read from PNG and JPEG"),
        (b"GIF89a....", "this is a picture of the format Gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "this is a picture of the format WebP"),
        (b"\x93NUMPY", "this is no picture of a known format"),
        (b"\x89PNG\r\n\x1a\n", "the picture cannot be decoded"),
        (b"\xff\xd8\xff\xe0", "the file is cut short"),
    ] {
        let text = fault(bytes, &plain(Color::Rgb), input);
        assert!(text.contains(expected), "{text}");
    }
    let error = load(Path::new("/none/x.png"), Some(&plain(Color::Rgb)), &input).unwrap_err();
    assert!(error.to_string().starts_with("/none/x.png: No such file"), "{error}");
    assert!(is_picture(Path::new("a/b.JPEG")) && !is_picture(Path::new("png")));
}

#[test]
fn bombs() {
    // The header alone: 100,000 x 100,000 pixels.
    let mut png = fs::read(golden("rgb.png")).unwrap();
    png[16..20].copy_from_slice(&100_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&100_000u32.to_be_bytes());
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let text = fault(&png, &plain(Color::Rgb), Shape::map(1, 3, 47, 61));
    assert_eq!(
        text,
        "the picture says it has 100000 x 100000 pixels; more than 178956970 are refused"
    );
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 }
        })
    })
}

/// Cut short: always an error. With a byte changed: an error or a picture, never a panic.
#[test]
fn damaged_pictures() {
    for file in ["rgb.png", "palette.png", "rgb.jpg", "progressive.jpg", "cmyk.jpg"] {
        let whole = fs::read(golden(file)).unwrap();
        for length in (0..whole.len() - 1).step_by(13) {
            assert!(decode::decode(&whole[..length], Color::Rgb).is_err(), "{file} {length}");
        }
        for at in (0..whole.len()).step_by(3) {
            let mut changed = whole.clone();
            changed[at] ^= 0x51;
            let _ = decode::decode(&changed, Color::Gray);
        }
    }
}
