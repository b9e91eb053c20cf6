//! `weather-service`: a small HTTP host "outside of the cluster" that answers like `current.json` of weatherapi.com.
//! Startup and shutdown only: HTTP is in `server`, the replies are in `answer`, the weather is in `place`.

mod answer;
mod arguments;
mod place;
mod server;

use std::convert::Infallible;
use std::process::ExitCode;

use pod_process::journal::Journal;
use pod_process::program;
use tokio::net::TcpListener;

use crate::arguments::Settings;

const JOURNAL: Journal = Journal("weather-service");

fn main() -> ExitCode {
    program::run(JOURNAL, arguments::read(std::env::args_os()), serve)
}

/// Listens, says where, and answers.
async fn serve(settings: Settings) -> Result<Infallible, String> {
    let bound = TcpListener::bind(settings.address).await.and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    let (listener, address) = bound
        .map_err(|error| format!("cannot listen on {}: {error}; give a free address of this host", settings.address))?;
    JOURNAL.say(format_args!("listening on {address}"));
    match server::serve(listener, settings.key).await {}
}
