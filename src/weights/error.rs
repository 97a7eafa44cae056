//! What can be wrong with weights. All of it is wrong input: the command ends with exit code 1.

use super::check::Mismatch;
use std::path::PathBuf;

/// Why weights cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// `random:SEED` without a number for SEED.
    #[error(
        "`{argument}` is not `random:SEED`: SEED is a whole number from 0 to {}, as in random:1",
        u64::MAX
    )]
    Seed {
        /// What was given.
        argument: String,
    },

    /// The file cannot be opened or read.
    #[error("cannot read the weights {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },

    /// The file is something else than a .safetensors file.
    #[error("{} is {what}, not a .safetensors file; {remedy}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// How to make weights that can be read.
        remedy: String,
    },

    /// The file ends before the data that its header promises.
    #[error(
        "{} is cut short: its header describes {expected_bytes} bytes, the file has {found_bytes}; \
         copy or download it again",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Length that follows from the header.
        expected_bytes: u64,
        /// Length of the file.
        found_bytes: u64,
    },

    /// The header cannot be right.
    #[error("{} is damaged: {problem}; copy, download or save it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        problem: String,
    },

    /// The file is in order and does not fit the net.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
}
