//! The firewall's step of a reconcile: the daemon's part of table `inet podwire`, desired and observed, with the
//! difference applied in one transaction; then what pods have there, from the plugin's ledger. The rules themselves are
//! in `podwire_conf`.
//!
//! Ten thousand peers are forty thousand elements. They are listed only after a transaction of another program:
//! nftables numbers its transactions.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use podwire_conf::rules::host_ports::Protocol;
use podwire_conf::rules::node::{self, Firewall as Desired, NodeConfig, PlainLink, Sender};
use podwire_kernel::conntrack::{self, Filter};
use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{self, Entries, Listed, Names};
use podwire_kernel::{Result, Socket, path_mtu};
use tracing::info;

use crate::cluster::settings::{Overlay, Settings};
use crate::cluster::view::{Peer, View};
use crate::datapath::inputs::Inputs;
use crate::datapath::overlay::underlay::Underlay;
use crate::datapath::service_addresses::ServiceAddresses;
use crate::datapath::transactions::Transactions;
use crate::report::change_kind::ChangeKind;
use crate::report::outcome::Outcome;
use crate::report::problem::{Problem, ProblemKind};

/// How often a transaction is retried that another program's has overtaken.
const ATTEMPTS: usize = 10;

/// The firewall of this node.
pub(crate) struct Firewall {
    socket: Socket,
    known: Option<Known>,
    services: ServiceAddresses,
    /// Those of them that host ports had left out after the last step, sorted.
    left_out: Vec<IpAddr>,
    /// The interface to the peers, as of the last look.
    underlay: Option<Underlay>,
    transactions: Transactions,
}

/// What the kernel has, as of a generation.
struct Known {
    generation: u32,
    desired: Desired,
}

/// What the rules of this node follow from, beside the peers.
fn config<'a>(
    view: &'a View,
    settings: &'a Settings,
    fast_path: bool,
    services: &'a [IpAddr],
    link: Option<PlainLink<'a>>,
) -> NodeConfig<'a> {
    NodeConfig {
        own: view.own.address,
        own_pod_cidrs: &view.own.pod_cidrs,
        cluster_cidrs: &view.cluster_cidrs,
        vni: settings.vni,
        port: settings.port,
        plain_routes: settings.overlay != Overlay::Always,
        link: link.filter(|_| settings.overlay != Overlay::Always),
        accept_plain: settings.accept_plain,
        masquerade: settings.masquerade,
        not_masqueraded: &settings.not_masqueraded,
        refused_destinations: &settings.refused_destinations,
        fast_path,
        service_addresses: services,
    }
}

/// What a peer may send from.
fn sender(peer: &Peer) -> Sender<'_> {
    Sender { address: peer.address, pod_cidrs: &peer.pod_cidrs, addresses: &peer.addresses }
}

/// What the kernel has learned of the paths to peers while the guard against forged ICMP errors was not there may be forged.
fn forget_path_mtus(view: &View) -> Result<()> {
    let peers = || view.peers.values().map(|peer| peer.address);
    if peers().any(|address| address.is_ipv4()) {
        path_mtu::forget_ipv4()?;
    }
    if peers().any(|address| address.is_ipv6()) {
        path_mtu::forget_ipv6(&mut Socket::route()?, peers())?;
    }
    Ok(())
}

impl Firewall {
    /// With the transactions of all that write rules.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub(crate) fn new(transactions: Transactions) -> Result<Self> {
        let (socket, services) = (Socket::netfilter()?, ServiceAddresses::new()?);
        Ok(Self { socket, known: None, services, left_out: Vec::new(), underlay: None, transactions })
    }

    /// Looks for the addresses of Services on this node, which the next steps leave out of host ports.
    pub(crate) fn look_for_services(&mut self, view: &View, outcome: &mut Outcome) {
        outcome.problems.extend(self.services.read(view).err().map(Problem::from));
    }

    /// Has the next steps know the interface to the peers, and which other devices are on its link.
    pub(crate) fn follow(&mut self, underlay: Option<&Underlay>) {
        self.underlay = underlay.cloned();
    }

    /// The port of its socket.
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Whether the last step has left all as desired, as far as this process knows.
    pub(crate) fn is_known(&self) -> bool {
        self.known.is_some()
    }

    /// Applies the daemon's part of the table, and restores what pods have in it. On failure [`Firewall::is_known`] is
    /// false, and the reason is among the problems.
    pub(crate) fn step(&mut self, inputs: &Inputs<'_>, outcome: &mut Outcome) {
        let done = self.bring_up(inputs, outcome);
        outcome.problems.extend(done.err());
    }

    fn bring_up(&mut self, inputs: &Inputs<'_>, outcome: &mut Outcome) -> std::result::Result<(), Problem> {
        let settings = inputs.settings;
        let others = self.underlay.as_ref().map(|underlay| underlay.others_on_link(inputs.view)).unwrap_or_default();
        let link = self.underlay.as_ref().map(|underlay| PlainLink { device: &underlay.name, others: &others });
        let config = config(inputs.view, settings, inputs.fast_path, self.services.addresses(), link);
        let desired = node::firewall(&config, inputs.view.peers.values().map(sender));
        let mut known = self.known.take();
        for attempt in 1.. {
            let generation = nft::current_generation(&mut self.socket)?;
            known = known.filter(|known| self.transactions.only_ours(known.generation, generation));
            known.iter_mut().for_each(|known| known.generation = generation);
            if known.as_ref().is_some_and(|known| known.desired == desired) {
                break;
            }
            let was_known = known.is_some();
            let observed = match known.take() {
                Some(known) => Observed::remembered(known, &desired),
                None => Observed::read(&mut self.socket, generation, &desired)?,
            };
            let made = match self.apply(&desired, &observed, inputs, outcome) {
                Err(error) if error.is_outdated() && attempt < ATTEMPTS => continue,
                made => made?,
            };
            // What pods have is read whenever the rest is. If something was restored or skipped, the next reconcile
            // reads again.
            if was_known || self.restore(inputs.state_directory, outcome)? {
                known = Some(Known { generation: made, desired });
            }
            break;
        }
        self.known = known;
        self.leave_out(inputs.state_directory)
    }

    /// Flows that began before an address was known as a Service's are translated to a pod for as long as they last.
    fn leave_out(&mut self, state: &Path) -> std::result::Result<(), Problem> {
        let there = self.services.addresses();
        let new: BTreeSet<_> = there.iter().filter(|it| self.left_out.binary_search(it).is_err()).copied().collect();
        if !new.is_empty() {
            podwire_attachment::pod_rules::leave_out(&new, &mut self.socket, state)
                .map_err(|failure| Problem::general(ProblemKind::LedgerUnreadable, failure.to_string()))?;
        }
        self.left_out = there.to_vec();
        Ok(())
    }

    /// Applies the difference. Returns the generation as of which the table is so.
    fn apply(
        &mut self,
        desired: &Desired,
        observed: &Observed,
        inputs: &Inputs<'_>,
        outcome: &mut Outcome,
    ) -> Result<u32> {
        let table = &desired.table;
        let rules = !observed.found.is(table) || observed.surplus != Names::default();
        let mut requests = if rules { table.replace(&observed.found) } else { Vec::new() };
        let mut changed = Vec::new();
        for (desired, found) in desired.keys.iter().zip(&observed.keys) {
            let (more, fewer) = (desired.without(found), found.without(desired));
            if !more.is_empty() || !fewer.is_empty() {
                requests.extend(fewer.remove(&table.name));
                requests.extend(more.add(&table.name));
                changed.push((desired.set().name.clone(), more.len(), fewer.len()));
            }
        }
        requests.extend(observed.surplus.remove(&table.name));
        let generation = observed.found.generation;
        if requests.is_empty() {
            return Ok(generation);
        }
        self.socket.transact_upon(Some(generation), requests)?;
        let made_upon = self.transactions.made_upon(generation);
        let made = usize::from(rules) + changed.len();
        outcome.changes += made;
        (0..made).for_each(|_| outcome.made.add(ChangeKind::Firewall));
        if rules {
            info!("set table inet {}", table.name);
            if inputs.settings.masquerade {
                self.forget_flows(inputs)?;
            }
            forget_path_mtus(inputs.view)?;
        }
        for (set, more, fewer) in changed {
            info!("set the elements of set {set} of table inet {}: +{more} -{fewer}", table.name);
        }
        Ok(made_upon)
    }

    /// Some guards see only the first packet of a connection: conntrack entries from before they existed are deleted.
    fn forget_flows(&mut self, inputs: &Inputs<'_>) -> Result<()> {
        for version in IpVersion::BOTH {
            let protocol = Protocol::Udp.number();
            let destination_port = Some(inputs.settings.port);
            let flows = Filter { version, protocol, destination: None, destination_port, reply_source: None };
            conntrack::forget(&mut self.socket, &flows)?;
        }
        let config = config(inputs.view, inputs.settings, inputs.fast_path, &[], None);
        let outdated = conntrack::list_those(&mut self.socket, |flow| node::is_outdated(&config, flow))?;
        conntrack::forget_each(&mut self.socket, &outdated)
    }

    /// Restores what pods have in the table. Returns whether nothing had to be restored, and no pod was skipped.
    fn restore(&mut self, state: &Path, outcome: &mut Outcome) -> std::result::Result<bool, Problem> {
        let restored = podwire_attachment::pod_rules::restore(&mut self.socket, state)
            .map_err(|failure| Problem::general(ProblemKind::LedgerUnreadable, failure.to_string()))?;
        restored.changes.iter().for_each(|what| info!("{what}"));
        outcome.changes += restored.changes.len();
        restored.changes.iter().for_each(|_| outcome.made.add(ChangeKind::Firewall));
        Ok(restored.complete && restored.changes.is_empty())
    }
}

/// What the kernel has of what is desired.
struct Observed {
    found: Listed,
    /// The keys of the desired sets, in the same order.
    keys: Vec<Entries>,
    /// Chains and sets of ours that are not desired any more.
    surplus: Names,
}

impl Observed {
    /// The state that the last transaction left.
    fn remembered(known: Known, desired: &Desired) -> Self {
        let Known { generation, desired: Desired { table, keys: known } } = known;
        let chains = table.chains.iter().map(|chain| chain.name.clone()).collect();
        let sets = table.sets.iter().map(|set| set.name.clone()).collect();
        let surplus = surplus(Names { chains, sets, ..Names::default() }, desired);
        let keys = desired.keys.iter().map(|desired| {
            let same = known.iter().find(|known| known.set() == desired.set());
            same.cloned().unwrap_or_else(|| desired.none())
        });
        let keys = keys.collect();
        let found = Listed { generation, table, dormant: false, misplaced: Vec::new(), mistyped: Vec::new() };
        Self { found, keys, surplus }
    }

    /// A fresh read, started after the generation was read: a change meanwhile makes it outdated.
    fn read(socket: &mut Socket, generation: u32, desired: &Desired) -> Result<Self> {
        let found = Listed { generation, ..nft::read(socket, &desired.table)? };
        let mut keys = Vec::new();
        for desired in &desired.keys {
            let right = found.table.sets.contains(desired.set());
            keys.push(if right { nft::entries(socket, &found.table.name, desired)? } else { desired.none() });
        }
        let surplus = surplus(nft::names(socket, &found.table.name)?, desired);
        Ok(Self { found, keys, surplus })
    }
}

/// What is ours by its name, and not desired.
fn surplus(there: Names, desired: &Desired) -> Names {
    let Names { mut chains, mut sets, .. } = there;
    chains.retain(|name| node::is_chain(name) && desired.table.chains.iter().all(|chain| chain.name != *name));
    sets.retain(|name| node::is_set(name) && desired.table.sets.iter().all(|set| set.name != *name));
    Names { chains, sets, ..Names::default() }
}
