//! The road of ADD, from top to bottom: ledger, plan, kernel, under [`Undo`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use podwire_attachment::error::{Error, Kind};
use podwire_attachment::ledger::{Beside, Ledger, Record, Wanted};
use podwire_attachment::{add_durations, detach, names, pod_rules, reclaim};
use podwire_conf::{Bandwidth, Dns};
use podwire_kernel::link::{self, End, Veth, removal};
use podwire_kernel::netlink::message::Message;
use podwire_kernel::netns::Namespace;
use podwire_kernel::sysctl::{Proc, Tree};
use podwire_kernel::{Request, Socket, family, forwarding, route};

use crate::cni::{Add, Code, Failure, Success};
use crate::delegate::{self, Given};
use crate::node_ready;
use crate::plan::{self, Plan};
use crate::shaping::Shaper;
use crate::undo::Undo;

/// How long an end may take to come into operation and an address into use: less than a millisecond where the machine has
/// nothing else to do. Both are done by the kernel's own threads, which on a drowning machine get their turn late; an ADD
/// that fails is tried again as a whole, which makes nothing better.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// The first and the longest pause between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(10));

/// Addresses that nobody has (RFC 5737, RFC 3849): the way to them is the node's way out.
const OUTSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Attaches a pod. When it fails, kernel and ledger are as before.
pub(crate) fn add(request: &Add, state: &Path) -> Result<Success, Failure> {
    let begin = Instant::now();
    let attachment = &request.attachment;
    refuse_adoption(request)?;
    let Pod { namespace: pod, mut inside, proc, settings } = open_pod(&request.netns, request.may_be_own_netns)?;
    let (mut host, node) = (Socket::route()?, Tree::own(&proc)?);
    node_ready::require(&request.network, Code::TryAgain, &mut host)?;
    let ledger = Ledger::open(state, &attachment.network)?;
    // Whoever else adds or deletes this attachment waits: an unfinished record below this line is a dead one's.
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

    let routes = given.as_ref().map_or(&request.network.ipam.routes, |given| &given.routes);
    let way_out = if request.network.mtu.is_none() { mtu_of_way_out(&mut host)? } else { None };
    let plan = Plan::new(request, record.addresses(), routes, way_out);
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
    let Some((outer, inner)) = created.and_then(|link| Some((link.index, link.peer?))) else {
        return Err(Failure::new(Code::Kernel, format!("{} vanished while it was set up", plan.host.name), ""));
    };
    plan.outer().distrust().iter().try_for_each(|setting| node.set_if_there(setting))?;
    plan.host_settings().iter().try_for_each(|setting| node.set(setting))?;
    if plan.has_ipv6() && node.holds(&forwarding::ipv6())? != Some(true) {
        forwarding::enable_ipv6(&mut host)?;
    }
    plan.pod_distrust().iter().try_for_each(|setting| settings.set_if_there(setting))?;
    plan.pod_settings().iter().try_for_each(|setting| settings.set(setting))?;
    execute(&mut inside, plan.inside(inner))?;
    if set_routes(&plan, inner, &mut inside)? == Routes::Beside {
        record.beside = Some(Beside { namespace: pod.identity()?, device: inner });
        ledger.note(&record)?;
        let (record, pod) = (record.clone(), &pod);
        undo.push(move || detach::remove_rules(&record, pod).map_err(|failure| failure.to_string()));
        execute(&mut inside, plan.routes_beside(inner))?;
    }
    execute(&mut host, vec![plan.describe_host(outer)])?;
    let shaper = Shaper::of(attachment);
    if record.bandwidth != Bandwidth::default() {
        let name = shaper.name.clone();
        undo.push(move || {
            let removed = Socket::route().and_then(|mut socket| socket.execute(link::delete(&name)));
            removed.map_err(|error| error.to_string())
        });
        shaper.apply(&record.bandwidth, &mut host, outer, plan.mtu, &plan.alias)?;
    }
    bring_up(&mut host, &plan, outer)?;
    wait_operational(&mut host, outer, SETTLED_WITHIN)?;
    wait_operational(&mut inside, inner, SETTLED_WITHIN)?;
    for address in plan.addresses.iter().filter(|address| address.is_ipv6()) {
        wait_local(&mut inside, *address, SETTLED_WITHIN)?;
    }

    let translated = record.clone();
    undo.push(move || pod_rules::take_away(&translated).map(drop).map_err(|failure| failure.to_string()));
    pod_rules::make(&record, state)?;
    let dns = dns(request, given.as_ref())?;
    ledger.attached(attachment)?;
    undo.commit();
    // It is there for whoever measures: an ADD that cannot be noted has succeeded all the same.
    let _ = add_durations::note(&state.join(&attachment.network), begin.elapsed());
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

/// An interface that an earlier plugin of the chain has made is not podwire's to configure: it makes its own, in the place
/// where that one is.
fn refuse_adoption(request: &Add) -> Result<(), Failure> {
    let interface = &request.attachment.interface;
    let there = |previous: &crate::cni::Previous| previous.place(interface, &request.netns).is_some();
    if !request.previous.as_ref().is_some_and(there) {
        return Ok(());
    }
    let message =
        format!("prevResult has interface {interface} of this pod already, made by an earlier plugin of the chain");
    Err(Failure::new(Code::Configuration, message, "podwire makes the interface itself: it goes first in the chain"))
}

/// A pod's network namespace that is open.
pub(crate) struct Pod {
    /// The namespace.
    pub(crate) namespace: Namespace,
    /// A socket in the pod.
    pub(crate) inside: Socket,
    /// Where kernel settings are looked at.
    pub(crate) proc: Proc,
    /// Those of the pod.
    pub(crate) settings: Tree,
}

/// Opens the pod's namespace and a socket in it, and refuses the one that the plugin itself is in: its interfaces are the
/// node's.
pub(crate) fn open_pod(path: &str, may_be_own: bool) -> Result<Pod, Failure> {
    let refuse = |error: podwire_kernel::Error| Failure::new(Code::Namespace, error.to_string(), "");
    let (namespace, own) = (Namespace::open(path).map_err(refuse)?, Namespace::own()?);
    if !may_be_own && namespace.is(&own).map_err(refuse)? {
        let message = "plugin's netns and netns from CNI_NETNS should not be the same";
        return Err(Failure::new(Code::Namespace, message, path));
    }
    let proc = Proc::private();
    let (inside, settings) = namespace.within(&own, || (Socket::route(), Tree::own(&proc))).map_err(refuse)?;
    Ok(Pod { namespace, inside: inside?, proc, settings: settings? })
}

/// Reserves what the pod is to hold. What dead pods hold is in the way of nobody: it is taken back when it is needed.
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
    // Whoever had to wait here finds what the one before has taken back.
    let _lock = ledger.lock_to_reclaim()?;
    let error = match attempt(host) {
        Err(error) if is_scarce(&error) => error,
        done => return Ok(done?),
    };
    match reclaim::reclaim(ledger, host)? {
        0 => Err(error.into()),
        reclaimed => {
            eprintln!("podwire: {}: took back what {reclaimed} dead pods held", error.message());
            Ok(attempt(host)?)
        }
    }
}

/// Whether what an ADD lacks may be held by dead pods.
fn is_scarce(error: &Error) -> bool {
    matches!(error.kind(), Kind::RangeFull | Kind::AddressUnavailable | Kind::PortTaken)
}

/// The prefixes of the network: what a pod sends there stays as it is.
fn own_prefixes(request: &Add, given: Option<&Given>) -> Vec<IpNetwork> {
    match given {
        Some(given) => given.prefixes.clone(),
        None => request.network.ipam.ranges.iter().flatten().map(|range| range.subnet).collect(),
    }
}

/// Whether somebody routes just this address. A route to more than it, as to the node's own pod range, says nothing.
fn is_routed(host: &mut Socket, address: IpAddr) -> Result<bool, Error> {
    let way = route::lookup(host, address)?;
    Ok(way.is_some_and(|way| way.destination == family::host(address)))
}

/// The MTU of the device that leads out of the node, in bytes.
fn mtu_of_way_out(host: &mut Socket) -> Result<Option<u32>, Failure> {
    for outside in OUTSIDE {
        if let Some(device) = route::lookup(host, outside)?.and_then(|way| way.device)
            && let Some(link) = link::by_index(host, device)?
        {
            return Ok(Some(link.mtu));
        }
    }
    Ok(None)
}

/// How the pod's routes could be set.
#[derive(PartialEq, Eq)]
enum Routes {
    /// As they are planned.
    First,
    /// The pod has some of them through another interface.
    Beside,
}

fn set_routes(plan: &Plan, device: u32, inside: &mut Socket) -> Result<Routes, Failure> {
    let refused = inside.execute_all(plan.routes(device));
    let mut routes = Routes::First;
    for (_, error) in refused {
        if !error.already_there() {
            return Err(error.into());
        }
        routes = Routes::Beside;
    }
    Ok(routes)
}

/// Which of the two ends it is that was there already.
fn explain(error: podwire_kernel::Error, plan: &Plan, host: &mut Socket) -> Result<Failure, Failure> {
    if !error.already_there() {
        return Ok(error.into());
    }
    let details = match link::by_name(host, &plan.host.name)? {
        Some(_) => {
            format!("{} is on the host already, though the ledger knows nothing of it: DEL removes it", plan.host.name)
        }
        None => format!("{} is in the pod already", plan.pod.name),
    };
    Ok(Failure::new(Code::Kernel, error.to_string(), details))
}

/// What an ADD of the same attachment left that was killed, or whose pod died with its namespace, is taken away. A living
/// attachment is left as it is, and `reserve` will refuse.
fn clear_leftovers(request: &Add, ledger: &Ledger, host: &mut Socket) -> Result<(), Failure> {
    let Some((record, attached)) = ledger.find(&request.attachment)? else { return Ok(()) };
    let device = names::host_device(&request.attachment);
    if attached && link::by_name(host, &device)?.is_some() {
        return Ok(());
    }
    Ok(detach::detach(&request.attachment, Some(ledger), Some(&record), Some(&request.netns), removal::announced)?)
}

/// The name servers of the result: the configuration's, where it says anything, else those of who gives addresses.
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
    let text = std::fs::read_to_string(path);
    Ok(Dns::of_file(&text.map_err(|error| Failure::io(format!("read ipam.resolvConf {path}"), &error))?))
}

/// Both ends have a carrier now, and the kernel takes notice of a carrier a little later: until then it may drop what is
/// sent. To ask for the device makes it take notice (Linux 6.8); older ones take their time, for which an answer that
/// says "up" is worth waiting for.
pub(crate) fn wait_operational(socket: &mut Socket, device: u32, limit: Duration) -> Result<(), Failure> {
    let otherwise = || format!("device {device} did not come into operation");
    wait(otherwise, limit, || match link::by_index(socket, device)? {
        Some(link) => Ok(link.operational),
        None => Err(Failure::new(Code::Kernel, format!("device {device} vanished while it was set up"), "")),
    })
}

/// Until the pod takes in what is sent to its address, answers to it are lost. An IPv4 address is in use at once.
pub(crate) fn wait_local(inside: &mut Socket, address: IpAddr, limit: Duration) -> Result<(), Failure> {
    wait(|| format!("address {address} was not taken into use"), limit, || Ok(route::is_local(inside, address)?))
}

fn wait(
    otherwise: impl Fn() -> String,
    limit: Duration,
    mut settled: impl FnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    let mut pause = PAUSES.0;
    while !settled()? {
        if Instant::now() > deadline {
            return Err(Failure::new(Code::Kernel, format!("{} within {limit:?}", otherwise()), ""));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
    Ok(())
}

/// The host's side. Of the fast path's hooks whatever the kernel says is fine: podwired leaves out a device without them.
fn bring_up(host: &mut Socket, plan: &Plan, device: u32) -> Result<(), Failure> {
    let hooks = plan.hooks(device);
    let optional = usize::from(hooks.is_some());
    let refused = host.execute_all(hooks.into_iter().chain(plan.outside(device)).collect());
    let refused = refused.into_iter().find(|(place, _)| *place >= optional);
    refused.map_or(Ok(()), |(_, error)| Err(error.into()))
}

/// Executes requests, and fails with the first refusal.
fn execute(socket: &mut Socket, requests: Vec<Request<Message>>) -> Result<(), Failure> {
    socket.execute_all(requests).into_iter().next().map_or(Ok(()), |(_, error)| Err(error.into()))
}
