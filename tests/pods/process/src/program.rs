//! The life of a program: its command line, its event loop, its signals, its exit code.

use std::convert::Infallible;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::journal::Journal;

/// The program could not run although its command line is right.
pub const RUN_TIME_FAILURE: u8 = 1;
/// The command line or the environment is wrong.
pub const USAGE: u8 = 2;

/// Runs `serve` with the settings of the command line until SIGTERM or SIGINT, which are success.
pub fn run<S, F>(journal: Journal, settings: Result<S, clap::Error>, serve: impl FnOnce(S) -> F) -> ExitCode
where
    F: Future<Output = Result<Infallible, String>>,
{
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => {
            // Help and version are "errors" of the parser that belong on stdout with exit code 0. When the stream is
            // closed there is nobody left to read it; the exit code still says it.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let outcome = in_an_event_loop(until_stopped(journal, serve(settings)));
    outcome.and_then(|outcome| outcome).map_or_else(|why| failed(journal, &why), |()| ExitCode::SUCCESS)
}

/// What a future comes to.
///
/// # Errors
/// When the system allows no event loop.
pub fn in_an_event_loop<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = built.map_err(|error| format!("the event loop does not start: {error}"))?;
    let outcome = runtime.block_on(future);
    // A question may still hang on its blocking thread; the end of the process does not wait for it.
    runtime.shutdown_background();
    Ok(outcome)
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// Why it cannot serve.
pub async fn until_stopped(
    journal: Journal,
    serve: impl Future<Output = Result<Infallible, String>>,
) -> Result<(), String> {
    let name = stopped(serve).await?;
    journal.say(format_args!("stopped by {name}"));
    Ok(())
}

/// Runs `work` to its end, or until a signal; the name of that.
///
/// # Errors
/// Why `work` failed.
async fn stopped(work: impl Future<Output = Result<Infallible, String>>) -> Result<&'static str, String> {
    // As the first process of a container it gets no default action for a signal, so both are handled by name.
    let (mut terminate, mut interrupt) = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    tokio::select! {
        outcome = work => outcome.map(|never| match never {}),
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}

/// The handler of a signal.
///
/// # Errors
/// When the kernel refuses it.
pub fn handler(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|error| format!("the kernel refuses the handler of a signal: {error}"))
}

/// The exit code of a failure, whose reason goes to the journal.
pub fn failed(journal: Journal, why: &str) -> ExitCode {
    journal.say(format_args!("{why}"));
    ExitCode::from(RUN_TIME_FAILURE)
}
