//! Files mapped into memory, read-only. Weight files are far larger than everything else a net
//! needs; mapped, their pages are read once, shared between processes and never copied.

use std::{fs::File, io, ops::Range, path::Path, sync::Arc};

/// A whole regular file, mapped read-only. Clones share the mapping.
///
/// While it is mapped, nobody may write into the file or make it shorter: the contents that
/// `as_bytes` promises to be constant would change, and reading behind a new end kills the
/// process (SIGBUS). Replacing the file by renaming another over it is safe.
#[derive(Debug, Clone)]
pub struct MappedFile {
    map: Arc<memmap2::Mmap>,
}

impl MappedFile {
    /// Maps the file. Directories, pipes and devices are refused with
    /// [`io::ErrorKind::InvalidInput`].
    pub fn open(path: impl AsRef<Path>) -> io::Result<MappedFile> {
        // A pipe would block when opened, so ask what it is first.
        let path = path.as_ref();
        Self::require_regular(&std::fs::metadata(path)?)?;
        let file = File::open(path)?;
        Self::require_regular(&file.metadata()?)?;
        // SAFETY: the mapping is read-only and lives as long as every reference into it. That the
        // file keeps its contents meanwhile is the caller's part, stated above; no language can
        // enforce it for a file.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(MappedFile { map: Arc::new(map) })
    }

    fn require_regular(metadata: &std::fs::Metadata) -> io::Result<()> {
        if metadata.is_file() {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        }
    }

    /// The contents; they begin at a page boundary.
    pub fn as_bytes(&self) -> &[u8] {
        &self.map
    }

    /// Tells the system that `range` will not be read soon: its pages no longer count towards
    /// this process's memory. The contents stay; reading them again costs a page fault. Only
    /// whole pages inside the range are given back. A range that reaches out of the file, or a
    /// system without such a call, is ignored.
    pub fn release(&self, range: Range<usize>) {
        #[cfg(target_os = "linux")]
        if range.start < range.end && range.end <= self.map.len() {
            let page = page_bytes();
            let begin = range.start.next_multiple_of(page);
            // The file's last page belongs to the range that holds the file's last byte.
            let end = if range.end == self.map.len() { range.end } else { range.end / page * page };
            if begin < end {
                // SAFETY: the mapping is shared with the file and never written, so pages that
                // are dropped come back with the same contents.
                let advised = unsafe {
                    self.map.unchecked_advise_range(
                        memmap2::UncheckedAdvice::DontNeed,
                        begin,
                        end - begin,
                    )
                };
                // Only advice: the contents are the same either way.
                advised.ok();
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = range;
    }
}

/// An upper bound of the page size where 4 KiB pages are not the rule.
#[cfg(target_os = "linux")]
fn page_bytes() -> usize {
    if cfg!(target_arch = "x86_64") { 4096 } else { 65536 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temp(name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("alexc-mapped-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn contents_are_the_files() {
        let bytes: Vec<u8> = (0..70_000_u32).map(|i| (i % 251) as u8).collect();
        let path = temp("contents", &bytes);
        let mapped = MappedFile::open(&path).unwrap();
        assert_eq!(mapped.as_bytes(), bytes);
        assert_eq!(mapped.as_bytes().as_ptr() as usize % 64, 0);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(mapped.clone().as_bytes(), bytes, "the mapping outlives the name");
    }

    #[test]
    fn empty_file_is_empty() {
        let path = temp("empty", b"");
        assert_eq!(MappedFile::open(&path).unwrap().as_bytes(), b"");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn directory_is_refused() {
        let error = MappedFile::open(std::env::temp_dir()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "not a regular file");
    }

    #[test]
    fn absent_file_is_an_error() {
        let error = MappedFile::open("/nowhere/at/all").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn released_pages_read_the_same() {
        let bytes: Vec<u8> = (0..300_001_u32).map(|i| (i * 7 % 253) as u8).collect();
        let path = temp("release", &bytes);
        let mapped = MappedFile::open(&path).unwrap();
        for range in [0..0, 1..4097, 0..bytes.len(), 5000..200_000, 7..usize::MAX] {
            mapped.release(range);
            assert_eq!(mapped.as_bytes(), bytes);
        }
        std::fs::remove_file(path).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn released_pages_leave_this_process() {
        fn resident_kib() -> u64 {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        }
        let bytes = vec![1; 64 << 20];
        let path = temp("resident", &bytes);
        let mapped = MappedFile::open(&path).unwrap();
        let sum: u64 = mapped.as_bytes().iter().map(|&byte| u64::from(byte)).sum();
        assert_eq!(sum, 64 << 20);
        let before = resident_kib();
        mapped.release(0..bytes.len());
        let after = resident_kib();
        // Other tests of this process map files too, but small ones.
        assert!(after + (48 << 10) < before, "{before} KiB before, {after} KiB after");
        std::fs::remove_file(path).unwrap();
    }
}
