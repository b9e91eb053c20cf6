//! `weather-bot`: a test pod, an ordinary IRC client that answers questions about the weather. Here live the order of
//! the start, the loop over the sessions and the exit codes; no protocol and no HTTP.

mod address;
mod answer;
mod api_key;
mod arguments;
mod backoff;
mod desk;
mod dialogue;
mod ending;
mod endpoint;
mod failure;
mod framing;
mod journal;
mod line;
mod liveness;
mod outgoing;
mod question;
mod report;
mod session;
mod weather_api;

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Settings;
use crate::backoff::Backoff;
use crate::desk::Desk;
use crate::weather_api::WeatherApi;

/// The bot did its work until it was told to stop.
const SUCCESS: u8 = 0;
/// The bot could not run although its arguments are good.
const RUN_TIME_FAILURE: u8 = 1;
/// The command line or the environment is wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let settings = match arguments::read(std::env::args_os(), |name| std::env::var_os(name)) {
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
    let code = runtime.block_on(run(settings));
    // A question may still hang on its blocking thread; the end of the process does not wait for it.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// Serves until SIGTERM or SIGINT; the result is the exit code.
async fn run(settings: Settings) -> u8 {
    // As the first process of a container the bot gets no default action for a signal, so both are handled by name.
    let (mut terminate, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            journal::say(format_args!("the handler of SIGTERM and SIGINT is refused by the kernel: {error}"));
            return RUN_TIME_FAILURE;
        }
    };
    tokio::select! {
        never = serve(settings) => match never {},
        _ = terminate.recv() => journal::say(format_args!("stopped by SIGTERM")),
        _ = interrupt.recv() => journal::say(format_args!("stopped by SIGINT")),
    }
    SUCCESS
}

/// Holds one session after the other for ever, with a growing wait between them.
async fn serve(settings: Settings) -> std::convert::Infallible {
    let api = WeatherApi::new(settings.endpoint, settings.key, settings.answer_limit);
    let desk = Desk::new(api, settings.answer_limit);
    let mut backoff = Backoff::new(settings.first_wait);
    loop {
        let past = session::hold(&settings.server, &settings.password, settings.silence, &desk).await;
        if past.registered {
            backoff.reset();
        }
        let wait = backoff.next_wait();
        journal::say(format_args!("{}: {}; the next attempt is in {wait:?}", settings.server, past.ending));
        tokio::time::sleep(wait).await;
    }
}
