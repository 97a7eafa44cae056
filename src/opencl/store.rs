//! Built programs in the user's cache, one file for each key.

use crate::output_file::write_file;
use crate::tune::cache::{Cache, PROGRAM_EXTENSION};
use alexc_runtime::opencl::Store;
use alexc_runtime::opencl::kept::ProgramKey;
use std::fs;
use std::path::PathBuf;

/// The programs of a cache.
#[derive(Debug, Clone)]
pub struct Programs(Cache);

impl Programs {
    /// In this cache.
    pub fn new(cache: Cache) -> Programs {
        Programs(cache)
    }

    /// Where a key's file is. It holds the whole key, so two of one name do no harm.
    fn path(&self, key: &ProgramKey) -> PathBuf {
        self.0.folder().join(format!("{}-{:016x}{PROGRAM_EXTENSION}", key.net, key.hash()))
    }
}

impl Store for Programs {
    fn find(&self, key: &ProgramKey) -> Option<Vec<u8>> {
        fs::read(self.path(key)).ok()
    }

    fn keep(&self, key: &ProgramKey, file: &[u8]) {
        let path = self.path(key);
        let kept = fs::create_dir_all(self.0.folder())
            .and_then(|()| write_file(&path, |to| to.write_all(file)));
        if let Err(error) = kept {
            log::warn!("{}: the built program is not kept: {error}", path.display());
        }
    }
}
