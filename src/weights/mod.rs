//! Where weights come from. Packing and the reference executor see tensors only through
//! [`TensorSource`]; files and generators stand behind it.
//!
//! `open` reads what the user named, [`Opened::check`] holds it against the tensors of a net, and
//! only what passed that check can be read as a [`TensorSource`].

mod check;
mod error;
mod file;
mod random;
#[cfg(test)]
mod tests;

pub use check::{Mismatch, Problem};
pub use error::WeightsError;
pub(crate) use file::SafetensorsFile;
pub use random::Random;

use crate::graph::Tensor;
use alexc_runtime::mapped::MappedFile;
use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

/// Gives the elements of tensors as f32, in the order of the weight file (row-major).
///
/// A source has been checked against the net's tensors before it is read: every tensor exists and
/// has the stated shape.
pub trait TensorSource: Sync {
    /// Elements `range` of the flattened tensor; borrowed where they lie in memory as f32.
    fn slice(&self, tensor: &Tensor, range: Range<usize>) -> Cow<'_, [f32]>;

    /// All elements of the tensor.
    fn all(&self, tensor: &Tensor) -> Cow<'_, [f32]> {
        self.slice(tensor, 0..tensor.len())
    }

    /// The file that has the tensor's elements as f32 of this machine, one after the other, and the
    /// first byte of them: kernels can read them there.
    fn in_file(&self, tensor: &Tensor) -> Option<(&MappedFile, usize)> {
        let _ = tensor;
        None
    }

    /// Says that elements `range` will not be read soon, so that the memory of a mapped file does
    /// not pile up while weights are packed. They can still be read.
    fn release(&self, tensor: &Tensor, range: Range<usize>) {
        let _ = (tensor, range);
    }
}

/// Opens what `--weights` names: `random:SEED` or the path of a .safetensors file.
///
/// A file whose own name begins with `random:` is reached as `./random:...`.
pub fn open(argument: &str) -> Result<Opened, WeightsError> {
    let source = match argument.strip_prefix("random:") {
        Some(seed) => Source::Random(Random::parse(seed)?),
        None if argument == "random" && !Path::new(argument).exists() => {
            return Err(WeightsError::Seed { argument: argument.to_owned() });
        }
        None => Source::File(SafetensorsFile::open(Path::new(argument))?),
    };
    Ok(Opened(source))
}

/// Weights that were opened and not yet held against a net.
#[derive(Debug)]
pub struct Opened(Source);

impl Opened {
    /// Holds the source against all tensors of a net: names, shapes, element types. Every tensor
    /// that is missing, misshapen or of the wrong type, and every tensor of the file that the net
    /// does not use, is named in the one error.
    pub fn check(self, tensors: &[&Tensor]) -> Result<Checked, WeightsError> {
        if let Source::File(file) = &self.0 {
            check::check(file, tensors)?;
        }
        Ok(Checked(self.0))
    }
}

/// Weights that fit the net they were checked against. To read a tensor of another net from it is
/// a mistake of the caller and panics.
#[derive(Debug)]
pub struct Checked(Source);

impl TensorSource for Checked {
    fn slice(&self, tensor: &Tensor, range: Range<usize>) -> Cow<'_, [f32]> {
        match &self.0 {
            Source::Random(random) => random.slice(tensor, range),
            Source::File(file) => file.slice(&tensor.name, range),
        }
    }

    fn in_file(&self, tensor: &Tensor) -> Option<(&MappedFile, usize)> {
        match &self.0 {
            Source::Random(_) => None,
            Source::File(file) => file.in_file(&tensor.name),
        }
    }

    fn release(&self, tensor: &Tensor, range: Range<usize>) {
        if let Source::File(file) = &self.0 {
            file.release(&tensor.name, range);
        }
    }
}

#[derive(Debug)]
enum Source {
    Random(Random),
    File(SafetensorsFile),
}
