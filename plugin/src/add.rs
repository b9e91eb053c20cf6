//! The road of ADD, from top to bottom: ledger, plan, kernel, under [`Undo`].

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use podwire_kernel::link::{self, End, Veth};
use podwire_kernel::message::Message;
use podwire_kernel::netns::Namespace;
use podwire_kernel::{Request, Socket, forwarding, route};

use crate::cni::{Add, Code, Failure, Success};
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::undo::Undo;

/// How long an end may take to come into operation and an address into use: less than a millisecond where the machine has
/// nothing else to do. Both are done by the kernel's own threads, which on a drowning machine get their turn late; an ADD
/// that fails is tried again as a whole, which makes nothing better.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// The first and the longest pause between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(10));

/// Attaches a pod. When it fails, kernel and ledger are as before.
pub(crate) fn add(request: &Add, ledger: &Ledger) -> Result<Success, Failure> {
    let (attachment, interface) = (&request.attachment, &request.attachment.interface);
    let (pod, mut inside) = open_pod(&request.netns)?;
    let mut host = Socket::route()?;
    // Whoever else adds or deletes this attachment waits: an unfinished record below this line is a dead one's.
    let _turn = ledger.turn(attachment)?;
    clear_leftovers(request, ledger, &mut host)?;

    let addresses = ledger.reserve(attachment, &request.network.ipam.ranges)?;
    let mut undo = Undo::default();
    undo.push(|| ledger.release(attachment).map_err(|failure| failure.to_string()));

    let plan = Plan::new(request, addresses);
    let veth = Veth {
        host: End { name: &plan.host.name, mac: plan.host.mac },
        pod: End { name: interface, mac: plan.pod.mac },
        namespace: pod.as_fd(),
        mtu: plan.mtu,
    };
    if let Err(error) = host.execute(veth.create()) {
        return Err(explain(error, &plan, &mut host)?);
    }
    let name = plan.host.name.clone();
    undo.push(move || {
        let removed = Socket::route().and_then(|mut socket| socket.execute(link::delete(&name)));
        removed.map_err(|error| error.to_string())
    });

    let created = link::by_name(&mut host, &plan.host.name)?;
    let Some((outer, inner)) = created.and_then(|link| Some((link.index, link.peer?))) else {
        return Err(Failure::new(Code::Kernel, format!("{} vanished while it was set up", plan.host.name), ""));
    };
    plan.host_distrust().iter().try_for_each(|setting| setting.set_if_there())?;
    plan.host_settings().iter().try_for_each(|setting| setting.set())?;
    if plan.has_ipv6() {
        forwarding::enable_ipv6(&mut host)?;
    }
    pod.within(|| {
        plan.pod_distrust().iter().try_for_each(|setting| setting.set_if_there())?;
        plan.pod_settings().iter().try_for_each(|setting| setting.set())
    })??;
    execute(&mut inside, plan.inside(inner))?;
    let mut outside = plan.outside(outer);
    outside.insert(0, plan.describe_host(outer));
    execute(&mut host, outside)?;
    wait_operational(&mut host, outer)?;
    wait_operational(&mut inside, inner)?;
    for address in &plan.addresses {
        wait_local(&mut inside, *address)?;
    }

    ledger.attached(attachment, &plan.addresses)?;
    undo.commit();
    Ok(Success {
        host: (plan.host.name, plan.host.mac),
        pod_mac: plan.pod.mac,
        mtu: plan.mtu,
        addresses: plan.addresses.iter().map(|address| (*address, Plan::gateway(*address))).collect(),
        routes: plan.routes,
    })
}

/// Opens the pod's namespace and a socket in it, and refuses the one that the plugin itself is in: its interfaces are the
/// node's.
fn open_pod(path: &str) -> Result<(Namespace, Socket), Failure> {
    let refuse = |error: podwire_kernel::Error| Failure::new(Code::Namespace, error.to_string(), "");
    let pod = Namespace::open(path).map_err(refuse)?;
    if pod.is(&Namespace::own()?).map_err(refuse)? {
        let message = "plugin's netns and netns from CNI_NETNS should not be the same";
        return Err(Failure::new(Code::Namespace, message, path));
    }
    let inside = pod.within(Socket::route).map_err(refuse)??;
    Ok((pod, inside))
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
    let Some(record) = ledger.find(&request.attachment)? else { return Ok(()) };
    let device = crate::plan::host_device(&request.attachment);
    if record.attached && link::by_name(host, &device)?.is_some() {
        return Ok(());
    }
    crate::del::detach(&request.attachment, Some(ledger), host)
}

/// Both ends have a carrier now, and the kernel takes notice of a carrier a little later: until then it may drop what is
/// sent. To ask for the device makes it take notice (Linux 6.8); older ones take their time, for which an answer that
/// says "up" is worth waiting for.
fn wait_operational(socket: &mut Socket, device: u32) -> Result<(), Failure> {
    wait(&format!("device {device} did not come into operation"), || match link::by_index(socket, device)? {
        Some(link) => Ok(link.operational),
        None => Err(Failure::new(Code::Kernel, format!("device {device} vanished while it was set up"), "")),
    })
}

/// Until the pod takes in what is sent to its address, answers to it are lost.
fn wait_local(inside: &mut Socket, address: IpAddr) -> Result<(), Failure> {
    wait(&format!("address {address} was not taken into use"), || Ok(route::is_local(inside, address)?))
}

fn wait(otherwise: &str, mut settled: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    let deadline = Instant::now() + SETTLED_WITHIN;
    let mut pause = PAUSES.0;
    while !settled()? {
        if Instant::now() > deadline {
            return Err(Failure::new(Code::Kernel, format!("{otherwise} within {SETTLED_WITHIN:?}"), ""));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
    Ok(())
}

/// Executes requests, and fails with the first refusal.
fn execute(socket: &mut Socket, requests: Vec<Request<Message>>) -> Result<(), Failure> {
    socket.execute_all(requests).into_iter().next().map_or(Ok(()), |(_, error)| Err(error.into()))
}
