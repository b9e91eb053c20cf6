//! The pods' step of a reconcile: the host side of each attachment on the plugin's ledger, and its repair. A repair
//! takes the attachment lock; a pod that is being attached or detached is left to the plugin.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use podwire_attachment::error::Error;
use podwire_attachment::host_side::{HostSide, Loopback};
use podwire_attachment::ledger::{Ledger, Record};
use podwire_conf::defaults;
use podwire_kernel::link::settings::{self, DeviceSettings};
use podwire_kernel::link::{self};
use podwire_kernel::neighbour::{self, Neighbour};
use podwire_kernel::netlink::message::Message;
use podwire_kernel::proxy_neighbour::{self, ProxyNeighbour};
use podwire_kernel::route::{self, Route};
use podwire_kernel::sysctl::Sysctl;
use podwire_kernel::tc::{bpf_hook, loopback_filter};
use podwire_kernel::{Request, Result, Socket};
use tracing::info;

use crate::datapath::inputs::Inputs;
use crate::report::change_kind::ChangeKind;
use crate::report::outcome::Outcome;
use crate::report::problem::{Problem, ProblemKind};

/// An attachment of this node.
struct Pod {
    ledger: Ledger,
    record: Record,
    host_side: HostSide,
}

/// The repair of a pod's host side.
#[derive(Default)]
struct Repair {
    sysctls: Vec<Sysctl>,
    requests: Vec<Request<Message>>,
}

/// What the kernel has for all pods.
struct Observed {
    devices: BTreeMap<String, DeviceSettings>,
    routes: Vec<Route>,
    missing: Vec<Neighbour>,
    /// The gateways that a device does not answer for.
    unanswered: Vec<ProxyNeighbour>,
    /// The devices with the filter of 127.0.0.0/8, among those that need it.
    filtered: BTreeSet<u32>,
}

/// The host sides of pods, and the socket that repairs them.
pub(crate) struct Pods {
    socket: Socket,
}

impl Pods {
    /// Once `stop` is set, a step ends before its next dump.
    ///
    /// # Errors
    /// When no socket can be opened.
    pub(crate) fn new(stop: Arc<AtomicBool>) -> Result<Self> {
        let mut socket = Socket::route()?;
        socket.stop_by(stop);
        Ok(Self { socket })
    }

    /// The port of its socket.
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Repairs the host sides of pods, and reports their devices. When they are not known, there is a problem.
    pub(crate) fn step(&mut self, inputs: &Inputs<'_>, outcome: &mut Outcome) {
        outcome.devices.pods = repair_all(&mut self.socket, inputs.state_directory, outcome);
    }
}

fn repair_all(socket: &mut Socket, state: &Path, outcome: &mut Outcome) -> Option<Vec<u32>> {
    let pods = match pods(state) {
        Ok(pods) => pods,
        Err(failure) => {
            outcome.problem(unreadable(&failure));
            return None;
        }
    };
    if pods.is_empty() {
        return Some(Vec::new());
    }
    let observed = match observe(socket, &pods) {
        Ok(observed) => observed,
        Err(error) => {
            outcome.problem(error);
            return None;
        }
    };
    for pod in pods {
        // A pod whose device is gone is dead.
        let Some(device) = observed.devices.get(&pod.host_side.name) else { continue };
        let mut repair = repair(&pod.host_side, device, &observed);
        let unfiltered = pod.host_side.loopback_ports && !observed.filtered.contains(&device.link.index);
        if !unfiltered && repair.sysctls.is_empty() && repair.requests.is_empty() {
            continue;
        }
        match lock_unchanged(socket, &pod, device) {
            Ok(None) => {}
            Ok(Some(_lock)) => {
                if unfiltered {
                    repair.requests.extend(filter(socket, &pod.host_side, device, outcome));
                }
                apply(socket, repair, outcome);
            }
            Err(failure) => outcome.problem(unreadable(&failure)),
        }
    }
    Some(observed.devices.values().map(|device| device.link.index).collect())
}

fn unreadable(failure: &Error) -> Problem {
    Problem::general(ProblemKind::LedgerUnreadable, failure.to_string())
}

/// The attachments whose ADD has completed.
fn pods(state: &Path) -> std::result::Result<Vec<Pod>, Error> {
    let mut pods = Vec::new();
    for ledger in Ledger::all_of_this_boot(state)? {
        for record in ledger.attachments()? {
            let host_side = HostSide::of(&ledger.with_own_addresses(record.clone())?);
            pods.push(Pod { ledger: ledger.clone(), record, host_side });
        }
    }
    Ok(pods)
}

fn observe(socket: &mut Socket, pods: &[Pod]) -> Result<Observed> {
    let names: Vec<_> = pods.iter().map(|pod| pod.host_side.name.as_str()).collect();
    let devices = settings::by_names(socket, &names)?;
    let neighbours =
        pods.iter().filter_map(|pod| Some(pod.host_side.neighbours(devices.get(&pod.host_side.name)?.link.index)));
    let neighbours: Vec<_> = neighbours.flatten().collect();
    let missing = neighbour::missing(socket, &neighbours)?;
    let gateways =
        pods.iter().filter_map(|pod| Some(pod.host_side.gateways(devices.get(&pod.host_side.name)?.link.index)));
    let gateways: Vec<_> = gateways.flatten().collect();
    let unanswered = proxy_neighbour::missing(socket, &gateways)?;
    let mut filtered = BTreeSet::new();
    for pod in pods.iter().filter(|pod| pod.host_side.loopback_ports) {
        let Some(device) = devices.get(&pod.host_side.name) else { continue };
        if loopback_filter::attached(socket, device.link.index)? {
            filtered.insert(device.link.index);
        }
    }
    Ok(Observed { routes: route::list(socket, defaults::POD_PROTOCOL)?, missing, unanswered, filtered, devices })
}

/// Takes the attachment lock, if it is free and the pod is unchanged.
fn lock_unchanged(
    socket: &mut Socket,
    pod: &Pod,
    device: &DeviceSettings,
) -> std::result::Result<Option<podwire_attachment::ledger::AttachmentLock>, Error> {
    let lock = pod.ledger.try_lock_attachment(&pod.record.attachment)?;
    let same = pod.ledger.find(&pod.record.attachment)? == Some((pod.record.clone(), true))
        && link::by_name(socket, &pod.host_side.name)?.is_some_and(|link| link.index == device.link.index);
    Ok(lock.filter(|_| same))
}

/// The differences, in an order in which each request finds what it needs: a device that was down or had another
/// link-layer address has lost its neighbours, and a device that is down has no routes.
fn repair(host_side: &HostSide, device: &DeviceSettings, observed: &Observed) -> Repair {
    let DeviceSettings { link, ipv4, ipv6 } = device;
    let mut repair = Repair::default();
    if link.mac != Some(host_side.mac) {
        repair.requests.push(link::set_mac(link.index, host_side.mac));
    }
    if let Some(ipv4) = ipv4 {
        let filtered = observed.filtered.contains(&link.index);
        let mut settings = host_side.ipv4_settings(if filtered { Loopback::Filtered } else { Loopback::Open });
        settings.retain(|(setting, value)| i64::from(ipv4.get(*setting)) != i64::from(*value));
        if !settings.is_empty() {
            repair.requests.push(link::set_ipv4(link.index, &link.name, &settings));
        }
    }
    if let Some(ipv6) = ipv6 {
        if ipv6.accept_advertisements != 0 || ipv6.accept_redirects != 0 {
            repair.sysctls.extend(host_side.hardening());
        }
        let enable = host_side.enable_ipv6();
        if enable.is_some() && ipv6.proxy_discovery != 1 {
            repair.sysctls.push(host_side.proxy_discovery());
        }
        repair.sysctls.extend(enable.filter(|_| ipv6.disabled != 0));
    }
    let mut flushed = link.mac != Some(host_side.mac);
    if !link.up {
        repair.requests.push(link::set_up(link.index, &link.name));
        flushed = true;
    }
    let neighbours = host_side.neighbours(link.index).into_iter();
    let neighbours = neighbours.filter(|neighbour| flushed || observed.missing.contains(neighbour));
    repair.requests.extend(neighbours.map(|neighbour| neighbour.replace()));
    let gateways = host_side.gateways(link.index).into_iter();
    let gateways: Vec<_> = gateways.filter(|gateway| flushed || observed.unanswered.contains(gateway)).collect();
    if !gateways.is_empty() {
        // An attachment of an earlier version has none of it.
        repair.sysctls.retain(|setting| *setting != host_side.proxy_discovery());
        repair.sysctls.extend(host_side.answering());
    }
    repair.requests.extend(gateways.iter().map(ProxyNeighbour::replace));
    let routes = host_side.routes(link.index).into_iter().filter(|route| !observed.routes.contains(route));
    repair.requests.extend(routes.map(|route| {
        // A route of ours with another target is replaced; a foreign one is not.
        let ours = observed.routes.iter().any(|other| other.destination == route.destination && other.metric == 0);
        if ours { route.replace() } else { route.add() }
    }));
    repair
}

/// Attaches the filter of 127.0.0.0/8 to a pod's device. Returns the request that has the device accept 127.0.0.1 again, or
/// none where there is no filter.
fn filter(
    socket: &mut Socket,
    host_side: &HostSide,
    device: &DeviceSettings,
    outcome: &mut Outcome,
) -> Option<Request<Message>> {
    let index = device.link.index;
    let attach = |socket: &mut Socket| {
        let queues = bpf_hook::queues(socket)?.remove(&index).unwrap_or_default();
        if !queues.hooks && !queues.ingress {
            socket.execute(bpf_hook::add_hooks(index))?;
        }
        socket.execute(loopback_filter::attach(index))
    };
    match attach(socket) {
        Ok(()) => {
            outcome.changes += 1;
            outcome.made.add(ChangeKind::Other);
            info!("attached the filter of 127.0.0.0/8 to {}", host_side.name);
            Some(link::set_ipv4(index, &host_side.name, &host_side.ipv4_settings(Loopback::Filtered)))
        }
        Err(error) if error.is_gone() => None,
        Err(error) => {
            let text = format!("{error}: host ports of {} are not reached at 127.0.0.1 of the node", host_side.name);
            outcome.problem(Problem::new(ProblemKind::KernelRefused, error.operation(), text));
            None
        }
    }
}

fn apply(socket: &mut Socket, repair: Repair, outcome: &mut Outcome) {
    for setting in repair.sysctls {
        match setting.set_if_there() {
            Ok(()) => {
                outcome.changes += 1;
                outcome.made.add(ChangeKind::Sysctl);
                info!("set sysctl {} to {}", setting.path, setting.value);
            }
            Err(error) => outcome.problem(Problem::new(ProblemKind::SysctlRefused, &setting.path, error.to_string())),
        }
    }
    let operations: Vec<_> =
        repair.requests.iter().map(|request| (request.operation.clone(), request.message.subject())).collect();
    let mut refused: BTreeMap<_, _> = socket.execute_all(repair.requests).into_iter().collect();
    for (place, (operation, subject)) in operations.into_iter().enumerate() {
        match refused.remove(&place) {
            None => {
                outcome.changes += 1;
                outcome.made.add(subject.into());
                info!("{operation}");
            }
            // The pod is gone meanwhile.
            Some(error) if error.is_gone() => {}
            Some(error) if error.already_there() => {
                let text = format!("{error}: it is foreign and is not replaced: the pod is cut off");
                outcome.problem(Problem::new(ProblemKind::ForeignObject, error.operation(), text));
            }
            Some(error) => outcome.problem(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use podwire_kernel::link::Link;
    use podwire_kernel::link::settings::{Ipv4, Ipv6};
    use podwire_kernel::{Mac, family};

    use super::*;

    fn host_side() -> HostSide {
        HostSide {
            name: "pw1".into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            pod_mac: Some(Mac([2, 0, 0, 0, 0, 2])),
            addresses: vec!["10.244.1.5".parse().unwrap(), "fd00::5".parse().unwrap()],
            loopback_ports: false,
        }
    }

    fn device() -> DeviceSettings {
        let link = Link {
            index: 7,
            name: "pw1".into(),
            up: true,
            operational: true,
            mtu: 1450,
            mac: Some(host_side().mac),
            kind: Some("veth".into()),
            peer: Some(2),
            alias: None,
            vxlan: None,
            makes_link_local: false,
            loopback: false,
            controller: None,
        };
        let ipv4 = Ipv4 {
            reverse_path_filter: 1,
            forwarding: 1,
            accept_redirects: 0,
            accept_source_route: 0,
            route_localnet: 0,
        };
        let ipv6 = Ipv6 { disabled: 0, accept_advertisements: 0, accept_redirects: 0, proxy_discovery: 1 };
        DeviceSettings { link, ipv4: Some(ipv4), ipv6: Some(ipv6) }
    }

    fn operations(
        host_side: &HostSide,
        device: &DeviceSettings,
        missing: &[Neighbour],
        routes: Vec<Route>,
    ) -> Vec<String> {
        let (missing, unanswered, filtered) = (missing.to_vec(), Vec::new(), BTreeSet::new());
        let observed = Observed { devices: BTreeMap::new(), routes, missing, unanswered, filtered };
        let repair = repair(host_side, device, &observed);
        let sysctls = repair.sysctls.iter().map(|setting| format!("{} {}", setting.path, setting.value));
        sysctls.chain(repair.requests.into_iter().map(|request| request.operation)).collect()
    }

    #[test]
    fn an_intact_pod_needs_no_repair_and_a_damaged_one_exactly_its_damage() {
        let (host_side, whole) = (host_side(), device());
        assert_eq!(operations(&host_side, &whole, &[], host_side.routes(7)), [""; 0]);
        assert_eq!(
            operations(&host_side, &whole, &host_side.neighbours(7)[1..], host_side.routes(7)),
            ["set neighbour fd00::5 at 02:00:00:00:00:02"]
        );
        let mut other_target = host_side.routes(7);
        other_target[0] = Route { target: podwire_kernel::route::Target::Device(9), ..other_target[0].clone() };
        assert_eq!(operations(&host_side, &whole, &[], other_target), ["set route 10.244.1.5/32 dev 7"]);
        let mut broken = whole.clone();
        broken.ipv4 = Some(Ipv4 {
            reverse_path_filter: 0,
            forwarding: 0,
            accept_redirects: 0,
            accept_source_route: 1,
            route_localnet: 1,
        });
        let set = |more: &str| format!("set ReversePathFilter 1, Forwarding 1, AcceptSourceRoute 0{more} of pw1");
        assert_eq!(operations(&host_side, &broken, &[], host_side.routes(7)), [set("")]);
        let ours = HostSide { loopback_ports: true, ..host_side };
        assert_eq!(operations(&ours, &broken, &[], ours.routes(7)), [set(", RouteLocalnet 0")]);
    }

    #[test]
    fn a_device_that_was_down_gets_its_neighbours_and_routes_after_it_is_up() {
        let host_side = host_side();
        let mut down = device();
        down.link.up = false;
        down.ipv6 = Some(Ipv6 { disabled: 1, accept_advertisements: 0, accept_redirects: 0, proxy_discovery: 1 });
        let expected = [
            "net/ipv6/conf/pw1/disable_ipv6 0",
            "net/ipv4/neigh/pw1/proxy_delay 0",
            "net/ipv6/conf/pw1/proxy_ndp 1",
            "net/ipv6/neigh/pw1/proxy_delay 0",
            "bring pw1 up",
            "set neighbour 10.244.1.5 at 02:00:00:00:00:02",
            "set neighbour fd00::5 at 02:00:00:00:00:02",
            "answer for 169.254.1.1 on device 7",
            "answer for fe80::1 on device 7",
            "add route 10.244.1.5/32 dev 7",
            "add route fd00::5/128 dev 7",
        ];
        assert_eq!(operations(&host_side, &down, &[], Vec::new()), expected);
    }

    #[test]
    fn a_record_of_an_older_version_gets_no_permanent_neighbours() {
        let host_side = HostSide { pod_mac: None, ..host_side() };
        let mut down = device();
        down.link.up = false;
        let routes = host_side.routes(7);
        assert!(routes.iter().all(|route| route.destination == family::host(route.destination.ip())));
        let repaired = operations(&host_side, &down, &[], routes);
        assert!(repaired.iter().all(|operation| !operation.starts_with("set neighbour")), "{repaired:?}");
    }
}
