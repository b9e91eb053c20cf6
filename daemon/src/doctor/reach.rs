//! Whether each peer is reached: over the underlay and over the overlay, with small packets and with the largest. What
//! comes through and what does not tells the cause.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use podwire_conf::defaults;
use podwire_kernel::{Socket, address, link};

use super::{Cluster, Finding, Peer};
use crate::echo::{self, Echo, Echoer, Heard};

/// Attempts before something counts as unanswered, and how long each one waits.
const ATTEMPTS: usize = 3;
const PATIENCE: Duration = Duration::from_millis(700);

/// So many are asked, and then their answers are taken in: those of thousands at once would overrun a buffer. Who has not
/// answered after a breath, which is longer than a way through a cluster, does not keep the others waiting.
const CROWD: usize = 100;
const BREATH: Duration = Duration::from_millis(10);

/// A port that nobody listens on, or nobody minds (RFC 863, "discard").
const PORT: u16 = 9;

/// Sizes of packets that are asked at once.
const SIZES_AT_ONCE: usize = 16;

/// A question: from where, to whom, how large in bytes.
type Question = (IpAddr, IpAddr, usize);

/// What a peer has answered.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// Its node's address.
    underlay: bool,
    /// Its overlay addresses.
    overlay: BTreeMap<IpAddr, bool>,
    /// Those of them that were asked with the largest packet of the overlay.
    large: BTreeMap<IpAddr, bool>,
    /// The largest packet that came through the underlay whole, in bytes; nothing where it was not tried.
    path: Option<usize>,
    /// Overlay addresses that answer echoes, and neither TCP nor UDP.
    deaf: Vec<IpAddr>,
}

/// The sizes of the largest packets here, in bytes.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    overlay: usize,
    underlay: usize,
}

pub(super) fn look(cluster: &Cluster, port: u16, socket: &mut Socket) -> Result<Vec<Finding>, String> {
    // Without the overlay nobody has an address on it to ask.
    if cluster.peers.is_empty() || !cluster.has_overlay {
        return Ok(Vec::new());
    }
    let said = |error: podwire_kernel::Error| error.to_string();
    let size = |mtu: u32| usize::try_from(mtu).unwrap_or(usize::MAX);
    let Some(device) = link::by_name(socket, defaults::OVERLAY_DEVICE).map_err(said)? else {
        let cause = format!("there is no device {}: no pod on another node is reached", defaults::OVERLAY_DEVICE);
        return Ok(vec![Finding::new("overlay", cause, "systemctl restart podwired; podwired status")]);
    };
    let addresses = address::list(socket, None).map_err(said)?;
    let Some(own) = addresses.iter().find(|found| found.address.ip() == cluster.address) else { return Ok(Vec::new()) };
    let underlay = link::by_index(socket, own.device).map_err(said)?;
    let underlay = underlay.map_or(defaults::MTU, |link| if link.loopback { defaults::MTU } else { link.mtu });
    let sizes = Sizes { overlay: size(device.mtu), underlay: size(underlay) };
    let mut seen = ask(cluster, sizes).map_err(|error| error.to_string())?;
    // Who answers takes a moment, who does not a second: of those a few are enough.
    let mut deaf = 0;
    for seen in &mut seen {
        let answering = seen.large.iter().filter(|(_, answers)| **answers).map(|(address, _)| *address);
        for address in answering {
            if deaf < super::LISTED && !answers_transport(address) {
                seen.deaf.push(address);
                deaf += 1;
            }
        }
    }
    let judged = cluster.peers.iter().zip(seen).filter_map(|(peer, seen)| judge(peer, &seen, sizes, port));
    Ok(judged.collect())
}

/// The overlay addresses of this node and of a peer, as in `view::Peer::overlay_addresses`.
fn overlay_addresses(cluster: &Cluster, peer: &Peer) -> Vec<(IpAddr, IpAddr)> {
    let first = |cidrs: &[ipnetwork::IpNetwork], ipv4: bool| {
        cidrs.iter().find(|cidr| cidr.is_ipv4() == ipv4).map(ipnetwork::IpNetwork::network)
    };
    let both = |ipv4| first(&cluster.pod_cidrs, ipv4).zip(first(&peer.pod_cidrs, ipv4));
    [true, false].into_iter().filter_map(both).collect()
}

/// Asks all peers, each kind of question of all at once.
fn ask(cluster: &Cluster, sizes: Sizes) -> std::io::Result<Vec<Seen>> {
    let mut asker = Asker::open()?;
    let small = |address: IpAddr| echo::smallest(address) + 36;
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

    // What answers small packets is asked with the largest ones.
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
    for place in narrow.into_iter().take(super::LISTED) {
        let to = cluster.peers[place].address;
        seen[place].path = Some(measure(&mut asker, own, to, small(to), sizes.underlay)?);
    }
    Ok(seen)
}

/// The largest packet that comes through, in bytes: more than one that does, less than one that does not. Many sizes are
/// asked at once, since what is lost has to be waited for.
fn measure(asker: &mut Asker, own: IpAddr, to: IpAddr, mut through: usize, mut lost: usize) -> std::io::Result<usize> {
    while lost - through > 1 {
        let step = ((lost - through) / SIZES_AT_ONCE).max(1);
        let sizes: Vec<_> = (1..).map(|count| through + count * step).take_while(|size| *size < lost).collect();
        let questions: Vec<_> = sizes.iter().map(|size| (own, to, *size)).collect();
        let answered = asker.ask(&questions)?;
        let first_lost = answered.iter().rposition(|answered| *answered).map_or(0, |place| place + 1);
        lost = sizes.get(first_lost).copied().unwrap_or(lost);
        through = first_lost.checked_sub(1).map_or(through, |place| sizes[place]);
    }
    Ok(through)
}

/// Whether TCP or UDP comes through to an address and back. Nobody has to listen there: a refusal is an answer. Unlike those
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

fn judge(peer: &Peer, seen: &Seen, sizes: Sizes, port: u16) -> Option<Finding> {
    let Peer { name, address, .. } = peer;
    let list = |which: &BTreeMap<IpAddr, bool>| {
        let silent: Vec<_> =
            which.iter().filter(|(_, answers)| !**answers).map(|(address, _)| address.to_string()).collect();
        silent.join(", ")
    };
    let silent = list(&seen.overlay);
    if !silent.is_empty() && !seen.underlay && seen.overlay.values().all(|answers| !answers) {
        let cause = format!(
            "{name} does not answer at all, neither at {address} nor over the overlay: it is down, \
             or there is no way to it"
        );
        return Some(Finding::new("peer", cause, format!("ip route get {address}; ping {address}")));
    }
    if !silent.is_empty() {
        let underlay = if seen.underlay { format!("{name} answers at {address}, but ") } else { format!("{name} ") };
        let verb = if seen.underlay { "not over the overlay" } else { "does not answer over the overlay" };
        let cause = format!(
            "{underlay}{verb} ({silent}): UDP port {port} is blocked between the nodes, or podwired does not run on \
             {name}, or does not have this node in its membership"
        );
        let fix = format!(
            "on both nodes: iptables -I INPUT -p udp --dport {port} -j ACCEPT   # and in the cloud's firewall; if the \
             network itself eats this port, another `port` in the settings of every node"
        );
        return Some(Finding::new("overlay-port", cause, fix));
    }
    let overhead = sizes.underlay.saturating_sub(sizes.overlay);
    let narrow = seen.path.filter(|path| *path < sizes.underlay);
    let lost = list(&seen.large);
    let fix = |path: usize| {
        format!("on every node: ip link set dev INTERFACE mtu {path}   # or raise it on the way to {name}")
    };
    if !lost.is_empty() {
        let path = narrow.unwrap_or(sizes.underlay);
        let cause = format!(
            "{name} answers small packets over the overlay, but none of {} bytes ({lost}): the way to {address} takes \
             packets of {path} bytes at most, and the overlay needs {}",
            sizes.overlay,
            sizes.overlay + overhead
        );
        return Some(Finding::new("mtu", cause, fix(path)));
    }
    if !seen.deaf.is_empty() {
        let deaf: Vec<_> = seen.deaf.iter().map(ToString::to_string).collect();
        let cause = format!(
            "{name} answers echoes over the overlay, but neither TCP nor UDP ({}): a network card writes wrong checksums into \
             tunnelled packets, or a firewall on {name} drops what comes by {}",
            deaf.join(", "),
            defaults::OVERLAY_DEVICE
        );
        let fix = format!("on both nodes: ethtool -K {} tx-checksum-ip-generic off", defaults::OVERLAY_DEVICE);
        return Some(Finding::new("checksum", cause, fix));
    }
    narrow.map(|path| {
        let cause = format!(
            "the way to {name} ({address}) takes packets of {path} bytes at most, although the MTU here is {}: large \
             packets of the overlay are taken apart on the way",
            sizes.underlay
        );
        Finding::new("mtu", cause, fix(path))
    })
}

/// Asks echoes and waits for the answers.
struct Asker {
    four: Echoer,
    six: Option<Echoer>,
    identifier: u16,
    number: u16,
}

impl Asker {
    fn open() -> std::io::Result<Self> {
        let [.., high, low] = std::process::id().to_be_bytes();
        let four = Echoer::open(Ipv4Addr::UNSPECIFIED.into())?;
        // A kernel without IPv6 has no such peers either.
        let six = Echoer::open(Ipv6Addr::UNSPECIFIED.into()).ok();
        Ok(Self { four, six, identifier: u16::from_be_bytes([high, low]), number: 0 })
    }

    /// Which questions were answered. Those that were not are asked again, a few times.
    fn ask(&mut self, questions: &[Question]) -> std::io::Result<Vec<bool>> {
        let mut answered = vec![false; questions.len()];
        for _ in 0..ATTEMPTS {
            let open: Vec<_> = (0..questions.len()).filter(|place| !answered[*place]).collect();
            if open.is_empty() {
                break;
            }
            for crowd in open.chunks(10_000) {
                self.round(questions, crowd, &mut answered)?;
            }
        }
        Ok(answered)
    }

    fn round(&mut self, questions: &[Question], open: &[usize], answered: &mut [bool]) -> std::io::Result<()> {
        let mut asked = BTreeMap::new();
        for (count, place) in (1..).zip(open) {
            let (source, destination, size) = questions[*place];
            self.number = self.number.wrapping_add(1);
            let echo = Echo { source, destination, identifier: self.identifier, number: self.number, size };
            let echoer = if destination.is_ipv4() { Some(&self.four) } else { self.six.as_ref() };
            // What cannot be sent is not answered.
            if echoer.is_some_and(|echoer| echoer.send(&echo).is_ok()) {
                asked.insert(self.number, *place);
            }
            if count % CROWD == 0 {
                self.listen(&mut asked, answered, BREATH)?;
            }
        }
        self.listen(&mut asked, answered, PATIENCE)
    }

    /// Takes answers in until nobody is left who was asked, or the time is over.
    fn listen(&self, asked: &mut BTreeMap<u16, usize>, answered: &mut [bool], within: Duration) -> std::io::Result<()> {
        let deadline = Instant::now() + within;
        while !asked.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            echo::wait(std::iter::once(&self.four).chain(&self.six), Some(left))?;
            self.hear(asked, answered)?;
        }
        Ok(())
    }

    fn hear(&self, asked: &mut BTreeMap<u16, usize>, answered: &mut [bool]) -> std::io::Result<()> {
        for echoer in std::iter::once(&self.four).chain(&self.six) {
            while let Some(heard) = echoer.hear()? {
                match heard {
                    Heard::Answer { identifier, number } if identifier == self.identifier => {
                        if let Some(place) = asked.remove(&number) {
                            answered[place] = true;
                        }
                    }
                    Heard::TooLarge { identifier, number, .. } if identifier == self.identifier => {
                        asked.remove(&number);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { overlay: 1450, underlay: 1500 };

    fn judged(underlay: bool, overlay: [bool; 2], large: &[bool], path: Option<usize>) -> Option<Finding> {
        let peer = Peer { name: "node-2".into(), address: [192, 168, 50, 2].into(), pod_cidrs: Vec::new() };
        let addresses = ["10.244.2.0", "fd00:10:244:2::"].map(|text| text.parse().unwrap());
        let seen = Seen {
            underlay,
            overlay: addresses.into_iter().zip(overlay).collect(),
            large: addresses.into_iter().zip(large.iter().copied()).collect(),
            path,
            deaf: Vec::new(),
        };
        judge(&peer, &seen, SIZES, 8472)
    }

    #[test]
    fn pain27_28_what_comes_through_and_what_does_not_tells_the_cause() {
        assert_eq!(judged(true, [true, true], &[true, true], Some(1500)), None);
        // Whoever answers no ping on the underlay may still be reached by the overlay.
        assert_eq!(judged(false, [true, true], &[true, true], None), None);
        let check = |finding: Option<Finding>| finding.map(|finding| finding.check).unwrap_or_default();
        assert_eq!(check(judged(false, [false, false], &[], None)), "peer");
        let blocked = judged(true, [false, false], &[], Some(1500)).unwrap();
        assert!(
            blocked.cause.starts_with(
                "node-2 answers at 192.168.50.2, but not over the overlay (10.244.2.0, \
                 fd00:10:244:2::): UDP port 8472 is blocked"
            ),
            "{}",
            blocked.cause
        );
        assert_eq!(check(judged(true, [true, false], &[true], Some(1500))), "overlay-port");
        let lost = judged(true, [true, true], &[false, true], Some(1400)).unwrap();
        assert!(
            lost.cause.contains("none of 1450 bytes (10.244.2.0): the way to 192.168.50.2 takes packets of 1400 bytes"),
            "{}",
            lost.cause
        );
        assert!(lost.fix.contains("mtu 1400"), "{}", lost.fix);
        let apart = judged(true, [true, true], &[true, true], Some(1492)).unwrap();
        assert!(apart.check == "mtu" && apart.cause.ends_with("are taken apart on the way"), "{}", apart.cause);
    }
}
