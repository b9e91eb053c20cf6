//! The CNI plugin: one verb, one answer, one process; no daemon, no API, no other program.
//!
//! ```text
//! env + stdin → cni::Request → ledger::reserve → plan (pure) → kernel, under Undo → cni::Success → stdout
//! ```
//! `add` is that road from top to bottom; `del` derives the same names again and takes everything away. This file is the
//! only one that knows all verbs.

pub mod cni;
pub mod ipam;
pub mod ledger;
pub mod plan;

mod add;
mod del;
mod undo;

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use cni::{Failure, Request};
use ledger::Ledger;

/// Where the ledger is kept: a tmpfs, so that a reboot, which ends every pod, frees every address.
const STATE: &str = "/run/podwire";

/// Executes the verb that the environment names, and writes the one answer. 0 is success.
pub fn run(
    environment: &dyn Fn(&str) -> Option<String>,
    input: &mut dyn Read,
    output: &mut dyn Write,
    log: &mut dyn Write,
) -> ExitCode {
    let (answer, code) = match answer(environment, input, log) {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(failure) => (failure.render(), ExitCode::FAILURE),
    };
    match output.write_all(answer.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => code,
        Err(error) => {
            // Nobody is left to be told but the log; a log that cannot be written has no reader either.
            let _ = writeln!(log, "podwire: write the answer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn answer(
    environment: &dyn Fn(&str) -> Option<String>,
    input: &mut dyn Read,
    log: &mut dyn Write,
) -> Result<String, Failure> {
    match cni::read(environment, input)? {
        Request::About => {
            let (version, versions) = (env!("CARGO_PKG_VERSION"), cni::VERSIONS.join(", "));
            let text = format!("CNI plugin podwire v{version}\nCNI protocol versions supported: {versions}\n");
            log.write_all(text.as_bytes()).map_err(|error| Failure::io("write the version", &error))?;
            Ok(String::new())
        }
        Request::Version => Ok(cni::render_versions()),
        Request::Add(request) => {
            let attach = || {
                let ledger = Ledger::open(Path::new(STATE), &request.attachment.network)?;
                add::add(&request, &ledger)
            };
            let success = attach().map_err(|failure| failure.in_version(&request.version))?;
            Ok(success.render(&request))
        }
        Request::Del(request) => {
            del::del(&request, Path::new(STATE)).map_err(|failure| failure.in_version(&request.version))?;
            Ok(String::new())
        }
    }
}
