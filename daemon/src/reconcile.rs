//! The one road: woken by the membership, by the kernel's notices, or by the clock, it looks, compares, and applies the
//! difference. The only file that changes the kernel.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use podwire_conf::{defaults, firewall};
use podwire_kernel::link::Link;
use podwire_kernel::message::Message;
use podwire_kernel::notice::Notices;
use podwire_kernel::{Error, Request, Socket, forwarding, link, nft, route};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::args::Run;
use crate::diff::{self, DeviceChange};
use crate::membership::Membership;
use crate::state::Device;
use crate::view::{Refusal, View};
use crate::{conflist, desired, found};

/// How often the kernel is looked at when nothing was heard: there are changes that it does not announce.
const TICK: Duration = Duration::from_secs(30);

/// Notices come in crowds: a pass waits this long for the rest of one.
const GATHER: Duration = Duration::from_millis(5);

/// How many times longer than a pass the pause is after one for which there was no need, so that a busy namespace of
/// strangers costs a tenth of a core and no more.
const PAUSE_FOR_PASS: u32 = 10;

/// The longest pause that notices have to wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// After a pass that failed the next one comes after this long, doubled each time up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long the kernel may take to take an address into use; it takes less than a millisecond when it has nothing else
/// to do.
const IN_USE_WITHIN: Duration = Duration::from_secs(1);

/// Passes until the device has settled: made, brought up, looked at.
const DEVICE_ROUNDS: usize = 4;

/// Runs for ever; returns only when the kernel cannot be listened to.
pub(crate) async fn run(run: &Run, mut membership: watch::Receiver<Membership>) -> io::Result<()> {
    let mut notices = listen()?;
    let mut worker = Worker::new(run.conflist_directory.clone()).map_err(io::Error::other)?;
    let mut told = Told::default();
    let mut pace = Pace::default();
    loop {
        let view = View::new(&membership.borrow_and_update(), &run.node_name);
        told.refusals(&view);
        let mut outcome = Outcome::default();
        let start = Instant::now();
        if let Ok(view) = view {
            let pass = tokio::task::spawn_blocking(move || {
                let outcome = worker.pass(&view);
                (worker, outcome)
            });
            (worker, outcome) = pass.await.map_err(io::Error::other)?;
            told.problems(&outcome.problems);
        }
        let (pause, next) = pace.after(&outcome, start.elapsed());
        let (earliest, deadline) = (Instant::now() + pause, Instant::now() + next);
        tokio::select! {
            changed = membership.changed() => {
                changed.map_err(io::Error::other)?;
                continue;
            }
            heard = notices.recv() => heard.unwrap_or_else(|| Err(io::Error::other("the kernel's notices ended")))?,
            () = sleep_until(deadline) => continue,
        }
        tokio::select! {
            changed = membership.changed() => changed.map_err(io::Error::other)?,
            () = sleep_until(earliest.max(Instant::now() + GATHER)) => {}
        }
    }
}

/// What a pass has come to.
#[derive(Debug, Default)]
struct Outcome {
    /// How many changes were asked for.
    changes: usize,
    /// What could not be made as it should be, each a sentence.
    problems: Vec<String>,
}

/// When the next pass comes: at once for a first damage, later and later where somebody undoes every repair or a pass
/// cannot succeed.
#[derive(Debug)]
struct Pace {
    /// Passes in a row that had something to change.
    busy: u32,
    retry: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { busy: 0, retry: RETRY.0 }
    }
}

impl Pace {
    /// How long notices have to wait, and how long the clock does.
    fn after(&mut self, outcome: &Outcome, took: Duration) -> (Duration, Duration) {
        let failed = !outcome.problems.is_empty();
        self.busy = if failed || outcome.changes > 0 { self.busy.saturating_add(1) } else { 0 };
        let pause = match self.busy {
            0 => took * PAUSE_FOR_PASS,
            busy => GATHER * 2_u32.saturating_pow((busy - 1).min(16)),
        };
        let next = if failed { self.retry } else { TICK };
        self.retry = if failed { (self.retry * 2).min(RETRY.1) } else { RETRY.0 };
        (pause.clamp(GATHER, LONGEST_PAUSE), next)
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
        self.ready &= view.is_ok();
    }

    fn problems(&mut self, problems: &[String]) {
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            warn!("{problem}");
        }
        self.problems = problems.to_vec();
        if problems.is_empty() && !self.ready {
            info!("ready: the kernel and the conflist are as the cluster says");
        }
        self.ready = problems.is_empty();
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

    /// One pass.
    fn pass(&mut self, view: &View) -> Outcome {
        let mut outcome = Outcome::default();
        match self.overlay(view, &mut outcome) {
            Err(error) => outcome.problems.push(error),
            Ok(device) => {
                if let Err(error) = self.firewall(view, &mut outcome) {
                    outcome.problems.push(error.to_string());
                }
                if outcome.problems.is_empty() {
                    match conflist::write(&self.conflist_directory, &desired::network(view, &device)) {
                        Ok(false) => {}
                        Ok(true) => info!(mtu = device.mtu, "set the conflist"),
                        Err(error) => outcome.problems.push(error.to_string()),
                    }
                }
            }
        }
        outcome
    }

    /// The device, then everything on and behind it.
    fn overlay(&mut self, view: &View, outcome: &mut Outcome) -> Result<Device, String> {
        let mtu = found::underlay_mtu(&mut self.route, view).map_err(|error| error.to_string())?;
        let Some(mtu) = mtu else {
            let address = view.own.address;
            return Err(format!("this node's address {address} is on none of its interfaces: see `ip address`"));
        };
        let wanted = desired::device(view, mtu);
        let link = self.device(&wanted, outcome)?;
        self.settings(view, outcome);
        let (found, ids) = found::state(&mut self.route, link.index).map_err(|error| error.to_string())?;
        let (desired, left_out) = desired::state(view, link.index, &ids);
        let without = |name: &String| format!("node {name}: no nexthop id is left for it, see `ip nexthop`");
        outcome.problems.extend(left_out.iter().map(without));
        for error in self.apply(diff::state(&desired, &found, link.index), outcome) {
            let hint = match error.already_there() {
                true => ": it is somebody else's, and is not replaced; remove it if it is of no use",
                false => "",
            };
            outcome.problems.push(format!("{error}{hint}"));
        }
        if outcome.changes > 0 && outcome.problems.is_empty() {
            outcome.problems.extend(desired.addresses.values().filter_map(|own| self.in_use(own.address.ip()).err()));
        }
        Ok(wanted)
    }

    /// Waits until the kernel takes in what is sent to an address of ours: "ready" is not said before.
    fn in_use(&mut self, address: IpAddr) -> Result<(), String> {
        let deadline = Instant::now() + IN_USE_WITHIN;
        while !route::is_local(&mut self.route, address).map_err(|error| error.to_string())? {
            if Instant::now() > deadline {
                return Err(format!("address {address} was not taken into use within {IN_USE_WITHIN:?}"));
            }
            thread::park_timeout(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Brings the device to what it should be. A change of it flushes what is on it with hardly a notice, so the look at
    /// that comes after.
    fn device(&mut self, wanted: &Device, outcome: &mut Outcome) -> Result<Link, String> {
        for _ in 0..DEVICE_ROUNDS {
            let link = link::by_name(&mut self.route, &wanted.name).map_err(|error| error.to_string())?;
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
            if let Some(error) = self.apply(changes, outcome).into_iter().next() {
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

    /// Applies changes, and logs each one that was made. The others.
    fn apply(&mut self, changes: Vec<Request<Message>>, outcome: &mut Outcome) -> Vec<Error> {
        let wishes: Vec<_> = changes.iter().map(|change| change.wish.clone()).collect();
        outcome.changes += wishes.len();
        let mut refused = self.route.execute_all(changes);
        refused.sort_by_key(|(place, _)| *place);
        let mut left = refused.iter().map(|(place, _)| *place).peekable();
        for (place, wish) in wishes.iter().enumerate() {
            if left.next_if_eq(&place).is_none() {
                info!("{wish}");
            }
        }
        refused.into_iter().map(|(_, error)| error).collect()
    }

    fn firewall(&mut self, view: &View, outcome: &mut Outcome) -> podwire_kernel::Result<()> {
        let wanted = firewall::table(&view.cluster_cidrs, &view.own.pod_cidrs);
        let found = nft::read(&mut self.netfilter, &wanted)?;
        if found.is(&wanted) {
            return Ok(());
        }
        outcome.changes += 1;
        self.netfilter.transact(wanted.replace(&found))?;
        info!("set table inet {}", defaults::TABLE);
        Ok(())
    }

    /// Sets what is not as it should be among the kernel's settings.
    fn settings(&mut self, view: &View, outcome: &mut Outcome) {
        let mut changed = Vec::new();
        for setting in desired::settings(view) {
            match setting.holds() {
                Ok(Some(true)) => {}
                Ok(Some(false)) => match setting.set() {
                    Ok(()) => changed.push(setting),
                    Err(error) => outcome.problems.push(error.to_string()),
                },
                Ok(None) => outcome.problems.push(format!("the kernel has no sysctl {}", setting.path)),
                Err(error) => outcome.problems.push(error.to_string()),
            }
        }
        if desired::routes_family(view, false) {
            match forwarding::enable_ipv6(&mut self.route) {
                Ok(more) => changed.extend(more),
                Err(error) => outcome.problems.push(error.to_string()),
            }
        }
        outcome.changes += changed.len();
        changed.iter().for_each(|set| info!("set sysctl {} to {}", set.path, set.value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_damage_is_repaired_at_once_and_an_endless_one_ever_more_slowly() {
        let mut pace = Pace::default();
        let (calm, busy) = (Outcome::default(), Outcome { changes: 1, problems: Vec::new() });
        let took = Duration::from_micros(300);
        assert_eq!(pace.after(&calm, took), (GATHER, TICK));
        let pauses: Vec<_> = (0..12).map(|_| pace.after(&busy, took).0.as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2000, 2000, 2000]);
        assert_eq!(pace.after(&calm, took), (GATHER, TICK));
        // A pass that takes long and changes nothing is not made for every stranger's notice.
        assert_eq!(pace.after(&calm, Duration::from_millis(130)).0, Duration::from_millis(1300));
    }

    #[test]
    fn a_pass_that_failed_is_tried_again_soon_and_then_more_rarely() {
        let mut pace = Pace::default();
        let failed = Outcome { changes: 0, problems: vec!["no".into()] };
        let retries: Vec<_> = (0..8).map(|_| pace.after(&failed, Duration::ZERO).1.as_millis()).collect();
        assert_eq!(retries, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pace.after(&Outcome::default(), Duration::ZERO).1, TICK);
        assert_eq!(pace.after(&failed, Duration::ZERO).1, RETRY.0);
    }
}
