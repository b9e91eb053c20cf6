//! `weather-service`: a small HTTP host "outside of the cluster" that answers like `current.json` of weatherapi.com.
//! Here live the order of the start, the signals and the exit codes; no HTTP and no weather.

mod answer;
mod arguments;
mod journal;
mod place;
mod server;

use std::process::ExitCode;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Settings;

/// The service did its work until it was told to stop.
const SUCCESS: u8 = 0;
/// The service could not run although its arguments are good.
const RUN_TIME_FAILURE: u8 = 1;
/// The command line is wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let settings = match arguments::read(std::env::args_os()) {
        Ok(settings) => settings,
        Err(error) => {
            // Help and version are "errors" of the parser that belong on stdout with exit code 0. When the stream is
            // closed there is nobody left to tell; the exit code still says it.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { SUCCESS });
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            journal::say(format_args!("the event loop does not start: {error}"));
            return ExitCode::from(RUN_TIME_FAILURE);
        }
    };
    ExitCode::from(runtime.block_on(run(settings)))
}

/// Serves until SIGTERM or SIGINT; the result is the exit code.
async fn run(settings: Settings) -> u8 {
    // As the first process of a container the service gets no default action for a signal, so both are handled by name.
    let (mut terminate, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            journal::say(format_args!("the handler of SIGTERM and SIGINT is refused by the kernel: {error}"));
            return RUN_TIME_FAILURE;
        }
    };
    let bound = TcpListener::bind(settings.address).await.and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    let listener = match bound {
        Ok((listener, address)) => {
            journal::say(format_args!("listening on {address}"));
            listener
        }
        Err(error) => {
            journal::say(format_args!(
                "cannot listen on {}: {error}; give a free address of this host",
                settings.address
            ));
            return RUN_TIME_FAILURE;
        }
    };
    tokio::select! {
        never = server::serve(listener, settings.key) => match never {},
        _ = terminate.recv() => journal::say(format_args!("stopped by SIGTERM")),
        _ = interrupt.recv() => journal::say(format_args!("stopped by SIGINT")),
    }
    SUCCESS
}
