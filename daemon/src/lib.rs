//! The per-node daemon: one road from what the cluster says to what the kernel has.
//!
//! ```text
//! membership (Kubernetes, file) → view → dirty ─┐
//! kernel notices ───────────────────────────────┤→ desired (pure) · found (fresh dump) · diff (pure) → apply → conflist
//! timer ────────────────────────────────────────┘
//! ```
//! This file wires the parts and holds the runtime; it decides nothing.

pub mod args;
pub mod conflist;
pub mod desired;
pub mod diff;
pub mod found;
pub mod membership;
pub mod report;
pub mod roster;
pub mod settings;
pub mod state;
pub mod view;

mod follow;
mod only;
mod pace;
mod pass;
mod reconcile;
mod store;
mod told;
mod watch;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use args::{Args, Command};
use membership::Membership;
use report::Report;
use settings::Settings;

/// Runs the daemon until it is told to stop.
pub fn run(args: Args) -> ExitCode {
    let Command::Run(run) = args.command;
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // The libraries say in their own way what is said here once, and in a sentence.
    let own = filter_fn(|line| line.target().starts_with("podwire"));
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(colour).with_target(false).finish().with(own).init();
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
    let settings = Settings::read(run.settings.as_deref())?;
    settings.go_with(run.kubernetes).map_err(io::Error::other)?;
    let (report, _) = tokio::sync::watch::channel(Report::default());
    let work = async {
        let membership = membership(&run, &settings, &report).await?;
        reconcile::run(&run, settings, membership, &report).await
    };
    tokio::select! {
        outcome = work => return outcome,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("told to stop: the overlay, the routes and the firewall stay as they are");
    Ok(())
}

/// Who is in the cluster, followed from now on: a first membership is there when this returns.
async fn membership(
    run: &args::Run,
    settings: &Settings,
    report: &tokio::sync::watch::Sender<Report>,
) -> io::Result<tokio::sync::watch::Receiver<Membership>> {
    let nodes = run.nodes.as_ref().map_or("Kubernetes".into(), |file| file.display().to_string());
    info!(node = run.node_name, nodes, "podwired {} starts", env!("CARGO_PKG_VERSION"));
    let mut membership = match &run.nodes {
        Some(file) => follow::start(file.clone(), report.clone()).await?,
        None => {
            let membership = watch::start(run, settings, report.clone()).await?;
            tokio::spawn(store::keep(run.state_directory.clone(), run.node_name.clone(), membership.clone()));
            membership
        }
    };
    // Without a node there is none to believe yet.
    let first = membership.wait_for(|membership| run.nodes.is_some() || !membership.nodes.is_empty()).await;
    first.map(drop).map_err(io::Error::other)?;
    Ok(membership)
}
