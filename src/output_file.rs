//! Writing files so that no reader ever finds half of one: into a temporary file beside the
//! target, then renamed over it.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes the file `path` with what `content` writes. A file that stood there before stays as it
/// was until the new one is whole. What is no plain file (`/dev/stdout`, a pipe) is written
/// directly, and a link is followed.
pub fn write_file(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let linked;
    let path = match fs::metadata(path) {
        Ok(about) if about.is_dir() => {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
        }
        Ok(about) if !about.is_file() => {
            let mut file = BufWriter::new(fs::OpenOptions::new().write(true).open(path)?);
            content(&mut file)?;
            return file.flush();
        }
        Ok(_) => {
            linked = fs::canonicalize(path)?;
            &linked
        }
        Err(_) => path,
    };
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        let what = format!("there is no folder {}", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, what));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".alexc-");
    // Temporary files are private otherwise; these are to become what any new file would be.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    let mut writer = BufWriter::new(file.as_file_mut());
    content(&mut writer)?;
    writer.flush()?;
    drop(writer);
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        write_file(&path, |w| w.write_all(b"first")).unwrap();
        let failed = write_file(&path, |w| {
            w.write_all(b"half")?;
            Err(io::Error::other("the middle"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "the middle");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        write_file(&path, |w| w.write_all(b"second")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn places_that_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none/out.txt");
        let error = write_file(&missing, |w| w.write_all(b"x")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(
            error.to_string(),
            format!("there is no folder {}/none", folder.path().display())
        );
        let error = write_file(folder.path(), |w| w.write_all(b"x")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }

    #[cfg(unix)]
    #[test]
    fn links_devices_and_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (target, link, plain) =
            (folder.path().join("target"), folder.path().join("link"), folder.path().join("plain"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_file(&link, |w| w.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new");
        write_file(Path::new("/dev/null"), |w| w.write_all(b"gone")).unwrap();
        fs::write(&plain, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&target), mode(&plain), "as any new file");
    }
}
