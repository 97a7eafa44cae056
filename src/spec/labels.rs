//! Class names: a text file with one class a line.

use super::{Located, Spec};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::input_file::{lines, read_at_most};
use std::path::Path;

/// Largest file that is read.
const MAX_BYTES: u64 = 16 << 20;

/// The labels of a net with `classes` classes; none where the spec names no file, or where `--set`
/// made the net another than the labels were written for. `spec_file` is the file that names them:
/// their path is relative to its folder.
///
/// # Errors
/// Where the file cannot be read, is no UTF-8 text or has another number of lines than there are
/// classes.
pub fn read(
    spec: &Spec,
    spec_file: &Path,
    classes: usize,
) -> Result<Option<Vec<String>>, Diagnostics> {
    let Some(Located { value: name, span }) = &spec.labels else { return Ok(None) };
    let path = spec_file.parent().unwrap_or(Path::new("")).join(name);
    let refuse = |message: String| {
        let mut diagnostics = Diagnostics::new(spec.sources.clone());
        diagnostics.push(
            Diagnostic::error(message)
                .at(*span, "")
                .help("labels are a UTF-8 text file with one class a line"),
        );
        diagnostics
    };
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        refuse(format!("{shown} cannot be read: {}", crate::diagnostic::io_reason(&error)))
    };
    let Some(bytes) = read_at_most(&path, MAX_BYTES).map_err(unreadable)? else {
        return Err(refuse(format!("{shown} is larger than {MAX_BYTES} bytes")));
    };
    let labels = lines(&bytes).map_err(|_| refuse(format!("{shown} is no UTF-8 text")))?;
    if labels.len() != classes {
        if spec.layers.iter().any(super::Layer::changed) {
            return Ok(None);
        }
        let found = labels.len();
        return Err(refuse(format!(
            "{shown} has {found} lines, but the net has {classes} classes"
        )));
    }
    Ok(Some(labels.into_iter().map(str::to_owned).collect()))
}
