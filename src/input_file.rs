//! Reading whole files that have a sensible size. What is no plain file, such as a device, may
//! have no end, and its length says nothing.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The contents of the file, or `None` where it has more than `most` bytes.
pub fn read_at_most(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    if file.metadata()?.len() > most {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

/// The lines of a UTF-8 text without the spaces around them, and without the mark of its byte order
/// that some editors write in front.
pub fn lines(text: &[u8]) -> Result<Vec<&str>, std::str::Utf8Error> {
    let text = std::str::from_utf8(text)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text).lines().map(str::trim).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_any_editor() {
        assert_eq!(lines(b"\xef\xbb\xbf3\r\n 4 \r\n\n5").unwrap(), ["3", "4", "", "5"]);
        assert_eq!(lines(b"").unwrap(), [""; 0]);
        assert!(lines(b"3\n\xff").is_err());
    }

    #[test]
    fn limits_hold_for_what_says_no_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read_at_most(&path, 5).unwrap().as_deref(), Some(&b"12345"[..]));
        assert_eq!(read_at_most(&path, 4).unwrap(), None);
        assert!(read_at_most(folder.path(), u64::MAX - 1).is_err());
        #[cfg(unix)]
        {
            assert_eq!(read_at_most(Path::new("/dev/zero"), 1000).unwrap(), None);
            assert_eq!(read_at_most(Path::new("/dev/null"), 0).unwrap(), Some(Vec::new()));
        }
    }
}
