//! `reachability`: a pod on each node that asks all its fellows, and shows who reaches whom. Here live the order of the
//! start, the signals and the exit codes; no HTTP and no table.

mod arguments;
mod ask;
mod journal;
mod matrix;
mod round;
mod row;
mod server;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::arguments::{Arguments, Command, Serve};
use crate::row::Row;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the event loop does not start: {error}")),
    };
    let outcome = match arguments.command {
        Command::Serve(serve) => runtime.block_on(run(serve)).map(|()| ExitCode::SUCCESS),
        Command::Show { port } => runtime.block_on(show(port)),
    };
    // The resolver may still be at work; the end of the process does not wait for it.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|why| failed(&why))
}

/// Serves until SIGTERM or SIGINT.
async fn run(serve: Serve) -> Result<(), String> {
    // As the first process of a container it gets no default action for a signal, so both are handled by name.
    let refused = |error: io::Error| format!("the kernel refuses the handler of a signal: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let listener =
        server::listen(serve.port).map_err(|error| format!("cannot listen on port {}: {error}", serve.port))?;
    journal::say(format_args!("{} of {} listens on port {}", serve.pod, serve.node, serve.port));
    let (sender, row) = watch::channel(Row::first(&serve));
    let serve = Arc::new(serve);
    tokio::select! {
        never = server::answer(listener, row.clone(), serve.port) => match never {},
        never = round::again_and_again(&serve, &sender) => match never {},
        never = matrix::tell_changes(row, serve.port) => match never {},
        _ = terminate.recv() => journal::say(format_args!("stopped by SIGTERM")),
        _ = interrupt.recv() => journal::say(format_args!("stopped by SIGINT")),
    }
    Ok(())
}

/// Prints the matrix of the pod that this is executed in.
async fn show(port: u16) -> Result<ExitCode, String> {
    let own = (std::net::Ipv4Addr::LOCALHOST, port).into();
    let (status, matrix) = ask::get(own, "/matrix", ask::LONG).await.map_err(|why| format!("ask {own}: {why}"))?;
    io::stdout().lock().write_all(&matrix).map_err(|error| error.to_string())?;
    Ok(if status == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn failed(why: &str) -> ExitCode {
    journal::say(format_args!("{why}"));
    ExitCode::FAILURE
}
