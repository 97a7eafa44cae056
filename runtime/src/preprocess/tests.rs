//! Numbers worked out by hand. Against torchvision: the pictures of the compiler's tests, which go
//! this way.

use super::*;

fn plain(color: Color) -> Preprocess {
    Preprocess { resize: None, crop: None, color, mean: vec![0.0], std: vec![1.0] }
}

fn levels(preprocess: &Preprocess, picture: Pixels<'_>, input: [usize; 3]) -> Vec<f32> {
    let mut output = vec![f32::NAN; input.iter().product()];
    preprocess.apply(picture, input, &mut output).unwrap();
    output.iter().map(|value| (value * 255.0).round()).collect()
}

fn refusal(preprocess: &Preprocess, picture: Pixels<'_>, input: [usize; 3], room: usize) -> String {
    preprocess.apply(picture, input, &mut vec![0.0; room]).unwrap_err().to_string()
}

/// Two pixels: orange and a dark blue.
const PIXELS: [u8; 6] = [200, 100, 20, 1, 2, 90];

#[test]
fn channels_in_any_order() {
    let picture = Pixels::rgb(&PIXELS, 1, 2).unwrap();
    let rgb = levels(&plain(Color::Rgb), picture, [3, 1, 2]);
    assert_eq!(rgb, [200.0, 1.0, 100.0, 2.0, 20.0, 90.0]);
    let bgr = levels(&plain(Color::Bgr), picture, [3, 1, 2]);
    assert_eq!(bgr, [20.0, 90.0, 100.0, 2.0, 200.0, 1.0]);
    // 0.299 * 200 + 0.587 * 100 + 0.114 * 20 = 120.78; 0.299 + 1.174 + 10.26 = 11.73.
    assert_eq!(levels(&plain(Color::Gray), picture, [1, 1, 2]), [121.0, 12.0]);
    let gray = Pixels::gray(&[7, 8], 1, 2).unwrap();
    assert_eq!(levels(&plain(Color::Gray), gray, [1, 1, 2]), [7.0, 8.0]);
    for color in [Color::Rgb, Color::Bgr] {
        assert_eq!(levels(&plain(color), gray, [3, 1, 2]), [7.0, 8.0, 7.0, 8.0, 7.0, 8.0]);
    }
}

#[test]
fn mean_and_std_of_each_channel() {
    let (mean, std) = (vec![0.5, 0.25, 0.0], vec![0.5, 1.0, 2.0]);
    let preprocess = Preprocess { mean, std, ..plain(Color::Rgb) };
    let mut output = [0.0; 3];
    let picture = Pixels::rgb(&[255, 255, 255], 1, 1).unwrap();
    preprocess.apply(picture, [3, 1, 1], &mut output).unwrap();
    assert_eq!(output, [1.0, 0.75, 0.5]);
}

#[test]
fn cut_out_of_the_middle_and_put_on_black() {
    let bytes: Vec<u8> = (1..=12).collect();
    let picture = Pixels::gray(&bytes, 3, 4).unwrap();
    let crop = |size| Preprocess { crop: Some(size), ..plain(Color::Gray) };
    assert_eq!(levels(&crop([1, 2]), picture, [1, 1, 2]), [6.0, 7.0]);
    let small = Pixels::gray(&[9], 1, 1).unwrap();
    let on_black = [0.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0];
    assert_eq!(levels(&crop([3, 3]), small, [1, 3, 3]), on_black);
}

/// Halving takes the triangle of weights 1, 3, 3, 1 (eighths) over four pixels, and what is left
/// of it at a border.
#[test]
fn halves() {
    let picture = Pixels::gray(&[0, 80, 160, 240], 1, 4).unwrap();
    let preprocess = Preprocess { resize: Some(Resize::Exact([1, 2])), ..plain(Color::Gray) };
    // (3 * 0 + 3 * 80 + 160) / 7 and (80 + 3 * 160 + 3 * 240) / 7.
    assert_eq!(levels(&preprocess, picture, [1, 1, 2]), [57.0, 183.0]);
    // The shorter side is the height.
    let preprocess = Preprocess { resize: Some(Resize::Shorter(2)), ..plain(Color::Gray) };
    assert_eq!(
        levels(&preprocess, picture, [1, 2, 8])[8..],
        [0.0, 20.0, 60.0, 100.0, 140.0, 180.0, 220.0, 240.0]
    );
}

#[test]
fn what_does_not_fit_is_told() {
    let picture = Pixels::rgb(&PIXELS, 1, 2).unwrap();
    let rgb = plain(Color::Rgb);
    assert_eq!(
        refusal(&rgb, picture, [3, 2, 2], 12),
        "`preprocess` does not make the net's input of 3x2x2: this picture without `crop` gives 1 x 2 (height x width)"
    );
    assert!(refusal(&rgb, picture, [1, 1, 2], 2).ends_with("`color: rgb` gives 3 channels"));
    assert_eq!(
        refusal(&rgb, picture, [3, 1, 2], 5),
        "one image of the input has 6 elements, and there is room for 5"
    );
    for (bytes, height, width) in [(5, 1, 2), (6, usize::MAX, 2), (6, 2, 2)] {
        let error = Pixels::rgb(&PIXELS[..bytes], height, width).unwrap_err();
        assert!(matches!(error, PreprocessError::Bytes { .. }), "{error}");
    }
    assert_eq!(Pixels::gray(&[], 0, 7).unwrap_err(), PreprocessError::Empty);
}

/// Sizes of every kind: each output is written, nothing panics.
#[test]
fn any_size_to_any_size() {
    let bytes: Vec<u8> = (0..60 * 3).map(|i| (i * 37 % 256) as u8).collect();
    for (height, width) in [(1, 1), (1, 60), (60, 1), (7, 8), (10, 6)] {
        let picture = Pixels::rgb(&bytes[..height * width * 3], height, width).unwrap();
        for resize in [Resize::Shorter(1), Resize::Shorter(9), Resize::Exact([3, 70])] {
            for crop in [[1, 1], [5, 4], [80, 80]] {
                let (resize, crop) = (Some(resize), Some(crop));
                let preprocess = Preprocess { resize, crop, ..plain(Color::Rgb) };
                let [rows, columns] = crop.unwrap();
                let output = levels(&preprocess, picture, [3, rows, columns]);
                assert!(output.iter().all(|level| (0.0..=255.0).contains(level)));
            }
        }
    }
}
