//! How fast a pod may receive and send: the kernel lists what was asked for, a real transfer takes as long as it should,
//! and nothing else is slowed down.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use podwire_kernel::link::{self, End, Ifb, Veth};
use podwire_kernel::netns::Namespace;
use podwire_kernel::tc::qdisc;
use podwire_kernel::tc::shaping::{self, Bucket, Rates};
use podwire_kernel::{Mac, Result, Socket};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::scene::{Outcome, check, json as look, same};
use podwire_tests::lab::{self, SOON};
use serde_json::{Value, json};

/// 40 Mbit/s, with a burst of 32,000 bytes: less than one GSO packet, so that those have to be cut.
const RATE: u64 = 40_000_000;
const BURST: u64 = 256_000;

/// What is sent to measure a rate: a third of a second at 40 Mbit/s.
const AMOUNT: usize = 1_600_000;

/// How long a transfer may stand still: longer than a lost packet's first two retransmissions.
const PATIENCE: Duration = Duration::from_secs(4);

/// The numbers of the pods, in their names and addresses.
const POD: u8 = 1;
const NEIGHBOUR: u8 = 2;

/// The host's end of a pod's veth pair, and the device that what the pod sends waits in.
const DEVICE: &str = "to-1";
const IFB: &str = "ifb-1";

fn host() -> Host {
    Host::new("host", Path::new("/run")).unwrap()
}

/// A pod on a host, as number `number`; it answers when this is over.
fn pod(host: &Host, number: u8, mtu: u32) -> Outcome<Host> {
    let pod = Host::new(&format!("pod-{number}"), Path::new("/run"))?;
    let inside = said(pod.enter(Namespace::own))?;
    let name = format!("to-{number}");
    let veth = Veth {
        host: End { name: &name, mac: Mac([2, 0, 0, 0, 1, number]) },
        pod: End { name: "eth0", mac: Mac([2, 0, 0, 0, 2, number]) },
        namespace: inside.as_fd(),
        mtu,
    };
    kernel(host, |socket| socket.execute(veth.create()))?;
    for (end, device, last) in [(host, name.as_str(), 1), (&pod, "eth0", 2)] {
        end.run("ip", &["link", "set", device, "up"])?;
        for (address, prefix) in address(number, last).into_iter().zip([24, 64]) {
            let address = format!("{address}/{prefix}");
            let nodad: &[&str] = if prefix == 64 { &["nodad"] } else { &[] };
            end.run("ip", &[&["address", "add", &address, "dev", device], nodad].concat())?;
        }
    }
    for (end, device) in [(host, name.as_str()), (&pod, "eth0")] {
        // Until then it may drop what is sent, which would be sent again after a second.
        lab::eventually(SOON, || {
            let link = kernel(end, |socket| link::by_name(socket, device))?;
            check(link.is_some_and(|link| link.operational), || format!("{device} is not in operation"))
        })?;
    }
    for address in address(number, 2) {
        lab::eventually(SOON, || transfer(host, &pod, address, 1))?;
    }
    Ok(pod)
}

/// The addresses of an end of a pair: 1 is the host's, 2 the pod's.
fn address(number: u8, end: u16) -> [IpAddr; 2] {
    let [_, last] = end.to_be_bytes();
    let six = Ipv6Addr::new(0xfd00, number.into(), 0, 0, 0, 0, 0, end);
    [IpAddr::from([192, 0, number, last]), six.into()]
}

/// Asks the kernel on a host.
fn kernel<T: Send>(host: &Host, ask: impl FnOnce(&mut Socket) -> Result<T> + Send) -> Outcome<T> {
    said(host.enter(|| ask(&mut Socket::route()?)))
}

fn said<T>(answer: Result<T>) -> Outcome<T> {
    answer.map_err(|error| error.to_string())
}

fn bucket(rate: u64, burst: u64) -> Option<Bucket> {
    Bucket::new(rate, burst).unwrap()
}

fn both() -> Rates {
    Rates { ingress: bucket(100_000_000, 256_000), egress: bucket(50_000_000, 512_000) }
}

fn ifb(mtu: u32) -> Ifb<'static> {
    Ifb { name: IFB, mac: Mac([2, 0, 0, 0, 3, POD]), mtu, alias: Some("default/pod-1") }
}

/// Shapes the pod, as ADD does.
fn shape(host: &Host, rates: &Rates, mtu: u32) -> Outcome {
    kernel(host, |socket| {
        let device = link::by_name(socket, DEVICE)?.unwrap();
        rates.apply(socket, device.index, &ifb(mtu))
    })
}

/// In what the kernel's state differs from the rates, as CHECK asks.
fn differences(host: &Host, rates: &Rates, mtu: u32) -> Outcome<Vec<String>> {
    kernel(host, |socket| {
        let device = link::by_name(socket, DEVICE)?.unwrap();
        Ok(rates.differences(&shaping::observe(socket, device.index, IFB)?, mtu))
    })
}

/// How fast so many bytes go from one host to an address of another, in bits a second.
#[expect(clippy::cast_precision_loss, reason = "a measurement")]
fn transfer(from: &Host, to: &Host, address: IpAddr, amount: usize) -> Outcome<f64> {
    let transfer = || -> std::io::Result<Duration> {
        let listener = to.enter(|| TcpListener::bind((address, 0)))?;
        let target = listener.local_addr()?;
        // Sockets stay in the namespace they were made in.
        let mut sender = from.enter(|| TcpStream::connect_timeout(&target, PATIENCE))?;
        let (mut receiver, _) = listener.accept()?;
        receiver.set_read_timeout(Some(PATIENCE))?;
        sender.set_write_timeout(Some(PATIENCE))?;
        let start = Instant::now();
        thread::scope(|scope| {
            let sent = scope.spawn(move || sender.write_all(&vec![0; amount]));
            receiver.read_exact(&mut vec![0; amount])?;
            let took = start.elapsed();
            sent.join().unwrap().map(|()| took)
        })
    };
    let took = transfer().map_err(|error| format!("from {} to {address}: {error}", from.name))?;
    Ok(amount as f64 * 8.0 / took.as_secs_f64())
}

/// That a transfer is as fast as the rate: never faster, and not much slower.
fn limited(from: &Host, to: &Host, address: IpAddr) -> Outcome {
    let ratios = ratios(from, to, address, 0.75)?;
    let never_faster = ratios.iter().all(|ratio| *ratio < 1.25);
    check(never_faster && ratios.last() > Some(&0.75), || {
        format!("from {} to {address} at {ratios:.3?} times the rate that is allowed", from.name)
    })
}

/// That a transfer is faster than the rate.
fn unlimited(from: &Host, to: &Host, address: IpAddr) -> Outcome {
    let ratios = ratios(from, to, address, 1.5)?;
    check(ratios.last() > Some(&1.5), || {
        format!("from {} to {address} at {ratios:.3?} times the rate, which is none for it", from.name)
    })
}

/// How many times the rate a transfer is fast. A busy machine has three chances to show that it can be faster than `goal`.
#[expect(clippy::cast_precision_loss, reason = "a measurement")]
fn ratios(from: &Host, to: &Host, address: IpAddr, goal: f64) -> Outcome<Vec<f64>> {
    let mut ratios = Vec::new();
    while ratios.len() < 3 && ratios.last() <= Some(&goal) {
        ratios.push(transfer(from, to, address, AMOUNT)? / RATE as f64);
    }
    Ok(ratios)
}

/// What tc and ip list of the shaping.
fn listed(host: &Host) -> Outcome<Value> {
    let mut filters = look(host, "tc", &["-j", "filter", "show", "dev", DEVICE, "parent", "ffff:"])?;
    for action in filters.as_array_mut().into_iter().flatten().filter_map(|filter| filter.pointer_mut(ACTION)) {
        // An action is made anew with its filter.
        action["index"].take();
    }
    Ok(json!({
        "qdiscs": look(host, "tc", &["-j", "qdisc"])?,
        "filters": filters,
        "ifb": look(host, "ip", &["-d", "-j", "address", "show", "dev", IFB])?,
    }))
}

const ACTION: &str = "/options/actions/0";

#[test]
fn tc_lists_the_requested_shaping_and_repeating_it_changes_nothing() -> Outcome {
    let host = host();
    let _pod = pod(&host, POD, 1500)?;
    shape(&host, &both(), 1500)?;
    let once = listed(&host)?;

    let expected = json!([
        [DEVICE, "tbf", {"rate": 12_500_000, "burst": 32_000, "lat": 25_000}],
        [DEVICE, "ingress", {}],
        [IFB, "tbf", {"rate": 6_250_000, "burst": 64_000, "lat": 25_000}],
    ]);
    let qdiscs = once["qdiscs"].as_array().into_iter().flatten();
    let found = qdiscs.map(|qdisc| json!([qdisc["dev"], qdisc["kind"], qdisc["options"]])).collect();
    same("queueing disciplines", &expected, &found)?;

    let filter = once["filters"].as_array().and_then(|filters| filters.last()).cloned().unwrap_or_default();
    let found = json!([filter["protocol"], filter["options"]["match"], filter.pointer(ACTION)]);
    let action = json!({
        "order": 1, "kind": "mirred", "mirred_action": "redirect", "direction": "egress", "to_dev": IFB,
        "control_action": {"type": "stolen"}, "index": null, "ref": 1, "bind": 1,
    });
    same("filter", &json!(["all", null, action]), &found)?;

    let found = &once["ifb"][0];
    let found = json!([found["mtu"], found["address"], found["ifalias"], found["flags"], found["addr_info"]]);
    let flags = json!(["BROADCAST", "NOARP", "UP", "LOWER_UP"]);
    same("ifb", &json!([1500, "02:00:00:00:03:01", "default/pod-1", flags, []]), &found)?;
    check(once["ifb"][0]["txqlen"].as_u64() > Some(0), || "a queue without length never moves".into())?;

    shape(&host, &both(), 1500)?;
    same("asked for again", &once, &listed(&host)?)
}

#[test]
fn a_transfer_is_limited_only_in_the_shaped_direction() -> Outcome {
    let directions =
        [Rates { ingress: bucket(RATE, BURST), egress: None }, Rates { ingress: None, egress: bucket(RATE, BURST) }];
    for rates in directions {
        let host = host();
        let (shaped, other) = (pod(&host, POD, 1500)?, pod(&host, NEIGHBOUR, 1500)?);
        shape(&host, &rates, 1500)?;
        for family in 0..2 {
            let to_host = address(POD, 1)[family];
            let to_pod = address(POD, 2)[family];
            if rates.ingress.is_some() {
                limited(&host, &shaped, to_pod)?;
                unlimited(&shaped, &host, to_host)?;
            } else {
                limited(&shaped, &host, to_host)?;
                unlimited(&host, &shaped, to_pod)?;
            }
            unlimited(&host, &other, address(NEIGHBOUR, 2)[family])?;
            unlimited(&other, &host, address(NEIGHBOUR, 1)[family])?;
        }
        check(differences(&host, &rates, 1500)?.is_empty(), || "it is as it was asked for".into())?;
    }
    Ok(())
}

#[test]
fn a_packet_larger_than_the_burst_passes() -> Outcome {
    const JUMBO: u32 = 65_535;
    let host = host();
    let pod = pod(&host, POD, JUMBO)?;
    let rates = Rates { ingress: bucket(RATE, 8), egress: bucket(RATE, 8) };
    shape(&host, &rates, JUMBO)?;
    check(differences(&host, &rates, JUMBO)?.is_empty(), || "it is as it was asked for".into())?;
    for family in 0..2 {
        transfer(&host, &pod, address(POD, 2)[family], 500_000)?;
        transfer(&pod, &host, address(POD, 1)[family], 500_000)?;
    }
    Ok(())
}

#[test]
fn the_kernel_takes_every_rate_and_burst_that_is_accepted() -> Outcome {
    let host = host();
    let _pod = pod(&host, POD, 1500)?;
    // The reciprocal of 3 bytes a second is not exact; 4 GB/s is where 32 bits end.
    for rate in [1, 24, 8_000, RATE, 8 * 4_294_967_295, 8 * 4_294_967_296, 400_000_000_000, u64::MAX] {
        for burst in [1, BURST, 4_294_967_295, 34_359_738_359] {
            let rates = Rates { ingress: bucket(rate, burst), egress: bucket(rate, burst) };
            shape(&host, &rates, 1500)?;
            let differences = differences(&host, &rates, 1500)?;
            check(differences.is_empty(), || format!("{rate} bit/s, {burst} bits: {differences:?}"))?;
        }
    }
    let found = look(&host, "tc", &["-j", "qdisc", "show", "dev", DEVICE, "root"])?;
    same("rate", &json!(u64::MAX / 8 + 1), &found[0]["options"]["rate"])
}

#[test]
fn q5_a_changed_shaper_is_reported_and_shaping_again_repairs_it() -> Outcome {
    let host = host();
    let pod = pod(&host, POD, 1500)?;
    shape(&host, &both(), 1500)?;
    let wanted = "towards the pod: desired 12500000 bytes/s, 32000 at once, 344500 waiting; observed";
    let from = "from the pod: desired 6250000 bytes/s, 64000 at once, 220250 waiting; observed";
    let gone = "from the pod: ifb-1 is not where it is redirected to";
    let damages = [
        (
            "tc qdisc change dev to-1 root tbf rate 50mbit burst 16000 limit 344500",
            format!("{wanted} 6250000 bytes/s, about 16000 at once, 344500 waiting"),
        ),
        (
            "tc qdisc change dev to-1 root tbf rate 100mbit burst 40000 limit 344500",
            format!("{wanted} 12500000 bytes/s, about 40000 at once, 344500 waiting"),
        ),
        (
            "tc qdisc change dev to-1 root tbf rate 100mbit burst 32000 limit 44500",
            format!("{wanted} 12500000 bytes/s, about 32000 at once, 44500 waiting"),
        ),
        ("tc qdisc delete dev to-1 root", format!("{wanted} noqueue")),
        ("tc qdisc replace dev to-1 root pfifo", format!("{wanted} pfifo")),
        // Then it has what the machine gives to every device: pfifo_fast, fq_codel, ….
        ("tc qdisc delete dev ifb-1 root", from.into()),
        ("tc filter delete dev to-1 parent ffff:", gone.into()),
        ("tc qdisc delete dev to-1 ingress", gone.into()),
        ("ip link set ifb-1 down", "from the pod: ifb-1 is down".into()),
        ("ip link delete ifb-1", "from the pod: there is no ifb".into()),
        (
            "ip link delete ifb-1 && ip link add ifb-1 type ifb && ip link set ifb-1 up && \
             tc qdisc add dev ifb-1 root tbf rate 50mbit burst 64000 limit 220250",
            gone.into(),
        ),
    ];
    for (damage, sentence) in damages {
        host.run("sh", &["-c", damage])?;
        let found = differences(&host, &both(), 1500)?;
        check(found.len() == 1 && found[0].starts_with(&sentence), || {
            format!("{damage}: found {found:#?}, not {sentence:?}")
        })?;
        // A direction that was not asked for is not looked at.
        let neither = differences(&host, &Rates::default(), 1500)?;
        check(neither.is_empty(), || format!("{damage}: {neither:?}"))?;
        shape(&host, &both(), 1500)?;
        let left = differences(&host, &both(), 1500)?;
        check(left.is_empty(), || format!("{damage}: not repaired: {left:?}"))?;
        transfer(&pod, &host, address(POD, 1)[0], 1)?;
    }
    Ok(())
}

#[test]
fn a_device_of_another_kind_is_not_taken_for_the_ifb() -> Outcome {
    let host = host();
    let _pod = pod(&host, POD, 1500)?;
    host.run("ip", &["link", "add", IFB, "type", "bridge"])?;
    let before = look(&host, "ip", &["-d", "-j", "link"])?;
    let refusal = shape(&host, &both(), 1500).unwrap_err();
    check(refusal == "create ifb device ifb-1: File exists (17)", || refusal.clone())?;
    same("the foreign device", &before, &look(&host, "ip", &["-d", "-j", "link"])?)
}

#[test]
fn a_device_that_was_never_up_has_no_qdisc() -> Outcome {
    let host = host();
    kernel(&host, |socket| socket.execute(ifb(1500).create()))?;
    let (answer, answered) = mpsc::channel();
    let asking = host.clone();
    thread::spawn(move || {
        let root = kernel(&asking, |socket| {
            let device = link::by_name(socket, IFB)?.unwrap().index;
            // Twice: what is left unread of the first answer is not taken for the second.
            qdisc::root(socket, device)?;
            Ok((qdisc::root(socket, device)?, qdisc::root(socket, 4711)?))
        });
        answer.send(root)
    });
    let found = answered.recv_timeout(SOON).map_err(|_| "the kernel is waited for in vain")??;
    check(found == (None, None), || format!("{found:?}"))
}

#[test]
fn without_the_ifb_the_pods_packets_are_dropped() -> Outcome {
    let host = host();
    let pod = pod(&host, POD, 1500)?;
    shape(&host, &both(), 1500)?;
    for damage in ["ip link set ifb-1 down", "ip link delete ifb-1"] {
        host.run("sh", &["-c", damage])?;
        // Towards the pod it would be the answers that are dropped.
        let lost = pod.run("ping", &["-c3", "-i0.01", "-W0.1", &address(POD, 1)[0].to_string()]);
        check(lost.is_err(), || format!("{damage}: {lost:?}"))?;
        shape(&host, &both(), 1500)?;
        transfer(&pod, &host, address(POD, 1)[0], 1)?;
    }
    Ok(())
}

#[test]
fn removing_the_pair_and_the_ifb_leaves_nothing() -> Outcome {
    let host = host();
    let look = |host: &Host| -> Outcome<Value> {
        Ok(json!([
            look(host, "ip", &["-d", "-j", "link"])?,
            look(host, "ip", &["-j", "address"])?,
            look(host, "ip", &["-6", "-j", "route", "show", "table", "all"])?,
            look(host, "tc", &["-j", "qdisc"])?,
            host.run("tc", &["actions", "list", "action", "mirred"])?,
        ]))
    };
    let before = look(&host)?;
    let _pod = pod(&host, POD, 1500)?;
    shape(&host, &both(), 1500)?;
    // The order in which nothing that still arrives is dropped for the want of an ifb.
    kernel(&host, |socket| socket.execute(link::delete(DEVICE)))?;
    let rest = kernel(&host, |socket| link::by_name(socket, IFB))?;
    check(rest.is_some(), || "the ifb goes with the pair: it would not have to be removed".into())?;
    kernel(&host, |socket| socket.execute(link::delete(IFB)))?;
    kernel(&host, |socket| socket.execute(link::delete(IFB)))?;
    same("afterwards", &before, &look(&host)?)
}
