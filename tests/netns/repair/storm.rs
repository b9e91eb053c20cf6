//! Another program that changes the network thousands of times a second: it costs the daemon a part of a core and no more, and
//! damage to podwire's own is repaired all the same.

use std::process::Command;
use std::time::{Duration, Instant};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::scene::{Outcome, check, cluster};
use podwire_tests::lab::{SOON, daemon, eventually};

/// How long a storm is measured.
const MEASURED: Duration = Duration::from_secs(5);

/// Clock ticks in a second, in which /proc counts the time of processors (`USER_HZ`).
const TICKS: f64 = 100.0;

/// The part of a core that the daemon may take: a tenth for reconciles, half a second of them at once after a quiet time, and
/// the reading of notifications.
const MOST: f64 = 0.25;

/// The part that reading notifications may take, twice of what it is.
const MOST_READING: f64 = 0.04;

/// The time that the threads of a process with this name have taken, or all of them, in seconds.
fn taken(host: &Host, process: u32, thread: Option<&str>) -> Outcome<f64> {
    let line = "cat /proc/$1/task/*/stat";
    let threads = host.run("sh", &["-ec", line, "sh", &process.to_string()])?;
    let mut ticks = 0.0;
    for stat in threads.lines() {
        let (head, rest) = stat.rsplit_once(") ").ok_or_else(|| stat.to_owned())?;
        if thread.is_none_or(|name| head.ends_with(&format!("({name}"))) {
            // utime and stime, the 14th and 15th field (proc_pid_stat(5)).
            ticks += rest.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>();
        }
    }
    Ok(ticks / TICKS)
}

/// A program that makes changes again and again, until it is dropped.
fn storm(host: &Host, batch: &str, program: &str) -> Outcome<podwire_tests::lab::process::Process> {
    host.enter(|| std::fs::write("/run/storm", batch)).map_err(|error| error.to_string())?;
    let mut command = Command::new("sh");
    command.args(["-c", &format!("while :; do {program} /run/storm; done")]);
    host.start("the storm", &mut command)
}

#[test]
fn a_storm_of_foreign_changes_costs_a_part_of_a_core_and_damage_is_repaired_in_it() {
    let batch = |line: &dyn Fn(usize) -> String| (0..2000).map(line).collect::<String>();
    let routes = |number: usize| {
        format!("route add 172.16.{0}.0/24 dev eth0\nroute del 172.16.{0}.0/24 dev eth0\n", number % 250)
    };
    let addresses =
        |number: usize| format!("addr add 172.17.{0}.1/32 dev eth0\naddr del 172.17.{0}.1/32 dev eth0\n", number % 250);
    let six =
        |number: usize| format!("route add fd99:{0}::/64 dev eth0\nroute del fd99:{0}::/64 dev eth0\n", number % 250);
    let tables = |number: usize| format!("add table ip storm{0}; delete table ip storm{0}\n", number % 250);
    let storms = [
        ("routes", batch(&routes), "ip -batch"),
        ("IPv6 routes", batch(&six), "ip -6 -batch"),
        ("addresses", batch(&addresses), "ip -batch"),
        ("tables", (0..50).map(tables).collect(), "nft -f"),
    ];
    cluster(2, |lab| {
        let host = lab.nodes[0].host.clone();
        let process = daemon::of(&lab.nodes[0])?.id();
        for (what, batch, program) in &storms {
            let storm = storm(&host, batch, program)?;
            let (all, reading) = (taken(&host, process, None)?, taken(&host, process, Some("notifications"))?);
            let start = Instant::now();
            std::thread::sleep(MEASURED);
            let wall = start.elapsed().as_secs_f64();
            let all = (taken(&host, process, None)? - all) / wall;
            let reading = (taken(&host, process, Some("notifications"))? - reading) / wall;
            check(reading < MOST_READING, || format!("{what}: reading notifications takes {reading:.3} of a core"))?;
            check(all < MOST, || format!("{what}: the daemon takes {all:.3} of a core"))?;
            for (family, destination) in [("-4", "10.244.2.0/24"), ("-6", "fd00:10:244:2::/64")] {
                host.run("ip", &[family, "route", "delete", destination])?;
                eventually(SOON, || {
                    let route = host.run("ip", &[family, "route", "show", destination])?;
                    check(route.contains("nhid"), || format!("{what}: {destination}: {route:?}"))
                })?;
            }
            drop(storm);
        }
        Ok(())
    });
}
