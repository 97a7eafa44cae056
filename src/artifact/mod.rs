//! What `alexc build` makes of a compiled net: files that an app links or loads. The same input
//! gives the same bytes: no times, no paths, no names of machines go into a file.

mod manifest;
mod rust;
mod self_test;

pub use self_test::{SelfTestError, self_test};

use crate::compile::{Compiled, Options};
use crate::output_file::write_file;
use crate::spec::Spec;
use alexc_codegen::object::{self, ObjectError, ObjectOptions, SelfTest, Variant};
use alexc_runtime::module::{self, Module};
use alexc_runtime::weights::Weights;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use target_lexicon::OperatingSystem;

/// Who makes the files, as they state it.
pub const COMPILER: &str = concat!("alexc ", env!("CARGO_PKG_VERSION"));

/// Kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// A relocatable object for the linker
    Object,
    /// The object as a static library
    Staticlib,
    /// The headers of object and library, for C and for C++
    Header,
    #[value(skip)]
    /// The header for C++, which comes with the one for C.
    HeaderCpp,
    /// A Rust file to include, which wraps the library in a type with the net's shapes
    Rust,
    /// The packed weights, made to be mapped
    Weights,
    /// What alexc-runtime loads
    Module,
    /// Interface, sizes, methods and hashes as JSON
    Manifest,
}

impl Kind {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Object => "object",
            Kind::Staticlib => "staticlib",
            Kind::Header => "header",
            Kind::HeaderCpp => "header-cpp",
            Kind::Rust => "rust",
            Kind::Weights => "weights",
            Kind::Module => "module",
            Kind::Manifest => "manifest",
        }
    }
}

/// Everything that files are made of.
#[derive(Debug, Clone, Copy)]
pub struct Artifact<'a> {
    /// The net's spec.
    pub spec: &'a Spec,
    /// The net.
    pub compiled: &'a Compiled,
    /// How it was compiled.
    pub options: &'a Options,
    /// The same net for lesser processors, for object and library; those that have least first.
    pub lesser: &'a [(Compiled, Options)],
    /// Names of the classes; may be none.
    pub labels: &'a [String],
    /// The packed weights, where there are any.
    pub weights: Option<&'a Weights>,
    /// They shall lie in object and library.
    pub embed: bool,
    /// What the object's self test expects.
    pub self_test: Option<&'a SelfTest>,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// Why files could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The object could not be made.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Weights are to be written and none are given.
    #[error("there are no weights to write: name them with --weights")]
    NoWeights,
    /// The system refused a file.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Artifact<'_> {
    /// Writes files into a folder, which is made where it does not exist.
    pub fn write(&self, kinds: &[Kind], folder: &Path) -> Result<Vec<Written>, ArtifactError> {
        let mut kinds = kinds.to_vec();
        if kinds.contains(&Kind::Header) {
            kinds.push(Kind::HeaderCpp);
        }
        // The manifest, last of all, tells about the others.
        kinds.sort();
        kinds.dedup();
        let object = if kinds.iter().any(|kind| matches!(kind, Kind::Object | Kind::Staticlib)) {
            object::write(self.program(), &self.object_options())?
        } else {
            Vec::new()
        };
        make_folder(folder)?;
        let mut written: Vec<Written> = Vec::new();
        for kind in kinds {
            let path = folder.join(self.file_name(kind));
            let bytes = match kind {
                Kind::Object => write_bytes(&path, &object)?,
                Kind::Staticlib => write_bytes(&path, &self.archive(&object))?,
                Kind::Header => write_bytes(&path, self.header().as_bytes())?,
                Kind::HeaderCpp => {
                    let header = object::cpp_header(self.program(), &self.object_options());
                    write_bytes(&path, header.as_bytes())?
                }
                Kind::Rust => write_bytes(&path, self.rust().as_bytes())?,
                Kind::Weights => self.write_weights(&path)?,
                Kind::Module => write_bytes(&path, &self.module().to_bytes())?,
                Kind::Manifest => {
                    let manifest = format!("{:#}\n", self.manifest(&written));
                    write_bytes(&path, manifest.as_bytes())?
                }
            };
            written.push(Written { kind, path, bytes });
        }
        Ok(written)
    }

    /// Name of a file, as the target's tools expect it.
    pub fn file_name(&self, kind: Kind) -> String {
        let name = &self.program().name;
        let triple = self.options.target.isa().triple();
        let windows = matches!(triple.operating_system, OperatingSystem::Windows);
        match kind {
            Kind::Object if windows => format!("{name}.obj"),
            Kind::Object => format!("{name}.o"),
            Kind::Staticlib if windows => format!("{name}.lib"),
            Kind::Staticlib => format!("lib{name}.a"),
            Kind::Header => format!("{name}.h"),
            Kind::HeaderCpp => format!("{name}.hpp"),
            Kind::Rust => format!("{name}.rs"),
            Kind::Weights => format!("{name}.{}", module::WEIGHTS_EXTENSION),
            Kind::Module => format!("{name}.{}", module::EXTENSION),
            Kind::Manifest => format!("{name}.json"),
        }
    }

    fn program(&self) -> &alexc_runtime::program::Program {
        &self.compiled.program
    }

    fn header(&self) -> String {
        object::header(self.program(), &self.object_options())
    }

    fn object_options(&self) -> ObjectOptions<'_> {
        ObjectOptions {
            target: self.options.target.clone(),
            lesser: self
                .lesser
                .iter()
                .map(|(compiled, options)| Variant {
                    program: &compiled.program,
                    target: &options.target,
                })
                .collect(),
            preprocess: self.spec.preprocess.as_ref(),
            labels: self.labels,
            weights: self.weights.filter(|_| self.embed).map(Weights::as_bytes),
            self_test: self.self_test,
        }
    }

    fn archive(&self, object: &[u8]) -> Vec<u8> {
        let symbols = object::exports(self.program(), &self.object_options());
        let member = self.file_name(Kind::Object);
        object::archive(&self.options.target, &member, object, &symbols)
    }

    fn module(&self) -> Module {
        Module {
            program: self.program().clone(),
            compiler: COMPILER.to_owned(),
            labels: self.labels.to_vec(),
            preprocess: self.spec.preprocess.clone(),
            probabilities: self.compiled.fused.ends_with_softmax(),
        }
    }

    fn write_weights(&self, path: &Path) -> Result<u64, ArtifactError> {
        let weights = self.weights.ok_or(ArtifactError::NoWeights)?;
        write_file(path, |file| weights.write(self.program(), file))
            .map_err(|source| ArtifactError::File { path: path.to_path_buf(), source })?;
        Ok((alexc_runtime::container::HEADER_BYTES + weights.as_bytes().len()) as u64)
    }
}

/// Makes a folder with all those around it.
pub fn make_folder(folder: &Path) -> Result<(), ArtifactError> {
    let made = match fs::metadata(folder) {
        Ok(about) if !about.is_dir() => Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            "it is a file, and a folder is wanted",
        )),
        _ => fs::create_dir_all(folder),
    };
    made.map_err(|source| ArtifactError::File { path: folder.to_path_buf(), source })
}

fn write_bytes(path: &Path, bytes: &[u8]) -> Result<u64, ArtifactError> {
    write_file(path, |file| file.write_all(bytes))
        .map_err(|source| ArtifactError::File { path: path.to_path_buf(), source })?;
    Ok(bytes.len() as u64)
}
