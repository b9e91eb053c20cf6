//! One pass: look, compare, apply the difference. This file and its steps, `firewall` and `pods`, are the only ones that
//! change the kernel.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use podwire_kernel::link::Link;
use podwire_kernel::message::Message;
use podwire_kernel::{Error, Request, Socket, forwarding, link, route};
use tracing::info;

use crate::diff::{self, DeviceChange};
use crate::firewall::Firewall;
use crate::settings::Settings;
use crate::state::Device;
use crate::view::View;
use crate::{conflist, desired, found, pods};

/// How long the kernel may take to take an address into use; it takes less than a millisecond when it has nothing else
/// to do.
const IN_USE_WITHIN: Duration = Duration::from_secs(1);

/// Passes until the device has settled: made, brought up, looked at.
const DEVICE_ROUNDS: usize = 4;

/// What a pass has come to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many changes were asked for.
    pub(crate) changes: usize,
    /// What could not be made as it should be, each a sentence.
    pub(crate) problems: Vec<String>,
}

/// The sockets, and the passes made with them.
pub(crate) struct Worker {
    route: Socket,
    firewall: Firewall,
    settings: Settings,
    conflist_directory: PathBuf,
}

impl Worker {
    pub(crate) fn new(settings: Settings, conflist_directory: PathBuf) -> podwire_kernel::Result<Self> {
        Ok(Self { route: Socket::route()?, firewall: Firewall::new()?, settings, conflist_directory })
    }

    /// One pass.
    pub(crate) fn pass(&mut self, view: &View) -> Outcome {
        let (mut outcome, state) = (Outcome::default(), Path::new(podwire::STATE));
        // Before the device takes anything in, unless it is known to be guarded: then a peer gets its route first.
        let guarded = self.firewall.is_known();
        if !guarded {
            self.firewall(view, state, &mut outcome);
        }
        match self.overlay(view, &mut outcome) {
            Err(error) => outcome.problems.push(error),
            Ok(device) => {
                if guarded {
                    self.firewall(view, state, &mut outcome);
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
        // Last: a pod that cannot be repaired is no reason to take in no others.
        pods::pass(&mut self.route, state, &mut outcome);
        outcome
    }

    fn firewall(&mut self, view: &View, state: &Path, outcome: &mut Outcome) {
        let made = self.firewall.pass(view, &self.settings, state, outcome);
        outcome.problems.extend(made.err());
    }

    /// The device, then everything on and behind it.
    fn overlay(&mut self, view: &View, outcome: &mut Outcome) -> Result<Device, String> {
        let mtu = found::underlay_mtu(&mut self.route, view).map_err(|error| error.to_string())?;
        let Some(mtu) = mtu else {
            let address = view.own.address;
            return Err(format!("this node's address {address} is on none of its interfaces: see `ip address`"));
        };
        let wanted = desired::device(view, &self.settings, mtu);
        let link = self.device(&wanted, outcome)?;
        self.settings(view, outcome);
        let (found, ids) = found::state(&mut self.route, link.index).map_err(|error| error.to_string())?;
        let (desired, left_out) = desired::state(view, &self.settings, link.index, &ids);
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
