//! `weather-bot`: a test pod, an ordinary IRC client that answers questions about the weather. Here lives the loop
//! over the sessions; no protocol and no HTTP.

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
mod line;
mod liveness;
mod outgoing;
mod question;
mod report;
mod session;
mod weather_api;

use std::convert::Infallible;
use std::process::ExitCode;

use pod_process::journal::Journal;
use pod_process::program;

use crate::arguments::Settings;
use crate::backoff::Backoff;
use crate::desk::Desk;
use crate::weather_api::WeatherApi;

const JOURNAL: Journal = Journal("weather-bot");

fn main() -> ExitCode {
    program::run(JOURNAL, arguments::read(std::env::args_os(), |name| std::env::var_os(name)), serve)
}

/// Holds one session after the other for ever, with a growing wait between them.
async fn serve(settings: Settings) -> Result<Infallible, String> {
    let api = WeatherApi::new(settings.endpoint, settings.key, settings.answer_limit);
    let desk = Desk::new(api, settings.answer_limit);
    let mut backoff = Backoff::new(settings.first_wait);
    loop {
        let past = session::hold(&settings.server, &settings.password, settings.silence, &desk).await;
        if past.registered {
            backoff.reset();
        }
        let wait = backoff.next_wait();
        JOURNAL.say(format_args!("{}: {}; the next attempt is in {wait:?}", settings.server, past.ending));
        tokio::time::sleep(wait).await;
    }
}
