//! Inputs without an end: stdin, another IPAM plugin, a file that is none. Each has a limit, an error that says so, and
//! leaves nothing behind.

use std::path::Path;
use std::time::{Duration, Instant};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{Outcome, check, scene};
use podwire_tests::lab::{SOON, eventually};
use serde_json::{Value, json};

use super::attachment::{changed, fails, unchanged};
use super::stage::{alone, bare, held, warm};

fn write(host: &Host, path: &str, text: &str) -> Outcome {
    host.enter(|| std::fs::write(path, text)).map_err(|error| format!("{path}: {error}"))
}

/// The limits of time are ten seconds in debug builds; nothing here may take much longer.
fn in_time<T>(what: &str, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let start = Instant::now();
    let done = work()?;
    let took = start.elapsed();
    check(took < Duration::from_secs(50), || format!("{what} took {took:?}"))?;
    Ok(done)
}

#[test]
fn stdin_has_limits_of_size_and_time() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        warm(&host, &path)?;
        for verb in ["ADD", "DEL", "STATUS", "GC"] {
            let call = Call::new(verb, "p1", &path, &alone("1.1.0"));
            let endless = call.clone().by("exec \"$0\" </dev/zero");
            fails(&unchanged("/dev/zero", &host, &[&pod], &endless)?, 6, "on stdin: more than 8388608 bytes")?;
            let open = call.keep_input_open();
            let answer = in_time(verb, || unchanged("an open pipe", &host, &[&pod], &open))?;
            fails(&answer, 5, "error reading from stdin: it was not closed within 10 s")?;
        }
        // Byte by byte, as long as somebody reads.
        let drip = Call::new("ADD", "p1", &path, &alone("1.1.0"))
            .by("yes '' | while read l; do echo; sleep 0.1; done | \"$0\"");
        fails(&in_time("drops", || unchanged("drops", &host, &[&pod], &drip))?, 5, "not closed within 10 s")?;
        // VERSION does without.
        let version = Call::new("VERSION", "p1", &path, &json!({})).by("exec \"$0\" </dev/zero");
        version.execute(&host)?.result().map(drop)
    });
}

#[test]
fn a_resolv_conf_is_a_regular_file_of_some_size() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        warm(&host, &path)?;
        host.run("mkfifo", &["/run/fifo"])?;
        host.run("truncate", &["--size", "1G", "/run/long"])?;
        let of = |file: &str| Call::new("ADD", "p1", &path, &changed(&alone("1.1.0"), "/ipam/resolvConf", file.into()));
        for (file, why) in [
            ("/run/fifo", "it is not a regular file"),
            ("/dev/zero", "it is not a regular file"),
            ("/run", "it is not a regular file"),
            ("/run/long", "it has 1073741824 bytes, and at most 1048576 are read"),
        ] {
            let answer = unchanged(file, &host, &[&pod], &of(file))?;
            fails(&answer, 5, &format!("read ipam.resolvConf {file}: {why}"))?;
        }
        // DEL does not read it.
        write(&host, "/run/good", "nameserver 192.0.2.53\n")?;
        let result = of("/run/good").execute(&host)?.result()?;
        check(result["dns"]["nameservers"][0] == "192.0.2.53", || result.to_string())?;
        of("/run/fifo").verb("DEL").execute(&host)?.silent()
    });
}

/// Another IPAM plugin that does this.
fn other(host: &Host, script: &str) -> Outcome {
    host.run("mkdir", &["-p", "/run/other"])?;
    write(host, "/run/other/other", &format!("#!/bin/sh\n{script}\n"))?;
    host.run("chmod", &["755", "/run/other/other"]).map(drop)
}

fn delegating(verb: &str, path: &Path) -> Call {
    let configuration = changed(&alone("1.1.0"), "/ipam", json!({"type": "other"}));
    Call::new(verb, "p1", path, &configuration).with("CNI_PATH", "/run/other")
}

/// That no process of another IPAM plugin is left.
fn nobody_is_left(host: &Host) -> Outcome {
    let left = || -> Vec<String> {
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
        lines
            .filter(|line| line.contains("/run/other/other") || line.contains("sleep 7777") || line.starts_with("yes "))
            .collect()
    };
    eventually(SOON, || check(host.enter(left).is_empty(), || format!("there are still {:?}", left())))
}

const GIVES: &str = r#"echo '{"ips": [{"address": "10.9.0.7/24"}]}'"#;

#[test]
fn another_ipam_plugin_has_limits_of_output_and_time() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        warm(&host, &path)?;
        for (script, why) in [
            ("exec yes", "ADD wrote more than 1048576 bytes to stdout, and was ended"),
            ("exec yes >&2", "ADD wrote more than 1048576 bytes to stderr, and was ended"),
            ("yes & yes >&2 & sleep 7777", "ADD wrote more than 1048576 bytes to"),
            ("sleep 7777", "ADD took longer than 10 s, and was ended"),
            ("sleep 7777 & sleep 7777", "ADD took longer than 10 s, and was ended"),
            ("exec >&- 2>&- <&-; sleep 7777", "ADD took longer than 10 s, and was ended"),
        ] {
            // It is asked to take back what it may have given.
            other(&host, &format!("[ $CNI_COMMAND = DEL ] || {{ {script}; }}"))?;
            let answer = in_time(script, || unchanged(script, &host, &[&pod], &delegating("ADD", &path)))?;
            fails(&answer, 5, &format!("ipam plugin other: {why}"))?;
            check(answer.output.contains("/run/other/other by hand"), || answer.output.clone())?;
            check(answer.log.len() < 100_000, || format!("{} bytes on stderr", answer.log.len()))?;
            nobody_is_left(&host)?;
        }
        // What it leaves running has the pipes still: the answer counts, and nobody waits.
        for leaves in ["sleep 7777 &", "(sleep 7777; echo late) & exec 0<&-;", "sleep 7777 >&- &"] {
            other(&host, &format!("{leaves} {GIVES}"))?;
            let add = delegating("ADD", &path);
            let start = Instant::now();
            let result = add.execute(&host)?.result().map_err(|why| format!("{leaves}: {why}"))?;
            check(start.elapsed() < Duration::from_secs(5), || format!("{leaves}: {:?}", start.elapsed()))?;
            check(result["ips"][0]["address"] == "10.9.0.7/32", || result.to_string())?;
            nobody_is_left(&host)?;
            add.verb("DEL").execute(&host)?.silent()?;
        }
        // A DEL that it does not end has done its own part.
        other(&host, GIVES)?;
        delegating("ADD", &path).execute(&host)?.result()?;
        other(&host, "sleep 7777")?;
        let answer = in_time("DEL", || delegating("DEL", &path).execute(&host))?;
        fails(&answer, 5, "ipam plugin other: DEL took longer than 10 s")?;
        check(held(&host).is_empty(), || format!("{:?}", held(&host)))?;
        let links = host.run("ip", &["-br", "link"])?;
        check(!links.contains("pw"), || links)
    });
}

#[test]
fn long_inputs_within_the_limits_are_answered() {
    scene(1, |lab| {
        let (host, _pod, path) = bare(lab, "p1")?;
        warm(&host, &path)?;
        let configuration = alone("1.1.0");
        let add = Call::new("ADD", "p1", &path, &configuration);
        // The kernel gives a variable 128 KiB at most.
        let long = "x".repeat(120_000);
        let arguments = format!("IgnoreUnknown=1;{}", "A=b;".repeat(25_000).trim_end_matches(';'));
        add.clone().with("CNI_ARGS", &arguments).execute(&host)?.result()?;
        add.clone().verb("DEL").with("CNI_PATH", &"/x:".repeat(40_000)).execute(&host)?.silent()?;
        for (name, code) in [("CNI_CONTAINERID", None), ("CNI_IFNAME", Some(4)), ("CNI_NETNS", Some(8))] {
            let call = add.clone().with(name, &long);
            let answer = in_time(name, || call.execute(&host))?;
            match code {
                Some(code) => fails(&answer, code, "")?,
                None => drop(answer.result()?),
            }
            call.verb("DEL").execute(&host).map(drop)?;
        }
        check(held(&host).is_empty(), || format!("{:?}", held(&host)))?;
        let many: Vec<Value> = (0..20_000_u32)
            .map(|number| json!({"address": format!("10.200.{}.{}/16", number / 250, number % 250), "interface": 0}))
            .collect();
        let previous = json!({
            "cniVersion": "1.1.0", "interfaces": [{"name": "net1", "sandbox": path}], "ips": many,
        });
        let call = add.configured(&changed(&configuration, "/prevResult", previous));
        let result = in_time("prevResult", || call.execute(&host))?.result()?;
        check(result["ips"].as_array().is_some_and(|ips| ips.len() == 20_002), || "an address is missing".into())?;
        call.verb("DEL").execute(&host)?.silent()
    });
}

#[test]
fn files_of_others_in_the_ledger_hold_nobody_up() {
    scene(1, |lab| {
        let (host, _pod, path) = bare(lab, "p1")?;
        warm(&host, &path)?;
        let add = Call::new("ADD", "p1", &path, &alone("1.1.0"));
        for directory in ["attachments", "pending", "claims", "turns", "free"] {
            let fifo = format!("/run/podwire/net/{directory}/fifo");
            host.run("mkfifo", &[&fifo])?;
            // Whatever is said of it.
            for verb in ["ADD", "DEL", "ADD", "STATUS", "DEL"] {
                in_time(&format!("{verb} beside {fifo}"), || add.clone().verb(verb).execute(&host))?;
            }
            host.run("rm", &[&fifo])?;
        }
        // In the place of its own record and lock.
        add.execute(&host)?.result()?;
        for directory in ["attachments", "turns"] {
            let list = host.run("find", &[&format!("/run/podwire/net/{directory}"), "-type", "f"])?;
            for file in list.lines() {
                host.run("rm", &[file])?;
                host.run("mkfifo", &[file])?;
                in_time(file, || add.clone().verb("DEL").execute(&host))?;
                in_time(file, || add.execute(&host))?;
            }
        }
        Ok(())
    });
}
