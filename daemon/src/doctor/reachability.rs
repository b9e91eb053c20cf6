//! Whether each peer is reached: over the underlay and over the overlay, with small packets and with the largest. What
//! comes through and what does not tells the cause.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use podwire_conf::defaults;
use podwire_kernel::link::Link;
use podwire_kernel::{Socket, address, link, route};

use super::diagnosis::{self, Here, Seen, Sizes};
use super::error::{Error, Result};
use super::examined::{Cluster, ExaminedPeer};
use super::finding::{Finding, FindingKind, LISTED};
use super::fix::command;
use crate::observe::probe::icmp::{self, Echo, Echoer, Heard};

/// Attempts before something counts as unanswered, and how long each one waits.
const ATTEMPTS: usize = 3;
const PATIENCE: Duration = Duration::from_millis(700);

/// So many are probed, and then their replies are read: those of thousands at once would overrun a buffer. Whatever has not
/// answered after a breath, which is longer than a round trip through a cluster, does not keep the others waiting.
const BURST: usize = 100;
const BREATH: Duration = Duration::from_millis(10);

/// A port on which nothing listens, or what listens discards (RFC 863, "discard").
const PORT: u16 = 9;

/// Sizes of packets that are tried at once.
const SIZES_AT_ONCE: usize = 16;

/// A question: from where, to whom, how large in bytes.
type Question = (IpAddr, IpAddr, usize);

pub(super) fn look(cluster: &Cluster, port: u16, socket: &mut Socket) -> Result<Vec<Finding>> {
    // Without the overlay there are no overlay addresses to probe.
    if cluster.peers.is_empty() || !cluster.has_overlay {
        return Ok(Vec::new());
    }
    let size = |mtu: u32| usize::try_from(mtu).unwrap_or(usize::MAX);
    let Some(device) = link::by_name(socket, defaults::OVERLAY_DEVICE)? else {
        let cause = format!("there is no device {}: no pod on another node is reached", defaults::OVERLAY_DEVICE);
        let fix = "systemctl restart podwired; podwired status";
        return Ok(vec![Finding::new(FindingKind::OverlayMissing, defaults::OVERLAY_DEVICE, cause, fix)]);
    };
    let addresses = address::list(socket, None)?;
    let Some(own) = addresses.iter().find(|found| found.address.ip() == cluster.address) else { return Ok(Vec::new()) };
    let underlay = link::by_index(socket, own.device)?.filter(|link| !link.loopback);
    for (kind, link, whose) in [
        (FindingKind::UnderlayDown, underlay.as_ref(), ", which has this node's address,"),
        (FindingKind::OverlayDown, Some(&device), ""),
    ] {
        let Some(Link { name, .. }) = link.filter(|link| !link.up) else { continue };
        let cause = format!("device {name}{whose} is down: no pod on another node is reached");
        let fix = command!("ip link set dev {0} up; ip -brief link show dev {0}", name);
        return Ok(vec![Finding::new(kind, name, cause, fix)]);
    }
    let interface = underlay.as_ref().map_or("INTERFACE", |link| link.name.as_str());
    let sizes =
        Sizes { overlay: size(device.mtu), underlay: size(underlay.as_ref().map_or(defaults::MTU, |link| link.mtu)) };
    let mut seen = ask(cluster, sizes).map_err(Error::Probe)?;
    // A peer that answers takes a moment, one that does not a second: of those a few are enough.
    let mut deaf = 0;
    for seen in &mut seen {
        let answering = seen.large.iter().filter(|(_, answers)| **answers).map(|(address, _)| *address);
        for address in answering {
            if deaf < LISTED && !answers_transport(address) {
                seen.deaf.push(address);
                deaf += 1;
            }
        }
    }
    // Where a packet to the silent peers leaves, if it does. Some of them are enough.
    let unanswered = |seen: &Seen| seen.overlay.iter().find(|(_, answers)| !**answers).map(|(address, _)| *address);
    let silent = cluster.peers.iter().zip(&mut seen).filter_map(|(peer, seen)| Some((peer, unanswered(seen)?, seen)));
    for (peer, address, seen) in silent.take(LISTED) {
        if !seen.underlay {
            seen.unrouted = route::lookup(socket, peer.address)?.is_none();
        }
        let leaves_by = route::lookup(socket, address)?.and_then(|route| route.device);
        let plain = underlay.as_ref().filter(|_| peer.is_plain(address)).map(|link| link.index);
        let right = leaves_by.is_some() && [Some(device.index), plain].contains(&leaves_by);
        seen.astray = (!right).then_some(address);
    }
    Ok(diagnosis::judge(&cluster.peers, &seen, Here { sizes, port, interface }))
}

/// The overlay addresses of this node and of a peer, as in `view::Peer::overlay_addresses`.
fn overlay_addresses(cluster: &Cluster, peer: &ExaminedPeer) -> Vec<(IpAddr, IpAddr)> {
    let first = |cidrs: &[ipnetwork::IpNetwork], ipv4: bool| {
        cidrs.iter().find(|cidr| cidr.is_ipv4() == ipv4).map(ipnetwork::IpNetwork::network)
    };
    let both = |ipv4| first(&cluster.pod_cidrs, ipv4).zip(first(&peer.pod_cidrs, ipv4));
    [true, false].into_iter().filter_map(both).collect()
}

/// Probes all peers, with each kind of probe all at once.
fn ask(cluster: &Cluster, sizes: Sizes) -> std::io::Result<Vec<Seen>> {
    let mut asker = Asker::open()?;
    let own = cluster.address;
    let mut seen = vec![Seen::default(); cluster.peers.len()];

    let mut questions: Vec<Question> = Vec::new();
    for peer in &cluster.peers {
        questions.push((own, peer.address, small(peer.address)));
        questions.extend(overlay_addresses(cluster, peer).into_iter().map(|(from, to)| (from, to, small(to))));
    }
    let mut answers = asker.ask(&questions)?.into_iter();
    for (peer, seen) in cluster.peers.iter().zip(&mut seen) {
        seen.underlay = answers.next().unwrap_or(false);
        seen.overlay = overlay_addresses(cluster, peer).into_iter().map(|(_, to)| to).zip(answers.by_ref()).collect();
    }

    // What answers small packets is probed with the largest ones.
    let mut questions: Vec<(usize, Question)> = Vec::new();
    for (place, (peer, seen)) in cluster.peers.iter().zip(&seen).enumerate() {
        if seen.underlay {
            questions.push((place, (own, peer.address, sizes.underlay)));
        }
        let answered =
            overlay_addresses(cluster, peer).into_iter().filter(|(_, to)| seen.overlay.get(to) == Some(&true));
        questions.extend(answered.map(|(from, to)| (place, (from, to, sizes.overlay))));
    }
    let answers = asker.ask(&questions.iter().map(|(_, question)| *question).collect::<Vec<_>>())?;
    let mut narrow = Vec::new();
    for ((place, (_, to, _)), answered) in questions.into_iter().zip(answers) {
        if to != cluster.peers[place].address {
            seen[place].large.insert(to, answered);
        } else if answered {
            seen[place].path = Some(sizes.underlay);
        } else {
            narrow.push(place);
        }
    }
    narrow.truncate(LISTED);
    measure(&mut asker, cluster, &narrow, sizes.underlay, &mut seen)?;
    Ok(seen)
}

/// Finds the largest packets that come through to some peers, in bytes: more than those that do, less than one that does not.
/// Many sizes are asked at once, and all peers, since what is lost has to be waited for.
fn measure(
    asker: &mut Asker,
    cluster: &Cluster,
    places: &[usize],
    largest: usize,
    seen: &mut [Seen],
) -> std::io::Result<()> {
    let to = |place: usize| cluster.peers[place].address;
    // For each peer what comes through and what is lost.
    let mut bounds: Vec<_> = places.iter().map(|place| (*place, small(to(*place)), largest)).collect();
    loop {
        let sizes = |(place, through, lost): &(usize, usize, usize)| {
            let step = ((lost - through) / SIZES_AT_ONCE).max(1);
            let (place, through, lost) = (*place, *through, *lost);
            (1..).map(move |count| (place, through + count * step)).take_while(move |(_, size)| *size < lost)
        };
        let asked: Vec<_> = bounds.iter().flat_map(sizes).collect();
        if asked.is_empty() {
            break;
        }
        let questions: Vec<_> = asked.iter().map(|(place, size)| (cluster.address, to(*place), *size)).collect();
        let answered: Vec<_> = asked.into_iter().zip(asker.ask(&questions)?).collect();
        for (place, through, lost) in &mut bounds {
            let own = || answered.iter().filter(|((whose, _), _)| whose == place);
            *through = own().filter(|(_, answered)| *answered).map(|((_, size), _)| *size).max().unwrap_or(*through);
            let larger = own().map(|((_, size), _)| *size).filter(|size| size > through);
            *lost = larger.min().unwrap_or(*lost);
        }
    }
    for (place, through, _) in bounds {
        seen[place].path = Some(through);
    }
    Ok(())
}

/// The size of a packet that passes everywhere, in bytes.
fn small(address: IpAddr) -> usize {
    icmp::smallest(address) + 36
}

/// Whether TCP or UDP comes through to an address and back. Nothing has to listen there: a refusal is an answer. Unlike those
/// of an echo, their checksums are left to the device, and there are devices that write wrong ones into what is tunnelled.
fn answers_transport(address: IpAddr) -> bool {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(address, PORT), PATIENCE);
    if stream.is_ok() || stream.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
        return true;
    }
    let any = if address.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let ask = || -> std::io::Result<usize> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((address, PORT))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(b"podwire")?;
        socket.recv(&mut [0; 64])
    };
    ask().map_or_else(|error| error.kind() == ErrorKind::ConnectionRefused, |_| true)
}

/// Asks echoes and waits for the answers.
struct Asker {
    four: Echoer,
    six: Option<Echoer>,
    number: u16,
}

impl Asker {
    fn open() -> std::io::Result<Self> {
        let four = Echoer::open(Ipv4Addr::UNSPECIFIED.into())?;
        // A kernel without IPv6 has no such peers either.
        let six = Echoer::open(Ipv6Addr::UNSPECIFIED.into()).ok();
        Ok(Self { four, six, number: 0 })
    }

    /// Which questions were answered. Those that were not are asked again, a few times.
    fn ask(&mut self, questions: &[Question]) -> std::io::Result<Vec<bool>> {
        let mut answered = vec![false; questions.len()];
        for _ in 0..ATTEMPTS {
            let open: Vec<_> = (0..questions.len()).filter(|place| !answered[*place]).collect();
            if open.is_empty() {
                break;
            }
            for burst in open.chunks(10_000) {
                self.round(questions, burst, &mut answered)?;
            }
        }
        Ok(answered)
    }

    fn round(&mut self, questions: &[Question], open: &[usize], answered: &mut [bool]) -> std::io::Result<()> {
        let mut asked = BTreeMap::new();
        for (count, place) in (1..).zip(open) {
            let (source, destination, size) = questions[*place];
            self.number = self.number.wrapping_add(1);
            let echo = Echo { source, destination, number: self.number, size };
            let echoer = if destination.is_ipv4() { Some(&self.four) } else { self.six.as_ref() };
            // What cannot be sent is not answered.
            if echoer.is_some_and(|echoer| echoer.send(&echo).is_ok()) {
                asked.insert(self.number, *place);
            }
            if count % BURST == 0 {
                self.listen(&mut asked, answered, BREATH)?;
            }
        }
        self.listen(&mut asked, answered, PATIENCE)
    }

    /// Reads replies until none is outstanding, or the time is over.
    fn listen(&self, asked: &mut BTreeMap<u16, usize>, answered: &mut [bool], within: Duration) -> std::io::Result<()> {
        let deadline = Instant::now() + within;
        while !asked.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            icmp::wait(std::iter::once(&self.four).chain(&self.six), Some(left))?;
            self.hear(asked, answered)?;
        }
        Ok(())
    }

    fn hear(&self, asked: &mut BTreeMap<u16, usize>, answered: &mut [bool]) -> std::io::Result<()> {
        for echoer in std::iter::once(&self.four).chain(&self.six) {
            while let Some(heard) = echoer.hear()? {
                match heard {
                    Heard::Answer { number } => {
                        if let Some(place) = asked.remove(&number) {
                            answered[place] = true;
                        }
                    }
                    Heard::TooLarge { number } => _ = asked.remove(&number),
                }
            }
        }
        Ok(())
    }
}
