//! Named tensors of another program's run, which `compare --against` reads: .npz as `numpy.savez`
//! and `numpy.savez_compressed` write it, or .safetensors.

use crate::npy::{self, Fault};
use crate::weights::{SafetensorsFile, WeightsError};
use ndarray::ArrayD;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use zip::ZipArchive;
use zip::result::ZipError;

/// Larger activations do not occur; a small archive can claim any size.
const MAX_ENTRY_BYTES: u64 = 1 << 32;

/// An opened file of named arrays. Arrays are read when they are asked for, so that one of a type
/// that cannot be compared does not stand in the way of the others.
#[derive(Debug)]
pub struct Arrays {
    path: PathBuf,
    source: Source,
}

enum Source {
    /// The archive, and the place of every array in it.
    Npz(ZipArchive<BufReader<File>>, BTreeMap<String, usize>),
    Safetensors(SafetensorsFile),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Npz(_, places) => f.debug_tuple("Npz").field(places).finish(),
            Source::Safetensors(file) => f.debug_tuple("Safetensors").field(file).finish(),
        }
    }
}

/// Why named arrays cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArraysError {
    /// The .npz file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// One array of the file cannot be read.
    #[error("{}, array `{name}`: {fault}", path.display())]
    Array {
        /// The file.
        path: PathBuf,
        /// Name of the array.
        name: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The .safetensors file cannot be read.
    #[error(transparent)]
    Safetensors(#[from] WeightsError),
}

impl Arrays {
    /// Opens a .npz or .safetensors file; which of them it is, its first bytes say.
    pub fn open(path: &Path) -> Result<Self, ArraysError> {
        let failed = |source| ArraysError::Archive { path: path.to_owned(), source };
        let mut start = Vec::new();
        File::open(path).and_then(|file| file.take(2).read_to_end(&mut start)).map_err(failed)?;
        let source = if start == b"PK" {
            let (archive, places) = open_npz(path).map_err(failed)?;
            Source::Npz(archive, places)
        } else {
            Source::Safetensors(SafetensorsFile::open(path)?)
        };
        Ok(Arrays { path: path.to_owned(), source })
    }

    /// The names of all arrays.
    pub fn names(&self) -> Vec<&str> {
        match &self.source {
            Source::Npz(_, places) => places.keys().map(String::as_str).collect(),
            Source::Safetensors(file) => file.tensors().keys().map(String::as_str).collect(),
        }
    }

    /// Reads an array in C order; `None` where the file has none of this name.
    pub fn read(&mut self, name: &str) -> Result<Option<ArrayD<f32>>, ArraysError> {
        let array = match &mut self.source {
            Source::Npz(archive, places) => match places.get(name) {
                None => return Ok(None),
                Some(&place) => read_entry(archive, place),
            },
            Source::Safetensors(file) => match file.read(name) {
                None => return Ok(None),
                Some(read) => {
                    read.map_err(|dtype| Fault::Type { found: dtype.to_string(), note: "" })
                }
            },
        };
        array.map(Some).map_err(|fault| ArraysError::Array {
            path: self.path.clone(),
            name: name.to_owned(),
            fault,
        })
    }
}

type Npz = (ZipArchive<BufReader<File>>, BTreeMap<String, usize>);

fn open_npz(path: &Path) -> io::Result<Npz> {
    let archive = ZipArchive::new(BufReader::new(File::open(path)?)).map_err(into_io)?;
    let mut places = BTreeMap::new();
    for index in 0..archive.len() {
        let name = archive.name_for_index(index).unwrap_or_default();
        if let Some(name) = name.strip_suffix(".npy") {
            places.insert(name.to_owned(), index);
        }
    }
    if places.is_empty() {
        let what = "this zip archive holds no .npy arrays; write it with numpy.savez";
        return Err(io::Error::other(what));
    }
    Ok((archive, places))
}

fn read_entry(
    archive: &mut ZipArchive<BufReader<File>>,
    place: usize,
) -> Result<ArrayD<f32>, Fault> {
    let entry = archive.by_index(place).map_err(into_io)?;
    let size = entry.size();
    if size > MAX_ENTRY_BYTES {
        return Err(Fault::Header(format!("the archive says that it has {size} bytes")));
    }
    npy::read_array(&mut entry.take(size), |_| Ok(()))
}

fn into_io(error: ZipError) -> io::Error {
    match error {
        ZipError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{ArrayD, array};

    /// Files that NumPy and safetensors wrote (tests/golden/make_files.py).
    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
    }

    fn read(arrays: &mut Arrays, name: &str) -> ArrayD<f32> {
        arrays.read(name).unwrap().unwrap()
    }

    #[test]
    fn archives_of_numpy() {
        for name in ["arrays.npz", "arrays_compressed.npz"] {
            let mut arrays = Arrays::open(&golden(name)).unwrap();
            assert_eq!(
                arrays.names(),
                [
                    "big_endian",
                    "c_order",
                    "double",
                    "empty",
                    "fortran",
                    "half",
                    "integers",
                    "scalar"
                ]
            );
            let expected = array![[0.0, 0.5, 1.0], [1.5, 2.0, 2.5]].into_dyn();
            for name in ["c_order", "fortran", "double", "half", "big_endian"] {
                let found = read(&mut arrays, name);
                assert_eq!(found, expected, "{name}");
                assert!(found.is_standard_layout());
            }
            assert_eq!(read(&mut arrays, "scalar"), ndarray::arr0(0.25).into_dyn());
            assert_eq!(read(&mut arrays, "empty").shape(), [0, 3]);
            assert!(arrays.read("none").unwrap().is_none());
            let error = arrays.read("integers").unwrap_err().to_string();
            assert!(
                error.ends_with(
                    "array `integers`: elements are of type '<i8', not float32; save \
                 `array.astype(numpy.float32)`"
                ),
                "{error}"
            );
        }
    }

    #[test]
    fn safetensors() {
        let mut arrays = Arrays::open(&golden("arrays.safetensors")).unwrap();
        assert_eq!(arrays.names(), ["c_order", "half", "integers"]);
        let expected = array![[0.0, 0.5, 1.0], [1.5, 2.0, 2.5]].into_dyn();
        assert_eq!(read(&mut arrays, "c_order"), expected);
        assert_eq!(read(&mut arrays, "half"), expected);
        assert!(arrays.read("integers").unwrap_err().to_string().contains("of type I64"));
        assert!(arrays.read("none").unwrap().is_none());
    }

    /// Cut anywhere and with any byte changed: an error or arrays, never a panic.
    #[test]
    fn damaged_archives() {
        let whole = std::fs::read(golden("arrays_compressed.npz")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.npz");
        let try_all = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let Ok(mut arrays) = Arrays::open(&path) else { return false };
            let names: Vec<String> = arrays.names().into_iter().map(str::to_owned).collect();
            names.iter().all(|name| name == "integers" || arrays.read(name).is_ok())
        };
        assert!(try_all(&whole));
        for length in (0..whole.len()).step_by(7) {
            assert!(!try_all(&whole[..length]), "{length}");
        }
        let mut refused = 0;
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x15;
            refused += usize::from(!try_all(&changed));
        }
        assert!(refused > whole.len() / 4, "{refused}");
    }
}
