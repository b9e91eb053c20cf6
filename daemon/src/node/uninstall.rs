//! Removing podwire from a node (`podwired uninstall`), in an order in which no pod loses its network earlier than
//! necessary: first the conflist, so that no pod is added, then the pods, last the overlay. It continues after a
//! failure and reports all of them; only a pod that cannot be removed keeps what it needs.
//!
//! Besides this, `datapath`, garbage collection and the plugin change the kernel's network state.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use podwire_attachment::error::Error;
use podwire_attachment::names;
use podwire_attachment::regular_file;
use podwire_attachment::release::{self, Attached};
use podwire_conf::defaults;
use podwire_kernel::link::{self, removal};
use podwire_kernel::nft;
use podwire_kernel::route::{self, Target};
use podwire_kernel::{Socket, nexthop};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Uninstall;
use crate::node::{garbage, instance_lock, plugin_binary};

/// How long an ADD or a DEL in progress may take.
const IN_PROGRESS_LIMIT: Duration = Duration::from_secs(30);

/// The interval between attempts (`--wait`).
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The most bytes of a conflist that are read.
const LONGEST_CONFLIST: u64 = 1024 * 1024;

/// How many pods are listed by name.
const LISTED: usize = 10;

/// What is not removed, and why.
const NOT_CHANGED: &str = "not changed, since other programs may rely on them: net.ipv4.ip_forward, \
                     net.ipv6.conf.all.forwarding, net.netfilter.nf_conntrack_tcp_be_liberal, \
                     net.netfilter.nf_conntrack_tcp_timeout_unacknowledged, and accept_ra of devices with an advertised default route";

/// A removal: what was done, and what failed.
struct Removal<'a> {
    out: &'a mut dyn Write,
    removed: usize,
    failures: Vec<String>,
}

/// Removes podwire from this node, with retries as the options out.
///
/// # Errors
/// As [`uninstall`]; with `--wait`, when it is terminated before.
pub(crate) fn run(options: &Uninstall, out: &mut dyn Write) -> io::Result<()> {
    match options.wait || options.stay {
        true => tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(retry(options, out)),
        false => uninstall(options, out),
    }
}

/// Retries until everything is removed, and keeps running with `--stay`. As the first process of a container it has no
/// default action for signals, so both are handled explicitly.
async fn retry(options: &Uninstall, out: &mut dyn Write) -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut reported = String::new();
    while let Err(why) = uninstall(options, out).map_err(|error| error.to_string()) {
        if why != reported {
            writeln!(out, "not yet: {why}")?;
            reported = why;
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY_INTERVAL) => {}
            _ = terminate.recv() => return Err(io::Error::other("terminated before everything was removed")),
            _ = interrupt.recv() => return Err(io::Error::other("terminated before everything was removed")),
        }
    }
    if options.stay {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    Ok(())
}

/// Removes podwire from this node.
///
/// # Errors
/// When a podwired runs, when pods are attached and `--pods` is not set, and when something could not be removed:
/// everything else is then removed, except what a remaining pod needs.
fn uninstall(options: &Uninstall, out: &mut dyn Write) -> io::Result<()> {
    let state = Path::new(defaults::RUN_DIRECTORY);
    let has_run = state.exists();
    let _lock = instance_lock::InstanceLock::acquire()?;
    let mut removal = Removal { out, removed: 0, failures: Vec::new() };
    let mut host = Socket::route().map_err(io::Error::other)?;
    let pods = Pods::on(&mut host).map_err(reported)?;
    if !options.pods && !pods.is_empty() {
        return Err(io::Error::other(pods.refusal(&mut host)));
    }
    let conflists = &options.conflist_directory;
    removal.file(&conflists.join(defaults::CONFLIST))?;
    removal.file(&conflists.join(format!(".{}.new", defaults::CONFLIST)))?;
    removal.pods(options.pods, &mut host)?;
    if !removal.failures.is_empty() {
        // They are still on record, and removing them needs the plugin.
        return removal.end("everything else is kept until they are gone");
    }
    removal.plugin(&options.plugin_directory)?;
    removal.kernel(&mut host)?;
    removal.directory(&options.state_directory, |name| name.contains("membership"))?;
    match has_run {
        true => removal.directory(state, |_| true)?,
        // It contains only the lock that was taken above.
        false => clear(state, |_| true)?,
    }
    for other in foreign_conflists(conflists) {
        writeln!(removal.out, "kept, not written by podwired: {}, which names the plugin podwire", other.display())?;
    }
    removal.end("everything else is removed")
}

/// The pods of a node: those with a device, on record or not.
struct Pods {
    living: Vec<Attached>,
    dead: Vec<Attached>,
    unknown: Vec<String>,
}

impl Pods {
    fn on(host: &mut Socket) -> Result<Self, Error> {
        let attached = release::attachments(Path::new(defaults::RUN_DIRECTORY), host)?;
        let unknown = release::devices_without_record(&attached, host)?;
        let (living, dead) = attached.into_iter().partition(|attached| attached.has_device);
        Ok(Self { living, dead, unknown })
    }

    fn is_empty(&self) -> bool {
        self.living.is_empty() && self.unknown.is_empty()
    }

    fn refusal(&self, host: &mut Socket) -> String {
        let devices = self.unknown.iter().map(|name| format!("device {name}, which has no record"));
        let living = self.living.iter().map(|attached| described(attached, host));
        let count = self.living.len() + self.unknown.len();
        let mut pods: Vec<_> = living.chain(devices).take(LISTED).collect();
        if count > LISTED {
            pods.push(format!("and {} more", count - LISTED));
        }
        format!(
            "pods are attached to this node's network, and their DEL needs the plugin:\n  {}\n\
             remove them first (`kubectl drain`, `crictl rmp --force`, `podman rm`); or remove their network too, with \
             their host ports: podwired uninstall --pods",
            pods.join("\n  ")
        )
    }
}

/// A pod with the name that the runtime has given it, if any.
fn described(attached: &Attached, host: &mut Socket) -> String {
    let device = names::host_device(&attached.record.attachment);
    let alias = link::by_name(host, &device).ok().flatten().and_then(|link| link.alias).unwrap_or_default();
    // `network: namespace/name`
    match alias.split_once(": ") {
        Some((_, pod)) => format!("pod {pod}: {}", garbage::describe(attached)),
        None => garbage::describe(attached),
    }
}

impl Removal<'_> {
    /// Reports what is kept, or what could not be removed and the state of everything else.
    fn end(self, everything_else: &str) -> io::Result<()> {
        match (self.failures.len(), self.removed) {
            (0, 0) => writeln!(self.out, "nothing of podwire is on this node"),
            (0, _) => writeln!(self.out, "{NOT_CHANGED}"),
            _ => {
                let why = self.failures.join("\n");
                Err(io::Error::other(format!("not everything could be removed; {everything_else}:\n{why}")))
            }
        }
    }

    fn removed(&mut self, what: &str) -> io::Result<()> {
        self.removed += 1;
        writeln!(self.out, "removed {what}")
    }

    /// Reports the removal of something that may not exist.
    fn done(&mut self, what: &str, outcome: Result<bool, impl Display>) -> io::Result<()> {
        match outcome {
            Ok(true) => self.removed(what),
            Ok(false) => Ok(()),
            Err(why) => {
                self.failures.push(why.to_string());
                Ok(())
            }
        }
    }

    /// What the kernel has; nothing, and a failure, when it refuses.
    fn found<T: Default>(&mut self, found: podwire_kernel::Result<T>) -> T {
        found.unwrap_or_else(|error| {
            self.failures.push(error.to_string());
            T::default()
        })
    }

    fn file(&mut self, path: &Path) -> io::Result<()> {
        let name = path.display();
        let removed = plugin_binary::remove(path).map_err(|error| format!("remove {name}: {error}"));
        self.done(&name.to_string(), removed)
    }

    /// Releases what pods hold: dead ones, or all. No pod is added without a conflist, but an ADD may be in progress.
    fn pods(&mut self, all: bool, host: &mut Socket) -> io::Result<()> {
        let deadline = Instant::now() + IN_PROGRESS_LIMIT;
        loop {
            let pods = Pods::on(host).map_err(reported)?;
            if !all && !pods.is_empty() {
                return Err(io::Error::other(format!("a pod was added meanwhile: {}", pods.refusal(host))));
            }
            let state = Path::new(defaults::RUN_DIRECTORY);
            let (mut failed, mut busy) = (Vec::new(), None);
            for attached in pods.dead.iter().chain(&pods.living) {
                let what = garbage::describe(attached);
                match release::release(state, attached, host) {
                    Ok(true) => self.removed(&what)?,
                    Ok(false) => busy = Some(format!("release {what}: it is being attached or detached")),
                    Err(failure) => failed.push(format!("release {what}: {failure}")),
                }
            }
            for name in &pods.unknown {
                let removed = removal::acknowledged(&[name]).map(|()| true);
                self.done(&format!("device {name}"), removed)?;
            }
            match busy {
                Some(_) if Instant::now() < deadline => thread::park_timeout(Duration::from_millis(50)),
                busy => {
                    self.failures.extend(failed.into_iter().chain(busy));
                    return Ok(());
                }
            }
        }
    }

    /// The plugin's binary; a foreign program of that name is kept.
    fn plugin(&mut self, directory: &Path) -> io::Result<()> {
        self.file(&directory.join(plugin_binary::BESIDE))?;
        let place = directory.join(defaults::PLUGIN);
        let name = place.display();
        let ours = match regular_file::open(&place, File::options().read(true))
            .and_then(|file| plugin_binary::is_podwire(&file))
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return self.done("", Err(format!("read {name}: {error}"))),
            Ok(ours) => ours,
        };
        if ours { self.file(&place) } else { writeln!(self.out, "kept, not podwire: {name}") }
    }

    /// The overlay: routes to peers before the guards behind them, then the device, then the table.
    fn kernel(&mut self, host: &mut Socket) -> io::Result<()> {
        let guard = |route: &route::Route| matches!(route.target, Target::Unreachable | Target::Blackhole);
        let routes = self.found(route::list(host, defaults::OVERLAY_PROTOCOL));
        let (nexthops, _) = self.found(nexthop::list(host, defaults::OVERLAY_PROTOCOL));
        let (guards, to_peers): (Vec<_>, Vec<_>) = routes.into_iter().partition(guard);
        let mut requests: Vec<_> = to_peers.iter().map(route::Route::delete).collect();
        requests.extend(nexthops.iter().map(nexthop::Nexthop::delete));
        requests.extend(guards.iter().map(route::Route::delete));
        let count = requests.len();
        let refused = host.execute_all(requests);
        self.failures.extend(refused.iter().map(|(_, error)| error.to_string()));
        match count - refused.len() {
            0 => {}
            gone => self.removed(&format!("{gone} routes and nexthops"))?,
        }
        let device = defaults::OVERLAY_DEVICE;
        let removed = match link::by_name(host, device) {
            Ok(Some(link)) if link.vxlan.is_some_and(|vxlan| vxlan.external) => {
                host.execute(link::delete(device)).map(|()| true)
            }
            Ok(_) => Ok(false),
            Err(error) => Err(error),
        };
        self.done(&format!("device {device}"), removed)?;
        for table in [defaults::POLICY_TABLE, defaults::TABLE] {
            let removed = Socket::netfilter().and_then(|mut socket| nft::remove_table(&mut socket, table));
            self.done(&format!("table inet {table}"), removed)?;
        }
        Ok(())
    }

    /// A directory of podwire, with podwire's files in it: a mistyped path loses nothing.
    fn directory(&mut self, path: &Path, ours: impl Fn(&str) -> bool) -> io::Result<()> {
        let name = path.display().to_string();
        let removed = match clear(path, ours) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            // Empty by now, and a mount point: the program that mounted it unmounts it.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                return writeln!(self.out, "kept, not podwire's: what is in {name}");
            }
            Err(error) => Err(format!("remove {name}: {error}")),
        };
        self.done(&name, removed)
    }
}

fn clear(path: &Path, ours: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if !ours(&entry.file_name().to_string_lossy()) {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    fs::remove_dir(path)
}

/// Network configurations that name the plugin and were not written by podwired.
fn foreign_conflists(directory: &Path) -> Vec<PathBuf> {
    let names_podwire = |path: &PathBuf| {
        let text = regular_file::read(path, LONGEST_CONFLIST).unwrap_or_default();
        let text: String = String::from_utf8_lossy(&text).split_whitespace().collect();
        text.contains(&format!("\"type\":\"{}\"", defaults::PLUGIN))
    };
    let mut others: Vec<_> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(names_podwire)
        .collect();
    others.sort();
    others
}

fn reported(failure: Error) -> io::Error {
    io::Error::other(failure.to_string())
}
