//! A membership file that cannot be used for a while: something else is in its place, it cannot be read at the moment, it keeps
//! changing, or has more in it than is read. Status says what is so at present, and what was known stays in force.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use podwire_tests::lab::host::{Host, SHARED};
use podwire_tests::lab::membership::Membership;
use podwire_tests::lab::scene::{Outcome, check, cluster, scene};
use podwire_tests::lab::{Lab, SOON, daemon, eventually};

/// What status says of the membership file.
fn complaint(host: &Host) -> Outcome<Option<String>> {
    let status = daemon::json(host, &["status", "--json"])?;
    let problems = status["problems"].as_array().ok_or("no problems")?;
    let of_file = problems.iter().find(|problem| problem["kind"] == "membership-unreadable");
    check(status["peers"].as_array().is_some_and(|peers| !peers.is_empty()), || status["peers"].to_string())?;
    Ok(of_file.map(|problem| problem["text"].to_string()))
}

fn complains(host: &Host, of: &str) -> Outcome {
    eventually(SOON, || match complaint(host)? {
        Some(text) if text.contains(of) => Ok(()),
        other => Err(format!("{of:?} is not said: {other:?}")),
    })
}

fn is_content(host: &Host) -> Outcome {
    eventually(SOON, || complaint(host)?.map_or(Ok(()), Err))
}

#[test]
fn what_takes_the_place_of_a_file_that_is_gone_is_what_status_names() {
    cluster(2, |lab| {
        let host = lab.nodes[0].host.clone();
        let file = format!("{SHARED}/nodes.toml");
        let shell = |line: &str| host.run("sh", &["-ec", line, "sh", &file]);
        for (make, why) in [
            ("mkfifo $1", "it is not a regular file"),
            ("mkdir $1", "it is not a regular file"),
            ("ln -s /dev/zero $1", "it is not a regular file"),
            ("ln -s $1 $1", "Too many levels of symbolic links"),
            ("ln -s /etc/passwd/x $1", "Not a directory"),
        ] {
            shell("rm -rf $1")?;
            complains(&host, "No such file")?;
            shell(make)?;
            complains(&host, why)?;
            shell("rm -rf $1")?;
            complains(&host, "No such file")?;
        }
        lab.write(&Membership::of(1..=2))?;
        is_content(&host)
    });
}

#[test]
fn a_file_that_could_not_be_read_for_want_of_descriptors_is_read_when_there_are_some() {
    cluster(2, |lab| {
        let host = lab.nodes[0].host.clone();
        let process = daemon::of(&lab.nodes[0])?.id().to_string();
        let limit = |limit: &str| host.run("prlimit", &["--pid", &process, &format!("--nofile={limit}:")]);
        limit("3")?;
        lab.write(&Membership::of(1..=3))?;
        daemon::of(&lab.nodes[0])?.wait_for("nodes.toml: Too many open files", SOON)?;
        limit("1024")?;
        eventually(SOON, || {
            let status = daemon::json(&host, &["status", "--json"])?;
            check(status["membership"]["nodes"] == 3, || status["membership"].to_string())
        })?;
        is_content(&host)
    });
}

/// Changes the file all the time in place until the body ends.
fn restless(lab: &Lab, body: impl FnOnce() -> Outcome) -> Outcome {
    let (over, host, file) = (AtomicBool::new(false), &lab.nodes[1].host, format!("{SHARED}/nodes.toml"));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            host.enter(|| -> std::io::Result<()> {
                let text = std::fs::read(&file)?;
                while !over.load(Ordering::Relaxed) {
                    std::fs::write(&file, &text)?;
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(())
            })
        });
        let outcome = body();
        over.store(true, Ordering::Relaxed);
        let wrote = writer.join().map_err(|_| "the writer panicked".to_owned())?;
        outcome.and(wrote.map_err(|error| error.to_string()))
    })
}

#[test]
fn a_file_that_never_rests_is_a_problem_until_it_does() {
    cluster(2, |lab| {
        let host = lab.nodes[0].host.clone();
        restless(lab, || complains(&host, "has been changing for 5s"))?;
        is_content(&host)?;
        lab.nodes[0].daemon.take().ok_or("no daemon")?.stop(SOON)?;
        let lab = &mut *lab;
        lab.nodes[0].start()?;
        is_content(&host)
    });
}

#[test]
fn a_file_with_more_in_it_than_is_read_costs_little_and_the_limit_is_named() {
    const HEAD: &str = "cluster_cidrs = [\"10.244.0.0/16\", \"fd00::/16\"]\n";
    let own = "[[node]]\nname = \"node-1\"\naddress = \"192.168.50.1\"\npod_cidrs = [\"10.244.1.0/24\"]\n";
    let other = "[[node]]\nname = \"node-2\"\naddress = \"192.168.50.2\"\npod_cidrs = [";
    let filled = |text: &str| text.repeat(8_000_000 / text.len());
    let prefixes = |prefix: &str, count: u32| {
        (1..=count)
            .map(|number| format!("\"fd00:{:x}:{:x}::/{prefix}\",", number >> 16, number & 0xffff))
            .collect::<String>()
    };
    let rejected: String =
        (0..30_000).map(|number| format!("[[node]]\nname=\"x {number}\"\naddress=\"::\"\npod_cidrs=[]\n")).collect();
    let cases = [
        ("brackets", format!("cluster_cidrs = {}", filled("[")), "more than 2500000 brackets"),
        ("dots", format!("a{} = 1", filled(".a")), "more than 2500000 brackets"),
        ("lines", filled("\n"), "more than 2500000 brackets"),
        (
            "entries",
            format!("{HEAD}node = [{}]", filled("{name=\"\",address=\"::\",pod_cidrs=[]},")),
            "more than 2500000 brackets",
        ),
        ("a long key", format!("{HEAD}{} = 1", filled("k")), "unknown field `kkk"),
        ("a long prefix", format!("cluster_cidrs = [\"{}\"]", filled("x")), "invalid address: xxx"),
        (
            "cluster CIDRs",
            format!("cluster_cidrs = [\"10.244.0.0/16\", {}]\n{own}", prefixes("64", 300_000)),
            "there are 300001 cluster CIDRs",
        ),
        ("pod CIDRs", format!("{HEAD}{own}{other}{}]", prefixes("64", 300_000)), "has 300000 pod CIDRs"),
        ("rejected entries", format!("{HEAD}{own}{rejected}"), "29500 more entries are rejected"),
    ];
    scene(2, |lab| {
        lab.start()?;
        let host = lab.nodes[0].host.clone();
        let file = format!("{SHARED}/nodes.toml");
        for (what, text, why) in &cases {
            let begun = Instant::now();
            let put = host.enter(|| {
                std::fs::write("/run/new", text)
                    .and_then(|()| std::fs::copy("/run/new", format!("{file}.new")))
                    .and_then(|_| std::fs::rename(format!("{file}.new"), &file))
            });
            put.map_err(|error| format!("{what}: {error}"))?;
            eventually(2 * SOON, || {
                let answer = daemon::podwired(&host, &["status", "--json"])?;
                check(answer.said.contains(why), || format!("{what}: {} {}", answer.said.len(), answer.complaint))?;
                check(answer.said.len() < 512 * 1024, || format!("{what}: {} bytes of status", answer.said.len()))
            })?;
            check(begun.elapsed() < 2 * SOON, || format!("{what}: {:?}", begun.elapsed()))?;
            let said = daemon::of(&lab.nodes[0])?.said();
            let bytes: usize = said.iter().map(String::len).sum();
            check(bytes < 1024 * 1024, || format!("{what}: {bytes} bytes of log"))?;
        }
        let peak = super::endless::peak(&host, daemon::of(&lab.nodes[0])?)?;
        check(peak < 256 * 1024, || format!("{peak} KiB"))?;
        lab.write(&Membership::of(1..=2))?;
        is_content(&host)
    });
}
