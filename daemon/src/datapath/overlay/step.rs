//! The overlay's step of a reconcile: observe the device and what belongs to it, compare, apply the difference; and the
//! same for a few changed peers (incremental sync).
//!
//! What may not live here: what is desired (`desired`), and the order of changes (`diff`), both pure.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use podwire_conf::defaults;
use podwire_kernel::link::moved::{self, Moved};
use podwire_kernel::link::{self, Link};
use podwire_kernel::netlink::message::Message;
use podwire_kernel::nexthop::{self, Nexthop};
use podwire_kernel::tc::bpf_hook;
use podwire_kernel::{Error, Request, Socket, forwarding, route};
use tracing::{debug, info};

use crate::cluster::delta::Delta;
use crate::cluster::settings::Overlay as Mode;
use crate::cluster::view::View;
use crate::datapath::inputs::Inputs;
use crate::datapath::kernel_support;
use crate::datapath::overlay::desired;
use crate::datapath::overlay::diff::{self, DeviceChange};
use crate::datapath::overlay::observed;
use crate::datapath::overlay::state::{Device, NexthopIds, State};
use crate::datapath::overlay::underlay::{self, Underlay};
use crate::logging;
use crate::report::change_kind::ChangeKind;
use crate::report::outcome::{Mtu, Outcome};
use crate::report::problem::{Problem, ProblemKind};

/// How long the kernel may take until an address is local; on an idle machine less than a millisecond.
const IN_USE_WITHIN: Duration = Duration::from_secs(1);

/// Rounds until the device is as desired: created, brought up, read again.
const DEVICE_ROUNDS: usize = 4;

/// The overlay of this node, and the socket that changes it.
pub(crate) struct Overlay {
    socket: Socket,
    /// The interface of the underlay, where one is configured.
    interface: Option<String>,
    /// What the last step has left, when all is as desired.
    left: Option<Left>,
}

/// What a complete step has left, for a caller that keeps it for a while.
pub(crate) struct Settled(Left);

/// What a step has left, from which an incremental sync starts.
struct Left {
    /// Index of the overlay's device, where there is one.
    tunnel: Option<u32>,
    /// The node's interface.
    underlay: Underlay,
    /// The ids of nexthops.
    ids: NexthopIds,
}

impl Overlay {
    /// Once `stop` is set, a step ends before its next dump.
    ///
    /// # Errors
    /// When no socket can be opened, or the kernel lacks what the overlay needs.
    pub(crate) fn new(interface: Option<String>, stop: Arc<AtomicBool>) -> io::Result<Self> {
        let mut socket = Socket::route().map_err(io::Error::other)?;
        kernel_support::ask(&mut socket)?;
        socket.stop_by(stop);
        Ok(Self { socket, interface, left: None })
    }

    /// The port of its socket.
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Index of the overlay's device, as of the last step; `None` without an overlay, or when the step failed.
    pub(crate) fn device_index(&self) -> Option<u32> {
        self.left.as_ref().and_then(|left| left.tunnel)
    }

    /// Whether the last step has left all as desired, so that an incremental sync is possible.
    pub(crate) fn is_settled(&self) -> bool {
        self.left.is_some()
    }

    /// Takes what the last step has left, without which no incremental sync is possible.
    pub(crate) fn take_settled(&mut self) -> Option<Settled> {
        self.left.take().map(Settled)
    }

    /// Puts back what was taken, for a step that was stopped before it changed anything.
    pub(crate) fn put_back(&mut self, settled: Option<Settled>) {
        self.left = settled.map(|settled| settled.0);
    }

    /// Looks for the interface to the peers; what is wrong with it is among the problems.
    pub(crate) fn look(&mut self, inputs: &Inputs<'_>, outcome: &mut Outcome) -> Option<Underlay> {
        let overlay = inputs.settings.overlay;
        match underlay::look(&mut self.socket, inputs.view, self.interface.as_deref(), overlay) {
            Ok(underlay) => {
                outcome.link = Some(underlay.link.clone());
                Some(underlay)
            }
            Err(problem) => {
                outcome.problem(problem);
                None
            }
        }
    }

    /// Applies the device and everything that belongs to it, on an interface that [`Overlay::look`] has found. On failure
    /// no incremental sync is possible, and the reason is among the problems.
    pub(crate) fn step(&mut self, inputs: &Inputs<'_>, underlay: Option<Underlay>, outcome: &mut Outcome) {
        self.left = None;
        outcome.overlay_is_up = false;
        let Some(underlay) = underlay else { return };
        match self.bring_up(inputs, underlay, outcome) {
            Ok(()) => outcome.overlay_is_up = true,
            Err(problem) => outcome.problem(problem),
        }
    }

    /// Applies a change of a few peers of the last step's view, without a dump of all the others.
    ///
    /// It is as careful as a full step. It runs only after one that left all as desired. A nexthop that is changed or
    /// removed is queried first, and a new id is used only if it is free; everything else that is touched is ours by
    /// its destination and protocol, or by its device. Anything unexpected ends it: then [`Overlay::is_settled`] is
    /// false, and a full step is needed.
    pub(crate) fn change(&mut self, inputs: &Inputs<'_>, delta: &Delta, outcome: &mut Outcome) {
        self.left = self.left.take().and_then(|left| self.changed(inputs, delta, left, outcome));
    }

    /// The device, then everything that belongs to it.
    fn bring_up(&mut self, inputs: &Inputs<'_>, underlay: Underlay, outcome: &mut Outcome) -> Result<(), Problem> {
        let Inputs { view, settings, .. } = *inputs;
        let overlay = settings.overlay;
        let (mtu, too_small) = desired::mtu(view, settings, &underlay);
        outcome.problems.extend(too_small);
        outcome.mtu = Some(Mtu { underlay: underlay.mtu, overlay: mtu });
        let tunnel = match overlay {
            Mode::Always | Mode::Auto => {
                Some(self.device(&desired::device(view, settings, mtu), inputs.fast_path, outcome)?.index)
            }
            Mode::Never => None,
        };
        self.sysctls(inputs, outcome);
        let desired = self.state(inputs, tunnel, underlay, outcome)?;
        if outcome.changes > 0 && outcome.problems.is_empty() {
            outcome.problems.extend(desired.addresses.values().filter_map(|own| self.in_use(own.address.ip()).err()));
        }
        if overlay == Mode::Never {
            self.remove_device(outcome)?;
        }
        Ok(())
    }

    /// Applies everything that belongs to the tunnel device; returns the desired state.
    fn state(
        &mut self,
        inputs: &Inputs<'_>,
        tunnel: Option<u32>,
        underlay: Underlay,
        outcome: &mut Outcome,
    ) -> Result<State, Problem> {
        let Inputs { view, settings, .. } = *inputs;
        let mut first = true;
        loop {
            let (found, mut ids) = observed::state(&mut self.socket, tunnel)?;
            let (desired, problems) = desired::state(view, settings, tunnel, &underlay, &ids, inputs.narrow);
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
            for error in refused {
                if !error.already_there() {
                    outcome.problem(error);
                    continue;
                }
                let ours = unseen.get(error.operation()).map(|route| route::holds(&mut self.socket, route));
                if !ours.transpose()?.unwrap_or(false) {
                    let text = format!("{error}: it is foreign and is not replaced; remove it if nothing needs it");
                    outcome.problem(Problem::new(ProblemKind::ForeignObject, error.operation(), text));
                }
            }
            ids.replace(&found, &desired);
            self.left = Some(Left { tunnel, underlay, ids });
            return Ok(desired);
        }
    }

    /// Removes our device from other namespaces, if it was moved there: it still holds its VNIs here, so that a new
    /// device is refused them.
    fn reclaim(&mut self, view: &View, outcome: &mut Outcome) -> Result<(), Problem> {
        let taken = moved::list(&mut self.socket)?;
        let ours = taken.iter().filter(|taken| taken.link.mac == Some(view.own.mac));
        let changes: Vec<_> = ours.map(Moved::delete).collect();
        let refused = self.apply(changes, outcome);
        outcome.problems.extend(refused.into_iter().map(Problem::from));
        Ok(())
    }

    /// Without an overlay, removes a device that another setting has left: after the routes, so that no packet is sent
    /// to it. A device of another kind is not ours.
    fn remove_device(&mut self, outcome: &mut Outcome) -> Result<(), Problem> {
        let name = defaults::OVERLAY_DEVICE;
        let link = link::by_name(&mut self.socket, name)?;
        if link.is_some_and(|link| link.vxlan.is_some()) {
            let refused = self.apply(vec![link::delete(name)], outcome);
            outcome.problems.extend(refused.into_iter().map(Problem::from));
        }
        Ok(())
    }

    /// Waits until an address of ours is local: "ready" is not reported before.
    fn in_use(&mut self, address: IpAddr) -> Result<(), Problem> {
        let deadline = Instant::now() + IN_USE_WITHIN;
        while !route::is_local(&mut self.socket, address)? {
            if Instant::now() > deadline {
                let text = format!("address {address} was not taken into use within {IN_USE_WITHIN:?}");
                return Err(Problem::new(ProblemKind::AddressNotInUse, address.to_string(), text));
            }
            thread::park_timeout(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Applies the device. A change of it flushes addresses, neighbours and routes with few notifications, so those are
    /// read afterwards.
    fn device(&mut self, wanted: &Device, fast_path: bool, outcome: &mut Outcome) -> Result<Link, Problem> {
        let mut made = false;
        for _ in 0..DEVICE_ROUNDS {
            let link = match link::by_name(&mut self.socket, &wanted.name)? {
                None if !made => self.renamed(wanted, outcome)?,
                link => link,
            };
            let changes = match (diff::device(wanted, link.as_ref()), link) {
                (DeviceChange::Keep, Some(link)) => {
                    if made && fast_path {
                        let hooks = self.socket.execute(bpf_hook::add_hooks(link.index));
                        outcome.devices.hooks_refused = hooks.err();
                    }
                    return Ok(link);
                }
                (DeviceChange::Keep, None) => Vec::new(),
                (DeviceChange::Recreate(_), _) if made => {
                    // An older kernel ignores an attribute that it does not know.
                    return Err(kernel_support::without("VNI filters for VXLAN devices", "5.18").into());
                }
                (DeviceChange::Create(change), _) => {
                    made = true;
                    vec![change]
                }
                (DeviceChange::Recreate(change), _) => vec![change],
                (DeviceChange::Change(changes), _) => changes,
                (DeviceChange::Foreign { kind }, _) => {
                    let name = &wanted.name;
                    let text = format!("device {name} is a foreign {kind}: rename or remove it");
                    return Err(Problem::new(ProblemKind::ForeignDevice, name, text));
                }
            };
            if let Some(error) = self.apply(changes, outcome).into_iter().next() {
                let port = wanted.vxlan.port;
                return Err(match error.address_in_use() {
                    true => self.port_in_use(&error, port, &wanted.name),
                    false => error.into(),
                });
            }
        }
        let name = &wanted.name;
        let text = format!("device {name} does not stay as it is set: another program changes it (`ip monitor link`)");
        Err(Problem::new(ProblemKind::DeviceUnstable, name, text))
    }

    /// Our device, if it was renamed: identified by its link-layer address, which no other has.
    fn renamed(&mut self, wanted: &Device, outcome: &mut Outcome) -> Result<Option<Link>, Problem> {
        let links = link::list(&mut self.socket)?;
        let ours = |link: &Link| link.vxlan == Some(wanted.vxlan) && link.mac == Some(wanted.mac);
        let Some(link) = links.into_iter().find(ours) else { return Ok(None) };
        let refused = self.apply(vec![link::rename(link.index, &wanted.name)], outcome);
        refused.into_iter().next().map_or(Ok(()), Err)?;
        Ok(link::by_name(&mut self.socket, &wanted.name)?)
    }

    /// Which other socket uses the UDP port of the overlay, and how to fix it.
    fn port_in_use(&mut self, error: &Error, port: u16, own: &str) -> Problem {
        let links = link::list(&mut self.socket).unwrap_or_default();
        let has = |link: &&Link| link.name != own && link.up && link.vxlan.is_some_and(|vxlan| vxlan.port == port);
        let (subject, why) = match links.iter().find(has) {
            Some(Link { name, .. }) => (
                name.clone(),
                format!(
                    "VXLAN device {name} has UDP port {port}: remove it (`ip link delete {name}`), or set another `port` on \
                     all nodes"
                ),
            ),
            None => (port.to_string(), format!("another program has UDP port {port}: `ss -lunp` shows which")),
        };
        Problem::new(ProblemKind::PortInUse, subject, format!("{error}: {why}"))
    }

    /// Applies changes, and logs each one. Returns the errors of the others.
    fn apply(&mut self, changes: impl IntoIterator<Item = Request<Message>>, outcome: &mut Outcome) -> Vec<Error> {
        let mut subjects = Vec::new();
        let noted = changes.into_iter().inspect(|change| subjects.push(change.message.subject()));
        let mut refused = logging::together(|| self.socket.execute_each(noted, |operation| info!("{operation}")));
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

    /// Sets the sysctls that differ.
    fn sysctls(&mut self, inputs: &Inputs<'_>, outcome: &mut Outcome) {
        let view = inputs.view;
        let refused = |path: &str, error: &Error| Problem::new(ProblemKind::SysctlRefused, path, error.to_string());
        let mut changed = Vec::new();
        for setting in desired::settings(view, inputs.settings.overlay) {
            match setting.holds() {
                Ok(Some(true)) => {}
                Ok(Some(false)) => match setting.set() {
                    Ok(()) => changed.push(setting),
                    Err(error) => outcome.problem(refused(&setting.path, &error)),
                },
                Ok(None) => {
                    let text = format!("the kernel has no sysctl {}", setting.path);
                    outcome.problem(Problem::new(ProblemKind::SysctlMissing, &setting.path, text));
                }
                Err(error) => outcome.problem(refused(&setting.path, &error)),
            }
        }
        if desired::routes_family(view, false) {
            match forwarding::enable_ipv6(&mut self.socket) {
                Ok(more) => changed.extend(more),
                Err(error) => outcome.problem(error),
            }
        }
        outcome.changes += changed.len();
        for set in &changed {
            outcome.made.add(ChangeKind::Sysctl);
            info!("set sysctl {} to {}", set.path, set.value);
        }
    }

    /// What the delta leaves; `None` when not all of it was applied.
    fn changed(&mut self, inputs: &Inputs<'_>, delta: &Delta, mut left: Left, outcome: &mut Outcome) -> Option<Left> {
        // What these peers share with all others (guards, own addresses) is in both, so it stays.
        let Left { tunnel, underlay, ids } = &left;
        let state = |peers| {
            let view = inputs.view.with_only(peers);
            desired::state(&view, inputs.settings, *tunnel, underlay, ids, inputs.narrow)
        };
        let ((before, _), (after, problems)) = (state(&delta.before), state(&delta.after));
        let known = |nexthop: &Nexthop| ids.ours.get(&nexthop.gateway) == Some(&nexthop.id);
        if !problems.is_empty() || !before.nexthops.values().all(known) {
            return None;
        }
        match nexthop::has_all(&mut self.socket, before.nexthops.values()) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                debug!("{error}");
                return None;
            }
        }
        let refused = self.apply(diff::state(&after, &before, *tunnel), outcome);
        refused.iter().for_each(|error| debug!("{error}"));
        left.ids.replace(&before, &after);
        refused.is_empty().then_some(left)
    }
}
