//! The per-node daemon: one road from what the cluster says to what the kernel has.
//!
//! ```text
//! membership file → view → dirty ─┐
//! kernel notices ─────────────────┤→ desired (pure) · found (fresh dump) · diff (pure) → apply → conflist
//! timer ──────────────────────────┘
//! ```
//! This file wires the parts and holds the runtime; it decides nothing.

pub mod args;
pub mod conflist;
pub mod desired;
pub mod diff;
pub mod found;
pub mod membership;
pub mod report;
pub mod settings;
pub mod state;
pub mod view;

mod follow;
mod log;
mod only;
mod pace;
mod pass;
mod reconcile;
mod told;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use args::{Args, Command};

/// Runs the daemon until it is told to stop.
pub fn run(args: Args) -> ExitCode {
    let Command::Run(run) = args.command;
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt().with_writer(|| log::Lines).with_ansi(colour).with_target(false).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.and_then(|runtime| {
        let outcome = runtime.block_on(serve(run));
        // A pass that is under way is left to finish or die with the process: either way the next start looks afresh.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{failure}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(run: args::Run) -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let _only = only::Only::claim()?;
    let settings = settings::Settings::read(run.settings.as_deref())?;
    let membership = follow::start(run.nodes.clone()).await?;
    info!(node = run.node_name, nodes = %run.nodes.display(), "podwired {} starts", env!("CARGO_PKG_VERSION"));
    let (report, _) = tokio::sync::watch::channel(report::Report::default());
    tokio::select! {
        outcome = reconcile::run(&run, settings, membership, &report) => return outcome,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("told to stop: the overlay, the routes and the firewall stay as they are");
    Ok(())
}
