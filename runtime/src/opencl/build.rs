//! Source to a program of a device's driver, by its compiler or from what was kept of an earlier
//! build.

use super::api::{self, CallError, Context};
use super::devices::{About, Device};
use super::kept::{ProgramKey, from_file, to_file};
use super::session::Net;
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{LazyLock, Mutex, PoisonError};

/// How a driver builds a net's kernels.
#[derive(Clone, Copy)]
pub struct Build<'a> {
    /// Where built programs are looked up and kept.
    pub store: Option<&'a dyn Store>,
    /// The driver may take its time. Without it a program is built sooner and runs slower, which
    /// suits nets that run once.
    pub optimise: bool,
}

impl Default for Build<'_> {
    fn default() -> Self {
        Build { store: None, optimise: true }
    }
}

impl Build<'_> {
    /// Rounding is as the source says: nothing is relaxed. Warnings are off: PoCL counts them on
    /// standard error (on a CPU with AVX2 there are some, on one with AVX-512 none were seen).
    fn options(&self) -> &'static str {
        if self.optimise { "-cl-std=CL1.2 -w" } else { "-cl-std=CL1.2 -w -cl-opt-disable" }
    }

    /// What to try, the best first.
    fn attempts(&self, about: &About, most_registers: Option<u32>) -> Vec<String> {
        let plain = self.options().to_owned();
        // An extension's option, which the driver may have dropped.
        let capped = most_registers
            .filter(|_| about.extensions.contains("cl_nv_compiler_options"))
            .map(|most| format!("{plain} -cl-nv-maxrregcount={most}"));
        capped.into_iter().chain([plain]).collect()
    }
}

/// A place where built programs outlive the process.
pub trait Store {
    /// What [`Store::keep`] was given for this key, if it is still there.
    fn find(&self, key: &ProgramKey) -> Option<Vec<u8>>;
    /// Keeps a file; one that cannot be kept is built again next time.
    fn keep(&self, key: &ProgramKey, file: &[u8]);
}

/// Everything that a built program depends on.
fn key(net: &str, source: &str, about: &About, options: &str) -> ProgramKey {
    let About { name, vendor, platform, platform_version, version, driver, units, .. } = about;
    let mut lines = vec![
        format!("alexc {}", env!("CARGO_PKG_VERSION")),
        format!("device {name}, {vendor}, {units} units, {version}"),
        format!("driver {driver}"),
        format!("platform {platform}, {platform_version}"),
        format!("options {options}"),
    ];
    lines.extend(source.lines().map(str::to_owned));
    ProgramKey { net: net.to_owned(), lines }
}

/// A program that a driver did not take.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Whether a driver builds a program with NVIDIA's PTX in it. Asked once of each device and
/// program; a driver that says no does so without a word. Others than NVIDIA's are not asked: a
/// compiler for another processor may not survive the question.
pub fn takes_ptx(device: &Device, source: &str) -> bool {
    /// Device, driver and program, with the answer.
    type Answers = HashMap<(String, String, String), bool>;
    static ANSWERS: LazyLock<Mutex<Answers>> = LazyLock::new(Mutex::default);
    let About { name, driver, .. } = &device.about;
    if !speaks_ptx(&device.about) {
        return false;
    }
    let question = (name.clone(), driver.clone(), source.to_owned());
    let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    *answers.entry(question).or_insert_with(|| builds(device, source))
}

/// Whether the driver's compiler makes PTX.
fn speaks_ptx(about: &About) -> bool {
    about.platform.contains("NVIDIA") && about.extensions.contains("cl_nv_")
}

/// Whether a driver builds a program.
fn builds(device: &Device, source: &str) -> bool {
    let options = CString::new(Build::default().options()).unwrap_or_default();
    let program = Context::of(&[device.id]).and_then(|context| context.program(source));
    program.is_ok_and(|program| program.build(device.id, &options).is_ok())
}

/// Builds a net's program, or takes it from the store.
pub(super) fn build(
    context: &Context,
    device: &Device,
    net: &Net,
    how: &Build<'_>,
) -> Result<api::Program, BuildError> {
    let source = net.source();
    let mut attempts = how.attempts(&device.about, net.most_registers).into_iter().peekable();
    loop {
        let options = attempts.next().unwrap_or_default();
        match attempt(context, device, (&net.program.name, &source), &options, how.store) {
            Err(BuildError::Refused(_)) if attempts.peek().is_some() => {}
            Err(BuildError::Call(error))
                if error.status.is_build() && attempts.peek().is_some() => {}
            done => return done,
        }
    }
}

fn attempt(
    context: &Context,
    device: &Device,
    (net, source): (&str, &str),
    options: &str,
    store: Option<&dyn Store>,
) -> Result<api::Program, BuildError> {
    let key = key(net, source, &device.about, options);
    let options = CString::new(options).unwrap_or_default();
    if let Some(file) = store.and_then(|store| store.find(&key))
        && let Ok((lines, binary)) = from_file(&file)
        && lines == key.lines
        && let Ok(program) = context.program_of_binary(device.id, binary)
        && program.build(device.id, &options).is_ok()
    {
        return Ok(program);
    }
    let program = context.program(source)?;
    if let Err(error) = program.build(device.id, &options) {
        let log = program.log(device.id).unwrap_or_default();
        return Err(match error.status.is_build() && !log.is_empty() {
            true => BuildError::Refused(log),
            false => BuildError::Call(error),
        });
    }
    // A driver that gives nothing away costs time at the next start, nothing else.
    if let Some(store) = store
        && let Ok(binary) = program.binary()
        && !binary.is_empty()
    {
        store.keep(&key, &to_file(&key, &binary));
    }
    Ok(program)
}
