//! One pass: look, compare, apply the difference. This file and its steps, `firewall`, `pods` and `fast_path`, are the only ones that
//! change the kernel; `incremental.rs` is the short way of a few peers that came, left or changed.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use podwire_conf::defaults;
use podwire_kernel::family::IpVersion;
use podwire_kernel::link::moved::{self, Elsewhere};
use podwire_kernel::link::{self, Link};
use podwire_kernel::netlink::message::Message;
use podwire_kernel::{Error, Request, Socket, forwarding, route};
use tracing::info;

use crate::args::Run;
use crate::cluster::settings::{Overlay, Settings};
use crate::cluster::view::View;
use crate::datapath::fast_path::{FastPath, Node};
use crate::datapath::firewall::Firewall;
use crate::datapath::overlay::diff::{self, DeviceChange};
use crate::datapath::overlay::state::{Device, State};
use crate::datapath::overlay::underlay::{self, Underlay};
use crate::datapath::overlay::{desired, observed};
use crate::datapath::{kernel_support, pods};
use crate::logging;
use crate::node::conflist;
use crate::node::plugin_binary::Plugin;
use crate::report::change_kind::Kind;
use crate::report::outcome::Mtu;
use crate::report::outcome::Outcome;

/// How long the kernel may take to take an address into use; it takes less than a millisecond when it has nothing else
/// to do.
const IN_USE_WITHIN: Duration = Duration::from_secs(1);

/// Passes until the device has settled: made, brought up, looked at.
const DEVICE_ROUNDS: usize = 4;

/// The sockets, and the passes made with them.
pub(crate) struct Worker {
    pub(super) route: Socket,
    pub(super) firewall: Firewall,
    pub(super) fast_path: FastPath,
    /// When to look at the pods again, where that is soon.
    again: Option<Duration>,
    pub(super) settings: Settings,
    interface: Option<String>,
    conflist_directory: PathBuf,
    /// Where the plugin is kept, and, once it has been found, the plugin.
    plugin: Option<(PathBuf, Option<Plugin>)>,
    stop: Arc<AtomicBool>,
    /// What the last pass has left, when all was as it should be.
    pub(super) left: Option<super::incremental::Left>,
}

impl Worker {
    /// Once `stop` is set, a pass ends where it would make its next list.
    ///
    /// # Errors
    /// When there are no sockets to be had, or the kernel lacks what the overlay needs.
    pub(crate) fn new(settings: Settings, run: &Run, stop: Arc<AtomicBool>) -> io::Result<Self> {
        let mut route = Socket::route().map_err(io::Error::other)?;
        kernel_support::ask(&mut route)?;
        route.stop_by(stop.clone());
        let firewall = Firewall::new().map_err(io::Error::other)?;
        let (interface, conflist_directory) = (run.interface.clone(), run.conflist_directory.clone());
        let plugin = run.plugin_directory.clone().map(|directory| (directory, None));
        Ok(Self {
            route,
            firewall,
            fast_path: FastPath::open(settings.fast_path),
            again: None,
            settings,
            interface,
            conflist_directory,
            plugin,
            stop,
            left: None,
        })
    }

    /// The ports that it changes the kernel by: routes', nftables'.
    pub(crate) fn ports(&self) -> [u32; 2] {
        [self.route.port(), self.firewall.port()]
    }

    /// One pass.
    pub(crate) fn pass(&mut self, view: &View) -> Outcome {
        let mut outcome = Outcome::default();
        let left = self.left.take();
        self.look_and_repair(view, &mut outcome);
        if outcome.changes > 0 {
            self.fast_path.forget();
        }
        if self.stop.load(Ordering::Relaxed) && !outcome.problems.is_empty() {
            outcome.problems.clear();
            outcome.stopped = true;
            if outcome.changes == 0 {
                self.left = left;
            }
        } else if !outcome.problems.is_empty() {
            self.left = None;
        }
        outcome
    }

    fn look_and_repair(&mut self, view: &View, outcome: &mut Outcome) {
        let state = Path::new(podwire::STATE);
        // Before the conflist: a runtime that sees a network expects its plugin.
        if let Err(error) = self.plugin(outcome) {
            outcome.problems.push(error.to_string());
        }
        // Before the device takes anything in, unless it is known to be guarded: then a peer gets its route first.
        let guarded = self.firewall.is_known();
        if !guarded {
            self.firewall(view, state, outcome);
        }
        match self.overlay(view, outcome) {
            Err(error) => outcome.problems.push(error),
            Ok(mtu) => {
                if guarded {
                    self.firewall(view, state, outcome);
                }
                if outcome.problems.is_empty() {
                    let network = desired::network(view, mtu, self.fast_path.is_on());
                    match conflist::write(&self.conflist_directory, &network) {
                        Ok(false) => {}
                        Ok(true) => {
                            outcome.wrote = true;
                            outcome.made.add(Kind::Conflist);
                            info!(mtu, "set the conflist");
                        }
                        Err(error) => outcome.problems.push(error.to_string()),
                    }
                }
            }
        }
        // Last: a pod that cannot be repaired is no reason to take in no others.
        self.pods(view, state, outcome);
    }

    /// What pods have on the host, and the fast path between them.
    fn pods(&mut self, view: &View, state: &Path, outcome: &mut Outcome) {
        self.again = None;
        let pods = pods::pass(&mut self.route, state, outcome);
        if let (Some(pods), Some(mtu)) = (pods, outcome.mtu) {
            let tunnel = self.left.as_ref().and_then(|left| left.tunnel);
            let node = Node { tunnel, version: IpVersion::of(view.own.address), mtu: mtu.overlay };
            self.again = self.fast_path.pass(&mut self.route, node, &pods, outcome);
        }
        outcome.fast_path = self.fast_path.told();
    }

    /// When the pods are to be looked at again, where that is soon.
    pub(crate) fn again(&self) -> Option<Duration> {
        self.again
    }

    /// Looks at the pods again, after the pass that has left this view and these sizes.
    pub(crate) fn pods_again(&mut self, view: &View, mtu: Option<Mtu>) -> Outcome {
        let mut outcome = Outcome { mtu, ..Outcome::default() };
        self.pods(view, Path::new(podwire::STATE), &mut outcome);
        outcome
    }

    fn firewall(&mut self, view: &View, state: &Path, outcome: &mut Outcome) {
        let made = self.firewall.pass(view, &self.settings, self.fast_path.is_on(), state, outcome);
        outcome.problems.extend(made.err());
    }

    /// The plugin in its place, where it is kept.
    fn plugin(&mut self, outcome: &mut Outcome) -> io::Result<()> {
        let Some((directory, found)) = &mut self.plugin else { return Ok(()) };
        let plugin = match found {
            Some(plugin) => plugin,
            None => found.insert(Plugin::open(None, directory)?),
        };
        if plugin.install()? {
            outcome.changes += 1;
            outcome.wrote = true;
            outcome.made.add(Kind::Other);
            info!("set the plugin {}", plugin.place().display());
        }
        Ok(())
    }

    /// The device, then everything on and behind it; what pods get as their MTU, in bytes.
    fn overlay(&mut self, view: &View, outcome: &mut Outcome) -> Result<u32, String> {
        let overlay = self.settings.overlay;
        let underlay = underlay::look(&mut self.route, view, self.interface.as_deref(), overlay)?;
        let (mtu, too_small) = desired::mtu(view, &self.settings, &underlay);
        outcome.problems.extend(too_small);
        outcome.mtu = Some(Mtu { underlay: underlay.mtu, overlay: mtu });
        let tunnel = match overlay {
            Overlay::Always | Overlay::Auto => {
                Some(self.device(&desired::device(view, &self.settings, mtu), outcome)?.index)
            }
            Overlay::Never => None,
        };
        self.settings(view, outcome);
        let desired = self.state(view, tunnel, underlay, outcome)?;
        if outcome.changes > 0 && outcome.problems.is_empty() {
            outcome.problems.extend(desired.addresses.values().filter_map(|own| self.in_use(own.address.ip()).err()));
        }
        if overlay == Overlay::Never {
            self.remove_device(outcome)?;
        }
        Ok(mtu)
    }

    /// Everything on and behind the tunnel device; what there should be.
    fn state(
        &mut self,
        view: &View,
        tunnel: Option<u32>,
        underlay: Underlay,
        outcome: &mut Outcome,
    ) -> Result<State, String> {
        let mut first = true;
        loop {
            let (found, mut ids) = observed::state(&mut self.route, tunnel).map_err(|error| error.to_string())?;
            let (desired, problems) = desired::state(view, &self.settings, tunnel, &underlay, &ids);
            let refused = self.apply(diff::state(&desired, &found, tunnel), outcome);
            if std::mem::take(&mut first) && !desired.vnis.is_subset(&found.vnis) && !refused.is_empty() {
                self.reclaim(view, outcome)?;
                continue;
            }
            outcome.problems.extend(problems);
            let unseen: BTreeMap<_, _> = match refused.is_empty() {
                true => BTreeMap::new(),
                false => diff::routes_to_add(&desired, &found).collect(),
            };
            for error in &refused {
                if !error.already_there() {
                    outcome.problems.push(error.to_string());
                    continue;
                }
                let ours = unseen.get(error.wish()).map(|route| route::holds(&mut self.route, route));
                if !ours.transpose().map_err(|error| error.to_string())?.unwrap_or(false) {
                    let hint = "it is somebody else's, and is not replaced; remove it if it is of no use";
                    outcome.problems.push(format!("{error}: {hint}"));
                }
            }
            ids.replace(&found, &desired);
            self.left = Some(super::incremental::Left { tunnel, underlay, ids });
            return Ok(desired);
        }
    }

    /// Removes our device from the namespaces that somebody has taken it to: it holds its networks here still, which the one
    /// that we have made since is refused, then.
    fn reclaim(&mut self, view: &View, outcome: &mut Outcome) -> Result<(), String> {
        let taken = moved::list(&mut self.route).map_err(|error| error.to_string())?;
        let ours = taken.iter().filter(|taken| taken.link.mac == Some(view.own.mac));
        let changes: Vec<_> = ours.map(Elsewhere::delete).collect();
        let refused = self.apply(changes, outcome);
        outcome.problems.extend(refused.iter().map(Error::to_string));
        Ok(())
    }

    /// Where there is no overlay, what another setting has left goes: after the routes, so that no packet is on its way to
    /// it. A device of another kind is not ours.
    fn remove_device(&mut self, outcome: &mut Outcome) -> Result<(), String> {
        let name = defaults::OVERLAY_DEVICE;
        let link = link::by_name(&mut self.route, name).map_err(|error| error.to_string())?;
        if link.is_some_and(|link| link.vxlan.is_some()) {
            let refused = self.apply(vec![link::delete(name)], outcome);
            outcome.problems.extend(refused.iter().map(Error::to_string));
        }
        Ok(())
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
        let mut made = false;
        for _ in 0..DEVICE_ROUNDS {
            let link = match link::by_name(&mut self.route, &wanted.name).map_err(|error| error.to_string())? {
                None if !made => self.renamed(wanted, outcome)?,
                link => link,
            };
            let changes = match (diff::device(wanted, link.as_ref()), link) {
                (DeviceChange::Keep, Some(link)) => {
                    if made {
                        self.fast_path.prepare(&mut self.route, link.index);
                    }
                    return Ok(link);
                }
                (DeviceChange::Keep, None) => Vec::new(),
                (DeviceChange::Recreate(_), _) if made => {
                    // The kernel takes no notice of an attribute that it does not know.
                    return Err(kernel_support::without("VNI filters for VXLAN devices", "5.18"));
                }
                (DeviceChange::Create(change), _) => {
                    made = true;
                    vec![change]
                }
                (DeviceChange::Recreate(change), _) => vec![change],
                (DeviceChange::Change(changes), _) => changes,
                (DeviceChange::Foreign { kind }, _) => {
                    let name = &wanted.name;
                    return Err(format!("device {name} is a {kind} of somebody else's: rename or remove it"));
                }
            };
            if let Some(error) = self.apply(changes, outcome).into_iter().next() {
                let port = wanted.vxlan.port;
                return Err(match error.address_in_use() {
                    true => format!("{error}: {}", self.who_has(port, &wanted.name)),
                    false => error.to_string(),
                });
            }
        }
        Err(format!("device {} does not stay as it is set: who else changes it?", wanted.name))
    }

    /// Our device, where somebody has given it another name: told by its address, which no other has.
    fn renamed(&mut self, wanted: &Device, outcome: &mut Outcome) -> Result<Option<Link>, String> {
        let links = link::list(&mut self.route).map_err(|error| error.to_string())?;
        let ours = |link: &Link| link.vxlan == Some(wanted.vxlan) && link.mac == Some(wanted.mac);
        let Some(link) = links.into_iter().find(ours) else { return Ok(None) };
        let refused = self.apply(vec![link::rename(link.index, &wanted.name)], outcome);
        refused.into_iter().next().map_or(Ok(()), |error| Err(error.to_string()))?;
        link::by_name(&mut self.route, &wanted.name).map_err(|error| error.to_string())
    }

    /// Whose the UDP port of the overlay is, when it is not ours, and what can be done.
    fn who_has(&mut self, port: u16, own: &str) -> String {
        let links = link::list(&mut self.route).unwrap_or_default();
        let has = |link: &&Link| link.name != own && link.up && link.vxlan.is_some_and(|vxlan| vxlan.port == port);
        match links.iter().find(has) {
            Some(link) => format!(
                "VXLAN device {0} has UDP port {port}: remove it (`ip link delete {0}`), or set another `port` on all nodes",
                link.name
            ),
            None => format!("another program has UDP port {port}: `ss -lunp` shows whose it is"),
        }
    }

    /// Applies changes, and logs each one that was made. The others.
    pub(super) fn apply(
        &mut self,
        changes: impl IntoIterator<Item = Request<Message>>,
        outcome: &mut Outcome,
    ) -> Vec<Error> {
        let mut subjects = Vec::new();
        let noted = changes.into_iter().inspect(|change| subjects.push(change.message.subject()));
        let mut refused = logging::together(|| self.route.execute_each(noted, |wish| info!("{wish}")));
        refused.sort_by_key(|(place, _)| *place);
        let mut left = refused.iter().map(|(place, _)| *place).peekable();
        for (place, subject) in subjects.into_iter().enumerate() {
            if left.next_if_eq(&place).is_none() {
                outcome.changes += 1;
                outcome.made.add(subject.into());
            }
        }
        refused.into_iter().map(|(_, error)| error).collect()
    }

    /// Sets what is not as it should be among the kernel's settings.
    fn settings(&mut self, view: &View, outcome: &mut Outcome) {
        let mut changed = Vec::new();
        for setting in desired::settings(view, self.settings.overlay) {
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
        for set in &changed {
            outcome.made.add(Kind::Sysctl);
            info!("set sysctl {} to {}", set.path, set.value);
        }
    }
}
