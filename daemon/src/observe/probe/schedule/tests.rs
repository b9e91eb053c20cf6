//! When which peer is probed, and what becomes of answers that are late or missing.

use super::*;

/// The schedule of the peer "peer" with an IPv4 overlay address and an underlay of 1500 bytes, and the time.
struct Play {
    schedule: Schedule,
    now: Instant,
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

impl Play {
    fn new() -> Self {
        let now = Instant::now();
        let mut play = Self { schedule: Schedule::new(now), now };
        play.set(1500, &["peer"]);
        play
    }

    fn set(&mut self, mtu: u32, peers: &[&str]) {
        let own = [address("10.244.1.0"), None, address("192.168.50.1")];
        let theirs = [address("10.244.2.0"), address("fd00::2"), address("192.168.50.2")];
        self.schedule.set(self.now, own, mtu, peers.iter().map(|name| (*name, theirs)));
    }

    /// Plays on for so many seconds, on a path that takes packets up to a size; how many were sent.
    fn run(&mut self, seconds: u32, overlay: bool, underlay: u32) -> usize {
        let mut sent = 0;
        for _ in 0..seconds {
            self.schedule.expire(self.now);
            let due = self.schedule.due(self.now, 50);
            sent += due.len();
            for probe in due {
                let on_overlay = Some(probe.destination) == address("10.244.2.0");
                if if on_overlay { overlay } else { probe.size <= underlay } {
                    self.schedule.answered(self.now + Duration::from_micros(300), probe.number);
                }
            }
            self.now += Duration::from_secs(1);
        }
        sent
    }

    fn probed(&self) -> Probed {
        self.schedule.probed(&self.schedule.peers[&self.schedule.names["peer"]])
    }

    fn answers(&self) -> Option<bool> {
        self.probed().overlay[0].and_then(|echoes| echoes.answers())
    }
}

fn path(largest: u32, wanted: u32) -> Option<Path> {
    Some(Path { largest, wanted })
}

#[test]
fn a_peer_that_answers_is_probed_every_half_minute_and_its_path_every_five() {
    let mut play = Play::new();
    let sent = play.run(3000, true, 1500);
    // 100 to 134 rounds of one probe, 10 to 14 of two.
    assert!((120..=165).contains(&sent), "{sent}");
    let probed = play.probed();
    assert_eq!(probed.path, path(1500, 1500));
    // This node has no IPv6, so the peer is not probed either.
    let [Some(four), None] = probed.overlay else { panic!("{probed:?}") };
    assert_eq!((four.loss_percent(), four.round_trip()), (0, Some(300)));
}

#[test]
fn a_peer_that_falls_silent_is_known_to_be_within_seconds_of_the_next_probe() {
    let mut play = Play::new();
    play.run(4, false, 0);
    assert_eq!((play.answers(), play.probed().path), (Some(false), None));
    play.run(31, true, 1500);
    assert_eq!(play.answers(), Some(true));
    play.run(35, false, 1500);
    assert_eq!(play.answers(), Some(false));
}

#[test]
fn the_mtu_of_a_path_is_measured_with_a_ladder_of_sizes() {
    let mut play = Play::new();
    play.run(4, true, 1450);
    assert_eq!(play.probed().path, path(1450, 1500));
    // Once it answers again, that is known within half a minute.
    play.run(31, true, 1500);
    assert_eq!(play.probed().path, path(1500, 1500));
    // Another underlay is another question.
    play.set(9000, &["peer"]);
    assert_eq!((play.probed().path, play.answers()), (None, Some(true)));
    play.run(2, true, 9000);
    assert_eq!(play.probed().path, path(9000, 9000));
}

#[test]
fn one_lost_packet_makes_no_path_smaller() {
    let mut play = Play::new();
    let lose = |play: &mut Play, sizes: &[u32]| {
        let due = play.schedule.due(play.now, 50);
        for probe in due.iter().filter(|probe| !sizes.contains(&probe.size)) {
            play.schedule.answered(play.now, probe.number);
        }
        play.now += Duration::from_secs(2);
        play.schedule.expire(play.now);
    };
    lose(&mut play, &[1500]);
    assert_eq!(play.probed().path, None);
    lose(&mut play, &[]);
    assert_eq!(play.probed().path, path(1500, 1500));
}

#[test]
fn five_thousand_peers_are_probed_at_a_limited_rate_and_none_is_left_out() {
    let mut now = Instant::now();
    let mut schedule = Schedule::new(now);
    let names: Vec<_> = (0..5_000_u32).map(|number| format!("node-{number}")).collect();
    let peers = names.iter().zip(0_u32..).map(|(name, number)| {
        let [.., high, low] = number.to_be_bytes();
        (name.as_str(), [Some(IpAddr::from([10, high, low, 0])), None, None])
    });
    schedule.set(now, [address("10.244.1.0"), None, None], 1500, peers);
    let mut asked = BTreeSet::new();
    for _ in 0..100 {
        schedule.expire(now);
        let due = schedule.due(now, 50);
        assert!(due.len() <= 50);
        for probe in due {
            asked.insert(probe.destination);
            schedule.answered(now, probe.number);
        }
        now += Duration::from_secs(1);
    }
    // None is probed twice before all have been probed once.
    assert_eq!(asked.len(), 5_000);
    assert_eq!(schedule.news().len(), 5_000);
    assert!(schedule.news().is_empty());
}

#[test]
fn a_peer_that_leaves_is_forgotten_and_late_answers_count_for_nothing() {
    let mut play = Play::new();
    let old = play.schedule.due(play.now, 50);
    assert_eq!(old.len(), 3);
    play.set(1400, &["peer", "other"]);
    old.iter().for_each(|probe| play.schedule.answered(play.now, probe.number));
    assert_eq!((play.answers(), play.probed().path), (Some(true), None), "the overlay is asked as before");
    play.schedule.news();
    play.set(1400, &["other"]);
    assert_eq!(play.schedule.news(), [(Arc::from("peer"), None)]);
    play.set(1400, &[]);
    assert!(play.schedule.sent.is_empty() && play.schedule.queue.is_empty() && play.schedule.peers.is_empty());
}

#[test]
fn a_path_that_is_claimed_to_be_smaller_is_measured_at_once_but_not_often() {
    let mut play = Play::new();
    let peers: BTreeSet<_> = address("192.168.50.2").into_iter().collect();
    play.run(10, true, 1500);
    // It is smaller indeed.
    play.schedule.claimed(play.now, &peers);
    play.run(5, true, 1400);
    assert_eq!(play.probed().path, path(1400, 1500));
    play.run(600, true, 1500);
    assert_eq!(play.probed().path, path(1500, 1500));
    // It is not, whatever is claimed each second: a round of two each half minute, beside the overlay's.
    let before = play.run(300, true, 1500);
    let mut sent = 0;
    for _ in 0..300 {
        play.schedule.claimed(play.now, &peers);
        sent += play.run(1, true, 1500);
    }
    assert!(sent <= before + 30, "{sent} instead of {before}");
    // Of others nothing is measured.
    let others: BTreeSet<_> = address("192.168.50.9").into_iter().collect();
    play.schedule.claimed(play.now, &others);
    assert_eq!(play.probed().path, path(1500, 1500));
}
