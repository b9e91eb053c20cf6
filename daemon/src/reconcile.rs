//! The one road: woken by the membership, by the kernel's notices, or by the clock, it looks, compares, and applies the
//! difference. The only file that changes the kernel.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use podwire_conf::{defaults, firewall};
use podwire_kernel::link::Link;
use podwire_kernel::message::Message;
use podwire_kernel::notice::Notices;
use podwire_kernel::{Error, Request, Socket, link, nft};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::args::Run;
use crate::diff::{self, DeviceChange};
use crate::membership::Membership;
use crate::view::{Refusal, View};
use crate::{conflist, desired, found};

/// How often the kernel is looked at when nothing was heard: there are changes that it does not announce.
const TICK: Duration = Duration::from_secs(30);

/// Notices come in crowds: a pass waits this long for the rest of one.
const GATHER: Duration = Duration::from_millis(5);

/// After a pass that failed the next one comes after this long, doubled each time up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Passes until the device has settled: made, brought up, looked at.
const DEVICE_ROUNDS: usize = 4;

/// Runs for ever; returns only when the kernel cannot be listened to.
pub(crate) async fn run(run: &Run, mut membership: watch::Receiver<Membership>) -> io::Result<()> {
    let mut notices = listen()?;
    let mut worker = Worker::new(run.conflist_directory.clone()).map_err(io::Error::other)?;
    let mut told = Told::default();
    let mut retry = RETRY.0;
    loop {
        let view = View::new(&membership.borrow_and_update(), &run.node_name);
        told.refusals(&view);
        let mut next = TICK;
        if let Ok(view) = view {
            let pass = tokio::task::spawn_blocking(move || {
                let outcome = worker.pass(&view);
                (worker, outcome)
            });
            let outcome;
            (worker, outcome) = pass.await.map_err(io::Error::other)?;
            if told.outcome(&outcome) {
                retry = RETRY.0;
            } else {
                next = retry;
                retry = (retry * 2).min(RETRY.1);
            }
        }
        let deadline = Instant::now() + next;
        tokio::select! {
            changed = membership.changed() => changed.map_err(io::Error::other)?,
            heard = notices.recv() => heard.unwrap_or_else(|| Err(io::Error::other("the kernel's notices ended")))?,
            () = sleep_until(deadline) => {}
        }
        sleep_until(Instant::now() + GATHER).await;
    }
}

/// Listens on a thread of its own: the socket of the notices is one that blocks. One notice in the channel stands for
/// all that came before it was taken out.
fn listen() -> io::Result<mpsc::Receiver<io::Result<()>>> {
    let notices = Notices::open().map_err(io::Error::other)?;
    let (sender, receiver) = mpsc::channel(1);
    thread::Builder::new().name("notices".into()).spawn(move || {
        loop {
            let heard = notices.wait();
            let last = heard.is_err();
            match if last { sender.blocking_send(heard).map_err(Into::into) } else { sender.try_send(heard) } {
                // A full channel has a notice already.
                Ok(()) | Err(TrySendError::Full(_)) if !last => {}
                _ => return,
            }
        }
    })?;
    Ok(receiver)
}

/// What the log has said, so that it says each thing once.
#[derive(Default)]
struct Told {
    refused: Vec<Refusal>,
    problems: Vec<String>,
    ready: bool,
}

impl Told {
    fn refusals(&mut self, view: &Result<View, Refusal>) {
        let refused = match view {
            Ok(view) => view.refused.clone(),
            Err(own) => vec![own.clone()],
        };
        for refusal in refused.iter().filter(|refusal| !self.refused.contains(refusal)) {
            warn!("{refusal}");
        }
        for refusal in self.refused.iter().filter(|refusal| !refused.contains(refusal)) {
            info!("put right: {refusal}");
        }
        self.refused = refused;
    }

    /// Whether all is well.
    fn outcome(&mut self, problems: &[String]) -> bool {
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            warn!("{problem}");
        }
        self.problems = problems.to_vec();
        if problems.is_empty() && !std::mem::replace(&mut self.ready, true) {
            info!("ready: the kernel and the conflist are as the cluster says");
        }
        self.ready &= problems.is_empty();
        problems.is_empty()
    }
}

/// The sockets, and the passes made with them.
struct Worker {
    route: Socket,
    netfilter: Socket,
    conflist_directory: PathBuf,
}

impl Worker {
    fn new(conflist_directory: PathBuf) -> podwire_kernel::Result<Self> {
        Ok(Self { route: Socket::route()?, netfilter: Socket::netfilter()?, conflist_directory })
    }

    /// One pass: what could not be made as it should be, each a sentence.
    fn pass(&mut self, view: &View) -> Vec<String> {
        let mut problems = Vec::new();
        match self.overlay(view, &mut problems) {
            Err(error) => problems.push(error),
            Ok(device) => {
                if let Err(error) = self.firewall(view) {
                    problems.push(error.to_string());
                }
                if problems.is_empty() {
                    match conflist::write(&self.conflist_directory, &desired::network(view, &device)) {
                        Ok(false) => {}
                        Ok(true) => info!(mtu = device.mtu, "set the conflist"),
                        Err(error) => problems.push(error.to_string()),
                    }
                }
            }
        }
        problems
    }

    /// The device, then everything on and behind it.
    fn overlay(&mut self, view: &View, problems: &mut Vec<String>) -> Result<crate::state::Device, String> {
        let Some(underlay) = found::underlay(&mut self.route, view).map_err(|error| error.to_string())? else {
            let address = view.own.address;
            return Err(format!("this node's address {address} is on none of its interfaces: see `ip address`"));
        };
        let wanted = desired::device(view, underlay.mtu);
        let link = self.device(&wanted, view, problems)?;
        let (found, ids) = found::state(&mut self.route, link.index).map_err(|error| error.to_string())?;
        let changes = diff::state(&desired::state(view, link.index, &ids), &found, link.index);
        problems.extend(self.apply(changes).iter().map(ToString::to_string));
        Ok(wanted)
    }

    /// Brings the device to what it should be. A change of it flushes what is on it with hardly a notice, so the look at
    /// that comes after.
    fn device(
        &mut self,
        wanted: &crate::state::Device,
        view: &View,
        problems: &mut Vec<String>,
    ) -> Result<Link, String> {
        for _ in 0..DEVICE_ROUNDS {
            let link = link::by_name(&mut self.route, &wanted.name).map_err(|error| error.to_string())?;
            if link.is_some() {
                problems.extend(settings(view));
            }
            let changes = match (diff::device(wanted, link.as_ref()), link) {
                (DeviceChange::Keep, Some(link)) => return Ok(link),
                (DeviceChange::Keep, None) => Vec::new(),
                (DeviceChange::Create(change) | DeviceChange::Recreate(change), _) => vec![change],
                (DeviceChange::Change(changes), _) => changes,
                (DeviceChange::Foreign { kind }, _) => {
                    let name = &wanted.name;
                    return Err(format!("device {name} is a {kind} of somebody else's: rename or remove it"));
                }
            };
            if let Some(error) = self.apply(changes).into_iter().next() {
                let port = wanted.vxlan.port;
                return Err(match error.address_in_use() {
                    true => format!(
                        "{error}: another VXLAN device has UDP port {port}; `ip -d link show type vxlan` shows whose it is"
                    ),
                    false => error.to_string(),
                });
            }
        }
        Err(format!("device {} does not stay as it is set: who else changes it?", wanted.name))
    }

    /// Applies changes, and logs each one that was made.
    fn apply(&mut self, changes: Vec<Request<Message>>) -> Vec<Error> {
        let wishes: Vec<_> = changes.iter().map(|change| change.wish.clone()).collect();
        let refused = self.route.execute_all(changes);
        for (place, wish) in wishes.iter().enumerate() {
            if refused.iter().all(|(refused, _)| *refused != place) {
                info!("{wish}");
            }
        }
        refused.into_iter().map(|(_, error)| error).collect()
    }

    fn firewall(&mut self, view: &View) -> podwire_kernel::Result<()> {
        let wanted = firewall::table(&view.cluster_cidrs, &view.own.pod_cidrs);
        if nft::read(&mut self.netfilter, &wanted)? == wanted {
            return Ok(());
        }
        self.netfilter.transact(wanted.replace())?;
        info!("set table inet {}", defaults::TABLE);
        Ok(())
    }
}

/// Sets what is not as it should be among the kernel's settings.
fn settings(view: &View) -> Vec<String> {
    let mut problems = Vec::new();
    for setting in desired::settings(view) {
        match setting.holds() {
            Ok(Some(true)) => {}
            Ok(Some(false)) => match setting.set() {
                Ok(()) => info!("set sysctl {} to {}", setting.path, setting.value),
                Err(error) => problems.push(error.to_string()),
            },
            Ok(None) => problems.push(format!("the kernel has no sysctl {}", setting.path)),
            Err(error) => problems.push(error.to_string()),
        }
    }
    problems
}
