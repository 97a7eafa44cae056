//! Weight files of every kind, written byte by byte here: what is read from them, and what is
//! said about those that do not fit.

use super::*;
use std::fs;
use tempfile::TempDir;

struct Entry {
    name: &'static str,
    dtype: &'static str,
    shape: Vec<usize>,
    data: Vec<u8>,
}

fn f32s(name: &'static str, shape: &[usize]) -> Entry {
    let len: usize = shape.iter().product();
    let data = (0..len).flat_map(|i| (i as f32 * 0.5 - 1.0).to_le_bytes()).collect();
    Entry { name, dtype: "F32", shape: shape.to_vec(), data }
}

/// A .safetensors file; `pad` spaces end its header, which moves the data off any alignment.
fn bytes_of(entries: &[Entry], pad: usize) -> Vec<u8> {
    let mut header = r#"{"__metadata__":{"format":"pt"}"#.to_owned();
    let mut data = Vec::new();
    for entry in entries {
        let begin = data.len();
        data.extend_from_slice(&entry.data);
        header += &format!(
            r#","{}":{{"dtype":"{}","shape":{:?},"data_offsets":[{begin},{}]}}"#,
            entry.name,
            entry.dtype,
            entry.shape,
            data.len()
        );
    }
    header.push('}');
    header.extend(std::iter::repeat_n(' ', pad));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&data);
    bytes
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Opens the bytes as a file and checks it; the error's text without the folder's path.
    fn check(&self, name: &str, bytes: &[u8], wanted: &[Tensor]) -> Result<Checked, String> {
        let path = self.write(name, bytes);
        let wanted: Vec<&Tensor> = wanted.iter().collect();
        let folder = format!("{}/", self.0.path().display());
        open(&path)
            .and_then(|opened| opened.check(&wanted))
            .map_err(|error| error.to_string().replace(&folder, ""))
    }
}

fn tensor(name: &str, shape: &[usize]) -> Tensor {
    Tensor { name: name.to_owned(), shape: shape.to_vec() }
}

fn refusal(entries: &[Entry], wanted: &[Tensor]) -> String {
    Folder::new().check("w.safetensors", &bytes_of(entries, 0), wanted).unwrap_err()
}

#[test]
fn every_readable_type_at_every_alignment() {
    // 1.5, -2, 65504 and the smallest f16, in each type's bits.
    let f16 = [0x3E00u16, 0xC000, 0x7BFF, 0x0001];
    let bf16 = [0x3FC0u16, 0xC000, 0x4780, 0x3380];
    let entries = || {
        [
            Entry {
                name: "half",
                dtype: "F16",
                shape: vec![2, 2],
                data: f16.iter().flat_map(|v| v.to_le_bytes()).collect(),
            },
            Entry {
                name: "brain",
                dtype: "BF16",
                shape: vec![4],
                data: bf16.iter().flat_map(|v| v.to_le_bytes()).collect(),
            },
            Entry {
                name: "double",
                dtype: "F64",
                shape: vec![3],
                data: [0.1f64, -1e300, 1.0 + 2f64.powi(-30)]
                    .iter()
                    .flat_map(|v| v.to_le_bytes())
                    .collect(),
            },
            f32s("single", &[5]),
        ]
    };
    let wanted = [
        tensor("half", &[2, 2]),
        tensor("brain", &[4]),
        tensor("double", &[3]),
        tensor("single", &[5]),
    ];
    let folder = Folder::new();
    let mut borrowed = 0;
    for pad in 0..8 {
        let weights = folder.check("w.safetensors", &bytes_of(&entries(), pad), &wanted).unwrap();
        assert_eq!(*weights.all(&wanted[0]), [1.5, -2.0, 65504.0, 2f32.powi(-24)]);
        assert_eq!(*weights.all(&wanted[1]), [1.5, -2.0, 65536.0, 2f32.powi(-24)]);
        assert_eq!(*weights.all(&wanted[2]), [0.1f32, f32::NEG_INFINITY, 1.0]);
        assert_eq!(*weights.all(&wanted[3]), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(*weights.slice(&wanted[3], 1..3), [-0.5, 0.0]);
        assert_eq!(*weights.slice(&wanted[0], 3..4), [2f32.powi(-24)]);
        weights.release(&wanted[3], 0..5);
        assert_eq!(*weights.slice(&wanted[3], 4..5), [1.0]);
        borrowed += usize::from(matches!(weights.all(&wanted[3]), Cow::Borrowed(_)));
    }
    // Exactly every fourth position is aligned for f32.
    assert_eq!(borrowed, 2);
}

#[test]
fn training_counters_and_old_caffe_shapes_fit() {
    let counter =
        Entry { name: "bn1.num_batches_tracked", dtype: "I64", shape: vec![], data: vec![0; 8] };
    let entries = [counter, f32s("fc.weight", &[1, 1, 2, 3]), f32s("fc.bias", &[1, 1, 1, 2])];
    let wanted = [tensor("fc.weight", &[2, 3]), tensor("fc.bias", &[2])];
    let weights = Folder::new().check("w.safetensors", &bytes_of(&entries, 0), &wanted).unwrap();
    assert_eq!(*weights.all(&wanted[0]), [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5]);
}

#[test]
fn all_problems_are_named_at_once() {
    let integers = Entry { name: "fc3.weight", dtype: "I8", shape: vec![2, 2], data: vec![0; 4] };
    let entries = [
        f32s("fc1.weight", &[3, 2]),
        f32s("fc1.bias", &[3]),
        f32s("fc2.weight", &[4, 3]),
        integers,
        f32s("head", &[7]),
    ];
    let wanted = [
        tensor("fc1.weight", &[2, 3]),
        tensor("fc2.weight", &[4, 3]),
        tensor("fc2.bias", &[4]),
        tensor("fc3.weight", &[2, 2]),
        tensor("gone.scale", &[9]),
    ];
    assert_eq!(
        refusal(&entries, &wanted),
        "w.safetensors does not fit the net: tensors 2 missing, 1 of the wrong shape, 1 of the \
         wrong type, 2 unused\
         \n  missing: fc2.bias [4] (a layer trained without a bias has `bias: false`)\
         \n  missing: gone.scale [9]\
         \n  shape: fc1.weight [2, 3], but [3, 2] in the file (it is transposed: save \
         `tensor.t().contiguous()`)\
         \n  type: fc3.weight has elements of type I8; save it as a floating-point tensor, \
         `tensor.float()`\
         \n  unused: fc1.bias [3] (the layer was trained with a bias: take `bias: false` out of \
         the spec)\
         \n  unused: head [7]"
    );
}

#[test]
fn names_with_a_prefix() {
    let wanted = [tensor("a.weight", &[2, 2]), tensor("b.weight", &[2, 2])];
    let text =
        refusal(&[f32s("module.a.weight", &[2, 2]), f32s("module.b.weight", &[2, 2])], &wanted);
    assert!(
        text.ends_with(
            "help: the file's names begin with `module.`, as DataParallel leaves them: save \
             `model.module.state_dict()`, or rename them before saving, \
             `{k.removeprefix(\"module.\"): v for k, v in state_dict.items()}`"
        ),
        "{text}"
    );
    assert!(text.contains("missing: a.weight [2, 2]\n"), "{text}");

    let wanted = [tensor("net.a.weight", &[2, 2]), tensor("net.b.weight", &[2, 2])];
    let text = refusal(&[f32s("a.weight", &[2, 2]), f32s("b.weight", &[2, 2])], &wanted);
    assert!(text.contains("help: the net's names begin with `net.`"), "{text}");
}

#[test]
fn names_of_another_convention() {
    let wanted = [
        tensor("conv1.weight", &[4, 3, 2, 2]),
        tensor("conv1.bias", &[4]),
        tensor("fc6.weight", &[5, 4]),
        tensor("fc7.weight", &[5, 4]),
    ];
    let entries = [
        f32s("features.0.weight", &[4, 3, 2, 2]),
        f32s("fc_6.weight", &[5, 4]),
        f32s("fc_7.weight", &[5, 4]),
        f32s("other.bias", &[4]),
    ];
    let text = refusal(&entries, &wanted);
    assert!(text.contains("missing: conv1.bias [4]\n"), "{text}");
    for (name, meant) in [("conv1", "features.0"), ("fc6", "fc_6"), ("fc7", "fc_7")] {
        let hint = format!(
            "(did you mean `{meant}.weight`, which has this shape? Then give the layer \
             `weights: {meant}` instead of `{name}`)"
        );
        assert!(text.contains(&hint), "{text}");
    }
}

#[test]
fn remedies_for_shapes() {
    for (wanted, found, remedy) in [
        (&[96, 3, 11, 5][..], &[11, 5, 3, 96][..], "permute(3, 2, 0, 1)"),
        (&[96, 3, 11, 5], &[96, 11, 5, 3], "permute(0, 3, 1, 2)"),
        (&[8, 6, 5, 5], &[8, 3, 5, 5], "`groups` multiplied by 2"),
        (&[8, 3, 5, 5], &[8, 6, 5, 5], "`groups` divided by 2"),
        (&[10, 7], &[12, 7], "has 12 outputs"),
        (&[10], &[12], "has 12 outputs"),
        (&[4, 24], &[4, 6, 2, 2], "`tensor.reshape(4, 24)`"),
    ] {
        let text = refusal(&[f32s("l.weight", found)], &[tensor("l.weight", wanted)]);
        assert!(text.contains(remedy), "{text}");
        assert!(text.contains("1 of the wrong shape"), "{text}");
    }
    let text = refusal(&[f32s("l.weight", &[4, 6])], &[tensor("l.weight", &[4, 7])]);
    assert!(text.ends_with("shape: l.weight [4, 7], but [4, 6] in the file"), "{text}");
}

#[test]
fn other_formats_are_recognised() {
    let folder = Folder::new();
    for (name, bytes, expected) in [
        ("w.pth", &b"PK\x03\x04rest of the zip"[..], "w.pth is a zip archive, as torch.save"),
        ("w.npz", b"PK\x03\x04rest of the zip", "is a NumPy archive"),
        ("w.pt", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "is a pickle"),
        ("w.h5", b"\x89HDF\r\n\x1a\n0000", "is an HDF5 file"),
        ("w.npy", b"\x93NUMPY\x01\x00v\x00{'descr'", "is a single NumPy array"),
        ("w.gguf", b"GGUF\x03\x00\x00\x00\x00", "is a GGUF file"),
        ("w.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("w.safetensors", b"\n<!DOCTYPE html><html>", "is a web page"),
        ("w.onnx", b"\x08\x07\x12\x07pytorch\x1a", "is an ONNX model"),
        ("w.safetensors", b"", "w.safetensors is empty"),
        ("README.md", b"# alexc\n", "a format that is not known"),
        ("w.bin", b"\x10\x00\x00\x00\x00\x00\x00\x00some text", "a format that is not known"),
    ] {
        let error = folder.check(name, bytes, &[]).unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    }
    let path = folder.0.path().to_str().unwrap();
    assert!(open(path).unwrap_err().to_string().contains("is a directory"));
    let error = open(&format!("{path}/none.safetensors")).unwrap_err().to_string();
    assert!(error.contains("none.safetensors: No such file"), "{error}");
    let error = open("random:x").unwrap_err().to_string();
    assert!(error.starts_with("`random:x` is not `random:SEED`"), "{error}");
    let error = open("random").unwrap_err().to_string();
    assert!(error.starts_with("`random` is not `random:SEED`"), "{error}");
}

/// A pickle begins with 0x80 and its version, and so may the length of a real header.
#[test]
fn a_header_as_long_as_a_pickle_looks() {
    let entries = || [f32s("a", &[1])];
    let bare = bytes_of(&entries(), 0).len() - 4 - 8;
    let bytes = bytes_of(&entries(), 0x0280 - bare);
    assert_eq!(bytes[..2], [0x80, 2]);
    Folder::new().check("w.safetensors", &bytes, &[tensor("a", &[1])]).unwrap();
}

/// Cut anywhere and with any byte changed, the file is refused or read, never a panic.
#[test]
fn damaged_files() {
    let entries = [f32s("a.weight", &[3, 2]), f32s("a.bias", &[3])];
    let wanted = [tensor("a.weight", &[3, 2]), tensor("a.bias", &[3])];
    let whole = bytes_of(&entries, 3);
    let folder = Folder::new();
    for length in 0..whole.len() {
        let error = folder.check("w.safetensors", &whole[..length], &wanted).unwrap_err();
        let words = ["empty", "less than any header", "cut short"];
        assert!(words.iter().any(|w| error.contains(w)), "{length}: {error}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    let error = folder.check("w.safetensors", &longer, &wanted).unwrap_err();
    assert!(error.contains("1 bytes at its end belong to no tensor"), "{error}");

    let mut refused = 0;
    for at in 0..whole.len() {
        for flip in [0x01, 0x04, 0x10, 0x80] {
            let mut changed = whole.clone();
            changed[at] ^= flip;
            match folder.check("w.safetensors", &changed, &wanted) {
                Ok(weights) => wanted.iter().for_each(|t| assert!(weights.all(t).len() >= 3)),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > whole.len(), "{refused}");
}

/// Offsets and shapes whose products or sums leave 64 bits.
#[test]
fn sizes_that_overflow() {
    let folder = Folder::new();
    let huge = 1u64 << 60;
    let many: Vec<String> = (0..15)
        .map(|i| {
            let (a, b) = (huge * i, huge * (i + 1));
            format!(r#""t{i}":{{"dtype":"U8","shape":[{huge}],"data_offsets":[{a},{b}]}}"#)
        })
        .chain([format!(
            r#""z":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}"#,
            huge - 1,
            huge * 15,
            u64::MAX
        )])
        .collect();
    for header in [
        format!("{{{}}}", many.join(",")),
        r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#.into(),
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,4]}}"#.into(),
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#.into(),
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#.into(),
        r#"{"a":{"dtype":"COMPLEX512","shape":[1],"data_offsets":[0,4]}}"#.into(),
        "[".repeat(100_000),
        format!("{{\"a\":{}", "[".repeat(100_000)),
    ] {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&[0; 4]);
        folder.check("w.safetensors", &bytes, &[tensor("a", &[1])]).unwrap_err();
    }
    for length in [u64::MAX, u64::MAX - 7, 1 << 40] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        let error = folder.check("w.safetensors", &bytes, &[]).unwrap_err();
        assert!(error.contains("cut short"), "{error}");
    }
}
