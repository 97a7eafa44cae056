//! What the compiler tells about its work, on stderr: with `-v` its stages, with ALEXC_LOG as much
//! as it says.

use super::failure::Failure;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::Write;

/// Names the level.
const VARIABLE: &str = "ALEXC_LOG";

struct Stderr;

impl Log for Stderr {
    /// Other crates speak only where everything is asked for.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
            && (metadata.target().starts_with("alexc") || log::max_level() == LevelFilter::Trace)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = match record.level() {
            Level::Info => format!("alexc: {}\n", record.args()),
            level => format!("alexc {}: {}\n", level.as_str().to_lowercase(), record.args()),
        };
        // Where nobody reads, nothing is lost.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// Begins to tell. ALEXC_LOG, where it is set, counts more than `verbose`.
pub(super) fn start(verbose: bool) -> Result<(), Failure> {
    let level = match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        Some(value) => level(&value.to_string_lossy())?,
        None if verbose => LevelFilter::Info,
        None => LevelFilter::Off,
    };
    if level != LevelFilter::Off && log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
    Ok(())
}

fn level(text: &str) -> Result<LevelFilter, Failure> {
    text.parse().map_err(|_| {
        Failure::Usage(format!(
            "{VARIABLE} is `{text}`; it must be off, error, warn, info, debug or trace"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        assert_eq!(level("debug").unwrap(), LevelFilter::Debug);
        assert_eq!(level("OFF").unwrap(), LevelFilter::Off);
        assert!(level("loud").is_err() && level("3").is_err());
    }
}
