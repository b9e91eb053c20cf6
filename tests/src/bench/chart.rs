//! The chart of docs/benchmarks.md: plain bars, in colours that can be read on white and on black, with no font of its own.

use std::fmt::Write;

use crate::contestant::{Contestant, Families, Setup, Verb};
use crate::race::AT_ONCE;
use crate::report::{Discipline, Report};
use crate::table::{absent, figures};

/// Measures of the picture, in its own units.
const WIDTH: f64 = 820.0;
const NAMES: f64 = 220.0;
const LONGEST: f64 = 430.0;
const BAR: f64 = 16.0;
const LINE: f64 = 23.0;
const TITLE: f64 = 30.0;
const GAP: f64 = 16.0;

/// Grey between white and black, and one colour for what is ours.
const TEXT: &str = "#7a828b";
const OURS: &str = "#e0730f";
const OTHERS: &str = "#7f93a8";
const FLOOR: &str = "#b3a06a";

/// A group of bars that share a unit.
pub(crate) struct Panel {
    /// What is compared, and what is better.
    pub(crate) title: String,
    /// The unit of the values.
    pub(crate) unit: &'static str,
    /// From top to bottom.
    pub(crate) bars: Vec<Bar>,
}

/// A contestant's value, where it has one, and how many times ours it is.
pub(crate) struct Bar {
    /// Whose it is.
    pub(crate) name: String,
    /// In what colour it is drawn.
    pub(crate) part: Part,
    /// Its length, in the panel's unit; or why there is none.
    pub(crate) value: Result<f64, &'static str>,
    /// Shown behind the value.
    pub(crate) multiple: Option<f64>,
}

/// What a bar is in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Ours.
    Ours,
    /// What ours is compared with.
    Other,
    /// What nobody can do better than.
    Bound,
}

/// The picture of a run of the plugin.
pub(crate) fn draw(report: &Report) -> String {
    let machine = &report.machine;
    let quick = if report.quick { "a quick run that means little · " } else { "" };
    let notes = [
        format!(
            "{quick}{} pods, IPv4; podwire {}, reference plugins {}, portmap by {}, called as a runtime does",
            report.pods, machine.podwire, machine.reference, report.portmap_backend
        ),
        format!("Linux {}, {} cores, {}", machine.kernel, machine.cores, machine.date),
    ];
    let title = "How long podwire and the reference plugins take to attach and detach a pod";
    picture(title, &panels(report), notes)
}

/// A picture of some panels, with two lines of small print.
pub(crate) fn picture(title: &str, panels: &[Panel], notes: [String; 2]) -> String {
    let mut bars = String::new();
    let mut top = 0.0;
    for panel in panels {
        bars += &draw_panel(panel, top);
        top += TITLE + panel.bars.iter().map(|_| LINE).sum::<f64>() + GAP;
    }
    let height = top + 46.0;
    let [first, second] = notes.map(|note| escape(&note));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" font-family=\"sans-serif\" font-size=\"13\" fill=\"{TEXT}\">\n\
         <title>{}</title>\n{bars}\
         <text x=\"8\" y=\"{}\" font-size=\"11\">{first}</text>\n\
         <text x=\"8\" y=\"{}\" font-size=\"11\">{second}</text>\n</svg>\n",
        escape(title),
        height - 26.0,
        height - 10.0,
    )
}

fn panels(report: &Report) -> [Panel; 4] {
    // The families for which the reference plugins are at their best: they wait for the other's addresses.
    let families = Families::Ipv4;
    let alone = |verb, host_port| Discipline { verb, setup: Setup { families, host_port }, at_once: 1 };
    let bar = |contestant: Contestant, value: Option<f64>, multiple: Option<f64>| Bar {
        name: contestant.name().into(),
        part: match contestant {
            Contestant::Podwire => Part::Ours,
            Contestant::Floor => Part::Bound,
            _ => Part::Other,
        },
        value: value.ok_or_else(|| absent(report, contestant)),
        multiple: multiple.filter(|_| contestant != Contestant::Podwire),
    };
    let latency = |title: &str, discipline| {
        let bars = Contestant::ALL.map(|contestant| {
            let value = report.latency(contestant, discipline).map(|summary| summary.p50_ms);
            bar(contestant, value, report.multiple(contestant, discipline))
        });
        Panel { title: title.into(), unit: "ms", bars: bars.into() }
    };
    let at_once = Discipline { at_once: AT_ONCE, ..alone(Verb::Add, false) };
    let rates = Contestant::ALL
        .map(|contestant| bar(contestant, report.rate(contestant, at_once), report.rate_multiple(contestant, at_once)));
    [
        latency("ADD: p50, shorter is better", alone(Verb::Add, false)),
        latency("ADD with a hostPort: p50, shorter is better", alone(Verb::Add, true)),
        latency("DEL: p50, shorter is better", alone(Verb::Del, false)),
        Panel { title: "ADDs per second, 16 at once: longer is better".into(), unit: "/s", bars: rates.into() },
    ]
}

fn draw_panel(panel: &Panel, top: f64) -> String {
    let values = panel.bars.iter().filter_map(|bar| bar.value.ok());
    let longest = values.fold(f64::MIN_POSITIVE, f64::max);
    let mut text = format!("<text x=\"8\" y=\"{}\" font-weight=\"bold\">{}</text>\n", top + 21.0, escape(&panel.title));
    let mut line = top + TITLE;
    for bar in &panel.bars {
        let (colour, weight) = match bar.part {
            Part::Ours => (OURS, " font-weight=\"bold\""),
            Part::Bound => (FLOOR, ""),
            Part::Other => (OTHERS, ""),
        };
        let multiple = bar.multiple.map(|multiple| format!("  ({multiple:.1} ×)")).unwrap_or_default();
        let label = match bar.value {
            Ok(value) => format!("{} {}{multiple}", figures(value), panel.unit),
            Err(why) => why.to_owned(),
        };
        let length = bar.value.unwrap_or_default() / longest * LONGEST;
        let base = line + BAR - 4.0;
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\"{weight}>{}</text>\
             <rect x=\"{NAMES}\" y=\"{line}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{base}\"{weight}>{}</text>",
            NAMES - 10.0,
            escape(&bar.name),
            NAMES + length + 8.0,
            escape(&label),
        );
        line += LINE;
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn bars_are_as_long_as_their_values_and_missing_ones_are_marked() {
        let mut report = sample();
        report.machine.kernel = "<6> & more".into();
        let svg = draw(&report);
        let widths: Vec<f64> = svg
            .split("<rect ")
            .skip(1)
            .map(|bar| bar.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        // ADD: 2, 14, 15 and 1.5 ms; with a host port podwire and the floor have none.
        assert_eq!(widths[..4], [57.3, 401.3, 430.0, 43.0]);
        assert_eq!(widths[4..8], [0.0, 401.3, 430.0, 0.0]);
        assert_eq!(widths.len(), 16);
        for text in ["2.00 ms<", "14.0 ms  (7.0 ×)<", "not yet<", "500 /s<", "Linux &lt;6&gt; &amp; more"] {
            assert!(svg.contains(text), "no {text:?} in {svg}");
        }
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && svg.ends_with("</svg>\n"));
    }
}
