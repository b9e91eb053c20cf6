//! `irc-server <port> <password>`: the process around the IRC server, from its command line to its exit status.

mod allowance;
mod capability;
mod casemap;
mod connection;
mod descriptors;
mod frame;
mod hub;
mod isupport;
mod line;
mod listener;
mod log;
mod mask;
mod message;
mod mode;
mod name;
mod options;
mod queue;
mod refusal;
mod reply;
mod secret;
mod server;
mod text;
mod timestamp;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::signal::unix::{SignalKind, signal};

use hub::Hub;
use log::Log;
use options::Options;
use secret::Secret;
use server::{Credentials, Settings};

fn main() -> ExitCode {
    match Options::read(std::env::args_os()) {
        Ok(options) => match serve(options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(sentence) => {
                complain(&format!("irc-server: {sentence}\n"));
                ExitCode::FAILURE
            }
        },
        Err(error) => explain(&error),
    }
}

/// Shows help and version on standard output, and what is wrong with the command line, with the usage, on standard
/// error.
fn explain(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return if error.print().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut text = error.render().to_string();
    if !text.contains("Usage:") {
        text.push_str(&format!("\n{}\n", <Options as clap::CommandFactory>::command().render_usage()));
    }
    complain(&text);
    ExitCode::from(2)
}

fn complain(text: &str) {
    // There is no other place to say that standard error is closed.
    let _closed = io::stderr().lock().write_all(text.as_bytes());
}

#[tokio::main(flavor = "current_thread")]
async fn serve(options: Options) -> Result<(), String> {
    let operator = options.operator().map(|(name, password)| Credentials {
        name: Secret::new(name.to_owned()),
        password: Secret::new(password.to_owned()),
    });
    let Options {
        port, password, ping_interval, ping_timeout, registration_timeout, weather_timeout, send_queue, ..
    } = options;
    let password = Secret::new(password);
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| format!("cannot wait for SIGTERM: {error}"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| format!("cannot wait for SIGINT: {error}"))?;
    let listener = listener::listen(port).map_err(|error| {
        format!("cannot listen on port {port}: {error}; choose another port or end the program that has it")
    })?;
    let address = listener.local_addr().map_err(|error| format!("cannot tell the address of port {port}: {error}"))?;
    let mut log = Log::start(io::stderr()).map_err(|error| format!("cannot start the log: {error}"))?;
    if let Err(error) = descriptors::raise_limit() {
        log.say(&format!("cannot raise the limit of open files: {error}"));
    }
    let started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|error| format!("the clock of the system is before 1970: {error}"))?;
    log.say(&format!("listening on {address}"));
    let settings =
        Settings { password, operator, ping_interval, ping_timeout, registration_timeout, weather_timeout, started };
    let end = async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    Hub::new(settings, send_queue, log).run(listener, end).await;
    Ok(())
}
