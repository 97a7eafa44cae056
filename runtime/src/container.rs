//! What all of alexc's binary files begin with: 64 bytes that say what the file is, for which
//! program, how long it must be and what its contents add up to.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | the kind of file |
//! | 8..16 | version of the format, little-endian like all numbers |
//! | 16..24 | key: fingerprint of the program, or of what the weights are packed for |
//! | 24..32 | length of the contents |
//! | 32..40 | checksum of the contents |
//! | 40..56 | zero |
//! | 56..64 | XXH64 of the 56 bytes before |
//!
//! Contents follow, and nothing after them; at 64 bytes they are aligned for every vector unit
//! when the file is mapped.

use std::{fmt, io, path::PathBuf};

use twox_hash::XxHash64;

use crate::parallel::parallel_each;

/// Bytes before the contents.
pub const HEADER_BYTES: usize = 64;

/// Contents are added up in pieces of this many bytes, on all threads.
pub const PIECE_BYTES: usize = 1 << 20;

/// What makes a kind of file different from the others.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u64,
    pub(crate) name: &'static str,
}

/// A file that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: FileFault,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// The system does not read it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Something else altogether.
    #[error("this is no {kind} of alexc's")]
    Kind {
        /// What it should be.
        kind: &'static str,
    },
    /// Written by another alexc.
    #[error(
        "this {kind} has format version {found}, and this alexc reads version {known}; build it again"
    )]
    Version {
        /// What it is.
        kind: &'static str,
        /// What it says.
        found: u64,
        /// What is known.
        known: u64,
    },
    /// Bits of the header are wrong.
    #[error("this {kind} is damaged: its header's checksum is wrong; build it again")]
    Header {
        /// What it is.
        kind: &'static str,
    },
    /// Too short or too long.
    #[error("this {kind} is {found} bytes long instead of {expected}: {}; build it again", if found < expected { "truncated" } else { "something was added" })]
    Length {
        /// What it is.
        kind: &'static str,
        /// What its header says.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// Bits of the contents are wrong.
    #[error("this {kind} is damaged: its checksum is wrong; build it again")]
    Contents {
        /// What it is.
        kind: &'static str,
    },
    /// It belongs to another program.
    #[error("these weights were packed for another net or by another build; build both together")]
    Foreign,
    /// The contents make no sense, although they are what was written.
    #[error("at byte {at}: {what}; build it again")]
    Malformed {
        /// Where, from the file's beginning.
        at: usize,
        /// What is wrong there.
        what: Malformed,
    },
}

/// What can be wrong inside of well-kept contents: another alexc wrote them, or a bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// The contents end too early.
    End,
    /// Something is left over.
    Rest,
    /// A number that does not fit where it belongs.
    Number(u64),
    /// A code without meaning.
    Code {
        /// Of what.
        what: &'static str,
        /// The code.
        code: u8,
    },
    /// The header's key is not that of the program inside.
    Key,
    /// A name that is not UTF-8.
    Text,
    /// A processor that this alexc does not know.
    Arch(String),
    /// A processor's feature that this alexc does not know.
    Feature(String),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::End => write!(f, "the contents end too early"),
            Malformed::Rest => write!(f, "something is left over"),
            Malformed::Number(number) => write!(f, "the number {number} is too large"),
            Malformed::Code { what, code } => write!(f, "{code} is no {what}"),
            Malformed::Key => write!(f, "the key is not the program's"),
            Malformed::Text => write!(f, "a text is not UTF-8"),
            Malformed::Arch(name) => write!(f, "the processor `{name}` is not known"),
            Malformed::Feature(name) => write!(f, "the CPU feature `{name}` is not known"),
        }
    }
}

/// XXH64 of the contents' pieces, then of those sums: the same on any number of threads, and as
/// fast as memory.
pub fn checksum(contents: &[u8], threads: usize) -> u64 {
    let mut sums = vec![[0; 8]; contents.len().div_ceil(PIECE_BYTES)];
    let pieces = contents.chunks(PIECE_BYTES).zip(&mut sums).collect();
    parallel_each(threads, pieces, |(piece, sum): (&[u8], &mut [u8; 8])| {
        *sum = XxHash64::oneshot(0, piece).to_le_bytes();
    });
    XxHash64::oneshot(contents.len() as u64, sums.as_flattened())
}

/// The header for these contents.
pub(crate) fn header(kind: &Kind, key: u64, contents: &[u8], threads: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&kind.magic);
    header[8..16].copy_from_slice(&kind.version.to_le_bytes());
    header[16..24].copy_from_slice(&key.to_le_bytes());
    header[24..32].copy_from_slice(&(contents.len() as u64).to_le_bytes());
    header[32..40].copy_from_slice(&checksum(contents, threads).to_le_bytes());
    let sum = XxHash64::oneshot(0, &header[..56]);
    header[56..].copy_from_slice(&sum.to_le_bytes());
    header
}

/// Checks a file against its header. Returns its key and its contents.
pub(crate) fn open<'a>(
    kind: &Kind,
    file: &'a [u8],
    threads: usize,
) -> Result<(u64, &'a [u8]), FileFault> {
    let Kind { name: kind, .. } = *kind_checked(kind, file)?;
    let Some((header, contents)) = file.split_first_chunk::<HEADER_BYTES>() else {
        let (expected, found) = (HEADER_BYTES as u64, file.len() as u64);
        return Err(FileFault::Length { kind, expected, found });
    };
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    if word(56) != XxHash64::oneshot(0, &header[..56]) {
        return Err(FileFault::Header { kind });
    }
    let expected = word(24).saturating_add(HEADER_BYTES as u64);
    let found = file.len() as u64;
    if expected != found {
        return Err(FileFault::Length { kind, expected, found });
    }
    if word(32) != checksum(contents, threads) {
        return Err(FileFault::Contents { kind });
    }
    Ok((word(16), contents))
}

/// The first 16 bytes, which files of every version have in common.
fn kind_checked<'a>(kind: &'a Kind, file: &[u8]) -> Result<&'a Kind, FileFault> {
    let name = kind.name;
    if !file.starts_with(&kind.magic) {
        return Err(FileFault::Kind { kind: name });
    }
    if let Some(version) = file[8..].first_chunk::<8>() {
        let found = u64::from_le_bytes(*version);
        if found != kind.version {
            return Err(FileFault::Version { kind: name, found, known: kind.version });
        }
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { magic: *b"ALEXCtst", version: 3, name: "test file" };

    fn file(contents: &[u8]) -> Vec<u8> {
        [&header(&KIND, 77, contents, 2), contents].concat()
    }

    #[test]
    fn whole_files_open() {
        for len in [0, 1, 63, 64, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 5] {
            let contents: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
            let file = file(&contents);
            assert_eq!(open(&KIND, &file, 1).unwrap(), (77, &contents[..]));
            assert_eq!(open(&KIND, &file, 3).unwrap(), (77, &contents[..]));
        }
    }

    /// From the published test vectors of XXH64: of nothing with seed 0. The outer sum takes the
    /// length as its seed.
    #[test]
    fn checksum_is_xxh64() {
        assert_eq!(checksum(&[], 1), 0xEF46_DB37_51D8_E999);
    }

    #[test]
    fn every_fault_has_its_message() {
        let file = file(b"contents");
        let fault = |bytes: &[u8]| open(&KIND, bytes, 1).unwrap_err().to_string();
        assert_eq!(fault(b""), "this is no test file of alexc's");
        assert_eq!(fault(b"%PDF-1.4 and so on"), "this is no test file of alexc's");
        assert_eq!(fault(&file[..7]), "this is no test file of alexc's");
        let truncated = "this test file is 40 bytes long instead of 64: truncated; build it again";
        assert_eq!(fault(&file[..40]), truncated);
        let truncated = "this test file is 71 bytes long instead of 72: truncated; build it again";
        assert_eq!(fault(&file[..71]), truncated);
        let longer = [&file[..], b"!"].concat();
        let added =
            "this test file is 73 bytes long instead of 72: something was added; build it again";
        assert_eq!(fault(&longer), added);
        let with = |at: usize, bits: u8| {
            let mut file = file.clone();
            file[at] ^= bits;
            fault(&file)
        };
        let version =
            "this test file has format version 2, and this alexc reads version 3; build it again";
        assert_eq!(with(8, 1), version);
        let header = "this test file is damaged: its header's checksum is wrong; build it again";
        for at in 16..64 {
            assert_eq!(with(at, 4), header);
        }
        let contents = "this test file is damaged: its checksum is wrong; build it again";
        for at in 64..72 {
            assert_eq!(with(at, 128), contents);
        }
    }

    #[test]
    fn swapped_pieces_are_noticed() {
        let contents: Vec<u8> = [[1; PIECE_BYTES], [2; PIECE_BYTES]].concat();
        let mut file = file(&contents);
        file[HEADER_BYTES..].rotate_left(PIECE_BYTES);
        assert!(matches!(open(&KIND, &file, 1), Err(FileFault::Contents { .. })));
    }
}
