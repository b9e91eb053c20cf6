//! `reachability`: a pod on each node that asks all its fellows, and shows who reaches whom. Startup and
//! shutdown only: HTTP is in `server`, the table in `matrix`.

mod arguments;
mod ask;
mod matrix;
mod round;
mod row;
mod server;

use std::convert::Infallible;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use pod_process::journal::Journal;
use pod_process::program;
use tokio::sync::watch;

use crate::arguments::{Arguments, Command, Serve};
use crate::row::Row;

const JOURNAL: Journal = Journal("reachability");

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(settings) => program::run(JOURNAL, Ok(settings), serve),
        Command::Show { port } => program::in_an_event_loop(show(port))
            .and_then(|shown| shown)
            .unwrap_or_else(|why| program::failed(JOURNAL, &why)),
    }
}

/// Asks and answers for ever.
async fn serve(serve: Serve) -> Result<Infallible, String> {
    let listener =
        server::listen(serve.port).map_err(|error| format!("cannot listen on port {}: {error}", serve.port))?;
    JOURNAL.say(format_args!("{} of {} listens on port {}", serve.pod, serve.node, serve.port));
    let (sender, row) = watch::channel(Row::first(&serve));
    let serve = Arc::new(serve);
    tokio::select! {
        never = server::answer(listener, row.clone(), serve.port) => match never {},
        never = round::again_and_again(&serve, &sender) => match never {},
        never = matrix::tell_changes(row, serve.port) => match never {},
    }
}

/// Prints the matrix of the pod that this is executed in.
async fn show(port: u16) -> Result<ExitCode, String> {
    let own = (std::net::Ipv4Addr::LOCALHOST, port).into();
    let (status, matrix) = ask::get(own, "/matrix", ask::LONG).await.map_err(|why| format!("ask {own}: {why}"))?;
    io::stdout().lock().write_all(&matrix).map_err(|error| error.to_string())?;
    Ok(if status == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
