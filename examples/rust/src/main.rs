//! Says which digit a picture shows.
//!
//!     classify PICTURE

use std::error::Error;

include!(concat!(env!("OUT_DIR"), "/digits.rs"));

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: classify PICTURE")?;
    let picture = image::open(path)?.to_rgb8();

    let mut input = [0.0; Digits::INPUT_LEN];
    let mut output = [0.0; Digits::OUTPUT_LEN];
    // The memory that a run needs, taken once.
    let mut net = Digits::new()?;
    let (width, height) = picture.dimensions();
    Digits::preprocess(picture.as_raw(), height as usize, width as usize, &mut input)?;
    net.run(&input, &mut output);

    let best = (0..output.len()).max_by(|&a, &b| output[a].total_cmp(&output[b])).unwrap_or(0);
    println!("{best} {} {:.6}", Digits::LABELS[best], output[best]);
    Ok(())
}
