//! What was measured, kept between runs: one small JSON file for each key, in a folder of the
//! user's. The file holds the whole key, so that one that was made for something else is never
//! taken, whatever its name. What cannot be read, or says what nobody wrote, counts as missing.

use crate::algorithm::{Algorithm, Override};
use crate::compile::{Options, identifier};
use crate::graph::Graph;
use crate::output_file::write_file;
use alexc_codegen::ir::DType;
use alexc_runtime::caches::caches;
use alexc_runtime::container::checksum;
use alexc_runtime::cpu::Cpu;
use alexc_runtime::opencl::kept::{Kept, describe};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Of the files and of the key's text; a new one leaves all older files unread.
const FORMAT: u32 = 1;
/// How their names end.
const EXTENSION: &str = ".tune.json";
/// How the names of built OpenCL programs end, which share the folder.
pub const PROGRAM_EXTENSION: &str = ".clprogram";
/// How the names of choices for OpenCL devices end, see `crate::opencl`.
pub const DEVICE_EXTENSION: &str = ".device.json";
/// No file of ours is as long.
const LONGEST_BYTES: u64 = 4 << 20;

/// What runs the net.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Level and features.
    pub cpu: String,
    /// The sizes of its caches.
    pub caches: String,
    /// Threads of a run.
    pub threads: usize,
}

impl Machine {
    /// The one at hand.
    pub fn this(threads: usize) -> Machine {
        let caches =
            caches().into_iter().map(|c| format!("L{} {} {}", c.level, c.kind.name(), c.bytes));
        let caches = caches.collect::<Vec<_>>().join(", ");
        Machine { cpu: Cpu::detect().to_string(), caches, threads }
    }
}

/// Everything that the best algorithms depend on, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    net: String,
    lines: Vec<String>,
}

impl Key {
    /// For a graph after the passes.
    pub fn new(fused: &Graph, options: &Options, machine: &Machine) -> Key {
        Key::of_version(env!("CARGO_PKG_VERSION"), fused, options, machine)
    }

    fn of_version(version: &str, fused: &Graph, options: &Options, machine: &Machine) -> Key {
        let math = options.math.name();
        let weights = match options.weights_dtype {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::I16 => "int16",
            DType::I8 => "int8",
        };
        let overrides = options.overrides.iter().map(|o| format!(" {}={}", o.layer, o.algorithm));
        let mut lines = vec![
            format!("alexc {version}"),
            format!("cpu {}", machine.cpu),
            format!("caches {}", machine.caches),
            format!("threads {}", machine.threads),
            format!("target {}", options.target),
            format!("emitter {}", options.emitter()),
            format!("math {math}, weights {weights}, fusion {}", options.fuse),
            format!("chosen by the user:{}", overrides.collect::<String>()),
        ];
        lines.extend(fused.to_string().lines().map(str::to_owned));
        Key { net: identifier(&fused.name), lines }
    }

    /// The net's name for people, a hash of everything for the machine.
    fn file_name(&self) -> String {
        let hash = checksum(self.lines.join("\n").as_bytes(), 1);
        format!("{}-{hash:016x}{EXTENSION}", self.net)
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// An algorithm for each convolution that has a choice, in the order of the graph.
    pub choices: Vec<Override>,
    /// A run with the cost model's choices, in milliseconds.
    pub untuned_ms: f64,
    /// A run with these.
    pub tuned_ms: f64,
}

/// The shape of kernels that was found for a device, see `crate::opencl`, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceChoice {
    /// Everything that it depends on.
    pub key: Vec<String>,
    /// Its name.
    pub choice: String,
    /// A run with it.
    pub milliseconds: f64,
}

impl DeviceChoice {
    /// What is in a file, if that is whole.
    pub fn read(file: &Path) -> Option<DeviceChoice> {
        serde_json::from_slice(&small_file(file)?).ok()
    }

    /// Writes it to a file of a cache, whose folder is made first.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        file.parent().map_or(Ok(()), fs::create_dir_all)?;
        write_file(file, |to| {
            serde_json::to_writer_pretty(&mut *to, self)?;
            to.write_all(b"\n")
        })
    }

    /// The device that it was measured on, as the key says.
    pub fn device(&self) -> Option<&str> {
        self.key.iter().find_map(|line| line.strip_prefix("device "))
    }
}

/// Files of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Measured algorithms.
    pub algorithms: usize,
    /// Choices for devices.
    pub devices: usize,
    /// Built programs.
    pub programs: usize,
}

impl Removed {
    /// All of them.
    pub fn all(&self) -> usize {
        self.algorithms + self.devices + self.programs
    }
}

/// A file as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    format: u32,
    untuned_ms: f64,
    tuned_ms: f64,
    choices: Vec<Choice>,
    key: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Choice {
    layer: String,
    algorithm: String,
}

impl Content {
    fn entry(&self) -> Option<Entry> {
        let choice = |choice: &Choice| {
            let algorithm: Algorithm = choice.algorithm.parse().ok()?;
            Some(Override { layer: choice.layer.clone(), algorithm })
        };
        let choices = self.choices.iter().map(choice).collect::<Option<_>>()?;
        Some(Entry { choices, untuned_ms: self.untuned_ms, tuned_ms: self.tuned_ms })
    }
}

/// Why the folder or a file of it cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct CacheError {
    /// The file or the folder.
    pub path: PathBuf,
    /// The system's reason.
    pub source: io::Error,
}

/// The folder with its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// In a folder, which is made when the first file is written.
    pub fn new(folder: impl Into<PathBuf>) -> Cache {
        Cache { folder: folder.into() }
    }

    /// Where the user wants it: `ALEXC_CACHE_DIR`, or `alexc` in `XDG_CACHE_HOME`, or in `.cache`
    /// of the home folder. Nothing where none is known.
    pub fn of_user() -> Option<Cache> {
        Cache::of(|name| std::env::var_os(name), std::env::home_dir())
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Option<Cache> {
        let named = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // Relative ones are to be ignored, says the XDG base directory specification.
        let shared = named("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        named("ALEXC_CACHE_DIR")
            .or_else(|| shared.map(|path| path.join("alexc")))
            .or_else(|| {
                let home = home.filter(|path| !path.as_os_str().is_empty())?;
                Some(home.join(".cache").join("alexc"))
            })
            .map(Cache::new)
    }

    /// Where the files lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The entry of a key and its file.
    pub fn read(&self, key: &Key) -> Option<(PathBuf, Entry)> {
        let path = self.folder.join(key.file_name());
        let content = content(&path)?;
        if content.key != key.lines {
            return None;
        }
        Some((path, content.entry()?))
    }

    /// Keeps an entry; gives its file.
    pub fn write(&self, key: &Key, entry: &Entry) -> Result<PathBuf, CacheError> {
        let failed = |path: &Path, source| CacheError { path: path.to_owned(), source };
        fs::create_dir_all(&self.folder).map_err(|e| failed(&self.folder, e))?;
        let path = self.folder.join(key.file_name());
        let choice =
            |o: &Override| Choice { layer: o.layer.clone(), algorithm: o.algorithm.to_string() };
        let content = Content {
            format: FORMAT,
            untuned_ms: entry.untuned_ms,
            tuned_ms: entry.tuned_ms,
            choices: entry.choices.iter().map(choice).collect(),
            key: key.lines.clone(),
        };
        write_file(&path, |file| {
            serde_json::to_writer_pretty(&mut *file, &content)?;
            file.write_all(b"\n")
        })
        .map_err(|e| failed(&path, e))?;
        Ok(path)
    }

    /// All files of measurements, by name, with what is in them; nothing for one that is damaged
    /// or of another version.
    pub fn list(&self) -> Result<Vec<(PathBuf, Option<Entry>)>, CacheError> {
        let read = |path: PathBuf| {
            let entry = content(&path).and_then(|content| content.entry());
            (path, entry)
        };
        Ok(self.files(EXTENSION)?.into_iter().map(read).collect())
    }

    /// All files of built OpenCL programs in the same way.
    pub fn programs(&self) -> Result<Vec<(PathBuf, Option<Kept>)>, CacheError> {
        let read = |path: PathBuf| {
            let kept = fs::read(&path).ok().and_then(|file| describe(&file));
            (path, kept)
        };
        Ok(self.files(PROGRAM_EXTENSION)?.into_iter().map(read).collect())
    }

    /// All files of choices for devices in the same way.
    pub fn devices(&self) -> Result<Vec<(PathBuf, Option<DeviceChoice>)>, CacheError> {
        let read = |path: PathBuf| {
            let choice = DeviceChoice::read(&path);
            (path, choice)
        };
        Ok(self.files(DEVICE_EXTENSION)?.into_iter().map(read).collect())
    }

    /// The files whose names end so, by name.
    fn files(&self, extension: &str) -> Result<Vec<PathBuf>, CacheError> {
        let failed = |source| CacheError { path: self.folder.clone(), source };
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            // Other files are no matter of ours.
            if entry.file_name().to_string_lossy().ends_with(extension) {
                paths.push(entry.path());
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// Removes all files that [`Cache::list`], [`Cache::devices`] and [`Cache::programs`] name; gives
    /// how many there were.
    pub fn clear(&self) -> Result<Removed, CacheError> {
        let removed = |extension| {
            let mut count = 0;
            for path in self.files(extension)? {
                match fs::remove_file(&path) {
                    // Another process was faster.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(source) => return Err(CacheError { path, source }),
                    Ok(()) => count += 1,
                }
            }
            Ok(count)
        };
        Ok(Removed {
            algorithms: removed(EXTENSION)?,
            devices: removed(DEVICE_EXTENSION)?,
            programs: removed(PROGRAM_EXTENSION)?,
        })
    }
}

/// What is in a file that may be one of ours.
fn small_file(path: &Path) -> Option<Vec<u8>> {
    let about = fs::metadata(path).ok()?;
    if !about.is_file() || about.len() > LONGEST_BYTES {
        return None;
    }
    fs::read(path).ok()
}

/// What is in a file, if that is whole and of this format.
fn content(path: &Path) -> Option<Content> {
    let content: Content = serde_json::from_slice(&small_file(path)?).ok()?;
    Some(content).filter(|content| content.format == FORMAT)
}

#[cfg(test)]
mod tests;
