//! The per-node daemon: one road from what the cluster says to what the kernel has.
//!
//! ```text
//! membership file → view → dirty ─┐
//! kernel notices ─────────────────┤→ desired (pure) · found (fresh dump) · diff (pure) → apply → conflist
//! plugin or conflist touched ─────┤
//! timer ──────────────────────────┘
//! ```
//! This file wires the parts and holds the runtime; it decides nothing.

pub mod args;
pub mod conflist;
pub mod desired;
pub mod diff;
pub mod doctor;
pub mod echo;
pub mod firewall;
pub mod found;
pub mod kind;
pub mod local;
pub mod membership;
pub mod metrics;
pub mod report;
pub mod settings;
pub mod socket;
pub mod state;
pub mod status;
pub mod underlay;
pub mod view;

mod command;
mod features;
mod follow;
mod garbage;
mod health;
mod http;
mod install;
mod kept;
mod log;
mod observe;
mod only;
mod pace;
mod pass;
mod pods;
mod probe;
mod reconcile;
mod sandboxes;
mod told;
mod uninstall;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use args::{Args, Command};

/// Does what the command line says.
pub fn run(args: Args) -> ExitCode {
    // Whatever whoever has started this thinks of files: what is written here is read by others, and written by nobody.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    match args.command {
        Command::Run(run) => daemon(run),
        Command::Install(options) => once(|say| install::once(options.plugin.as_deref(), &options.to, say)),
        Command::Uninstall(options) => once(|say| uninstall::run(&options, say)),
        Command::Status(status) => command::status(&status),
        Command::Doctor(doctor) => command::doctor(&doctor),
        Command::Completions(completions) => command::completions(&completions),
    }
}

/// A command that does something once, and says what on standard output.
fn once(work: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> ExitCode {
    match work(&mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to be told when this cannot be written either.
            let _ = writeln!(io::stderr(), "podwired: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the daemon until it is told to stop.
fn daemon(run: args::Run) -> ExitCode {
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
    if let Some(root) = &run.sysctl_root {
        podwire_kernel::sysctl::find_below(root)?;
    }
    let settings = settings::Settings::read(run.settings.as_deref())?;
    let garbage_after = Duration::from_secs(settings.garbage_after_seconds.into());
    let membership = follow::start(run.nodes.clone()).await?;
    info!(node = run.node_name, nodes = %run.nodes.display(), "podwired {} starts", env!("CARGO_PKG_VERSION"));
    let (report, _) = tokio::sync::watch::channel(report::Report {
        node: run.node_name.clone(),
        settings: settings.clone(),
        source: format!("file {}", run.nodes.display()),
        conflist: run.conflist_directory.join(podwire_conf::defaults::CONFLIST),
        started: Some(std::time::Instant::now()),
        ..report::Report::default()
    });
    observe::start(&run, &report);
    tokio::select! {
        outcome = reconcile::run(&run, settings, membership, &report) => return outcome,
        () = garbage::run(garbage_after, run.cri_socket.as_deref(), &report) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("told to stop: the overlay, the routes and the firewall stay as they are");
    Ok(())
}
