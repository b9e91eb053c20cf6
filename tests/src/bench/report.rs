//! Everything that was measured, as values; and as JSON.

use serde::Serialize;

use crate::binary::Binary;
use crate::contestant::{Contestant, Setup, Verb};
use crate::growth::Growth;
use crate::held::Held;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::statistics::{Summary, rounded};
use crate::verdict::Verdict;

/// A run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether it was too short to mean much.
    pub(crate) quick: bool,
    /// Where and what.
    pub(crate) machine: Machine,
    /// How many pods each contestant attached and detached in each discipline.
    pub(crate) pods: usize,
    /// Whether podwire makes host ports work: what it does not do is not measured.
    pub(crate) podwire_maps_ports: bool,
    /// The way that portmap took by default on this machine.
    pub(crate) portmap_backend: String,
    /// How long a call takes.
    pub(crate) latencies: Vec<Latency>,
    /// How many calls there are in a second, many at once.
    pub(crate) rates: Vec<Rate>,
    /// ADD of dual-stack pods whose kernel looks for duplicates of addresses, as it does by default, one at a time.
    pub(crate) with_duplicate_detection: Vec<Settling>,
    /// Beside 10, 100, 1,000 pods.
    pub(crate) growth: Vec<Growth>,
    /// Beside many held addresses.
    pub(crate) held: Held,
    /// The memory of each.
    pub(crate) memory: Vec<Memory>,
    /// Our plugin as a file.
    pub(crate) binary: Binary,
    /// What must be, and whether it is.
    pub(crate) verdicts: Vec<Verdict>,
}

/// What is measured at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Discipline {
    /// The verb.
    pub(crate) verb: Verb,
    /// What each pod has.
    #[serde(flatten)]
    pub(crate) setup: Setup,
    /// How many calls are under way.
    pub(crate) at_once: usize,
}

/// The times of a contestant in a discipline.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Latency {
    /// Whose.
    pub(crate) contestant: Contestant,
    /// In what.
    #[serde(flatten)]
    pub(crate) discipline: Discipline,
    /// The times.
    #[serde(flatten)]
    pub(crate) summary: Summary,
}

/// The times of a contestant where addresses have to settle.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Settling {
    /// Whose.
    pub(crate) contestant: Contestant,
    /// ADD.
    pub(crate) add: Summary,
}

/// How many calls of a contestant there are in a second.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Rate {
    /// Whose.
    pub(crate) contestant: Contestant,
    /// In what.
    #[serde(flatten)]
    pub(crate) discipline: Discipline,
    /// The median of the rounds.
    pub(crate) per_second: f64,
    /// Each round.
    pub(crate) rounds: Vec<f64>,
}

impl Report {
    /// A contestant's times in a discipline; `None` where it does not take part.
    pub(crate) fn latency(&self, contestant: Contestant, discipline: Discipline) -> Option<Summary> {
        let found = self.latencies.iter().find(|one| one.contestant == contestant && one.discipline == discipline);
        found.map(|one| one.summary)
    }

    /// A contestant's calls in a second.
    pub(crate) fn rate(&self, contestant: Contestant, discipline: Discipline) -> Option<f64> {
        let found = self.rates.iter().find(|one| one.contestant == contestant && one.discipline == discipline);
        found.map(|one| one.per_second)
    }

    /// A contestant's p50 as a multiple of podwire's.
    pub(crate) fn multiple(&self, contestant: Contestant, discipline: Discipline) -> Option<f64> {
        let own = self.latency(Contestant::Podwire, discipline)?.p50_ms;
        Some(self.latency(contestant, discipline)?.p50_ms / own)
    }

    /// podwire's calls in a second as a multiple of a contestant's.
    pub(crate) fn rate_multiple(&self, contestant: Contestant, discipline: Discipline) -> Option<f64> {
        Some(self.rate(Contestant::Podwire, discipline)? / self.rate(contestant, discipline)?)
    }

    /// As JSON, with the ratios, which follow from the rest.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub(crate) fn json(&self) -> Result<String, String> {
        let failed = |error: serde_json::Error| format!("write the report: {error}");
        let mut value = serde_json::to_value(self).map_err(failed)?;
        for (place, latency) in self.latencies.iter().enumerate() {
            let multiple = self.multiple(latency.contestant, latency.discipline).map(rounded);
            value["latencies"][place]["times_podwire"] = multiple.into();
        }
        for (place, rate) in self.rates.iter().enumerate() {
            let multiple = self.rate_multiple(rate.contestant, rate.discipline).map(rounded);
            value["rates"][place]["podwire_times_this"] = multiple.into();
        }
        crate::json(&value)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::contestant::Families;
    use crate::race::AT_ONCE;
    use crate::verdict;

    /// A run with numbers that are easy to follow: podwire takes 2 ms for an IPv4 pod where the ptp chain takes 14,
    /// and 3 ms for one of both families where that takes 60. It maps no ports.
    pub(crate) fn sample() -> Report {
        let summary = |p50_ms: f64| Summary { p50_ms, p99_ms: p50_ms * 2.0, calls: 200 };
        let machine = Machine {
            date: "2026-01-02 03:04".into(),
            kernel: "6.18.1".into(),
            cores: 2,
            busy_before: 0.25,
            processor: "some <processor> & more".into(),
            distribution: "Debian".into(),
            podwire: "v0.1.0".into(),
            revision: "abc".into(),
            reference: "v1.9.1".into(),
            nft: "nftables v1.0.6".into(),
        };
        let (mut latencies, mut rates) = (Vec::new(), Vec::new());
        let p50 = [
            (Contestant::Podwire, [2.0, 3.0]),
            (Contestant::Ptp, [14.0, 60.0]),
            (Contestant::Bridge, [15.0, 60.0]),
            (Contestant::Floor, [1.5, 2.0]),
        ];
        for (contestant, by_families) in p50 {
            for (families, p50_ms) in Families::ALL.into_iter().zip(by_families) {
                for (verb, at_once) in [(Verb::Add, 1), (Verb::Del, 1), (Verb::Add, AT_ONCE), (Verb::Del, AT_ONCE)] {
                    for host_port in [false, true] {
                        if host_port && !matches!(contestant, Contestant::Ptp | Contestant::Bridge) {
                            continue;
                        }
                        let discipline = Discipline { verb, setup: Setup { families, host_port }, at_once };
                        latencies.push(Latency { contestant, discipline, summary: summary(p50_ms) });
                        if at_once > 1 {
                            rates.push(Rate {
                                contestant,
                                discipline,
                                per_second: 1000.0 / p50_ms,
                                rounds: Vec::new(),
                            });
                        }
                    }
                }
            }
        }
        let growth = |contestant, pods, p50_ms| Growth { contestant, pods, add: summary(p50_ms), del: summary(p50_ms) };
        let (own, floor) = (Contestant::Podwire, Contestant::Floor);
        let memory = |contestant| Memory { contestant, peak_kib: 2048 };
        let mut report = Report {
            quick: false,
            machine,
            pods: 200,
            podwire_maps_ports: false,
            portmap_backend: "nftables".into(),
            latencies,
            rates,
            with_duplicate_detection: vec![Settling { contestant: Contestant::Ptp, add: summary(1700.0) }],
            growth: vec![
                growth(own, 10, 2.0),
                growth(floor, 10, 1.0),
                growth(own, 1000, 3.1),
                growth(floor, 1000, 2.05),
            ],
            held: Held {
                held: 60_000,
                of: 65_533,
                empty: summary(2.0),
                full: summary(4.0),
                memory: memory(Contestant::Podwire),
            },
            memory: Contestant::ALL.map(memory).into(),
            binary: Binary { size: 2_000_000, linked_statically: true, stripped: true },
            verdicts: Vec::new(),
        };
        report.verdicts = verdict::all(&report);
        report
    }

    #[test]
    fn ratios_stand_beside_the_values_they_follow_from() {
        let value: serde_json::Value = serde_json::from_str(&sample().json().unwrap()).unwrap();
        let ptp = value["latencies"].as_array().unwrap().iter().find(|one| one["contestant"] == "ptp").unwrap();
        assert!(ptp["verb"] == "ADD" && ptp["p50_ms"] == 14.0 && ptp["times_podwire"] == 7.0, "{ptp}");
        let rate = value["rates"].as_array().unwrap().iter().find(|one| one["contestant"] == "ptp").unwrap();
        assert!(rate["at_once"] == 16 && rate["podwire_times_this"] == 7.0, "{rate}");
        // podwire has not mapped a port: nothing to compare with.
        let port = value["latencies"].as_array().unwrap().iter().find(|one| one["host_port"] == true).unwrap();
        assert!(port["times_podwire"].is_null(), "{port}");
    }
}
