//! Packs all weights of a net, on all threads: each part of each pack is a piece of work of its
//! own, so the whole is bound by memory.

use super::Prepared;
use crate::lower::pack::Pack;
use crate::lower::packed::Packed;
use crate::weights::TensorSource;
use alexc_codegen::ir::DType;
use alexc_runtime::memory::Buffer;
use alexc_runtime::parallel::{parallel_each, split_mut};
use alexc_runtime::weights::{InFile, Weights};
use std::ops::Range;

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

/// Packs the weights that `source` gives for a net. `done` is called with the number of
/// bytes after each piece, from any thread.
pub fn pack(
    net: &Prepared,
    source: &dyn TensorSource,
    threads: usize,
    done: impl Fn(usize) + Sync,
) -> Result<Weights, PackError> {
    pack_rest(net, source, &[], threads, done)
}

/// The packs that are in the file of `source` as kernels read them.
pub fn in_file(net: &Prepared, source: &dyn TensorSource) -> Vec<InFile> {
    let all = net.lowered.packs.iter().zip(&net.plan.weights);
    let place = |(pack, &offset_bytes): (&Packed, &usize)| {
        let tensor = pack.pack.as_it_lies().filter(|_| pack.dtype == DType::F32)?;
        let (file, at_byte) = source.in_file(tensor)?;
        let (len_bytes, file) = (tensor.len() * pack.dtype.bytes(), file.clone());
        Some(InFile { offset_bytes, len_bytes, file, at_byte })
    };
    all.filter_map(place).collect()
}

/// The same as [`pack`], but for what is read in a file.
pub fn pack_rest(
    net: &Prepared,
    source: &dyn TensorSource,
    in_file: &[InFile],
    threads: usize,
    done: impl Fn(usize) + Sync,
) -> Result<Weights, PackError> {
    let bytes = net.plan.weights_bytes;
    let mut buffer = Buffer::zeroed(bytes).map_err(|source| PackError::Memory { bytes, source })?;
    let mut pieces: Vec<(&Packed, Range<usize>)> = Vec::new();
    let mut ranges = Vec::new();
    let all = net.lowered.packs.iter().zip(&net.plan.weights);
    let stays = |offset: usize| in_file.iter().any(|part| part.offset_bytes == offset);
    for (pack, &offset_bytes) in all.filter(|&(_, &offset)| !stays(offset)) {
        let len = pack.part_bytes();
        let (parts, step) = (pack.pack.parts(), parts_of_piece(pack));
        for first in (0..parts).step_by(step) {
            let piece = first..(first + step).min(parts);
            ranges.push(offset_bytes + piece.start * len..offset_bytes + piece.end * len);
            pieces.push((pack, piece));
        }
    }
    let parts = split_mut(buffer.as_mut_bytes(), &ranges).ok_or(PackError::Plan)?;
    let work: Vec<_> = pieces.into_iter().zip(parts).collect();
    parallel_each(threads, work, |((pack, piece), out)| {
        for (part, out) in piece.clone().zip(out.chunks_exact_mut(pack.part_bytes())) {
            pack.write(part, source, out);
        }
        let (first, last) = (pack.reads(piece.start), pack.reads(piece.end - 1));
        if let (Some((tensor, first)), Some((_, last))) = (first, last)
            && last.end - first.start >= RELEASED
        {
            source.release(tensor, first.start..last.end);
        }
        done(out.len());
    });
    Ok(Weights::from(buffer))
}

/// Elements of a tensor that are worth a system call to give their memory back: the call makes
/// all cores forget what they know of the pages.
const RELEASED: usize = 48 * 1024;

/// Parts that one thread packs in a row: several of a linear layer, which are long reads and
/// little work.
fn parts_of_piece(pack: &Packed) -> usize {
    const PIECE: usize = 1024 * 1024;
    match (&pack.pack, pack.reads(0)) {
        (Pack::Linear { .. } | Pack::Rows { .. }, Some((_, range))) => {
            PIECE.div_ceil(range.len().max(1))
        }
        _ => 1,
    }
}
