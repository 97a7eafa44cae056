//! The command line: raw arguments (`args`) become typed ones, commands do the work and their
//! failures become exit codes. A command is one file here and one line in `Command` and `dispatch`.

pub mod args;
mod bench;
mod build;
mod cache;
mod check;
mod compare;
mod device;
mod devices;
mod dump;
pub(crate) mod embed;
mod failure;
mod labelled;
mod load;
mod log;
mod memory;
mod net;
#[cfg(feature = "opencl")]
mod opencl;
mod profile;
mod progress;
mod run;
mod tuning;

use args::{Cli, Command};
use clap::Parser;
use failure::Failure;
use std::io::Write;
use std::process::ExitCode;

/// Runs the command with the process's arguments. Exit codes: 0 done, 1 the input is wrong, 2 wrong
/// usage, 3 a comparison found a difference, 4 no such device.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come here too; they are no mistakes.
            let told = error.print().and_then(|()| std::io::stdout().flush());
            return ExitCode::from(match told {
                _ if error.use_stderr() => 2,
                Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => 1,
                _ => 0,
            });
        }
    };
    match log::start(cli.command.verbose()).and_then(|()| dispatch(&cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(cli.command.json());
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Check(args) => check::run(args),
        Command::Run(args) => run::run(args),
        Command::Build(args) => build::run(args),
        Command::Dump(args) => dump::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Profile(args) => profile::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Cache(args) => cache::run(args),
    }
}
