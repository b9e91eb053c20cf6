//! ADD, from top to bottom: reserve, plan, change the kernel, have policies in force, all under [`Undo`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use podwire_attachment::error::{Error, Kind};
use podwire_attachment::ledger::{Ledger, Record, SecondInterface, Wanted};
use podwire_attachment::{add_durations, detach, log, names, pod_rules, reclaim, regular_file};
use podwire_conf::{Bandwidth, Dns};
use podwire_kernel::link::{self, End, Veth, removal};
use podwire_kernel::netlink::message::Message;
use podwire_kernel::sysctl::Tree;
use podwire_kernel::{Request, Socket, family, forwarding, route};

use crate::cni::{Add, Code, Failure, Previous, Success};
use crate::delegate::{self, Given};
use crate::node_ready;
use crate::plan::{self, Plan};
use crate::pod_netns::{self, PodNetns};
use crate::policies;
use crate::settle;
use crate::shaping::Shaper;
use crate::undo::Undo;

/// How long an end may take to become operational, and an address to become usable: less than a millisecond on an idle
/// machine. Both are done by kernel threads, which run late on an overloaded machine. To fail would not help, since a failed
/// ADD is tried again as a whole.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Documentation addresses (RFC 5737, RFC 3849): the route to them is the node's default route.
const OUTSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// The bytes that `ipam.resolvConf` may have: resolvers read some thousands.
const RESOLV_CONF: u64 = 1 << 20;

/// Attaches a pod. On an error, kernel and ledger are as before.
pub(crate) fn add(request: &Add, state: &Path) -> Result<Success, Failure> {
    let begin = Instant::now();
    let attachment = &request.attachment;
    refuse_adoption(request)?;
    let PodNetns { namespace: pod, mut inside, proc, settings } =
        pod_netns::open_pod(&request.netns, request.may_be_own_netns)?;
    let (mut host, node) = (Socket::route()?, Tree::own(&proc)?);
    node_ready::require(&request.network, Code::TryAgain, &mut host)?;
    let ledger = Ledger::open(state, &attachment.network)?;
    // Any other ADD or DEL of this attachment waits now, so an unfinished record below was left by a killed ADD.
    let _lock = ledger.lock_attachment(attachment)?;
    clear_leftovers(request, &ledger, &mut host)?;

    let mut undo = Undo::default();
    let mut given = None;
    if let Some(delegate) = &request.delegate {
        given = Some(delegate::add(delegate)?);
        undo.push(|| delegate::pass_on(delegate, "DEL").map_err(|failure| failure.to_string()));
    }
    let mut record = reserve(request, &ledger, given.as_ref(), &mut host)?;
    undo.push(|| ledger.release(attachment).map_err(|failure| failure.to_string()));
    // The daemon sees to the policies while the pod gets its devices.
    let asked = request.network.network_policy.map(|policy| policies::ask(policy, &request.pod, record.addresses()));

    let routes = given.as_ref().map_or(&request.network.ipam.routes, |given| &given.routes);
    let node_mtu = if request.network.mtu.is_none() { default_route_mtu(&mut host)? } else { None };
    let plan = Plan::new(request, record.addresses(), routes, node_mtu);
    let veth = Veth {
        host: End { name: &plan.host.name, mac: plan.host.mac },
        pod: End { name: &plan.pod.name, mac: plan.pod.mac },
        namespace: pod.as_fd(),
        mtu: plan.mtu,
    };
    let created = host.execute(veth.create());
    if created.as_ref().err().is_none_or(|error| !error.is_refusal()) {
        let name = plan.host.name.clone();
        undo.push(move || {
            let removed = Socket::route().and_then(|mut socket| socket.execute(link::delete(&name)));
            removed.map_err(|error| error.to_string())
        });
    }
    if let Err(error) = created {
        return Err(explain(error, &plan, &mut host)?);
    }

    let created = link::by_name(&mut host, &plan.host.name)?;
    let Some((host_end, pod_end)) = created.and_then(|link| Some((link.index, link.peer?))) else {
        return Err(Failure::new(Code::Kernel, format!("{} disappeared while it was set up", plan.host.name), ""));
    };
    plan.host_side().hardening().iter().try_for_each(|setting| node.set_if_there(setting))?;
    plan.host_settings().iter().try_for_each(|setting| node.set(setting))?;
    if plan.has_ipv6() && node.holds(&forwarding::ipv6())? != Some(true) {
        forwarding::enable_ipv6(&mut host)?;
    }
    plan.pod_hardening().iter().try_for_each(|setting| settings.set_if_there(setting))?;
    plan.pod_settings().iter().try_for_each(|setting| settings.set(setting))?;
    execute(&mut inside, plan.pod_requests(pod_end))?;
    if set_routes(&plan, pod_end, &mut inside)? == Routes::SecondInterface {
        record.second_interface = Some(SecondInterface { namespace: pod.identity()?, device: pod_end });
        ledger.update(&record)?;
        let (record, pod) = (record.clone(), &pod);
        undo.push(move || detach::remove_routing_rules(&record, pod).map_err(|failure| failure.to_string()));
        execute(&mut inside, plan.second_interface_routes(pod_end))?;
    }
    execute(&mut host, vec![plan.host_port(host_end)])?;
    let shaper = Shaper::of(attachment);
    if record.bandwidth != Bandwidth::default() {
        let name = shaper.name.clone();
        undo.push(move || {
            let removed = Socket::route().and_then(|mut socket| socket.execute(link::delete(&name)));
            removed.map_err(|error| error.to_string())
        });
        shaper.apply(&record.bandwidth, &mut host, host_end, plan.mtu, &plan.alias)?;
    }
    if plan.loopback_ports {
        accept_loopback(&mut host, &plan, host_end)?;
    }
    bring_up(&mut host, &plan, host_end)?;
    settle::wait_operational(&mut host, host_end, SETTLE_TIMEOUT)?;
    settle::wait_operational(&mut inside, pod_end, SETTLE_TIMEOUT)?;
    for address in plan.addresses.iter().filter(|address| address.is_ipv6()) {
        settle::wait_local(&mut inside, *address, SETTLE_TIMEOUT)?;
    }

    let with_rules = record.clone();
    undo.push(move || pod_rules::remove(&with_rules).map(drop).map_err(|failure| failure.to_string()));
    pod_rules::apply(&record, state)?;
    let dns = dns(request, given.as_ref())?;
    asked.map_or(Ok(()), policies::Asked::settle)?;
    ledger.complete(attachment)?;
    undo.commit();
    // Only for the metrics: ADD has succeeded, whether or not this can be written.
    let _ = add_durations::append(&state.join(&attachment.network), begin.elapsed());
    Ok(Success {
        gateways_on_link: plan.gateways_on_link(),
        host: (plan.host.name, plan.host.mac),
        pod: (plan.pod.name, plan.pod.mac),
        sandbox: request.netns.clone(),
        shaper: record.bandwidth.egress.map(|_| (shaper.name, shaper.mac)),
        mtu: plan.mtu,
        addresses: plan.addresses.iter().map(|address| (*address, Plan::gateway(*address))).collect(),
        routes: plan.routes,
        dns,
    })
}

/// Refuses an interface that an earlier plugin of the chain has created: podwire creates it, and does not configure one of
/// another plugin.
fn refuse_adoption(request: &Add) -> Result<(), Failure> {
    let interface = &request.attachment.interface;
    let has_it = |previous: &Previous| previous.place(interface, &request.netns).is_some();
    if !request.previous.as_ref().is_some_and(has_it) {
        return Ok(());
    }
    let message =
        format!("prevResult has interface {interface} of this pod already, made by an earlier plugin of the chain");
    Err(Failure::new(Code::Configuration, message, "podwire creates the interface itself: put it first in the chain"))
}

/// Reserves what the pod is to hold. If something is exhausted, what dead pods hold is reclaimed first.
fn reserve(request: &Add, ledger: &Ledger, given: Option<&Given>, host: &mut Socket) -> Result<Record, Failure> {
    let wanted = Wanted {
        sets: &request.network.ipam.ranges,
        addresses: &request.requested.addresses,
        given: given.map(|given| given.addresses.clone()),
        ports: &request.requested.ports,
        masquerade: if request.network.masquerade { own_prefixes(request, given) } else { Vec::new() },
        bandwidth: request.requested.bandwidth,
        mac: Some(plan::pod_mac(request)),
        sandbox: request.sandbox,
        pod: request.pod_name.clone(),
        labels: request.labels.clone(),
    };
    let attempt = |host: &mut Socket| {
        let mut routed = |address| is_routed(host, address);
        ledger.reserve(&request.attachment, &wanted, &mut routed)
    };
    let error = match attempt(host) {
        Ok(record) => return Ok(record),
        Err(error) => error,
    };
    if !is_scarce(&error) {
        return Err(error.into());
    }
    // After waiting here, the ADD before may have reclaimed enough.
    let _lock = ledger.lock_to_reclaim()?;
    let error = match attempt(host) {
        Err(error) if is_scarce(&error) => error,
        done => return Ok(done?),
    };
    match reclaim::reclaim(ledger, host)? {
        0 => Err(error.into()),
        reclaimed => {
            log::note(format_args!("{}: reclaimed what {reclaimed} dead pods held", error.message()));
            Ok(attempt(host)?)
        }
    }
}

/// Whether what an ADD lacks may be held by dead pods.
fn is_scarce(error: &Error) -> bool {
    matches!(error.kind(), Kind::RangeFull | Kind::AddressUnavailable | Kind::PortTaken)
}

/// The prefixes of the network: packets to them are not masqueraded.
fn own_prefixes(request: &Add, given: Option<&Given>) -> Vec<IpNetwork> {
    match given {
        Some(given) => given.prefixes.clone(),
        None => request.network.ipam.ranges.iter().flatten().map(|range| range.subnet).collect(),
    }
}

/// Whether there is a route to just this address. A route to a prefix, such as the node's own pod CIDR, does not count.
fn is_routed(host: &mut Socket, address: IpAddr) -> Result<bool, Error> {
    let way = route::lookup(host, address)?;
    Ok(way.is_some_and(|way| way.destination == family::host(address)))
}

/// The MTU of the device of the node's default route, in bytes.
fn default_route_mtu(host: &mut Socket) -> Result<Option<u32>, Failure> {
    for outside in OUTSIDE {
        if let Some(device) = route::lookup(host, outside)?.and_then(|way| way.device)
            && let Some(link) = link::by_index(host, device)?
        {
            return Ok(Some(link.mtu));
        }
    }
    Ok(None)
}

/// How the pod's routes were added.
#[derive(PartialEq, Eq)]
enum Routes {
    /// As planned: the pod had no other routes.
    FirstInterface,
    /// The pod already has some of them through another interface.
    SecondInterface,
}

fn set_routes(plan: &Plan, device: u32, inside: &mut Socket) -> Result<Routes, Failure> {
    let refused = inside.execute_all(plan.routes(device));
    let mut routes = Routes::FirstInterface;
    for (_, error) in refused {
        if !error.already_there() {
            return Err(error.into());
        }
        routes = Routes::SecondInterface;
    }
    Ok(routes)
}

/// Tells which of the two ends exists already.
fn explain(error: podwire_kernel::Error, plan: &Plan, host: &mut Socket) -> Result<Failure, Failure> {
    if !error.already_there() {
        return Ok(error.into());
    }
    let details = match link::by_name(host, &plan.host.name)? {
        Some(_) => {
            format!("{} is on the host already, without a record in the ledger: DEL removes it", plan.host.name)
        }
        None => format!("{} is in the pod already", plan.pod.name),
    };
    Ok(Failure::new(Code::Kernel, error.to_string(), details))
}

/// Removes what an earlier ADD of the same attachment left, if that ADD was killed or the pod has died with its namespace. A
/// living attachment is kept, and `reserve` will refuse.
fn clear_leftovers(request: &Add, ledger: &Ledger, host: &mut Socket) -> Result<(), Failure> {
    let Some((record, attached)) = ledger.find(&request.attachment)? else { return Ok(()) };
    let device = names::host_device(&request.attachment);
    if attached && link::by_name(host, &device)?.is_some() {
        return Ok(());
    }
    Ok(detach::detach(&request.attachment, Some(ledger), Some(&record), Some(&request.netns), removal::announced)?)
}

/// The name servers of the result: those of the configuration, else those of the IPAM plugin.
fn dns(request: &Add, given: Option<&Given>) -> Result<Dns, Failure> {
    if let Some(dns) = &request.dns {
        return Ok(dns.clone());
    }
    if let Some(given) = given {
        return Ok(given.dns.clone());
    }
    let Some(path) = request.network.ipam.resolv_conf.as_ref().filter(|path| !path.is_empty()) else {
        return Ok(Dns::default());
    };
    let bytes = regular_file::read(Path::new(path), RESOLV_CONF);
    let bytes = bytes.map_err(|error| Failure::io(format!("read ipam.resolvConf {path}"), &error))?;
    Ok(Dns::of_file(&String::from_utf8_lossy(&bytes)))
}

/// Has host ports reached at 127.0.0.1 from the node. Where the kernel has no filter that keeps the pod away from there, they
/// are not.
fn accept_loopback(host: &mut Socket, plan: &Plan, device: u32) -> Result<(), Failure> {
    match host.execute_all(plan.loopback_filter(device)).into_iter().next() {
        None => host.execute(plan.accept_loopback(device))?,
        Some((_, error)) => log::note(format_args!("host ports are not reached at 127.0.0.1 of the node: {error}")),
    }
    Ok(())
}

/// Brings up the host side. An error of the fast path's hooks is ignored: podwired leaves out devices without hooks.
fn bring_up(host: &mut Socket, plan: &Plan, device: u32) -> Result<(), Failure> {
    let hooks = plan.hooks(device);
    let optional = usize::from(hooks.is_some());
    let refused = host.execute_all(hooks.into_iter().chain(plan.host_requests(device)).collect());
    let refused = refused.into_iter().find(|(place, _)| *place >= optional);
    refused.map_or(Ok(()), |(_, error)| Err(error.into()))
}

/// Executes requests, and returns the first error.
fn execute(socket: &mut Socket, requests: Vec<Request<Message>>) -> Result<(), Failure> {
    socket.execute_all(requests).into_iter().next().map_or(Ok(()), |(_, error)| Err(error.into()))
}
