//! The per-node daemon: one road from what the cluster says to what the kernel has.
//!
//! ```text
//! membership (Kubernetes, file) → view → dirty ─┐
//! kernel notifications ─────────────────────────┤→ desired (pure) · observed (fresh dump) · diff (pure) → apply → conflist
//! plugin or conflist touched ───────────────────┤
//! timer ────────────────────────────────────────┘
//! ```
//! This file wires the parts and holds the runtime. What may not live here: any decision.

#![warn(clippy::print_stderr, reason = "what others have named in it is to be escaped: `log::note`, or tracing")]

pub mod args;
pub mod cluster;
pub mod datapath;
pub mod doctor;
pub mod node;
pub mod observe;
pub mod policy;
pub mod report;
pub mod sources;

mod commands;
mod logging;
mod reconcile;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use podwire_conf::shown::{self, Lines};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use args::{Args, Command, Policy};
use cluster::settings::Settings;
use node::{garbage, instance_lock, plugin_binary, uninstall};
use reconcile::policies::Source;
use report::Report;
use report::attaching::Attaching;
use report::policies::Questions;
use sources::channel::Subscriber;
use sources::kubernetes::{self, nodes};
use sources::policy_objects::PolicyObjects;
use sources::{checkpoint, file, policy_directory, settings_file};

/// Does what the command line says.
pub fn run(args: Args) -> ExitCode {
    // Whatever umask this was started with: other users may read what is written here, and not write it.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    match args.command {
        Command::Run(run) => daemon(run),
        Command::Install(options) => once(|out| plugin_binary::once(options.plugin.as_deref(), &options.to, out)),
        Command::Uninstall(options) => once(|say| uninstall::run(&options, say)),
        Command::Status(status) => commands::status(&status),
        Command::Doctor(doctor) => commands::doctor(&doctor),
        Command::Policy(Policy::List(list)) => commands::policies(&list),
        Command::Policy(Policy::Explain(explain)) => commands::explain(&explain),
        Command::Completions(completions) => commands::completions(&completions),
    }
}

/// A command that does something once, and reports it on standard output.
fn once(work: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> ExitCode {
    match work(&mut Lines(io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // If this cannot be written either, there is nowhere else to report to.
            let _ = writeln!(io::stderr(), "podwired: {}", shown::line(&failure.to_string()));
            ExitCode::FAILURE
        }
    }
}

/// Runs the daemon until SIGTERM or SIGINT.
fn daemon(run: args::Run) -> ExitCode {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // What the libraries log in their own way is logged here once, in a sentence.
    let own = filter_fn(|line| line.target().starts_with("podwire"));
    let lines = tracing_subscriber::fmt().with_writer(|| logging::Lines).with_ansi(colour).with_target(false);
    lines.fmt_fields(debug_fn(logging::field).delimited(" ")).finish().with(own).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.and_then(|runtime| {
        let outcome = runtime.block_on(serve(run));
        // A full sync that is under way finishes or dies with the process: either way the next start looks afresh.
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

/// The daemon's whole life: it starts what it is made of, and ends at SIGTERM or SIGINT, or when one part of it fails. What
/// it has made in the kernel stays in any case, so that pods keep their network.
async fn serve(run: args::Run) -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let _lock = instance_lock::InstanceLock::acquire()?;
    if let Some(root) = &run.sysctl_root {
        podwire_kernel::sysctl::set_root(root)?;
    }
    let mut settings = settings_file::read(run.settings.as_deref()).map_err(io::Error::other)?;
    settings
        .go_with(run.kubernetes, run.policies.as_deref())
        .map_err(|error| settings_file::wrong(run.settings.as_deref(), error))?;
    settings.network_policy |= run.policies.is_some();
    let garbage_after = Duration::from_secs(settings.garbage_after_seconds.into());
    let (report, _) = tokio::sync::watch::channel(Report {
        node: run.node_name.clone(),
        settings: settings.clone(),
        file: run.nodes.clone(),
        conflist: run.conflist_directory.join(podwire_conf::defaults::CONFLIST),
        plugin_directory: run.plugin_directory.as_deref().map(std::path::absolute).transpose()?,
        started: Some(std::time::Instant::now()),
        ..Report::default()
    });
    let (wake, woken) = std::sync::mpsc::sync_channel(1);
    let (attaching, questions) = (Attaching::new(wake.clone()), Questions::new(wake.clone()));
    observe::start(&run, &report, &attaching, &questions);
    let work = async {
        let membership = membership(&run, &settings, &report).await?;
        let questions = questions.waiting();
        let policies = match settings.network_policy {
            true => Some(Source { objects: policy_objects(&run, &wake)?, wake, woken, attaching, questions }),
            false => None,
        };
        reconcile::run(&run, settings, membership, &report, policies).await
    };
    tokio::select! {
        outcome = work => return outcome,
        () = garbage::run(garbage_after, run.cri_socket.as_deref(), &report) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("stopping: the overlay, the routes and the firewall stay as they are");
    Ok(())
}

/// Follows what policies are compiled from.
fn policy_objects(run: &args::Run, wake: &SyncSender<()>) -> io::Result<PolicyObjects> {
    match &run.policies {
        Some(directory) => policy_directory::start(directory, wake),
        None => Ok(kubernetes::policy_objects::start(run.kubeconfig.as_ref(), wake)),
    }
}

/// Subscribes to the membership; the first one is there when this returns.
async fn membership(
    run: &args::Run,
    settings: &Settings,
    report: &tokio::sync::watch::Sender<Report>,
) -> io::Result<Subscriber> {
    let nodes = run.nodes.as_ref().map_or("Kubernetes".into(), |file| file.display().to_string());
    info!(node = run.node_name, nodes, "podwired {} starts", env!("CARGO_PKG_VERSION"));
    let membership = match &run.nodes {
        Some(path) => file::start(path.clone(), report.clone()).await?,
        None => {
            let membership = nodes::start(run, settings, report.clone()).await?;
            tokio::spawn(checkpoint::write(run.state_directory.clone(), run.node_name.clone(), membership.newest()));
            membership
        }
    };
    // Without a node there is nothing to go by yet.
    membership.wait_for(|membership| run.nodes.is_some() || !membership.nodes.is_empty()).await?;
    Ok(membership)
}
