//! Tensors as .npy files: the input and the output of a net.
//!
//! The header is looked at before anything is allocated, and data are read no faster than they
//! exist, so that a damaged file costs an error and nothing else.

use crate::output_file::write_file;
use crate::shape::Shape;
use ndarray::{ArrayD, ArrayViewD, IxDyn, ShapeBuilder};
use ndarray_npy::WriteNpyExt;
use ndarray_npy::npy::header::Header;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// No header of a plain array is nearly as long.
const MAX_HEADER_BYTES: usize = 1 << 16;

/// A .npy file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct NpyError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with an array in NumPy's format.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Reading or writing failed.
    #[error("{0}")]
    Io(io::Error),
    /// The file is of another kind.
    #[error("this is {what}, not a .npy file{remedy}")]
    Foreign {
        /// What it is.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The header cannot be read.
    #[error("the .npy header is damaged: {0}")]
    Header(String),
    /// Elements of a type that is not read.
    #[error("elements are of type {found}, not float32; save `array.astype(numpy.float32)`{note}")]
    Type {
        /// NumPy's name of the type.
        found: String,
        /// What else to think of.
        note: &'static str,
    },
    /// More or fewer data than the shape says.
    #[error(
        "the shape {shape:?} takes {expected_bytes} bytes and the file has {}; save it again",
        if *more { "more".to_owned() } else { format!("only {found_bytes}") }
    )]
    Length {
        /// Shape by the header.
        shape: Vec<usize>,
        /// Bytes that this shape takes.
        expected_bytes: usize,
        /// Bytes that were there.
        found_bytes: usize,
        /// True where the data go on.
        more: bool,
    },
    /// The array is not what the net reads.
    #[error("its shape is {found:?} and the net's input is {expected:?}{remedy}")]
    Shape {
        /// Shape of the array.
        found: Vec<usize>,
        /// Shape of the net's input.
        expected: Vec<usize>,
        /// What to do.
        remedy: String,
    },
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Io(error)
    }
}

/// Reads the input of a net: float32 (float16 and float64 are converted) of the given shape, or of
/// that shape without N where N is 1. Returns the elements in C order.
pub fn read_input(path: &Path, shape: &Shape) -> Result<Vec<f32>, NpyError> {
    let array = read_checked(path, |found| check_input(found, &shape.dims()))?;
    Ok(array.into_raw_vec_and_offset().0)
}

/// Reads a .npy file of float32 (float16 and float64 are converted), of any shape. The array is in
/// C order.
pub fn read(path: &Path) -> Result<ArrayD<f32>, NpyError> {
    read_checked(path, |_| Ok(()))
}

/// Writes a .npy file of float32 in C order; `data` has as many elements as `shape` says.
pub fn write(path: &Path, shape: &[usize], data: &[f32]) -> Result<(), NpyError> {
    let fail = |error| NpyError { path: path.to_owned(), fault: Fault::Io(error) };
    if shape.iter().product::<usize>() != data.len() {
        let what = format!("{} elements do not fill the shape {shape:?}", data.len());
        return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, what)));
    }
    let array = ArrayViewD::from_shape(shape, data).map_err(|e| fail(io::Error::other(e)))?;
    write_file(path, |file| array.write_npy(file).map_err(io::Error::other)).map_err(fail)
}

fn read_checked(
    path: &Path,
    check: impl FnOnce(&[usize]) -> Result<(), Fault>,
) -> Result<ArrayD<f32>, NpyError> {
    let open = || {
        let file = File::open(path)?;
        match file.metadata()?.is_dir() {
            true => Err(io::Error::new(io::ErrorKind::IsADirectory, "this is a directory")),
            false => Ok(BufReader::new(file)),
        }
    };
    open()
        .map_err(Fault::Io)
        .and_then(|mut file| read_array(&mut file, check))
        .map_err(|fault| NpyError { path: path.to_owned(), fault })
}

/// Reads one array; `check` sees its shape before the data are read.
pub(crate) fn read_array(
    reader: &mut impl Read,
    check: impl FnOnce(&[usize]) -> Result<(), Fault>,
) -> Result<ArrayD<f32>, Fault> {
    let header = read_header(reader)?;
    let element = Element::of(&header)?;
    check(&header.shape)?;
    let expected_bytes = header
        .shape
        .iter()
        .try_fold(element.size, |bytes, &dim| bytes.checked_mul(dim))
        .filter(|&bytes| bytes < isize::MAX as usize)
        .ok_or_else(|| Fault::Header(format!("the shape {:?} is too large", header.shape)))?;
    let mut bytes = Vec::new();
    reader.take(expected_bytes as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() != expected_bytes {
        return Err(Fault::Length {
            shape: header.shape,
            expected_bytes,
            found_bytes: bytes.len(),
            more: bytes.len() > expected_bytes,
        });
    }
    let shape = IxDyn(&header.shape).set_f(header.layout.is_fortran());
    let array = ArrayD::from_shape_vec(shape, element.decode(&bytes))
        .map_err(|error| Fault::Header(error.to_string()))?;
    if array.is_standard_layout() {
        return Ok(array);
    }
    Ok(array.as_standard_layout().into_owned())
}

/// How an element lies in the file.
struct Element {
    size: usize,
    big_endian: bool,
}

impl Element {
    fn of(header: &Header) -> Result<Self, Fault> {
        let name = header.type_descriptor.as_string().map_or("", String::as_str);
        let (order, kind) = name.split_at_checked(1).unwrap_or(("", ""));
        let size = match kind {
            "f2" => 2,
            "f4" => 4,
            "f8" => 8,
            _ => {
                let note = match kind {
                    "u1" => {
                        " (bytes of a picture also need the scaling of the spec's `preprocess`: \
                         give the picture itself as PNG or JPEG)"
                    }
                    _ => "",
                };
                let found = header.type_descriptor.to_string();
                return Err(Fault::Type { found, note });
            }
        };
        let big_endian = order == ">" || (order == "=" && cfg!(target_endian = "big"));
        Ok(Element { size, big_endian })
    }

    fn decode(&self, bytes: &[u8]) -> Vec<f32> {
        match self.size {
            2 => self.decode_with(bytes, |b| half::f16::from_le_bytes(b).to_f32()),
            4 => self.decode_with(bytes, f32::from_le_bytes),
            _ => self.decode_with(bytes, |b| f64::from_le_bytes(b) as f32),
        }
    }

    fn decode_with<const SIZE: usize>(
        &self,
        bytes: &[u8],
        element: fn([u8; SIZE]) -> f32,
    ) -> Vec<f32> {
        let chunks = bytes.as_chunks::<SIZE>().0.iter().copied();
        if self.big_endian {
            let little = |mut bytes: [u8; SIZE]| {
                bytes.reverse();
                bytes
            };
            chunks.map(little).map(element).collect()
        } else {
            chunks.map(element).collect()
        }
    }
}

fn read_header(reader: &mut impl Read) -> Result<Header, Fault> {
    let mut header = Vec::new();
    let mut more = |count: usize, header: &mut Vec<u8>| -> Result<(), Fault> {
        reader.take(count as u64).read_to_end(header)?;
        Ok(())
    };
    more(8, &mut header)?;
    if !header.starts_with(MAGIC) {
        return Err(recognise(&header));
    }
    let length_bytes = if header.get(6) == Some(&1) { 2 } else { 4 };
    more(length_bytes, &mut header)?;
    let too_short = || Fault::Header("the file ends in it".to_owned());
    let length = header
        .get(8..8 + length_bytes)
        .map(|bytes| bytes.iter().rev().fold(0usize, |n, &byte| n << 8 | usize::from(byte)))
        .ok_or_else(too_short)?;
    if length > MAX_HEADER_BYTES {
        return Err(Fault::Header(format!("it would be {length} bytes long")));
    }
    let start = header.len();
    more(length, &mut header)?;
    let text = &header[start..];
    if text.len() < length {
        return Err(too_short());
    }
    // A plain array's header has the braces around it all and those of the shape. Refusing more
    // keeps records out, and nesting that a parser could drown in.
    if text.iter().filter(|byte| b"([{".contains(byte)).count() > 2 {
        return Err(Fault::Header("this is no plain array; records are not read".to_owned()));
    }
    Header::from_reader(&mut header.as_slice()).map_err(|error| Fault::Header(error.to_string()))
}

/// Says what a file is that does not begin as .npy does.
fn recognise(start: &[u8]) -> Fault {
    let (what, remedy) = match start {
        [] => ("an empty file", ""),
        [b'P', b'K', ..] => (
            "a zip archive, perhaps .npz",
            "; save the one array with `numpy.save(\"input.npy\", archive[\"NAME\"])`",
        ),
        [0x89, b'P', b'N', b'G', ..] => ("a PNG picture", "; its name should end in .png"),
        [0xFF, 0xD8, 0xFF, ..] => ("a JPEG picture", "; its name should end in .jpg"),
        [0x80, 2..=5, ..] => {
            ("a pickle", "; save a plain array with `numpy.save(\"input.npy\", array)`")
        }
        _ => ("something else", "; save the array with `numpy.save(\"input.npy\", array)`"),
    };
    Fault::Foreign { what, remedy }
}

/// Refuses an array that is not a net's input, and says how it could become one.
fn check_input(found: &[usize], expected: &[usize]) -> Result<(), Fault> {
    let single = expected.first() == Some(&1);
    if found == expected || (single && found == &expected[1..]) {
        return Ok(());
    }
    let remedy = match (found, expected) {
        (&[h, w, c], &[1, a, b, d]) if [c, h, w] == [a, b, d] => {
            "; the channels stand last: save `array.transpose(2, 0, 1)`".to_owned()
        }
        (&[m, h, w, c], &[n, a, b, d]) if [m, c, h, w] == [n, a, b, d] => {
            "; the channels stand last: save `array.transpose(0, 3, 1, 2)`".to_owned()
        }
        _ if found.get(1..) == expected.get(1..) && !found.is_empty() => {
            format!("; for a batch of {} give --batch {}", found[0], found[0])
        }
        _ if found == &expected[1..] => {
            "; only a batch of 1 may be left out: save `array[numpy.newaxis]` and give --batch 1"
                .to_owned()
        }
        _ => String::new(),
    };
    Err(Fault::Shape { found: found.to_vec(), expected: expected.to_vec(), remedy })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend_from_slice(&(header.len() as u16 + 1).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(data);
        bytes
    }

    fn header(descr: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}")
    }

    fn floats(count: usize) -> Vec<u8> {
        (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect()
    }

    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            Folder(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("x.npy")
        }

        fn read(&self, bytes: &[u8]) -> Result<ArrayD<f32>, String> {
            fs::write(self.path(), bytes).unwrap();
            read(&self.path()).map_err(|error| error.fault.to_string())
        }

        fn input(&self, bytes: &[u8], shape: Shape) -> Result<Vec<f32>, String> {
            fs::write(self.path(), bytes).unwrap();
            read_input(&self.path(), &shape).map_err(|error| error.fault.to_string())
        }
    }

    #[test]
    fn written_and_read_again() {
        let folder = Folder::new();
        let data: Vec<f32> = (0..24).map(|i| i as f32 / 7.0).collect();
        write(&folder.path(), &[2, 3, 4], &data).unwrap();
        let array = read(&folder.path()).unwrap();
        assert_eq!(array.shape(), [2, 3, 4]);
        assert_eq!(array.as_slice().unwrap(), data);
        // The layout of the format itself: header padded to 64 bytes, then the elements.
        let bytes = fs::read(folder.path()).unwrap();
        assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
        assert_eq!(bytes.len(), 128 + 24 * 4);
        assert_eq!(bytes[128 + 4..128 + 8], (1.0f32 / 7.0).to_le_bytes());
        assert!(write(&folder.path(), &[5], &data).is_err());
    }

    #[test]
    fn orders_and_types() {
        let folder = Folder::new();
        let fortran = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}";
        let array = folder.read(&npy(fortran, &floats(6))).unwrap();
        assert_eq!(array.as_slice().unwrap(), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
        let big: Vec<u8> = [1.0f64, -0.5].iter().flat_map(|v| v.to_be_bytes()).collect();
        let array = folder.read(&npy(&header(">f8", "(2,)"), &big)).unwrap();
        assert_eq!(array.as_slice().unwrap(), [1.0, -0.5]);
        for (descr, word) in
            [("|u1", "the picture itself"), ("<i8", "'<i8'"), ("|b1", "'|b1'"), ("", "''")]
        {
            let error = folder.read(&npy(&header(descr, "(2,)"), &floats(2))).unwrap_err();
            assert!(error.contains("astype(numpy.float32)"), "{error}");
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn shapes_of_an_input() {
        let folder = Folder::new();
        let image = Shape::map(1, 3, 2, 5);
        let batch = Shape::map(4, 3, 2, 5);
        let file = |shape: &str, count| npy(&header("<f4", shape), &floats(count));
        assert_eq!(folder.input(&file("(1, 3, 2, 5)", 30), image).unwrap().len(), 30);
        assert_eq!(folder.input(&file("(3, 2, 5)", 30), image).unwrap().len(), 30);
        assert_eq!(folder.input(&file("(4, 3, 2, 5)", 120), batch).unwrap().len(), 120);
        for (shape, count, expected, words) in [
            ("(2, 5, 3)", 30, image, "save `array.transpose(2, 0, 1)`"),
            ("(4, 2, 5, 3)", 120, batch, "save `array.transpose(0, 3, 1, 2)`"),
            ("(4, 3, 2, 5)", 120, image, "for a batch of 4 give --batch 4"),
            ("(3, 2, 5)", 30, batch, "only a batch of 1 may be left out"),
            ("(30,)", 30, image, "its shape is [30] and the net's input is [1, 3, 2, 5]"),
            ("()", 1, image, "its shape is [] and"),
        ] {
            let error = folder.input(&file(shape, count), expected).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn damaged_files() {
        let folder = Folder::new();
        let whole = npy(&header("<f4", "(2, 3)"), &floats(6));
        for length in 0..whole.len() {
            folder.read(&whole[..length]).unwrap_err();
        }
        for at in 0..whole.len() {
            for flip in [0x01, 0x04, 0x10, 0x80] {
                let mut changed = whole.clone();
                changed[at] ^= flip;
                let _ = folder.read(&changed);
            }
        }
        let error = folder.read(&whole[..whole.len() - 1]).unwrap_err();
        assert!(error.contains("takes 24 bytes and the file has only 23"), "{error}");
        let mut longer = whole;
        longer.push(0);
        let error = folder.read(&longer).unwrap_err();
        assert!(error.contains("takes 24 bytes and the file has more"), "{error}");
    }

    #[test]
    fn hostile_headers() {
        let folder = Folder::new();
        let dims = "1, ".repeat(10_000);
        for header in [
            header("<f4", "(18446744073709551615, 18446744073709551615)"),
            header("<f4", "(18446744073709551616,)"),
            header("<f4", "(0, 18446744073709551615, 18446744073709551615)"),
            header("<f4", "(4611686018427387904,)"),
            header("<f4", "(1000000000000,)"),
            header("<f4", "(-1,)"),
            header("<f4", "3"),
            header("<f4", &format!("({dims})")),
            "[".repeat(50_000),
            "{".repeat(50_000),
            "-".repeat(50_000),
            "9".repeat(50_000),
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}".to_owned(),
            "{}".to_owned(),
            String::new(),
        ] {
            folder.read(&npy(&header, &[])).unwrap_err();
        }
        let error = folder.read(b"\x93NUMPY\x02\x00\xff\xff\xff\x7f").unwrap_err();
        assert!(error.contains("2147483647 bytes long"), "{error}");
    }

    #[test]
    fn other_files() {
        let folder = Folder::new();
        for (bytes, word) in [
            (&b""[..], "an empty file"),
            (b"PK\x03\x04....", "a zip archive, perhaps .npz"),
            (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
            (b"\xff\xd8\xff\xe0....", "a JPEG picture"),
            (b"\x80\x04\x95abcdef", "a pickle"),
            (b"1.0 2.0 3.0", "something else"),
        ] {
            let error = folder.read(bytes).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        let error = read(folder.0.path()).unwrap_err().to_string();
        assert!(error.ends_with("this is a directory"), "{error}");
        let error = read(&folder.path().join("x")).unwrap_err().to_string();
        assert!(error.contains("x.npy/x: "), "{error}");
    }
}
