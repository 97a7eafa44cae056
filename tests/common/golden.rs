//! Golden files: what PyTorch computes in f64 (tests/golden/make_golden.py says what they hold).

use alexc::weights::Random;
use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};

/// The argument of `--weights` that the files were made with.
pub const WEIGHTS: &str = "random:7";
const INPUT_SEED: u64 = 8;

/// The input that the files were made with: `len` elements in C order.
pub fn input(len: usize) -> Vec<f32> {
    Random::new(INPUT_SEED).input(len)
}

/// What is known of one layer's value.
pub struct Sample {
    /// The layer.
    pub layer: String,
    /// Places in the flattened value.
    pub positions: Vec<usize>,
    /// What stands there.
    pub values: Vec<f64>,
    /// L2 norm of the whole value.
    pub norm: f64,
}

/// One golden file.
pub struct Golden {
    /// Logits, `[N, classes]` in C order.
    pub logits: Vec<f64>,
    /// The layers that were sampled, by name.
    pub samples: Vec<Sample>,
}

impl Golden {
    /// The file of a net for a batch.
    pub fn load(net: &str, batch: usize) -> Self {
        let path = path(&format!("tests/golden/nets/{net}-b{batch}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let doubles = |name: &str| -> Vec<f64> {
            let tensor = file.tensor(name).unwrap();
            assert_eq!(tensor.dtype(), Dtype::F64);
            chunks(tensor.data()).map(f64::from_le_bytes).collect()
        };
        let mut layers: Vec<&str> =
            file.names().into_iter().filter_map(|name| name.strip_suffix(".norm")).collect();
        layers.sort_unstable();
        let sample = |layer: &str| Sample {
            layer: layer.to_owned(),
            positions: chunks(file.tensor(&format!("{layer}.positions")).unwrap().data())
                .map(|bytes| u64::from_le_bytes(bytes) as usize)
                .collect(),
            values: doubles(&format!("{layer}.values")),
            norm: doubles(&format!("{layer}.norm"))[0],
        };
        Golden { logits: doubles("logits"), samples: layers.into_iter().map(sample).collect() }
    }
}

/// A path inside the repository.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The relative L2 error of `found`.
pub fn relative_error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    difference / norm(&mut expected.iter().copied())
}

fn chunks(bytes: &[u8]) -> impl Iterator<Item = [u8; 8]> {
    bytes.as_chunks::<8>().0.iter().copied()
}
