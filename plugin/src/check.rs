//! CHECK: is everything as ADD created it? Nothing is changed, and what others have added is ignored.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnetwork::IpNetwork;
use podwire_attachment::host_side::HostSide;
use podwire_attachment::ledger::{Ledger, Record};
use podwire_attachment::names;
use podwire_attachment::pod_rules;
use podwire_conf::defaults;
use podwire_kernel::link::{self, Link, settings};
use podwire_kernel::neighbour::Neighbour;
use podwire_kernel::route::{self, Route, Target};
use podwire_kernel::sysctl::Sysctl;
use podwire_kernel::tc::loopback_filter;
use podwire_kernel::{Mac, Socket, address, family, neighbour, proxy_neighbour};
use serde_json::Value;

use crate::cni::{Check, Code, Failure};
use crate::delegate;
use crate::pod_netns::{self, PodNetns};
use crate::settle;
use crate::shaping::Shaper;

/// How long to wait for what the kernel does by itself after ADD. There is no wait if something differs anyway.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Compares an attachment with its record and with the result of the whole chain.
pub(crate) fn check(request: &Check, state: &Path) -> Result<(), Failure> {
    let (add, previous) = (&request.add, &request.previous);
    let (attachment, interface) = (&add.attachment, &add.attachment.interface);
    let PodNetns { mut inside, .. } = pod_netns::open_pod(&add.netns, add.may_be_own_netns)?;
    let mut host = Socket::route()?;
    let mut differs = Differences::default();

    let ledger = Ledger::of_this_boot(state, &attachment.network)?;
    let record = match &ledger {
        Some(ledger) => ledger.find(attachment)?.filter(|(_, attached)| *attached),
        None => None,
    };
    let Some((record, ledger)) = record.map(|(record, _)| record).zip(ledger) else {
        let Some(failure) = Differences::one(format!("the ledger has no record of interface {interface} of this pod"))
        else {
            return Ok(());
        };
        return Err(failure);
    };
    let place = previous.place(interface, &add.netns);
    if place.is_none() {
        differs.add(format!("prevResult has no interface {interface} in {}", add.netns));
    }

    let name = names::host_device(attachment);
    let host_end = link::by_name(&mut host, &name)?;
    let pod_end = link::by_name(&mut inside, interface)?;
    differs.device(&format!("{interface} in the pod"), pod_end.as_ref());
    differs.device(&format!("{name} on the host"), host_end.as_ref());
    if let (Some(pod_end), Some(host_end)) = (&pod_end, &host_end) {
        if pod_end.peer != Some(host_end.index) || host_end.peer != Some(pod_end.index) {
            differs.add(format!("{interface} in the pod and {name} on the host are not the two ends of one pair"));
        }
        if differs.none() {
            for (socket, end) in [(&mut host, host_end), (&mut inside, pod_end)] {
                let waited = settle::wait_operational(socket, end.index, SETTLE_TIMEOUT);
                waited.unwrap_or_else(|failure| differs.add(format!("{} is not operational: {failure}", end.name)));
            }
        }
        differs.result(request, place, pod_end);
        pod_side(request, place, &record, pod_end, &mut inside, &mut differs)?;
        host_side(&record, pod_end, host_end, &mut host, &mut differs)?;
    }
    for held in record.addresses.iter().filter(|held| held.set.is_some()) {
        if !ledger.holds(attachment, held.address)? {
            differs.add(format!("the ledger does not hold {} for this pod", held.address));
        }
    }
    differs.result_of_check()?;
    add.delegate.as_ref().map_or(Ok(()), |delegate| delegate::pass_on(delegate, "CHECK"))
}

/// Compares addresses and routes in the pod: ours, and those of the result.
fn pod_side(
    request: &Check,
    place: Option<usize>,
    record: &Record,
    pod_end: &Link,
    inside: &mut Socket,
    differs: &mut Differences,
) -> Result<(), Failure> {
    let found: Vec<_> =
        address::list(inside, Some(pod_end.index))?.into_iter().map(|address| address.address).collect();
    let of_result = request
        .previous
        .ips()
        .iter()
        .filter(|ip| place.is_some() && ip["interface"].as_u64() == place.map(|place| place as u64));
    let mut wanted: Vec<IpNetwork> = record.addresses().into_iter().map(family::host).collect();
    wanted.extend(of_result.filter_map(|ip| ip["address"].as_str()?.parse::<IpNetwork>().ok()));
    wanted.dedup();
    for address in &wanted {
        if !found.contains(address) {
            differs.add(format!("{} has lost address {address}", pod_end.name));
        } else if differs.none() {
            settle::wait_local(inside, address.ip(), SETTLE_TIMEOUT)?;
        }
    }
    let routes = route::list_all_tables(inside)?;
    for wanted in request.previous.routes() {
        let Some(destination) = wanted["dst"].as_str().and_then(|text| text.parse::<IpNetwork>().ok()) else {
            continue;
        };
        let gateway = wanted["gw"].as_str().and_then(|text| text.parse::<IpAddr>().ok());
        // A later plugin may give the default route another gateway.
        let gateway = gateway.filter(|_| destination.prefix() > 0);
        let is = |route: &Route| {
            let through = |gateway| matches!(route.target, Target::Gateway { gateway: found, .. } if found == gateway);
            route.destination == family::masked(destination) && gateway.is_none_or(through)
        };
        if !routes.iter().any(is) {
            differs.add(format!("the pod has lost its route to {destination}"));
        }
    }
    Ok(())
}

/// Compares the host side: routes, neighbours, shaping, firewall rules, forwarding.
fn host_side(
    record: &Record,
    pod_end: &Link,
    host_end: &Link,
    host: &mut Socket,
    differs: &mut Differences,
) -> Result<(), Failure> {
    let routes = route::list(host, defaults::POD_PROTOCOL)?;
    let neighbours = neighbour::list(host, host_end.index)?;
    for address in record.addresses() {
        let (destination, target) = (family::host(address), Target::Device(host_end.index));
        let wanted = Route { destination, metric: 0, target, protocol: defaults::POD_PROTOCOL };
        if !routes.contains(&wanted) {
            differs.add(format!("the host has lost its route to {address} through {}", host_end.name));
        }
        let reached = neighbours.iter().find(|neighbour| neighbour.address == address);
        match (reached, pod_end.mac) {
            (None, _) => differs.add(format!("the host has lost its neighbour {address} on {}", host_end.name)),
            (Some(Neighbour { mac, .. }), Some(own)) if *mac != own => differs.add(format!(
                "the host sends what is for {address} to {mac}, and {} has {own}: give the address to podwire (\"mac\") \
                 instead of changing it behind it",
                pod_end.name
            )),
            _ => {}
        }
    }
    let side = HostSide::of(record);
    let gateway4: Vec<_> = side.gateway4(host_end.index).into_iter().collect();
    let gateway6: Vec<_> = side.gateway6(host_end.index).into_iter().collect();
    let unanswered = proxy_neighbour::missing(host, &gateway4)?.into_iter().map(|gateway| IpAddr::V4(gateway.address));
    let missing = address::missing(host, &gateway6)?.into_iter().map(|gateway| gateway.address.ip());
    for gateway in unanswered.chain(missing) {
        differs.add(format!("{} does not answer for {gateway}", host_end.name));
    }
    if let Some(setting) = side.answering()
        && setting.holds()? == Some(false)
    {
        differs.add(format!("{} is not {}", setting.path, setting.value));
    }
    if side.loopback_ports
        && accepts_loopback(host, &host_end.name)?
        && !loopback_filter::attached(host, host_end.index)?
    {
        differs.add(format!("{} has lost the filter of 127.0.0.0/8: the pod may reach the node's own", host_end.name));
    }
    let shaper = Shaper::of(&record.attachment);
    for difference in shaper.differences(&record.bandwidth, host, host_end)? {
        differs.add(format!("bandwidth {difference}"));
    }
    pod_rules::differences(record)?.into_iter().for_each(|difference| differs.add(difference));
    let forwarding = [("net/ipv4/ip_forward", true), ("net/ipv6/conf/all/forwarding", false)];
    for (path, ipv4) in forwarding {
        let needed = record.addresses().iter().any(|address| address.is_ipv4() == ipv4);
        if needed && (Sysctl { path: path.into(), value: "1" }).holds()? == Some(false) {
            differs.add(format!("the host does not forward: {path} is not 1"));
        }
    }
    Ok(())
}

/// Whether a device accepts 127.0.0.1, by its own setting.
fn accepts_loopback(host: &mut Socket, device: &str) -> Result<bool, Failure> {
    let found = settings::by_names(host, &[device])?;
    Ok(found.values().any(|found| found.ipv4.is_some_and(|ipv4| ipv4.route_localnet != 0)))
}

/// What differs, as sentences.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn add(&mut self, difference: String) {
        self.0.push(difference);
    }

    fn none(&self) -> bool {
        self.0.is_empty()
    }

    fn one(difference: String) -> Option<Failure> {
        Self(vec![difference]).result_of_check().err()
    }

    fn device(&mut self, what: &str, found: Option<&Link>) {
        match found {
            None => self.add(format!("{what} has gone")),
            Some(link) if link.kind.as_deref() != Some("veth") => {
                self.add(format!("{what} is a {}, not a veth", link.kind.as_deref().unwrap_or("physical device")));
            }
            Some(link) if !link.up => self.add(format!("{what} is down")),
            Some(_) => {}
        }
    }

    /// Compares the interface with what the result says of it.
    fn result(&mut self, request: &Check, place: Option<usize>, pod_end: &Link) {
        let Some((_, said)) = request.previous.interfaces().find(|(number, _)| Some(*number) == place) else { return };
        let mac = said["mac"].as_str().and_then(Mac::parse);
        if let Some((said, found)) = mac.zip(pod_end.mac).filter(|(said, found)| said != found) {
            self.add(format!("{} has link-layer address {found}, not {said}", pod_end.name));
        }
        // A later plugin may have lowered it without saying so, as tuning does. A larger one loses packets, because the host
        // end drops what is longer than its own MTU.
        let mtu = said.get("mtu").and_then(Value::as_u64).filter(|mtu| *mtu != 0);
        if let Some(mtu) = mtu.filter(|mtu| *mtu < u64::from(pod_end.mtu)) {
            self.add(format!("{} has MTU {}, not {mtu}", pod_end.name, pod_end.mtu));
        }
    }

    fn result_of_check(self) -> Result<(), Failure> {
        let Some((first, more)) = self.0.split_first() else { return Ok(()) };
        let mut details = more.join("; ");
        if details.len() > 600 {
            details = format!("and {} more differences", more.len());
        }
        Err(Failure::new(Code::Differs, first.clone(), details))
    }
}
