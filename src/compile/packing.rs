//! Packs all weights of a net, on all threads: each part of each pack is a piece of work of its
//! own, so the whole is bound by memory.

use super::Compiled;
use crate::lower::packed::Packed;
use crate::weights::TensorSource;
use alexc_runtime::memory::Buffer;
use alexc_runtime::parallel::{parallel_each, split_mut};
use alexc_runtime::weights::Weights;

/// Why the weights could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The system gave no memory.
    #[error("no memory for {bytes} bytes of packed weights: {source}")]
    Memory {
        /// Bytes asked for.
        bytes: usize,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Packs overlap or leave the buffer: a mistake of the plan.
    #[error("the plan of the packed weights does not hold")]
    Plan,
}

/// Packs the weights that `source` gives for a compiled net. `done` is called with the number of
/// bytes after each piece, from any thread.
pub fn pack(
    compiled: &Compiled,
    source: &dyn TensorSource,
    threads: usize,
    done: impl Fn(usize) + Sync,
) -> Result<Weights, PackError> {
    let bytes = compiled.plan.weights_bytes;
    let mut buffer = Buffer::zeroed(bytes).map_err(|source| PackError::Memory { bytes, source })?;
    let mut pieces: Vec<(&Packed, usize)> = Vec::new();
    let mut ranges = Vec::new();
    for (pack, &offset_bytes) in compiled.lowered.packs.iter().zip(&compiled.plan.weights) {
        let len = pack.part_bytes();
        for part in 0..pack.pack.parts() {
            pieces.push((pack, part));
            let start = offset_bytes + part * len;
            ranges.push(start..start + len);
        }
    }
    let parts = split_mut(buffer.as_mut_bytes(), &ranges).ok_or(PackError::Plan)?;
    let work: Vec<_> = pieces.into_iter().zip(parts).collect();
    parallel_each(threads, work, |((pack, part), out)| {
        pack.write(part, source, out);
        if let Some((tensor, range)) = pack.reads(part) {
            source.release(tensor, range);
        }
        done(out.len());
    });
    Ok(Weights::from(buffer))
}
