//! What the terminal shows of a run of the daemon, and its picture.

use super::Report;
use super::layout::Layout;
use crate::chart::{Bar, Panel, Part, picture};
use crate::table::{figures, grid, head, verdicts, warnings};

impl Report {
    /// The whole text.
    pub(crate) fn text(&self) -> String {
        let machine = &self.machine;
        let mut text = head(machine);
        let (own, revision, other) = (&machine.podwire, &machine.revision, &machine.reference);
        text += &format!("podwired {own} ({revision}) · flannel layout by {other}\n");
        text += &warnings(machine, self.quick);
        if !self.traffic.is_empty() {
            text +=
                "\nTCP between pods on two nodes, IPv4, in turn, medians of the rounds (podwire's in terms of it)\n";
            text += &self.traffic_table();
        }
        if !self.scale.is_empty() {
            text += "\nPeers, dual stack (flannel layout: IPv4 only)\n";
            text += &self.scale_table();
        }
        if let Some(join) = &self.join {
            let (peers, latency) = (join.peers, join.latency);
            text += &format!(
                "\nA peer joins {peers} others: event to routes, p50 / p99 / slowest of {} in ms: {} / {} / {}\n",
                latency.calls,
                figures(latency.p50_ms),
                figures(latency.p99_ms),
                figures(join.slowest_ms)
            );
            for rest in &join.rest {
                let (what, percent, seconds) = (rest.what.name(), rest.percent, rest.seconds);
                text += &format!("Beside {peers} peers, {what}: {percent:.2} % of a core over {seconds:.0} s\n");
            }
        }
        if let Some(churn) = &self.churn {
            let settled =
                churn.settled_s.map_or_else(|| "not".into(), |seconds| format!("{seconds:.1} s after the last"));
            text += &format!(
                "\n{} changes of the file of {} nodes in {:.0} s: as of a fresh start {settled}\n",
                churn.changes, churn.nodes, churn.seconds
            );
            for line in churn.differences.iter().chain(&churn.changed_by_restart) {
                text += &format!("  {line}\n");
            }
        }
        text += "\nWhat must be\n";
        text + &verdicts(&self.verdicts)
    }

    fn traffic_table(&self) -> String {
        let mut rows = vec![["", "round trip, µs", "", "Gbit/s", ""].map(str::to_owned).to_vec()];
        for one in &self.traffic {
            let times = |ratio: Option<f64>| ratio.map(|ratio| format!("({ratio:.2} ×)")).unwrap_or_default();
            rows.push(vec![
                one.layout.name().into(),
                figures(one.round_trip_us),
                times(self.ratio(one.layout, |traffic| traffic.round_trip_us)),
                figures(one.gigabits),
                times(self.ratio(one.layout, |traffic| traffic.gigabits)),
            ]);
        }
        grid(&rows)
    }

    fn scale_table(&self) -> String {
        let title = [
            "peers",
            "start to ready, s",
            "of it the program, s",
            "restart, s",
            "flannel by ip -batch, s",
            "RSS, MB",
            "peak, MB",
            "a route is back, ms",
        ];
        let row = |one: &super::Scale| {
            let numbers = [one.cold_s, one.program_s, one.restart_s, one.flannel_s, one.resident_mb, one.peak_mb];
            let numbers = numbers.into_iter().chain([one.repair_ms]).map(figures);
            [one.peers.to_string()].into_iter().chain(numbers).collect()
        };
        let rows: Vec<_> = [title.map(str::to_owned).to_vec()].into_iter().chain(self.scale.iter().map(row)).collect();
        grid(&rows)
    }

    /// The picture.
    pub(crate) fn chart(&self) -> String {
        let panels: Vec<_> = self.traffic_panels().into_iter().chain(self.scale_panel()).collect();
        let machine = &self.machine;
        let quick = if self.quick { "a quick run that means little · " } else { "" };
        let notes = [
            format!("{quick}podwired {} against the flannel layout by {}", machine.podwire, machine.reference),
            format!("Linux {}, {} cores, {}", machine.kernel, machine.cores, machine.date),
        ];
        picture("podwire's overlay and the flannel layout", &panels, notes)
    }

    fn traffic_panels(&self) -> Vec<Panel> {
        let panel = |title: &str, unit, of: fn(&super::Traffic) -> f64| {
            let bar = |one: &super::Traffic| Bar {
                name: one.layout.name().into(),
                part: match one.layout {
                    Layout::Podwire | Layout::PodwireNoFastPath | Layout::PodwireAlone => Part::Ours,
                    Layout::Flannel | Layout::FlannelSamePods | Layout::FlannelAlone => Part::Other,
                    Layout::Plain => Part::Bound,
                },
                value: Ok(of(one)),
                multiple: None,
            };
            Panel { title: title.into(), unit, bars: self.traffic.iter().map(bar).collect() }
        };
        if self.traffic.is_empty() {
            return Vec::new();
        }
        vec![
            panel("TCP round trip between pods on two nodes: shorter is better", "µs", |one| one.round_trip_us),
            panel("Throughput between pods on two nodes: longer is better", "Gbit/s", |one| one.gigabits),
        ]
    }

    /// Bars for the most peers.
    fn scale_panel(&self) -> Option<Panel> {
        let most = self.scale.last()?;
        let bar = |name: &str, part, value| Bar { name: name.into(), part, value: Ok(value), multiple: None };
        let bars = vec![
            bar("podwired, dual stack", Part::Ours, most.cold_s),
            bar("podwired started again", Part::Ours, most.restart_s),
            bar("flannel layout, IPv4 only", Part::Other, most.flannel_s),
        ];
        let title = format!("{} peers to routes in the kernel: shorter is better", most.peers);
        Some(Panel { title, unit: "s", bars })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use crate::daemon::churn::Churn;
    use crate::daemon::join::Join;
    use crate::daemon::layout::Layout;
    use crate::daemon::rest::{Rest, What};
    use crate::daemon::scale::Scale;
    use crate::daemon::traffic::Traffic;
    use crate::daemon::{Report, verdicts};
    use crate::statistics::Summary;

    /// A run with numbers that are easy to follow.
    pub(crate) fn sample() -> Report {
        let traffic = |layout, round_trip_us, gigabits| Traffic {
            layout,
            round_trip_us,
            round_trips_us: vec![round_trip_us],
            gigabits,
            all_gigabits: vec![gigabits],
        };
        let scale = |peers, seconds: f64, peak_mb| Scale {
            peers,
            cold_s: seconds,
            program_s: seconds * 0.8,
            restart_s: seconds / 2.0,
            flannel_s: seconds * 3.0,
            resident_mb: 20.0,
            peak_mb,
            repair_ms: 8.0,
            repairs_ms: vec![8.0],
        };
        let latency = Summary { p50_ms: 1.5, p99_ms: 5.5, calls: 200 };
        let rest = vec![Rest { what: What::Nothing, seconds: 60.0, percent: 0.2 }];
        let mut report = Report {
            quick: false,
            machine: crate::report::tests::sample().machine,
            traffic: vec![
                traffic(Layout::Podwire, 28.0, 9.0),
                traffic(Layout::Flannel, 35.0, 10.0),
                traffic(Layout::FlannelSamePods, 31.0, 9.5),
                traffic(Layout::PodwireAlone, 24.0, 12.0),
                traffic(Layout::FlannelAlone, 32.0, 12.0),
                traffic(Layout::Plain, 20.0, 15.0),
            ],
            scale: vec![scale(100, 0.01, 10.0), scale(1_000, 0.025, 15.0), scale(10_000, 0.5, 39.0)],
            join: Some(Join { peers: 5_000, latency, slowest_ms: 6.0, rest }),
            churn: Some(Churn {
                nodes: 500,
                seconds: 60.0,
                changes: 300,
                settled_s: Some(0.5),
                differences: vec!["routes: lacks 10.0.7.0/24".into()],
                changed_by_restart: Vec::new(),
            }),
            verdicts: Vec::new(),
        };
        report.verdicts = verdicts::all(&report);
        report
    }

    #[test]
    fn the_text_says_what_was_measured() {
        let text = sample().text();
        let cells = |start: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(start)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(cells("podwire  "), "podwire 28.0 9.00");
        assert_eq!(cells("flannel as deployed"), "flannel as deployed 35.0 (0.80 ×) 10.0 (0.90 ×)");
        assert_eq!(cells("flannel layout alone"), "flannel layout alone 32.0 (0.75 ×) 12.0 (1.00 ×)");
        assert_eq!(cells("plain routes"), "plain routes 20.0 (1.20 ×) 15.0 (0.80 ×)");
        assert_eq!(cells("10000  "), "10000 0.50 0.40 0.25 1.50 20.0 39.0 8.00");
        for fact in ["p99 / slowest of 200 in ms: 1.50 / 5.50 / 6.00", "0.20 % of a core", "lacks 10.0.7.0/24"] {
            assert!(text.contains(fact), "no {fact:?} in {text}");
        }
        assert!(text.lines().all(|line| line.trim_end() == line), "spaces at the end of a line: {text}");
    }

    #[test]
    fn a_run_of_one_part_shows_that_part() {
        let mut report = Report { traffic: Vec::new(), join: None, churn: None, ..sample() };
        report.verdicts = verdicts::all(&report);
        let (text, chart) = (report.text(), report.chart());
        assert!(!text.contains("TCP") && text.contains("Peers, dual stack"), "{text}");
        assert_eq!(chart.matches("<rect ").count(), 3);
        let whole = sample().chart();
        assert_eq!(whole.matches("<rect ").count(), 15);
        assert!(whole.contains("35.0 µs<") && whole.contains("0.50 s<"), "{whole}");
    }
}
