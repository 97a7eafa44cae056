//! Reads the text of a spec, refusing what is none.

use crate::diagnostic::Diagnostic;
use crate::input_file::read_at_most;
use std::path::Path;

/// Largest file that is read; the largest spec in the repository has a few thousand bytes.
const MAX_BYTES: u64 = 4 << 20;

/// The text of the file.
///
/// # Errors
/// Where it cannot be read, is too large or is no UTF-8 text.
pub fn read(path: &Path) -> Result<String, Diagnostic> {
    let name = path.display().to_string();
    let refuse = |message: String| Diagnostic::error(message).in_file(name.clone());
    let unreadable = |error: std::io::Error| {
        refuse(format!("the spec cannot be read: {}", crate::diagnostic::io_reason(&error)))
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        let error = refuse("a folder is no spec".to_owned());
        return Err(error.help("name the .yaml file in it"));
    }
    let Some(bytes) = read_at_most(path, MAX_BYTES).map_err(unreadable)? else {
        let size = match metadata.len() {
            0..=MAX_BYTES => "too many".to_owned(),
            length => length.to_string(),
        };
        return Err(refuse(format!("the file has {size} bytes; a spec has at most {MAX_BYTES}")));
    };
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let before = bytes.get(..at).unwrap_or_default();
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let error = refuse(format!("the file is no UTF-8 text (byte {at}, line {line})"));
        let help = match bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it looks like UTF-16: save it as UTF-8",
            _ if bytes.contains(&0) => "it looks like a binary file; a spec is a YAML file",
            _ => "save it as UTF-8",
        };
        error.help(help)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("spec.yaml");
        let refused = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            read(&file).unwrap_err()
        };
        assert!(refused(b"a\n\xff\x00").message.contains("(byte 2, line 2)"));
        assert!(refused(b"\xff\xfea\x00").helps[0].contains("UTF-16"));
        assert!(refused(b"\x80\x00").helps[0].contains("binary"));
        assert!(refused(&vec![b'a'; (MAX_BYTES + 1) as usize]).message.contains("at most"));
        assert!(read(folder.path()).unwrap_err().message.contains("folder"));
        assert!(read(&folder.path().join("none")).unwrap_err().message.contains("no such file"));
        std::fs::write(&file, "name: é").unwrap();
        assert_eq!(read(&file).unwrap(), "name: é");
    }
}
