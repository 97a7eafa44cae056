//! Holds a weight file against the tensors of a net. All that is wrong is found in one run, and
//! where the reason can be guessed the message says what to change.

use super::WeightsError;
use super::file::{SafetensorsFile, is_readable};
use crate::graph::Tensor;
use safetensors::tensor::{Dtype, TensorInfo};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

/// A file that does not fit the net.
#[derive(Debug)]
pub struct Mismatch {
    /// The file.
    pub path: PathBuf,
    /// Everything that is wrong, missing tensors first.
    pub problems: Vec<Problem>,
    /// What explains several of the problems at once.
    pub hints: Vec<String>,
}

/// One tensor that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The net reads a tensor that the file does not have.
    Missing {
        /// What the net reads.
        tensor: Tensor,
        /// What to change.
        hint: Option<String>,
    },
    /// The tensor has another shape in the file.
    Shape {
        /// What the net reads.
        tensor: Tensor,
        /// Shape in the file.
        found: Vec<usize>,
        /// What to change.
        hint: Option<String>,
    },
    /// The elements are no floating-point numbers of 16, 32 or 64 bits.
    Type {
        /// What the net reads.
        tensor: Tensor,
        /// Element type in the file.
        found: Dtype,
    },
    /// The file has a tensor that the net does not read.
    Unused {
        /// What the file has.
        tensor: Tensor,
        /// What to change.
        hint: Option<String>,
    },
}

/// Refuses a file that does not fit `tensors`, with everything that is wrong.
pub(super) fn check(file: &SafetensorsFile, tensors: &[&Tensor]) -> Result<(), WeightsError> {
    let (problems, hints) = compare(file.tensors(), tensors);
    if problems.is_empty() {
        return Ok(());
    }
    let path = file.path().to_owned();
    Err(WeightsError::Mismatch(Box::new(Mismatch { path, problems, hints })))
}

fn compare(
    found: &BTreeMap<String, TensorInfo>,
    tensors: &[&Tensor],
) -> (Vec<Problem>, Vec<String>) {
    let wanted: BTreeSet<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
    let mut seen = BTreeSet::new();
    let once: Vec<&Tensor> =
        tensors.iter().copied().filter(|t| seen.insert((&t.name, &t.shape))).collect();
    let missing: Vec<&Tensor> =
        once.iter().copied().filter(|t| !found.contains_key(&t.name)).collect();
    let unused: Vec<Tensor> = found
        .iter()
        .filter(|(name, _)| !wanted.contains(name.as_str()) && !is_training_only(name))
        .map(|(name, info)| Tensor { name: name.clone(), shape: info.shape.clone() })
        .collect();
    let prefix = Prefix::find(&missing, &unused);

    let mut problems = Vec::new();
    for tensor in &missing {
        let hint = if prefix.as_ref().is_some_and(|p| p.explains(tensor, &unused)) {
            None
        } else {
            hint_missing(tensor, &unused, missing.len())
                .or_else(|| hint_no_bias(tensor, tensors, found))
        };
        problems.push(Problem::Missing { tensor: (*tensor).clone(), hint });
    }
    for tensor in once {
        let Some(info) = found.get(&tensor.name) else { continue };
        if squeezed(&info.shape) != squeezed(&tensor.shape) {
            problems.push(Problem::Shape {
                tensor: tensor.clone(),
                found: info.shape.clone(),
                hint: hint_shape(&tensor.shape, &info.shape),
            });
        }
        if !is_readable(info.dtype) {
            problems.push(Problem::Type { tensor: tensor.clone(), found: info.dtype });
        }
    }
    for tensor in unused {
        let hint = hint_unused_bias(&tensor, &wanted);
        problems.push(Problem::Unused { tensor, hint });
    }
    (problems, prefix.map(|p| p.hint()).into_iter().collect())
}

/// Counters that PyTorch's batch norm keeps for training.
fn is_training_only(name: &str) -> bool {
    name.rsplit('.').next() == Some("num_batches_tracked")
}

/// Dimensions of 1 do not move an element: a bias of 1x1x1x96 (old Caffe blobs) is one of 96.
fn squeezed(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&dim| dim != 1).collect()
}

/// Names that differ by the same words in front, as DataParallel and torch.compile leave them.
struct Prefix {
    prefix: String,
    /// True where the file's names have it, false where the net's names have it.
    in_file: bool,
}

impl Prefix {
    fn find(missing: &[&Tensor], unused: &[Tensor]) -> Option<Self> {
        let net: Vec<&str> = missing.iter().map(|t| t.name.as_str()).collect();
        let file: Vec<&str> = unused.iter().map(|t| t.name.as_str()).collect();
        let in_file = most_common_prefix(&file, &net);
        let in_net = most_common_prefix(&net, &file);
        let (prefix, count, in_file) = match (in_file, in_net) {
            (Some((p, n)), Some((_, m))) if n >= m => (p, n, true),
            (_, Some((p, m))) => (p, m, false),
            (Some((p, n)), None) => (p, n, true),
            (None, None) => return None,
        };
        // One tensor of many could be a coincidence.
        (2 * count >= missing.len()).then(|| Prefix { prefix: prefix.to_owned(), in_file })
    }

    fn explains(&self, missing: &Tensor, unused: &[Tensor]) -> bool {
        unused.iter().any(|u| {
            let (long, short) =
                if self.in_file { (&u.name, &missing.name) } else { (&missing.name, &u.name) };
            long.strip_prefix(self.prefix.as_str()) == Some(short)
        })
    }

    fn hint(&self) -> String {
        let prefix = self.prefix.escape_debug();
        if !self.in_file {
            return format!(
                "the net's names begin with `{prefix}` and the file's do not: take it off the \
                 `weights` of the layers in the spec"
            );
        }
        let (reason, save) = match self.prefix.as_str() {
            "module." => (", as DataParallel leaves them", "save `model.module.state_dict()`, or "),
            "_orig_mod." => {
                (", as torch.compile leaves them", "save `model._orig_mod.state_dict()`, or ")
            }
            _ => ("", ""),
        };
        format!(
            "the file's names begin with `{prefix}`{reason}: {save}rename them before saving, \
             `{{k.removeprefix(\"{prefix}\"): v for k, v in state_dict.items()}}`"
        )
    }
}

/// The prefix (ending in a dot) that most often turns a name of `short` into one of `long`.
fn most_common_prefix<'a>(long: &[&'a str], short: &[&str]) -> Option<(&'a str, usize)> {
    let short: BTreeSet<&str> = short.iter().copied().collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in long {
        for (dot, _) in name.match_indices('.') {
            let (prefix, rest) = name.split_at(dot + 1);
            if short.contains(rest) {
                *counts.entry(prefix).or_default() += 1;
            }
        }
    }
    counts.into_iter().max_by_key(|&(_, count)| count)
}

/// The tensor of the file that was probably meant.
fn hint_missing(tensor: &Tensor, unused: &[Tensor], missing: usize) -> Option<String> {
    // Bounds the work on files and nets with hundreds of thousands of tensors.
    if missing.saturating_mul(unused.len()) > 1_000_000 {
        return None;
    }
    let (layer, kind) = tensor.name.rsplit_once('.')?;
    let fitting: Vec<&Tensor> = unused
        .iter()
        .filter(|u| squeezed(&u.shape) == squeezed(&tensor.shape) && u.name.len() < 200)
        .filter(|u| u.name.rsplit_once('.').is_some_and(|(_, k)| k == kind))
        .collect();
    let similarity = |u: &Tensor| strsim::normalized_damerau_levenshtein(&u.name, &tensor.name);
    let meant = match fitting[..] {
        // Many layers have as many biases as another; kernels are distinctive.
        [only] if tensor.shape.len() >= 2 => only,
        _ if tensor.name.len() >= 200 => return None,
        _ => fitting
            .into_iter()
            .filter(|u| similarity(u) >= 0.7)
            .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?,
    };
    let name = meant.name.escape_debug();
    let stem = meant.name.rsplit_once('.').map_or("", |(stem, _)| stem).escape_debug();
    Some(format!(
        "did you mean `{name}`, which has this shape? Then give the layer `weights: {stem}` \
         instead of `{layer}`"
    ))
}

/// A bias that the file lacks although it has the weight.
fn hint_no_bias(
    tensor: &Tensor,
    tensors: &[&Tensor],
    found: &BTreeMap<String, TensorInfo>,
) -> Option<String> {
    let weight = format!("{}.weight", tensor.name.strip_suffix(".bias")?);
    // A batch norm has a weight of rank 1 and cannot go without its bias.
    let has_matrix = found.contains_key(&weight)
        && tensors.iter().any(|t| t.name == weight && t.shape.len() >= 2);
    has_matrix.then(|| "a layer trained without a bias has `bias: false`".to_owned())
}

/// A bias in the file that the spec has switched off.
fn hint_unused_bias(tensor: &Tensor, wanted: &BTreeSet<&str>) -> Option<String> {
    let layer = tensor.name.strip_suffix(".bias")?;
    let weight = format!("{layer}.weight");
    wanted
        .contains(weight.as_str())
        .then(|| "the layer was trained with a bias: take `bias: false` out of the spec".to_owned())
}

/// What turns the file's tensor into the one that the net reads.
fn hint_shape(wanted: &[usize], found: &[usize]) -> Option<String> {
    if let (&[rows, columns], &[first, second]) = (wanted, found)
        && (first, second) == (columns, rows)
    {
        return Some("it is transposed: save `tensor.t().contiguous()`".to_owned());
    }
    if let (&[o, i, h, w], &[a, b, c, d]) = (wanted, found) {
        let order = match [a, b, c, d] {
            found if found == [h, w, i, o] => Some(("H, W, in, out", "3, 2, 0, 1")),
            found if found == [o, h, w, i] => Some(("out, H, W, in", "0, 3, 1, 2")),
            _ => None,
        };
        if let Some((order, permutation)) = order {
            return Some(format!(
                "its dimensions are in the order {order}: save \
                 `tensor.permute({permutation}).contiguous()`"
            ));
        }
        if (o, h, w) == (a, c, d) && b != 0 && i != 0 && (i % b == 0 || b % i == 0) {
            let (more, factor) = if i > b { ("multiplied", i / b) } else { ("divided", b / i) };
            return Some(format!(
                "its kernels read {b} channels each, as with the layer's `groups` {more} by {factor}"
            ));
        }
    }
    if wanted.get(1..) == found.get(1..) && !wanted.is_empty() {
        let key = if wanted.len() == 4 { "out_channels" } else { "out_features or out_channels" };
        return Some(format!("the file's layer has {} outputs: set {key} to it", found[0]));
    }
    let count = |shape: &[usize]| shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim));
    (count(wanted) == count(found)).then(|| {
        let dims: Vec<String> = wanted.iter().map(usize::to_string).collect();
        format!(
            "the number of elements is right; if their order is too, save `tensor.reshape({})`",
            dims.join(", ")
        )
    })
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |kind: fn(&Problem) -> bool| self.problems.iter().filter(|p| kind(p)).count();
        let counts = [
            (count(|p| matches!(p, Problem::Missing { .. })), "missing"),
            (count(|p| matches!(p, Problem::Shape { .. })), "of the wrong shape"),
            (count(|p| matches!(p, Problem::Type { .. })), "of the wrong type"),
            (count(|p| matches!(p, Problem::Unused { .. })), "unused"),
        ];
        let parts: Vec<String> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        write!(f, "{} does not fit the net: tensors {}", self.path.display(), parts.join(", "))?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        for hint in &self.hints {
            write!(f, "\nhelp: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = match self {
            Problem::Missing { tensor, hint } => {
                write!(f, "missing: {}", Named(tensor))?;
                hint
            }
            Problem::Shape { tensor, found, hint } => {
                write!(f, "shape: {}, but {found:?} in the file", Named(tensor))?;
                hint
            }
            Problem::Type { tensor, found } => {
                let name = tensor.name.escape_debug();
                return write!(
                    f,
                    "type: {name} has elements of type {found}; save it as a floating-point \
                     tensor, `tensor.float()`"
                );
            }
            Problem::Unused { tensor, hint } => {
                write!(f, "unused: {}", Named(tensor))?;
                hint
            }
        };
        hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

/// A tensor's name and shape; names come from files, so that control characters are escaped.
struct Named<'a>(&'a Tensor);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.0.name.escape_debug(), self.0.shape)
    }
}
