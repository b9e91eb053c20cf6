//! The CNI plugin: one verb, one answer, one process; no API, no other program, and no daemon but for the question whether the
//! policies of a new pod are in force.
//! What the daemon needs as well (the ledger, names, the host side) is in `podwire-attachment`, not here.
//!
//! ```text
//! env + stdin → cni::Request → Ledger::reserve → plan (pure) → kernel, under Undo → cni::Success → stdout
//! ```
//! Each verb is one file: `add`, `del`, `check`, `gc`, `status`. This file is the only one that knows them all.

#![warn(clippy::print_stderr, reason = "what others have named in it is to be escaped: `log::note`, or tracing")]

pub mod cni;
pub mod plan;
pub mod stdin;

mod add;
mod check;
mod del;
mod delegate;
mod gc;
mod node_ready;
mod pod_netns;
mod policies;
mod settle;
mod shaping;
mod status;
mod undo;

use std::io::{Read, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;

use podwire_conf::defaults;

use crate::cni::{Code, Del, Failure, Request};

/// Executes the verb in the environment and writes its answer. Returns 0 on success. An ADD whose answer cannot be written is
/// undone, because the runtime would not know of it.
pub fn run(
    environment: &dyn Fn(&str) -> Option<String>,
    input: &mut dyn Read,
    output: &mut dyn Write,
    log: &mut dyn Write,
) -> ExitCode {
    // On a tmpfs: a reboot ends every pod, and frees every address.
    let state = Path::new(defaults::RUN_DIRECTORY);
    let read = guarded(|| cni::read(environment, input));
    let attaching = match &read {
        Ok(Request::Add(request)) => {
            Some((request.attachment.clone(), request.netns.clone(), request.delegate.clone()))
        }
        _ => None,
    };
    let answered = read.and_then(|request| guarded(|| answer(&request, state, log)));
    let attached = attaching.filter(|_| answered.is_ok());
    let (answer, code) = match answered {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(failure) => (failure.render(), ExitCode::FAILURE),
    };
    let Err(error) = output.write_all(answer.as_bytes()).and_then(|()| output.flush()) else { return code };
    // Only the log is left. If it cannot be written either, there is no reader.
    let _ = writeln!(log, "podwire: write the answer: {error}");
    if let Some((attachment, netns, delegate)) = attached {
        let undone = del::del(&Del { attachment, netns: Some(netns), version: cni::VERSIONS[0], delegate }, state);
        if let Err(failure) = undone {
            let _ = writeln!(log, "podwire: undo: {failure}");
        }
    }
    ExitCode::FAILURE
}

/// Does `work`, and turns a panic into a failure: the steps have been reverted by then, and the runtime needs an answer.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Failure::new(Code::Internal, format!("internal error, a defect of podwire: {text}"), "stderr says where"))
    })
}

fn answer(request: &Request, state: &Path, log: &mut dyn Write) -> Result<String, Failure> {
    match request {
        Request::About => {
            let (version, versions) = (env!("CARGO_PKG_VERSION"), cni::VERSIONS.join(", "));
            // Begins with `defaults::PLUGIN_MARK_BACKWARDS`, read forwards, which identifies an installed plugin.
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

/// The answer of a verb that has no result.
fn silent(done: Result<(), Failure>, version: &str) -> Result<String, Failure> {
    done.map(|()| String::new()).map_err(|failure| failure.in_version(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Defect;

    impl Read for Defect {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            panic!("of {} kinds", 2)
        }
    }

    #[test]
    fn x4_x10_a_defect_is_an_error_object_too() {
        let environment = |name: &str| (name == "CNI_COMMAND").then(|| "STATUS".to_owned());
        let (mut output, mut log) = (Vec::new(), Vec::new());
        run(&environment, &mut Defect, &mut output, &mut log);
        let answer: serde_json::Value = serde_json::from_slice(&output).unwrap();
        assert_eq!(
            (&answer["code"], &answer["msg"]),
            (&999.into(), &"internal error, a defect of podwire: of 2 kinds".into())
        );
    }
}
