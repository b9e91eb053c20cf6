//! The chart for the README: plain bars, in colours that can be read on white and on black, with no font of its own.

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
struct Panel {
    title: &'static str,
    unit: &'static str,
    bars: [Bar; Contestant::ALL.len()],
}

/// A contestant's value, where it has one, and podwire's advantage.
struct Bar {
    contestant: Contestant,
    value: Option<f64>,
    multiple: Option<f64>,
}

/// The picture.
pub(crate) fn draw(report: &Report) -> String {
    let panels = panels(report);
    let contestants = f64::from(u8::try_from(Contestant::ALL.len()).unwrap_or(u8::MAX));
    let panel_height = TITLE + contestants * LINE + GAP;
    let height = f64::from(u8::try_from(panels.len()).unwrap_or(u8::MAX)) * panel_height + 46.0;
    let mut bars = String::new();
    for (panel, top) in panels.iter().zip((0..).map(|place: u8| f64::from(place) * panel_height)) {
        bars += &draw_panel(report, panel, top);
    }
    let machine = &report.machine;
    let quick = if report.quick { "a quick run that means little · " } else { "" };
    let notes = [
        format!(
            "{quick}{} pods, IPv4; podwire {}, reference plugins {}, portmap by {}, called as a runtime does",
            report.pods, machine.podwire, machine.reference, report.portmap_backend
        ),
        format!("Linux {}, {} cores, {}", machine.kernel, machine.cores, machine.date),
    ];
    let [first, second] = notes.map(|note| escape(&note));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" font-family=\"sans-serif\" font-size=\"13\" fill=\"{TEXT}\">\n\
         <title>How long podwire and the reference plugins take to attach and detach a pod</title>\n{bars}\
         <text x=\"8\" y=\"{}\" font-size=\"11\">{first}</text>\n\
         <text x=\"8\" y=\"{}\" font-size=\"11\">{second}</text>\n</svg>\n",
        height - 26.0,
        height - 10.0,
    )
}

fn panels(report: &Report) -> [Panel; 4] {
    // The families for which the reference plugins are at their best: they wait for the other's addresses.
    let families = Families::Ipv4;
    let alone = |verb, host_port| Discipline { verb, setup: Setup { families, host_port }, at_once: 1 };
    let latency = |title, discipline| {
        let bars = Contestant::ALL.map(|contestant| Bar {
            contestant,
            value: report.latency(contestant, discipline).map(|summary| summary.p50_ms),
            multiple: report.multiple(contestant, discipline),
        });
        Panel { title, unit: "ms", bars }
    };
    let crowd = Discipline { at_once: AT_ONCE, ..alone(Verb::Add, false) };
    let rates = Contestant::ALL.map(|contestant| Bar {
        contestant,
        value: report.rate(contestant, crowd),
        multiple: report.rate_multiple(contestant, crowd),
    });
    [
        latency("ADD: p50, shorter is better", alone(Verb::Add, false)),
        latency("ADD with a hostPort: p50, shorter is better", alone(Verb::Add, true)),
        latency("DEL: p50, shorter is better", alone(Verb::Del, false)),
        Panel { title: "ADDs per second, 16 at once: longer is better", unit: "/s", bars: rates },
    ]
}

fn draw_panel(report: &Report, panel: &Panel, top: f64) -> String {
    let longest = panel.bars.iter().filter_map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let mut text = format!("<text x=\"8\" y=\"{}\" font-weight=\"bold\">{}</text>\n", top + 21.0, escape(panel.title));
    let mut line = top + TITLE;
    for bar in &panel.bars {
        let (colour, weight) = match bar.contestant {
            Contestant::Podwire => (OURS, " font-weight=\"bold\""),
            Contestant::Floor => (FLOOR, ""),
            _ => (OTHERS, ""),
        };
        let advantage = bar.multiple.filter(|_| bar.contestant != Contestant::Podwire);
        let advantage = advantage.map(|multiple| format!("  ({multiple:.1} ×)")).unwrap_or_default();
        let label = match bar.value {
            Some(value) => format!("{} {}{advantage}", figures(value), panel.unit),
            None => absent(report, bar.contestant).to_owned(),
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
            escape(bar.contestant.name()),
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
    fn bars_are_as_long_as_their_values_and_what_is_not_there_is_said() {
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
