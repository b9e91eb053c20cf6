//! The CNI plugin: one verb, one answer, one process; no daemon, no API, no other program.
//!
//! ```text
//! env + stdin → cni::Request → ledger::reserve → plan (pure) → kernel, under Undo → cni::Success → stdout
//! ```
//! `add` is that road from top to bottom; `del` derives the same names again and takes everything away; `check`, `gc` and
//! `status` are one file each. This file is the only one that knows all verbs.

pub mod cni;
pub mod input;
pub mod ipam;
pub mod ledger;
pub mod plan;

mod add;
mod check;
mod del;
mod delegate;
mod gc;
mod reclaim;
mod shaping;
mod status;
mod translation;
mod undo;

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use cni::{Del, Failure, Request};

/// Where the ledger is kept: a tmpfs, so that a reboot, which ends every pod, frees every address.
const STATE: &str = "/run/podwire";

/// Executes the verb that the environment names, and writes the one answer. 0 is success. An ADD whose answer nobody takes
/// is undone: nobody would know of it.
pub fn run(
    environment: &dyn Fn(&str) -> Option<String>,
    input: &mut dyn Read,
    output: &mut dyn Write,
    log: &mut dyn Write,
) -> ExitCode {
    let state = Path::new(STATE);
    let read = cni::read(environment, input);
    let attaching = match &read {
        Ok(Request::Add(request)) => {
            Some((request.attachment.clone(), request.netns.clone(), request.delegate.clone()))
        }
        _ => None,
    };
    let answered = read.and_then(|request| answer(&request, state, log));
    let attached = attaching.filter(|_| answered.is_ok());
    let (answer, code) = match answered {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(failure) => (failure.render(), ExitCode::FAILURE),
    };
    let Err(error) = output.write_all(answer.as_bytes()).and_then(|()| output.flush()) else { return code };
    // Nobody is left to be told but the log; a log that cannot be written has no reader either.
    let _ = writeln!(log, "podwire: write the answer: {error}");
    if let Some((attachment, netns, delegate)) = attached {
        let undone = del::del(&Del { attachment, netns: Some(netns), version: cni::VERSIONS[0], delegate }, state);
        if let Err(failure) = undone {
            let _ = writeln!(log, "podwire: undo: {failure}");
        }
    }
    ExitCode::FAILURE
}

fn answer(request: &Request, state: &Path, log: &mut dyn Write) -> Result<String, Failure> {
    match request {
        Request::About => {
            let (version, versions) = (env!("CARGO_PKG_VERSION"), cni::VERSIONS.join(", "));
            let text = format!("CNI plugin podwire v{version}\nCNI protocol versions supported: {versions}\n");
            log.write_all(text.as_bytes()).map_err(|error| Failure::io("write the version", &error))?;
            Ok(String::new())
        }
        Request::Version { version } => Ok(cni::render_versions(version)),
        Request::Add(request) => {
            let success = add::add(request, state).map_err(|failure| failure.in_version(request.version))?;
            Ok(success.render(request.version, request.previous.as_ref()))
        }
        Request::Del(request) => silent(del::del(request, state), request.version),
        Request::Check(request) => silent(check::check(request, state), request.add.version),
        Request::Gc(request) => silent(gc::gc(request, state), request.version),
        Request::Status(request) => silent(status::status(request, state), request.version),
    }
}

/// A verb that answers nothing when it succeeds.
fn silent(done: Result<(), Failure>, version: &str) -> Result<String, Failure> {
    done.map(|()| String::new()).map_err(|failure| failure.in_version(version))
}
