//! What the terminal shows.

use crate::contestant::{Contestant, Families, Setup, Verb};
use crate::machine::Machine;
use crate::race::AT_ONCE;
use crate::report::{Discipline, Report, Settling};
use crate::verdict::Verdict;

/// The whole text.
pub(crate) fn text(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = head(machine);
    text += &format!(
        "podwire {} ({}) · reference plugins {}; portmap took {} ({}) · {} pods each\n",
        machine.podwire, machine.revision, machine.reference, report.portmap_backend, machine.nft, report.pods
    );
    text += &warnings(machine, report.quick);
    for families in Families::ALL {
        let name = families.name();
        for (at_once, title) in [(1, "one at a time"), (AT_ONCE, "16 at once")] {
            text += &format!("\n{name}, {title}: p50 / p99 in ms (p50 as a multiple of podwire's)\n");
            text += &latencies(report, families, at_once);
        }
        text += &format!("\n{name}, 16 at once: calls per second, median of the rounds (podwire's as a multiple)\n");
        text += &rates(report, families);
    }
    let settling = |one: &Settling| format!("{} {}", one.contestant.name(), pair(one.add.p50_ms, one.add.p99_ms));
    let settling = report.with_duplicate_detection.iter().map(settling).collect::<Vec<_>>().join(" · ");
    text += "\nAll this in pods without detection of duplicate addresses (accept_dad 0). With it, as the kernel has it by default,\n";
    text += &format!("ADD with IPv4 and IPv6, one at a time, p50 / p99 in ms: {settling}\n");
    text += "\nIPv4 and IPv6, one at a time, beside pods that are there: p50 / p99 in ms\n";
    text += &growth(report);
    let held = &report.held;
    text += &format!(
        "\nADD with {} of {} addresses held: {}; with none: {} (p50 / p99 in ms)\n",
        held.held,
        held.of,
        pair(held.full.p50_ms, held.full.p99_ms),
        pair(held.empty.p50_ms, held.empty.p99_ms)
    );
    let memory = report.memory.iter().map(|one| format!("{} {} KiB", one.contestant.name(), one.peak_kib));
    text += &format!("Memory at peak, the largest process: {}\n", memory.collect::<Vec<_>>().join(" · "));
    text += "\nWhat must be (of IPv4 alone and IPv4 with IPv6 the worse)\n";
    text += &verdicts(&report.verdicts);
    text
}

/// Where and when it was measured.
pub(crate) fn head(machine: &Machine) -> String {
    format!(
        "\n{} · Linux {} · {} cores, {:.0} % busy before · {} · {}\n",
        machine.date,
        machine.kernel,
        machine.cores,
        machine.busy_before * 100.0,
        machine.processor,
        machine.distribution
    )
}

/// Why the numbers should not be built upon, where that is so.
pub(crate) fn warnings(machine: &Machine, quick: bool) -> String {
    let mut text = String::new();
    if quick {
        text += "A quick run: it shows that everything works, and its numbers mean little.\n";
    }
    if machine.is_busy() {
        text +=
            "Others were at work on this machine: run it again when they are not, before you build on its numbers.\n";
    }
    text
}

/// The disciplines that a table of times or rates has as columns: those in which there was anybody.
fn disciplines(report: &Report, families: Families, at_once: usize) -> Vec<(Discipline, &'static str)> {
    let discipline = |verb, host_port| Discipline { verb, setup: Setup { families, host_port }, at_once };
    let all = [
        (discipline(Verb::Add, false), "ADD"),
        (discipline(Verb::Add, true), "ADD, hostPort"),
        (discipline(Verb::Del, false), "DEL"),
        (discipline(Verb::Del, true), "DEL, hostPort"),
    ];
    let measured = |discipline| report.latencies.iter().any(|one| one.discipline == discipline);
    all.into_iter().filter(|(discipline, _)| measured(*discipline)).collect()
}

fn latencies(report: &Report, families: Families, at_once: usize) -> String {
    by_discipline(report, families, at_once, |contestant, discipline| {
        let summary = report.latency(contestant, discipline)?;
        Some((pair(summary.p50_ms, summary.p99_ms), report.multiple(contestant, discipline)))
    })
}

fn rates(report: &Report, families: Families) -> String {
    by_discipline(report, families, AT_ONCE, |contestant, discipline| {
        let rate = report.rate(contestant, discipline)?;
        Some((format!("{rate:.0}"), report.rate_multiple(contestant, discipline)))
    })
}

/// A row for each contestant, a column for each discipline; a cell is a text and podwire's advantage.
fn by_discipline(
    report: &Report,
    families: Families,
    at_once: usize,
    cell: impl Fn(Contestant, Discipline) -> Option<(String, Option<f64>)>,
) -> String {
    let columns = disciplines(report, families, at_once);
    let header = [String::new()].into_iter().chain(columns.iter().map(|(_, name)| (*name).to_owned())).collect();
    let row = |contestant: Contestant| {
        let cells = columns.iter().map(|(discipline, _)| match cell(contestant, *discipline) {
            Some((text, Some(multiple))) if contestant != Contestant::Podwire => format!("{text}  {multiple:>5.2}×"),
            Some((text, _)) => format!("{text}        "),
            None => format!("{}        ", absent(report, contestant)),
        });
        [contestant.name().to_owned()].into_iter().chain(cells).collect()
    };
    grid(&[vec![header], Contestant::ALL.map(row).into()].concat())
}

/// Why a cell is empty.
pub(crate) fn absent(report: &Report, contestant: Contestant) -> &'static str {
    if contestant == Contestant::Podwire && !report.podwire_maps_ports { "not yet" } else { "–" }
}

fn growth(report: &Report) -> String {
    let mut contestants: Vec<_> = report.growth.iter().map(|growth| growth.contestant).collect();
    let mut levels: Vec<_> = report.growth.iter().map(|growth| growth.pods).collect();
    levels.sort_unstable();
    levels.dedup();
    contestants.sort_unstable();
    contestants.dedup();
    let mut rows = vec![vec![String::new()]];
    for verb in ["ADD", "DEL"] {
        rows[0].extend(levels.iter().map(|level| format!("{verb}, {level} pods")));
    }
    for contestant in contestants {
        let mut row = vec![contestant.name().to_owned()];
        for verb in [Verb::Add, Verb::Del] {
            row.extend(levels.iter().map(|level| {
                let found = report.growth.iter().find(|one| one.contestant == contestant && one.pods == *level);
                let summary = found.map(|found| if verb == Verb::Add { found.add } else { found.del });
                summary.map_or_else(|| "–".into(), |summary| pair(summary.p50_ms, summary.p99_ms))
            }));
        }
        rows.push(row);
    }
    grid(&rows)
}

/// A line for each.
pub(crate) fn verdicts(verdicts: &[Verdict]) -> String {
    let width = verdicts.iter().map(|verdict| verdict.what.chars().count()).max().unwrap_or_default();
    let line = |verdict: &Verdict| {
        let (what, measured, wanted) = (&verdict.what, &verdict.measured, &verdict.wanted);
        format!("  {:<16}  {what:<width$}  {measured} ({wanted})\n", verdict.outcome.word())
    };
    verdicts.iter().map(line).collect()
}

/// Two times, to three figures.
fn pair(p50: f64, p99: f64) -> String {
    format!("{} / {}", figures(p50), figures(p99))
}

/// A number to three figures.
pub(crate) fn figures(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Cells in columns: the first column is aligned to the left, the others to the right.
pub(crate) fn grid(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("  {cell:<width$}"),
            _ => format!("   {cell:>width$}"),
        });
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["", "b"], ["a–×", "123"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(grid(&rows), "          b\n  a–×   123\n");
    }

    #[test]
    fn the_table_says_what_was_measured_and_what_was_not() {
        let text = text(&sample());
        let line = |start: &str| text.lines().find(|line| line.trim_start().starts_with(start)).unwrap().to_owned();
        let cells = |line: String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        assert_eq!(cells(line("podwire  ")), "podwire 2.00 / 4.00 not yet 2.00 / 4.00 not yet");
        let ptp = "ptp + host-local + portmap 14.0 / 28.0 7.00× 14.0 / 28.0 14.0 / 28.0 7.00× 14.0 / 28.0";
        assert_eq!(cells(line("ptp")), ptp);
        assert_eq!(cells(line("floor")), "floor (netlink only, in C) 1.50 / 3.00 0.75× – 1.50 / 3.00 0.75× –");
        assert_eq!(cells(line("met ")), "met ADD against the ptp chain 7.00 × (at least 6 ×)");
        for fact in [
            "Linux 6.18.1",
            "portmap took nftables",
            "200 pods",
            "ADD, 1000 pods",
            "60000 of 65533",
            "missed",
            "Others were",
        ] {
            assert!(text.contains(fact), "no {fact:?} in {text}");
        }
        assert!(text.lines().all(|line| line.trim_end() == line), "spaces at the end of a line: {text}");
    }
}
