//! The memory that a caller gives to a run.

use super::{ALIGNMENT, ObjectOptions};
use alexc_runtime::program::Program;

/// Memory that a run needs, the same for every variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Where in the workspace the scratch of the threads begins, behind the arena.
    pub scratch_offset: usize,
    /// Scratch of one thread.
    pub scratch_bytes: usize,
    /// Packed weights.
    pub weights_bytes: usize,
}

impl Memory {
    /// Of an object.
    pub fn of(program: &Program, options: &ObjectOptions<'_>) -> Memory {
        let variants = options.variants(program);
        let most = |bytes: fn(&Program) -> usize| {
            variants.iter().map(|variant| bytes(variant.program)).max().unwrap_or(0)
        };
        let arena = most(|program| program.arena_bytes);
        Memory {
            scratch_offset: arena.checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX),
            scratch_bytes: most(|program| program.local_bytes),
            weights_bytes: program.weights_bytes,
        }
    }

    /// Bytes of the workspace where the calling thread works alone.
    pub fn workspace_bytes(&self) -> usize {
        self.scratch_offset.saturating_add(self.scratch_bytes)
    }

    /// Bytes that each thread adds where several work: no two write into one pair of cache lines.
    pub fn thread_stride(&self) -> usize {
        self.scratch_bytes.checked_next_multiple_of(2 * ALIGNMENT).unwrap_or(usize::MAX)
    }
}
