//! Packed weights of a net: in memory, or a part of a mapped file. Parts of what is in memory may
//! stay in a file too, where they lie there as kernels read them.

use std::{
    io::{self, Write},
    path::Path,
};

use crate::{
    container::{self, FileError, FileFault, HEADER_BYTES, Kind},
    mapped::MappedFile,
    memory::{ALIGN, Buffer},
    parallel::available_threads,
    program::{Program, overlap},
};

const KIND: Kind = Kind { magic: *b"ALEXCwts", version: 1, name: "file of packed weights" };

/// What a program's file of packed weights begins with: the kind of file, the version of the
/// format and [`Program::weights_key`], as little-endian numbers.
pub fn identity(program: &Program) -> [u64; 3] {
    [u64::from_le_bytes(KIND.magic), KIND.version, program.weights_key]
}

/// Packed weights, 64-byte aligned, not changed any more.
#[derive(Debug)]
pub struct Weights(Store);

#[derive(Debug)]
enum Store {
    Owned(Buffer),
    Mapped { file: MappedFile, offset: usize, len: usize },
}

/// A part of a file that cannot serve as weights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    /// Outside of the file.
    #[error("weights at bytes {offset} to {offset}+{len} reach behind the file's end ({file_len})")]
    Outside {
        /// First byte.
        offset: usize,
        /// Bytes.
        len: usize,
        /// Length of the file.
        file_len: usize,
    },
    /// Numbers begin at multiples of their size.
    #[error("weights begin at byte {offset} of the file, which is no multiple of 4")]
    Uneven {
        /// First byte.
        offset: usize,
    },
    /// Kernels and their authors count on [`ALIGN`].
    #[error("weights begin at byte {offset} of the file, which is no multiple of {ALIGN}")]
    Unaligned {
        /// First byte.
        offset: usize,
    },
}

/// The `len` bytes from `offset` on lie inside of the file.
fn inside(file: &MappedFile, offset: usize, len: usize) -> Result<(), RegionError> {
    let file_len = file.as_bytes().len();
    match offset.checked_add(len) {
        Some(end) if end <= file_len => Ok(()),
        _ => Err(RegionError::Outside { offset, len, file_len }),
    }
}

/// Weights that kernels read where a file has them, in place of some of the packed ones. See
/// [`MappedFile`] for what may not happen to the file meanwhile.
#[derive(Debug, Clone)]
pub struct InFile {
    /// First byte of the packed weights that these stand for.
    pub offset_bytes: usize,
    /// How many.
    pub len_bytes: usize,
    /// The file.
    pub file: MappedFile,
    /// First byte in it.
    pub at_byte: usize,
}

impl InFile {
    /// They lie inside of the file, at a multiple of the bytes of a number.
    pub(crate) fn check(&self) -> Result<(), RegionError> {
        let offset = self.at_byte;
        inside(&self.file, offset, self.len_bytes)?;
        if offset.is_multiple_of(size_of::<f32>()) {
            Ok(())
        } else {
            Err(RegionError::Uneven { offset })
        }
    }

    /// The bytes that stand for `len` packed ones from `offset` on, if these do for all of them.
    pub(crate) fn bytes(&self, offset: usize, len: usize) -> Option<&[u8]> {
        let first = offset.checked_sub(self.offset_bytes)?;
        let end = first.checked_add(len).filter(|&end| end <= self.len_bytes)?;
        self.file.as_bytes().get(self.at_byte + first..self.at_byte + end)
    }

    /// These stand for some of those packed bytes, or for all.
    pub(crate) fn meets(&self, offset: usize, len: usize) -> bool {
        overlap([self.offset_bytes, self.len_bytes], [offset, len])
    }
}

impl Weights {
    /// The `len` bytes of `file` from `offset` on.
    pub fn mapped(file: MappedFile, offset: usize, len: usize) -> Result<Weights, RegionError> {
        inside(&file, offset, len)?;
        if !offset.is_multiple_of(ALIGN) {
            return Err(RegionError::Unaligned { offset });
        }
        Ok(Weights(Store::Mapped { file, offset, len }))
    }

    /// The contents.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Store::Owned(buffer) => buffer.as_bytes(),
            Store::Mapped { file, offset, len } => &file.as_bytes()[*offset..*offset + *len],
        }
    }

    /// Writes the file that [`Weights::open`] maps, for programs with the same key.
    pub fn write(&self, program: &Program, to: &mut dyn Write) -> io::Result<()> {
        let contents = self.as_bytes();
        let key = program.weights_key;
        to.write_all(&container::header(&KIND, key, contents, available_threads()))?;
        to.write_all(contents)
    }

    /// Maps a file of packed weights and reads it once, to see that it is whole and belongs to
    /// this program. See [`MappedFile`] for what may not happen to the file meanwhile.
    pub fn open(path: impl AsRef<Path>, program: &Program) -> Result<Weights, FileError> {
        let path = path.as_ref();
        Self::open_mapped(path, program)
            .map_err(|fault| FileError { path: path.to_path_buf(), fault })
    }

    fn open_mapped(path: &Path, program: &Program) -> Result<Weights, FileFault> {
        let file = MappedFile::open(path)?;
        let len = Self::check(file.as_bytes(), program)?;
        Ok(Weights(Store::Mapped { file, offset: HEADER_BYTES, len }))
    }

    /// Checks a whole file of packed weights. Returns the length of the weights in it.
    fn check(file: &[u8], program: &Program) -> Result<usize, FileFault> {
        let (key, contents) = container::open(&KIND, file, available_threads())?;
        if key != program.weights_key || contents.len() != program.weights_bytes {
            return Err(FileFault::Foreign);
        }
        Ok(contents.len())
    }
}

/// Weights that were packed in memory.
impl From<Buffer> for Weights {
    fn from(buffer: Buffer) -> Weights {
        Weights(Store::Owned(buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_file() {
        let path = std::env::temp_dir().join(format!("alexc-weights-{}", std::process::id()));
        let bytes: Vec<u8> = (0..=255).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = MappedFile::open(&path).unwrap();
        let part = |offset, len| Weights::mapped(file.clone(), offset, len);
        assert_eq!(part(64, 100).unwrap().as_bytes(), &bytes[64..164]);
        assert_eq!(part(0, 256).unwrap().as_bytes(), bytes);
        assert_eq!(part(256, 0).unwrap().as_bytes(), b"");
        assert_eq!(part(32, 8).unwrap_err(), RegionError::Unaligned { offset: 32 });
        for (offset, len) in [(64, 193), (320, 0), (64, usize::MAX)] {
            let expected = RegionError::Outside { offset, len, file_len: 256 };
            assert_eq!(part(offset, len).unwrap_err(), expected);
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn owned() {
        let mut buffer = Buffer::zeroed(8).unwrap();
        buffer.as_mut_f32()[1] = 2.0;
        let weights = Weights::from(buffer);
        assert_eq!(weights.as_bytes()[4..], 2.0_f32.to_ne_bytes());
        assert_eq!(weights.as_bytes().as_ptr() as usize % ALIGN, 0);
    }
}
