//! The benches as a user runs them, short: every contestant attaches and detaches its pods, every layout carries traffic,
//! and the output can be read. They need namespaces, a C compiler and the reference plugins, and the machine for themselves.
//! Beside this are the C programs that they compile, and the charts that were published. What may not live here: the benches
//! themselves (`tests/src/bench`).

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::Command;

use podwire_tests::lab::program;
use serde_json::Value;

/// The standard output of a program that succeeds.
#[track_caller]
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_plugin_bench_measures_every_contestant_and_reports_missed_goals() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    fs::create_dir_all(&directory).unwrap();
    // Built before, outside of this world: there is no way out of it.
    let reference = said(&mut Command::new(root.join("scripts/reference-plugins")));
    for tool in ["floor", "peak"] {
        let source = root.join(format!("tests/bench/{tool}.c"));
        let warnings = ["-O2", "-static", "-Wall", "-Wextra", "-Werror", "-o"];
        said(Command::new("cc").args(warnings).arg(directory.join(tool)).arg(source));
    }
    let mut bench = Command::new(program("podwire-isolate").unwrap());
    bench.arg(program("podwire-bench").unwrap()).args(["plugin", "--quick", "--check", "--reference", &reference]);
    for option in ["--tools", "--output"] {
        bench.arg(option).arg(&directory);
    }
    let output = bench.env_remove("PODWIRE_ISOLATED").output().unwrap();
    let (table, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(matches!(output.status.code(), Some(0 | 1)) && !table.is_empty(), "{log}");

    let report: Value = serde_json::from_slice(&fs::read(directory.join("plugin.json")).unwrap()).unwrap();
    let list = |name: &str| report[name].as_array().unwrap().clone();
    for contestant in ["podwire", "ptp", "bridge", "floor"] {
        let latencies: Vec<_> = list("latencies").into_iter().filter(|one| one["contestant"] == contestant).collect();
        let without_ports = latencies.iter().filter(|one| one["host_port"] == false).count();
        // ADD and DEL, IPv4 alone and both families, one at a time and 16 at once.
        assert_eq!(without_ports, 8, "{contestant}: {report:#}");
        assert!(
            latencies.iter().all(|one| one["p50_ms"].as_f64().unwrap() > 0.0 && one["calls"] == 20),
            "{latencies:?}"
        );
        let ported = latencies.len() - without_ports;
        let maps_ports = contestant == "ptp" || contestant == "bridge";
        assert!(!maps_ports || ported == 6, "{contestant}: {ported} with a host port");
        let rates: Vec<_> = list("rates").into_iter().filter(|one| one["contestant"] == contestant).collect();
        assert!(rates.iter().all(|one| one["per_second"].as_f64().unwrap() > 1.0) && rates.len() >= 4, "{rates:?}");
        assert!(list("memory").iter().any(|one| one["contestant"] == contestant && one["peak_kib"] != 0), "{report:#}");
    }
    assert_eq!(list("growth").len(), 9);
    assert_eq!(report["held"]["held"], 6_000);

    let missed = list("verdicts").iter().any(|one| one["outcome"] == "missed");
    assert_eq!(output.status.code(), Some(i32::from(missed)), "{table}{log}");
    assert_eq!(table.contains("\n  missed "), missed, "{table}");
    let chart = fs::read_to_string(directory.join("plugin.svg")).unwrap();
    assert!(chart.contains("<rect ") && chart.contains("a quick run"), "{chart}");
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn the_daemon_bench_measures_every_layout_and_ends_in_the_right_state() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-daemon");
    fs::create_dir_all(&directory).unwrap();
    let mut bench = Command::new(program("podwire-isolate").unwrap());
    bench.arg(program("podwire-bench").unwrap()).args(["daemon", "--quick", "--check", "--output"]).arg(&directory);
    let output = bench.env_remove("PODWIRE_ISOLATED").output().unwrap();
    let (table, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(matches!(output.status.code(), Some(0 | 1)) && !table.is_empty(), "{log}");

    let report: Value = serde_json::from_slice(&fs::read(directory.join("daemon.json")).unwrap()).unwrap();
    let list = |name: &str| report[name].as_array().unwrap().clone();
    let positive = |value: &Value| value.as_f64().unwrap() > 0.0;
    let layouts: Vec<_> = list("traffic").iter().map(|one| one["layout"].clone()).collect();
    let all =
        ["podwire", "flannel", "flannel-same-pods", "podwire-no-fast-path", "podwire-alone", "flannel-alone", "plain"];
    assert_eq!(layouts, all);
    assert!(
        list("traffic").iter().all(|one| positive(&one["round_trip_us"]) && positive(&one["gigabits"])),
        "{report:#}"
    );
    for one in list("scale") {
        let measured = ["cold_s", "program_s", "restart_s", "flannel_s", "resident_mb", "peak_mb", "repair_ms"];
        assert!(measured.iter().all(|name| positive(&one[name])), "{one:#}");
    }
    assert_eq!((list("scale").len(), &report["join"]["latency"]["calls"]), (4, &5.into()));
    // This one does not depend on how busy the machine is.
    let churn = &report["churn"];
    let (otherwise, restart) = (&churn["differences"], &churn["changed_by_restart"]);
    assert!(churn["changes"].as_u64().unwrap() > 1, "{churn:#}");
    assert!(otherwise.as_array().unwrap().is_empty() && restart.as_array().unwrap().is_empty(), "{churn:#}");

    let missed = list("verdicts").iter().any(|one| one["outcome"] == "missed");
    assert_eq!(output.status.code(), Some(i32::from(missed)), "{table}{log}");
    let chart = fs::read_to_string(directory.join("daemon.svg")).unwrap();
    assert!(chart.contains("<rect ") && chart.contains("a quick run"), "{chart}");
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn the_policy_bench_puts_policies_in_force_and_cuts_what_they_refuse() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-policy");
    fs::create_dir_all(&directory).unwrap();
    let mut bench = Command::new(program("podwire-isolate").unwrap());
    bench.arg(program("podwire-bench").unwrap()).args(["policy", "--quick", "--check", "--output"]).arg(&directory);
    let output = bench.env_remove("PODWIRE_ISOLATED").output().unwrap();
    let (table, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(matches!(output.status.code(), Some(0 | 1)) && !table.is_empty(), "{log}");

    let report: Value = serde_json::from_slice(&fs::read(directory.join("policy.json")).unwrap()).unwrap();
    let list = |name: &str| report[name].as_array().unwrap().clone();
    let elements: Vec<_> = list("cold").iter().map(|one| one["elements"].as_u64().unwrap()).collect();
    assert!(elements.len() == 3 && elements.is_sorted_by(|few, many| 0 < *few && few < many), "{elements:?}");
    let is_there = |summary: &Value| summary["p50_ms"].as_f64() > Some(0.0) && summary["calls"].as_u64() > Some(1);
    assert!(["known", "new", "gone"].iter().all(|name| is_there(&report["change"][name])), "{report:#}");
    assert!(["without", "with"].iter().all(|name| is_there(&report["attach"][name])), "{report:#}");
    // Of others, and of those that are refused.
    assert_eq!(list("cut").len(), 2, "{report:#}");
    for cut in list("cut") {
        assert!(["existing", "new", "next"].iter().all(|name| is_there(&cut[name])), "{cut:#}");
        // What is refused ends: the bench waits four times as long for a last packet.
        assert!(cut["slowest_ms"].as_array().unwrap().iter().all(|one| one.as_f64().unwrap() < 900.0), "{cut:#}");
    }
    assert_eq!(list("packets").len(), 6, "{report:#}");
    assert!(list("packets").iter().all(|one| one["connections"].as_f64() > Some(0.0)), "{report:#}");

    let missed = list("verdicts").iter().any(|one| one["outcome"] == "missed");
    assert_eq!(output.status.code(), Some(i32::from(missed)), "{table}{log}");
    let chart = fs::read_to_string(directory.join("policy.svg")).unwrap();
    assert!(chart.contains("<rect ") && chart.contains("a quick run"), "{chart}");
    fs::remove_dir_all(&directory).unwrap();
}
