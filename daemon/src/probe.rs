//! Probes: whether every peer answers over the overlay, and how large a packet may be on the way to its node. What is
//! asked when is `course`'s; here it is sent, heard, and entered into the report.

mod course;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use crate::echo::{self, Echo, Echoer, Heard};
use crate::report::{Mtu, Report};
use crate::view::View;
use course::{Course, Key, Probe, Question, Way};

/// The time between two batches of probes: often enough that nobody waits for long, seldom enough that it costs nothing.
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
    let [.., high, low] = std::process::id().to_be_bytes();
    let identifier = u16::from_be_bytes([high, low]);
    let mut heard = listen(identifier, [Some(four.clone()), six.clone()].into_iter().flatten().collect())?;
    let mut course = Course::default();
    let mut asked: Option<(Arc<View>, Mtu)> = None;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            heard = heard.recv() => {
                match heard.unwrap_or_else(|| Err(io::Error::other("nobody listens any more")))? {
                    (at, number, true) => course.answered(at, number),
                    (at, number, false) => course.lost(at, number),
                }
                continue;
            }
            _ = ticks.tick() => {}
        }
        course.expire(Instant::now());
        if let Some((view, mtu)) = believed(report)
            && asked.as_ref().is_none_or(|(before, size)| *before != view || *size != mtu)
        {
            course.set(Instant::now(), questions(&view, mtu));
            asked = Some((view, mtu));
        }
        for Probe { number, source, destination, size } in course.due(Instant::now(), BATCH) {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            let echo = Echo { source, destination, identifier, number, size };
            let sent = match (destination, &six) {
                (IpAddr::V4(_), _) => four.send(&echo),
                (IpAddr::V6(_), Some(six)) => six.send(&echo),
                (IpAddr::V6(_), None) => Err(io::Error::other("no IPv6")),
            };
            if sent.is_err() {
                course.lost(Instant::now(), number);
            }
        }
        let news = course.news();
        if !news.is_empty() {
            // Nobody is woken by it: whoever asks sees the latest.
            report.send_if_modified(|report| {
                for (name, probed) in news {
                    match probed {
                        Some(probed) => _ = report.probes.insert(name, probed),
                        None => _ = report.probes.remove(&name),
                    }
                }
                false
            });
        }
    }
}

/// The view, once the overlay has been made of one.
fn believed(report: &watch::Sender<Report>) -> Option<(Arc<View>, Mtu)> {
    let report = report.borrow();
    let view = report.view.as_ref()?.as_ref().ok()?;
    Some((view.clone(), report.mtu?))
}

/// Who is asked what: of each peer the first overlay address of each family, and its node's address.
fn questions(view: &View, mtu: Mtu) -> BTreeMap<Key, Question> {
    let mut questions = BTreeMap::new();
    for (name, peer) in &view.peers {
        let name: Arc<str> = name.as_str().into();
        for (source, destination) in view.own.overlay_addresses(peer) {
            questions.insert((name.clone(), Way::Overlay(destination)), Question { source, mtu: mtu.overlay });
        }
        let question = Question { source: view.own.address, mtu: mtu.underlay };
        questions.insert((name, Way::Underlay(peer.address)), question);
    }
    questions
}

/// When it was heard that a probe of this number was answered, or else was too large for the way.
type News = io::Result<(Instant, u16, bool)>;

/// Listens on a thread of its own, which waits for the sockets. Its news wait in the channel; what finds no room there
/// counts as lost.
fn listen(own: u16, echoers: Vec<Arc<Echoer>>) -> io::Result<mpsc::Receiver<News>> {
    let (sender, receiver) = mpsc::channel(4 * BATCH);
    let hear = move || -> io::Result<()> {
        loop {
            echo::wait(echoers.iter().map(|echoer| &**echoer), None)?;
            for echoer in &echoers {
                while let Some(heard) = echoer.hear()? {
                    let (identifier, number, answered) = match heard {
                        Heard::Answer { identifier, number } => (identifier, number, true),
                        Heard::TooLarge { identifier, number, .. } => (identifier, number, false),
                    };
                    // Another program's is not for us.
                    if identifier == own
                        && let Err(TrySendError::Closed(_)) = sender.try_send(Ok((Instant::now(), number, answered)))
                    {
                        return Ok(());
                    }
                }
            }
        }
    };
    thread::Builder::new().name("probes".into()).spawn(move || {
        if let Err(error) = hear() {
            // The channel ends with this thread, and that says as much.
            warn!("hear the answers to probes: {error}");
        }
    })?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Membership;

    #[test]
    fn every_peer_is_asked_in_each_family_that_both_have_and_on_the_underlay() {
        let membership = Membership::parse(include_str!("../../conf/nodes.toml")).unwrap();
        let mut view = View::new(&membership, "node-1").unwrap();
        let list = |view: &View| {
            let questions = questions(view, Mtu { underlay: 1500, overlay: 1450 });
            let line = |((name, way), question): (&Key, &Question)| {
                format!("{name} {way:?} from {} {}", question.source, question.mtu)
            };
            questions.iter().map(line).collect::<Vec<_>>()
        };
        let two = [
            "node-2 Overlay(10.244.2.0) from 10.244.1.0 1450",
            "node-2 Overlay(fd00:10:244:2::) from fd00:10:244:1:: 1450",
            "node-2 Underlay(192.168.50.2) from 192.168.50.1 1500",
        ];
        assert_eq!(list(&view)[..3], two);
        assert_eq!(list(&view).len(), 6);
        view.own.pod_cidrs.truncate(1);
        assert_eq!(list(&view).len(), 4);
    }
}
