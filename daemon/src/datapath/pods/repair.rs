//! The repair of a pod's host side: what differs between what it should be and what the kernel has. Pure.

use podwire_attachment::host_side::{HostSide, Loopback};
use podwire_kernel::Request;
use podwire_kernel::link;
use podwire_kernel::link::settings::DeviceSettings;
use podwire_kernel::netlink::message::Message;
use podwire_kernel::sysctl::Sysctl;

use crate::datapath::pods::observed::Observed;

/// The repair of a pod's host side.
#[derive(Default)]
pub(super) struct Repair {
    /// Sysctls that differ.
    pub(super) sysctls: Vec<Sysctl>,
    /// What else differs, in an order in which each request finds what it needs.
    pub(super) requests: Vec<Request<Message>>,
}

impl Repair {
    /// The differences, in an order in which each request finds what it needs: a device that was down or had another
    /// link-layer address has lost its neighbours, and a device that is down has no routes.
    pub(super) fn of(host_side: &HostSide, device: &DeviceSettings, observed: &Observed) -> Self {
        let DeviceSettings { link, ipv4, ipv6 } = device;
        let mut repair = Self::default();
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
            repair.sysctls.extend(host_side.enable_ipv6().filter(|_| ipv6.disabled != 0));
        }
        let mut flushed = link.mac != Some(host_side.mac);
        if !link.up {
            repair.requests.push(link::set_up(link.index, &link.name));
            flushed = true;
        }
        let neighbours = host_side.neighbours(link.index).into_iter();
        let neighbours = neighbours.filter(|neighbour| flushed || observed.missing.contains(neighbour));
        repair.requests.extend(neighbours.map(|neighbour| neighbour.replace()));
        let (unanswered4, unanswered6) = &observed.unanswered;
        let gateway4 = host_side.gateway4(link.index).filter(|gateway| flushed || unanswered4.contains(gateway));
        if let Some(gateway) = gateway4 {
            // An attachment of an earlier version has none of it.
            repair.sysctls.extend(host_side.answering());
            repair.requests.push(gateway.replace());
        }
        let gateway6 = host_side.gateway6(link.index).filter(|gateway| flushed || unanswered6.contains(gateway));
        repair.requests.extend(gateway6.map(|gateway| gateway.replace()));
        let routes = host_side.routes(link.index).into_iter().filter(|route| !observed.routes.contains(route));
        repair.requests.extend(routes.map(|route| {
            // A route of ours with another target is replaced; a foreign one is not.
            let ours = observed.routes.iter().any(|other| other.destination == route.destination && other.metric == 0);
            if ours { route.replace() } else { route.add() }
        }));
        repair
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use podwire_kernel::link::Link;
    use podwire_kernel::link::settings::{Ipv4, Ipv6};
    use podwire_kernel::neighbour::Neighbour;
    use podwire_kernel::route::Route;
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
        let ipv6 = Ipv6 { disabled: 0, accept_advertisements: 0, accept_redirects: 0 };
        DeviceSettings { link, ipv4: Some(ipv4), ipv6: Some(ipv6) }
    }

    fn operations(
        host_side: &HostSide,
        device: &DeviceSettings,
        missing: &[Neighbour],
        routes: Vec<Route>,
    ) -> Vec<String> {
        let (missing, unanswered, filtered) = (missing.to_vec(), Default::default(), BTreeSet::new());
        let observed = Observed { devices: BTreeMap::new(), routes, missing, unanswered, filtered };
        let repair = Repair::of(host_side, device, &observed);
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
        down.ipv6 = Some(Ipv6 { disabled: 1, accept_advertisements: 0, accept_redirects: 0 });
        let expected = [
            "net/ipv6/conf/pw1/disable_ipv6 0",
            "net/ipv4/neigh/pw1/proxy_delay 0",
            "bring pw1 up",
            "set neighbour 10.244.1.5 at 02:00:00:00:00:02",
            "set neighbour fd00::5 at 02:00:00:00:00:02",
            "answer for 169.254.1.1 on device 7",
            "set address fe80::1/128",
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
