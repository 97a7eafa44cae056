//! Files of built programs: the whole key, so that what was built for something else is never
//! taken, and what the driver built.

use crate::codec::{Reader, Writer};
use crate::container::{self, FileFault, HEADER_BYTES, Kind};

/// Everything that a built program depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramKey {
    /// The net's name, for people.
    pub net: String,
    /// One fact a line: alexc, device, driver, options. The source follows.
    pub lines: Vec<String>,
}

impl ProgramKey {
    /// Tells keys apart.
    pub fn hash(&self) -> u64 {
        container::checksum(self.lines.join("\n").as_bytes(), 1)
    }
}

const KIND: Kind = Kind { magic: *b"ALEXCcl1", version: 1, name: "file of an OpenCL program" };

/// What is known of a kept file without a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The device that it was built for, and its driver, as a [`ProgramKey`] tells them.
    pub device: String,
    /// Size of what the driver built.
    pub binary_bytes: usize,
}

/// A kept program as a file: the whole key, then what the driver built.
pub fn to_file(key: &ProgramKey, binary: &[u8]) -> Vec<u8> {
    let mut w = Writer { bytes: vec![0; HEADER_BYTES] };
    w.list(&key.lines, |w, line| w.text(line));
    w.bytes(binary);
    let mut file = w.bytes;
    let header = container::header(&KIND, key.hash(), &file[HEADER_BYTES..], 1);
    file[..HEADER_BYTES].copy_from_slice(&header);
    file
}

/// The lines of the key and the binary of a file.
pub fn from_file(file: &[u8]) -> Result<(Vec<String>, &[u8]), FileFault> {
    let (_, contents) = container::open(&KIND, file, 1)?;
    let mut r = Reader::new(contents);
    let lines = r.list(Reader::text)?;
    let binary = r.bytes()?;
    r.end()?;
    Ok((lines, binary))
}

/// Describes a kept file; nothing where it is damaged.
pub fn describe(file: &[u8]) -> Option<Kept> {
    let (lines, binary) = from_file(file).ok()?;
    let device = lines.iter().find_map(|line| line.strip_prefix("device "))?;
    Some(Kept { device: device.to_owned(), binary_bytes: binary.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ProgramKey {
        let lines = ["alexc 0", "device a, b", "driver 1", "kernel void k() {}"];
        ProgramKey { net: "net".to_owned(), lines: lines.map(str::to_owned).to_vec() }
    }

    #[test]
    fn files_give_back_what_was_kept() {
        let file = to_file(&key(), b"binary");
        let (lines, binary) = from_file(&file).unwrap();
        assert_eq!((lines, binary), (key().lines, &b"binary"[..]));
        let kept = Kept { device: "a, b".to_owned(), binary_bytes: 6 };
        assert_eq!(describe(&file), Some(kept));
    }

    #[test]
    fn any_damage_is_noticed() {
        let file = to_file(&key(), b"binary");
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x10;
            assert!(from_file(&damaged).is_err(), "byte {at}");
            assert!(from_file(&file[..at]).is_err(), "length {at}");
        }
    }

    #[test]
    fn keys_differ_in_every_line() {
        for line in 0..key().lines.len() {
            let mut other = key();
            other.lines[line].push('x');
            assert_ne!(other.hash(), key().hash());
        }
    }
}
