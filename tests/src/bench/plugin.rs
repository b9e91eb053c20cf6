//! The course of the run, from top to bottom: hosts, the disciplines by families and host ports, memory, addresses that
//! have to settle, many pods, many addresses.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use podwire_tests::lab;

use crate::binary::Binary;
use crate::contestant::{Contestant, Families, Setup, Verb};
use crate::lane::{Duplicates, Lane};
use crate::machine::Machine;
use crate::quiet::Quiet;
use crate::race::{self, AT_ONCE};
use crate::report::{Discipline, Latency, Rate, Report, Settling};
use crate::statistics::{Summary, median, rounded};
use crate::tools::Tools;
use crate::{growth, held, memory, verdict};

/// How much is done.
struct Size {
    pods: usize,
    rounds: usize,
    levels: [usize; 3],
    /// Pods that are attached and detached at each level, and beside the held addresses.
    sample: usize,
    held: u32,
    /// Pods that are attached where addresses have to settle, which takes ptp a second or two each.
    settling: usize,
}

impl Size {
    const WHOLE: Self = Self { pods: 200, rounds: 3, levels: [10, 100, 1_000], sample: 50, held: 60_000, settling: 5 };
    const QUICK: Self = Self { pods: 20, rounds: 1, levels: [5, 10, 20], sample: 5, held: 6_000, settling: 2 };
}

/// What has been measured so far, and how it is measured.
struct Course {
    size: Size,
    tools: Tools,
    shared: PathBuf,
    quiet: Quiet,
    latencies: Vec<Latency>,
    rates: Vec<Rate>,
    podwire_maps_ports: bool,
    portmap_backend: String,
}

/// Measures everything.
///
/// # Errors
/// What did not work, and what the one that did not has said.
pub(crate) fn run(arguments: &crate::Plugin) -> Result<Report, String> {
    lab::require_isolation()?;
    let size = if arguments.run.quick { Size::QUICK } else { Size::WHOLE };
    let tools = Tools::find(arguments)?;
    let shared = Path::new("/run/bench").to_owned();
    fs::create_dir_all(&shared).map_err(|error| format!("create {}: {error}", shared.display()))?;
    let machine = Machine::look(&tools, &arguments.run.revision)?;
    let quiet = Quiet::new(&shared, &tools)?;
    let mut course = Course {
        size,
        tools,
        shared,
        quiet,
        latencies: Vec::new(),
        rates: Vec::new(),
        podwire_maps_ports: false,
        portmap_backend: String::new(),
    };

    progress(&format!("{} pods for each of {} contestants", course.size.pods, Contestant::ALL.len()));
    let mut lanes = course.lanes(&Contestant::ALL, course.size.pods, Duplicates::Ignored)?;
    for families in Families::ALL {
        for host_port in [false, true] {
            let setup = Setup { families, host_port };
            let able = course.warm_up(&mut lanes, setup)?;
            course.alone(&able, setup)?;
            // What many at once do to portmap's rules is not another for another family, and takes minutes.
            if setup != (Setup { families: Families::Dual, host_port: true }) {
                course.concurrent(&able, setup)?;
            }
        }
    }

    progress("memory at peak");
    let weigh = |lane: &Lane| memory::weigh(lane, &lane.pods[..course.size.sample.min(10)], &course.tools);
    let memory = lanes.iter().map(weigh).collect::<Result<_, _>>()?;
    let with_duplicate_detection = course.settling()?;
    progress(&format!("beside {} pods", course.size.levels.map(|level| level.to_string()).join(", ")));
    let (tools, shared, quiet) = (&course.tools, &course.shared, &course.quiet);
    let growth = growth::measure(&course.size.levels, course.size.sample, tools, shared, quiet)?;
    progress(&format!("beside {} held addresses", course.size.held));
    let held = held::measure(course.size.held, course.size.sample, tools, shared, quiet)?;
    let binary = Binary::read(&tools.podwire)?;

    let Course { size, latencies, rates, podwire_maps_ports, portmap_backend, .. } = course;
    let (quick, pods, verdicts) = (arguments.run.quick, size.pods, Vec::new());
    let mut report = Report {
        quick,
        machine,
        pods,
        podwire_maps_ports,
        portmap_backend,
        latencies,
        rates,
        with_duplicate_detection,
        growth,
        held,
        memory,
        binary,
        verdicts,
    };
    report.verdicts = verdict::all(&report);
    Ok(report)
}

impl Course {
    /// A lane for each of some contestants.
    fn lanes(&self, contestants: &[Contestant], pods: usize, duplicates: Duplicates) -> Result<Vec<Lane>, String> {
        let lane = |contestant: &Contestant| Lane::new(*contestant, pods, duplicates, &self.shared, &self.tools);
        contestants.iter().map(lane).collect()
    }

    /// Attaches a pod of each lane and looks whether it is there. With host ports only those that make them work take
    /// part: of portmap that is required, podwire is asked.
    fn warm_up<'a>(&mut self, lanes: &'a mut [Lane], setup: Setup) -> Result<Vec<&'a Lane>, String> {
        let mut able = Vec::new();
        for lane in lanes {
            lane.set_up(setup);
            if setup.host_port && lane.contestant == Contestant::Floor {
                continue;
            }
            let pod = &lane.pods[0];
            lane.visit(pod, Verb::Add)?;
            lane.require_reachable(pod)?;
            let forwards = !setup.host_port || lane.forwards(pod)?;
            match lane.contestant {
                Contestant::Podwire => self.podwire_maps_ports = setup.host_port && forwards,
                Contestant::Ptp if setup.host_port => self.portmap_backend = lane.backend()?.to_owned(),
                _ => {}
            }
            lane.visit(pod, Verb::Del)?;
            match (forwards, lane.contestant) {
                (true, _) => able.push(&*lane),
                (false, Contestant::Podwire) => progress("podwire does not map host ports yet"),
                (false, other) => return Err(format!("no rule for the host port of a pod of {}", other.name())),
            }
        }
        Ok(able)
    }

    /// One call at a time.
    fn alone(&mut self, lanes: &[&Lane], setup: Setup) -> Result<(), String> {
        progress(&format!("{}: one at a time", describe(setup)));
        let times = race::in_turn(lanes, self.all(), &self.quiet)?;
        for (lane, (add, del)) in lanes.iter().zip(times) {
            for (verb, times) in [(Verb::Add, add), (Verb::Del, del)] {
                self.note(lane.contestant, Discipline { verb, setup, at_once: 1 }, &times);
            }
        }
        Ok(())
    }

    /// Many calls at once, one contestant after the other, several rounds.
    fn concurrent(&mut self, lanes: &[&Lane], setup: Setup) -> Result<(), String> {
        let mut times: Vec<[Vec<_>; 2]> = vec![Default::default(); lanes.len()];
        let mut rates: Vec<[Vec<f64>; 2]> = vec![Default::default(); lanes.len()];
        for round in 1..=self.size.rounds {
            progress(&format!("{}: {AT_ONCE} at once, round {round} of {}", describe(setup), self.size.rounds));
            for (place, lane) in lanes.iter().enumerate() {
                for (which, verb) in [Verb::Add, Verb::Del].into_iter().enumerate() {
                    self.quiet.wait()?;
                    let (calls, took) = race::at_once(lane, &lane.pods[self.all()], verb)?;
                    let count = u32::try_from(calls.len()).map_err(|error| error.to_string())?;
                    rates[place][which].push(rounded(f64::from(count) / took.as_secs_f64()));
                    times[place][which].extend(calls);
                }
            }
        }
        for (lane, (times, rates)) in lanes.iter().zip(times.iter().zip(rates)) {
            for ((verb, times), rounds) in [Verb::Add, Verb::Del].into_iter().zip(times).zip(rates) {
                let discipline = Discipline { verb, setup, at_once: AT_ONCE };
                self.note(lane.contestant, discipline, times);
                let per_second = median(&rounds).unwrap_or_default();
                self.rates.push(Rate { contestant: lane.contestant, discipline, per_second, rounds });
            }
        }
        Ok(())
    }

    /// ADD where the kernel looks for duplicates of the pod's addresses.
    fn settling(&self) -> Result<Vec<Settling>, String> {
        progress("with the kernel's detection of duplicate addresses");
        let contestants = [Contestant::Podwire, Contestant::Ptp, Contestant::Bridge];
        let lanes = self.lanes(&contestants, self.size.settling, Duplicates::Detected)?;
        let all: Vec<_> = lanes.iter().collect();
        let times = race::in_turn(&all, 0..self.size.settling, &self.quiet)?;
        let settling = |(lane, (add, _)): (&Lane, (race::Times, race::Times))| {
            Some(Settling { contestant: lane.contestant, add: Summary::of(&add)? })
        };
        Ok(lanes.iter().zip(times).filter_map(settling).collect())
    }

    fn all(&self) -> Range<usize> {
        0..self.size.pods
    }

    fn note(&mut self, contestant: Contestant, discipline: Discipline, times: &[std::time::Duration]) {
        let summary = Summary::of(times);
        self.latencies.extend(summary.map(|summary| Latency { contestant, discipline, summary }));
    }
}

fn describe(setup: Setup) -> String {
    format!("{}{}", setup.families.name(), if setup.host_port { ", with a hostPort" } else { "" })
}

/// For whoever waits.
fn progress(what: &str) {
    eprintln!("  {what}");
}
