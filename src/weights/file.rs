//! Weights from a .safetensors file, as PyTorch's users save them: f32, f16, bf16, and f64 rounded
//! to f32. The file is mapped and elements are converted where they are read, so that no second
//! copy of the weights ever exists.

use super::WeightsError;
use alexc_runtime::mapped::MappedFile;
use ndarray::ArrayD;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bytes in front of the header: its length, little endian.
const LENGTH_BYTES: usize = 8;

/// What the format allows for a header.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// An opened file whose header has been read and found in order.
pub(crate) struct SafetensorsFile {
    path: PathBuf,
    file: MappedFile,
    /// Where the tensors' data begin.
    data_start: usize,
    tensors: BTreeMap<String, TensorInfo>,
}

impl std::fmt::Debug for SafetensorsFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SafetensorsFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SafetensorsFile {
    /// Opens a file and reads its header. Every tensor's data lie inside the file afterwards.
    pub(crate) fn open(path: &Path) -> Result<Self, WeightsError> {
        if path.is_dir() {
            return Err(WeightsError::Foreign {
                path: path.to_owned(),
                what: "a directory",
                remedy: "give the file in it".to_owned(),
            });
        }
        let file = MappedFile::open(path)
            .map_err(|source| WeightsError::Io { path: path.to_owned(), source })?;
        let (data_start, metadata) = read_header(path, file.as_bytes())?;
        let tensors =
            metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        Ok(SafetensorsFile { path: path.to_owned(), file, data_start, tensors })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Every tensor of the file, by name.
    pub(crate) fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// Shape and all elements of a tensor, or its type where that is none of the types that are
    /// read; `None` where the file does not have it.
    pub(crate) fn read(&self, name: &str) -> Option<Result<ArrayD<f32>, Dtype>> {
        let info = self.tensors.get(name)?;
        if !is_readable(info.dtype) {
            return Some(Err(info.dtype));
        }
        let elements = self.slice(name, 0..info.shape.iter().product()).into_owned();
        // The header was checked: a tensor has as many elements as its shape says.
        ArrayD::from_shape_vec(info.shape.as_slice(), elements).ok().map(Ok)
    }

    /// Elements `range` of a tensor whose name, type and shape have been checked.
    pub(super) fn slice(&self, name: &str, range: Range<usize>) -> Cow<'_, [f32]> {
        let info = &self.tensors[name];
        let data = &self.file.as_bytes()[self.place(info, range)];
        match info.dtype {
            Dtype::F32 => in_place(data),
            Dtype::F16 => convert(data, |b| half::f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => convert(data, |b| half::bf16::from_le_bytes(b).to_f32()),
            Dtype::F64 => convert(data, |b| f64::from_le_bytes(b) as f32),
            other => unreachable!("tensors of type {other} do not pass the check"),
        }
    }

    /// The file and the first byte of a tensor, if its elements are f32 of this machine there.
    pub(super) fn in_file(&self, name: &str) -> Option<(&MappedFile, usize)> {
        let info = &self.tensors[name];
        let first = self.place(info, 0..0).start;
        let as_they_are = info.dtype == Dtype::F32
            && cfg!(target_endian = "little")
            && first.is_multiple_of(size_of::<f32>());
        as_they_are.then_some((&self.file, first))
    }

    /// Gives the memory of elements that will not be read soon back to the system.
    pub(crate) fn release(&self, name: &str, range: Range<usize>) {
        self.file.release(self.place(&self.tensors[name], range));
    }

    /// Where elements `range` of a tensor lie in the file.
    fn place(&self, info: &TensorInfo, range: Range<usize>) -> Range<usize> {
        let size = info.dtype.bitsize() / 8;
        let begin = self.data_start + info.data_offsets.0;
        begin + range.start * size..begin + range.end * size
    }
}

/// True for the element types that `slice` reads.
pub(super) fn is_readable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64)
}

/// f32 without a copy where the machine is little endian and the data are aligned, which the
/// format does not promise.
fn in_place(data: &[u8]) -> Cow<'_, [f32]> {
    match bytemuck::try_cast_slice(data) {
        Ok(floats) if cfg!(target_endian = "little") => Cow::Borrowed(floats),
        _ => convert(data, f32::from_le_bytes),
    }
}

fn convert<const SIZE: usize>(data: &[u8], element: fn([u8; SIZE]) -> f32) -> Cow<'_, [f32]> {
    Cow::Owned(data.as_chunks::<SIZE>().0.iter().map(|&bytes| element(bytes)).collect())
}

/// The place where data begin, and the description of every tensor.
fn read_header(path: &Path, bytes: &[u8]) -> Result<(usize, Metadata), WeightsError> {
    let damaged = |problem: String| WeightsError::Damaged { path: path.to_owned(), problem };
    if let Some((what, remedy)) = recognise(path, bytes) {
        return Err(WeightsError::Foreign { path: path.to_owned(), what, remedy });
    }
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(damaged(format!("it has {} bytes, less than any header", bytes.len())));
    };
    let header_bytes = u64::from_le_bytes(*length);
    // Where the file ends after the length, that it is no sensible one says the same.
    let is_header = rest.first().map_or(header_bytes <= MAX_HEADER_BYTES, |&b| b == b'{');
    if !is_header {
        return Err(WeightsError::Foreign {
            path: path.to_owned(),
            what: "in a format that is not known here",
            remedy: REMEDY_ANY.to_owned(),
        });
    }
    let found_bytes = bytes.len() as u64;
    let truncated = |expected_bytes| WeightsError::Truncated {
        path: path.to_owned(),
        expected_bytes,
        found_bytes,
    };
    let data_start = header_bytes.saturating_add(LENGTH_BYTES as u64);
    if data_start > found_bytes {
        return Err(truncated(data_start));
    }
    let (header, data) = rest.split_at(header_bytes as usize);
    let header = std::str::from_utf8(header)
        .map_err(|error| damaged(format!("its header is no UTF-8: {error}")))?;
    let metadata: Metadata = serde_json::from_str(header)
        .map_err(|error| damaged(format!("its header cannot be read: {error}")))?;
    let expected = metadata.data_len();
    if expected > data.len() {
        return Err(truncated(data_start.saturating_add(expected as u64)));
    }
    if expected < data.len() {
        let surplus = data.len() - expected;
        return Err(damaged(format!("{surplus} bytes at its end belong to no tensor")));
    }
    Ok((LENGTH_BYTES + header.len(), metadata))
}

const REMEDY_ANY: &str = "save the weights with `safetensors.torch.save_file(model.state_dict(), \"weights.safetensors\")`";

/// Names the formats that people have weights in, by their first bytes.
fn recognise(path: &Path, bytes: &[u8]) -> Option<(&'static str, String)> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    let torch = || {
        format!(
            "convert it in Python: `safetensors.torch.save_file(torch.load(\"{}\", \
             map_location=\"cpu\", weights_only=True), \"weights.safetensors\")`",
            path.display()
        )
    };
    let any = || REMEDY_ANY.to_owned();
    let start = &bytes[..bytes.len().min(64)];
    Some(match bytes {
        [] => ("empty", "copy, download or save it again".to_owned()),
        [b'P', b'K', 3 | 5, 4 | 6, ..] if extension == "npz" => (
            "a NumPy archive",
            format!(
                "convert it in Python: `safetensors.numpy.save_file(dict(numpy.load(\"{}\")), \
                 \"weights.safetensors\")`",
                path.display()
            ),
        ),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => ("a zip archive, as torch.save writes", torch()),
        // The header of a safetensors file could begin like a pickle only if it were 2-5 bytes
        // and a multiple of 128 long at once: it has a `{` at byte 8.
        [0x80, 2..=5, rest @ ..] if rest.get(6) != Some(&b'{') => {
            ("a pickle, as old versions of torch.save write", torch())
        }
        [0x89, b'H', b'D', b'F', ..] => ("an HDF5 file, as Keras writes", any()),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => ("a single NumPy array", any()),
        [b'G', b'G', b'U', b'F', ..] => ("a GGUF file", any()),
        _ if bytes.starts_with(b"version https://git-lfs") => (
            "a Git LFS pointer, which stands for the real file",
            "fetch the file with `git lfs pull`".to_owned(),
        ),
        _ if matches!(start.trim_ascii_start(), [b'<', b'!' | b'h' | b'H' | b'?', ..]) => {
            ("a web page", "the download went wrong: download the file itself".to_owned())
        }
        _ if extension == "onnx" => ("an ONNX model", any()),
        _ if extension == "caffemodel" => ("a Caffe model", any()),
        _ => return None,
    })
}
