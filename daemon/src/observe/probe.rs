//! Probes: whether every peer answers, over the overlay or by a plain route, and how large a packet may be on the path to its node. `schedule`
//! says which probe is due when; here it is sent, received, and entered into the report.
//!
//! What may not live here: what a lost probe means (`status::build`, the doctor).

mod claims;
pub mod icmp;
mod schedule;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use crate::cluster::settings::Overlay;
use crate::cluster::view::{Peer, View};
use crate::observe::probe::icmp::{Echo, Echoer, Heard};
use crate::report::Report;
use crate::report::outcome::Mtu;
use crate::report::probes::{self, Probed};
use claims::Claims;
use schedule::{Addresses, Probe, Schedule};

/// The time between two batches of probes: often enough that no result is late, seldom enough that it costs nothing.
const TICK: Duration = Duration::from_secs(1);

/// The most probes of a batch (but for a ladder of sizes, which is one measurement).
const BATCH: usize = 50;

/// Probes for ever. Without the right to open raw sockets there are none, and that is said once.
pub(crate) async fn run(report: watch::Sender<Report>) {
    if let Err(error) = probe(&report).await {
        warn!("no probes: {error}");
    }
}

async fn probe(report: &watch::Sender<Report>) -> io::Result<()> {
    let open = |like: &str| like.parse::<IpAddr>().map_err(io::Error::other).and_then(Echoer::open);
    // A kernel without IPv6 has no such sockets, and no such peers.
    let (four, six) = (Arc::new(open("0.0.0.0")?), open("::").ok().map(Arc::new));
    let mut heard = listen([Some(four.clone()), six.clone()].into_iter().flatten().collect())?;
    let mut schedule = Schedule::new(Instant::now());
    let overlay = report.borrow().settings.overlay;
    let mut asked: Option<(Arc<View>, Mtu)> = None;
    let mut claims = Some(Claims::open().map_err(io::Error::other)?);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            heard = heard.recv() => {
                match heard.unwrap_or_else(|| Err(io::Error::other("the listener has ended")))? {
                    (at, number, true) => schedule.answered(at, number),
                    (at, number, false) => schedule.lost(at, number),
                }
                continue;
            }
            _ = ticks.tick() => {}
        }
        schedule.expire(Instant::now());
        if let Some((view, mtu)) = accepted(report) {
            if asked.as_ref().is_none_or(|(before, size)| *before != view || *size != mtu) {
                let addresses = |peer| addresses(&view.own, peer, overlay);
                let peers = view.peers.iter().map(|(name, peer)| (name.as_str(), addresses(peer)));
                schedule.set(Instant::now(), addresses(&view.own), mtu.underlay, peers);
            }
            // Every sync makes a view; of two that are equal the later one is kept, so that the other can go.
            asked = Some((view, mtu));
        }
        if let Some(((view, _), open)) = asked.as_ref().zip(claims.as_mut()) {
            match open.look(Instant::now(), view.own.address) {
                Ok(peers) => schedule.claimed(Instant::now(), &peers),
                Err(error) => {
                    warn!("paths are measured at their usual times only: {error}");
                    claims = None;
                }
            }
        }
        for Probe { number, source, destination, size } in schedule.due(Instant::now(), BATCH) {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            let echo = Echo { source, destination, number, size };
            let sent = match (destination, &six) {
                (IpAddr::V4(_), _) => four.send(&echo),
                (IpAddr::V6(_), Some(six)) => six.send(&echo),
                (IpAddr::V6(_), None) => Err(io::Error::other("no IPv6")),
            };
            if sent.is_err() {
                schedule.lost(Instant::now(), number);
            }
        }
        let news = schedule.news();
        if !news.is_empty() {
            // No waiter is woken by most of it: the next status has the latest.
            report.send_if_modified(|report| enter(report, news));
        }
    }
}

/// Enters what the probes have found; whether a path has become narrower or wider.
fn enter(report: &mut Report, news: Vec<(Arc<str>, Option<Probed>)>) -> bool {
    let mut changed = false;
    for (name, probed) in news {
        let narrow = probed.and_then(|probed| probed.path?.narrow());
        if report.narrow.get(&name) != narrow.as_ref() {
            changed = true;
            let paths = Arc::make_mut(&mut report.narrow);
            match narrow {
                Some(largest) => _ = paths.insert(name.clone(), largest),
                None => _ = paths.remove(&name),
            }
        }
        match probed {
            Some(probed) => _ = report.probes.insert(name, probed),
            None => _ = report.probes.remove(&name),
        }
    }
    changed
}

/// The view, once the overlay has been made of one.
fn accepted(report: &watch::Sender<Report>) -> Option<(Arc<View>, Mtu)> {
    let report = report.borrow();
    let view = report.view.as_ref()?.as_ref().ok()?;
    Some((view.clone(), report.mtu?))
}

/// Where a peer is probed at, or probes from: the addresses that are to answer, and its node's address.
fn addresses(own: &Peer, peer: &Peer, overlay: Overlay) -> Addresses {
    let mut addresses = [None, None, Some(peer.address)];
    for address in probes::asked(own, peer, overlay) {
        addresses[usize::from(address.is_ipv6())] = Some(address);
    }
    addresses
}

/// When the probe of this number was answered, or else was found too large for the path.
type News = io::Result<(Instant, u16, bool)>;

/// Listens on a thread of its own, which waits for the sockets. Its news wait in the channel; what finds no room there
/// counts as lost.
fn listen(echoers: Vec<Arc<Echoer>>) -> io::Result<mpsc::Receiver<News>> {
    let (sender, receiver) = mpsc::channel(4 * BATCH);
    let hear = move || -> io::Result<()> {
        loop {
            icmp::wait(echoers.iter().map(|echoer| &**echoer), None)?;
            for echoer in &echoers {
                while let Some(heard) = echoer.hear()? {
                    let (number, answered) = match heard {
                        Heard::Answer { number } => (number, true),
                        Heard::TooLarge { number } => (number, false),
                    };
                    if let Err(TrySendError::Closed(_)) = sender.try_send(Ok((Instant::now(), number, answered))) {
                        return Ok(());
                    }
                }
            }
        }
    };
    thread::Builder::new().name("probes".into()).spawn(move || {
        if let Err(error) = hear() {
            // The channel ends with this thread.
            warn!("receive probe replies: {error}");
        }
    })?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::membership::Membership;

    #[test]
    fn every_peer_is_probed_in_each_family_that_both_have_and_on_the_underlay() {
        let membership = Membership::parse(include_str!("../../../conf/nodes.toml")).unwrap();
        let mut view = View::new(&membership, "node-1").unwrap();
        let text = |addresses: Addresses| addresses.map(|address| address.map_or("-".into(), |it| it.to_string()));
        let two = |view: &View| text(addresses(&view.own, &view.peers["node-2"], Overlay::Auto));
        assert_eq!(two(&view), ["10.244.2.0", "fd00:10:244:2::", "192.168.50.2"]);
        assert_eq!(
            text(addresses(&view.own, &view.own, Overlay::Always)),
            ["10.244.1.0", "fd00:10:244:1::", "192.168.50.1"]
        );
        let without = text(addresses(&view.own, &view.peers["node-2"], Overlay::Never));
        assert_eq!(without, ["192.168.50.2", "-", "192.168.50.2"]);
        view.own.pod_cidrs.truncate(1);
        assert_eq!(two(&view), ["10.244.2.0", "-", "192.168.50.2"]);
    }
}
