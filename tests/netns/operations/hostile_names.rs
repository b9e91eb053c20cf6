//! Names that others have chosen, with forged lines, terminal escapes and turned directions in them: of nodes in the membership,
//! of devices, of files. Nothing that people read of podwired acts on a terminal, or has a line that is not podwired's.

use std::net::{Ipv4Addr, TcpStream};

use podwire_tests::lab::cri::{Cri, Failure};
use podwire_tests::lab::membership::{Membership, pod_cidrs, underlay};
use podwire_tests::lab::scene::{Outcome, check, scene};
use podwire_tests::lab::{SOON, daemon, eventually};
use serde_json::Value;

/// As it stands in a string of TOML or of Rust: a line of its own, a colour, a title, C1, bidi, zero width.
const TOML: &str =
    r"evil\n2026-01-01T00:00:00Z  INFO FORGED\u001b[31mRED\u001b]0;title\u0007\u009b31m\u202e\u2066\u200b\u007f";
const RAW: &str = "evil\nFORGED\u{1b}[31m\u{9b}31m\u{202e}\u{200b}\u{7f}";

/// Fifteen bytes at most, without what the kernel refuses: white space, `/`, `:`.
const DEVICE: &str = "e\u{1b}[2J\u{202e}\u{200b}";

/// Whether a text can be read without harm: lines of characters that are seen as what they are.
fn harmless(what: &str, text: &str) -> Outcome {
    let seen = |character: char| {
        !character.is_control()
            && !matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let bad = text.chars().find(|character| *character != '\n' && !seen(*character));
    check(bad.is_none(), || format!("{what} has {bad:?}: {text:?}"))?;
    let forged = text.lines().find(|line| line.starts_with("FORGED") || line.starts_with("2026-01-01"));
    check(forged.is_none(), || format!("{what} has a line that is another's: {forged:?}"))
}

fn page(path: &str) -> std::io::Result<String> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 9472))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes())?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

#[test]
fn names_of_others_are_shown_as_escapes_and_unfit_ones_are_no_nodes() {
    scene(1, |lab| {
        let mut membership = Membership::of(1..=2);
        let huge = "x".repeat(100_000);
        let names = [TOML, "", "two words", huge.as_str(), "x\\u202ey"];
        for (number, name) in (66..).zip(names) {
            membership.nodes.push((name.to_owned(), underlay(number)[0].ip(), pod_cidrs(number)));
        }
        // One whose entry is rejected for another reason, too.
        membership.nodes.push((TOML.to_owned(), "127.0.0.1".parse().map_err(|_| "no address")?, pod_cidrs(80)));
        lab.write(&membership)?;
        daemon::start(&mut lab.nodes[0], &["--metrics", "127.0.0.1:9472"])?;
        lab.nodes[0].wait_ready()?;
        let host = lab.nodes[0].host.clone();
        host.run("ip", &["link", "set", "lo", "up"])?;
        // Devices and files of others in the way.
        host.run("ip", &["link", "add", DEVICE, "type", "bridge"])?;
        for address in ["10.244.9.9/24", "fd00:10:244:9::9/64"] {
            host.run("ip", &["address", "add", address, "dev", DEVICE])?;
        }
        host.run("ip", &["link", "set", DEVICE, "up"])?;
        let file = format!("/etc/cni/net.d/05-{RAW}.conflist");
        let text =
            format!("{{\"cniVersion\": \"1.0.0\", \"name\": {:?}, \"plugins\": [{{\"type\": \"x\"}}]}}", "other");
        host.enter(|| std::fs::write(&file, text)).map_err(|error| format!("{file:?}: {error}"))?;

        let status = daemon::json(&host, &["status", "--json"])?;
        let refused = status["refused"].as_array().ok_or("no rejected entries")?;
        check(refused.len() == 6, || format!("{refused:?}"))?;
        let unfit = refused.iter().all(|entry| entry["why"].as_str().is_some_and(|why| why.starts_with("its name ")));
        check(unfit && refused.iter().all(|entry| entry["kind"] == "entry-rejected"), || format!("{refused:?}"))?;
        let of = |name: &str| refused.iter().any(|entry| entry["node"] == name);
        check(of("(no name)") && of("two words") && of(r"x\u{202e}y"), || format!("{refused:?}"))?;
        check(status["membership"]["nodes"] == 2, || status["membership"].to_string())?;

        for arguments in [&["status"][..], &["status", "--json"], &["doctor"], &["doctor", "--json"]] {
            let answer = daemon::podwired(&host, arguments)?;
            harmless(&format!("podwired {arguments:?}"), &answer.said)?;
            harmless(&format!("podwired {arguments:?}, what it complains of,"), &answer.complaint)?;
            check(answer.said.lines().all(|line| line.len() < 4096), || format!("{arguments:?}: a line is too long"))?;
        }
        let findings = daemon::json(&host, &["doctor", "--json"])?;
        let cause = |kind: &str| {
            let found = findings.as_array().and_then(|all| all.iter().find(|finding| finding["kind"] == kind));
            found.map(|finding| finding["cause"].to_string()).ok_or_else(|| format!("no {kind} in {findings}"))
        };
        // They are named all the same.
        let foreign = cause("foreign-address")?;
        check(foreign.contains("[2J"), || foreign)?;
        let outranked = cause("conflist-outranked")?;
        check(outranked.contains("05-evil"), || outranked)?;
        let page = eventually(SOON, || host.enter(|| page("/metrics")).map_err(|error| error.to_string()))?;
        harmless("the metrics", &page)?;
        let said = daemon::of(&lab.nodes[0])?.said();
        harmless("the log", &said.join("\n"))?;
        check(said.iter().any(|line| line.contains(r"evil\n2026-01-01")), || said.join("\n"))?;
        check(said.iter().all(|line| line.len() < 8192), || "a line of the log is too long".into())?;
        // A command that fails, and the plugin.
        let answer = daemon::podwired(&host, &["doctor", "--nodes", RAW, "--node-name", "a"])?;
        check(answer.code == Some(2), || format!("{answer:?}"))?;
        harmless("the complaint", &answer.complaint)?;
        plugin(&lab.nodes[0])
    });
}

/// What the plugin says of a configuration with such texts.
fn plugin(node: &podwire_tests::lab::node::Node) -> Outcome {
    let mut configuration = node.configuration()?;
    configuration["mtu"] = Value::String(RAW.into());
    let path = std::path::Path::new("/run/netns/none");
    for container in ["a", RAW] {
        let call = podwire_tests::lab::runtime::Call::new("ADD", container, path, &configuration);
        let answer = call.with("CNI_PATH", RAW).execute(&node.host)?;
        check(answer.code == Some(1), || format!("{answer:?}"))?;
        let (_, message) = answer.failure()?;
        harmless("the plugin's message", &message)?;
        harmless("the plugin's answer", &answer.output)?;
        harmless("the plugin's log", &answer.log)?;
    }
    Ok(())
}

/// Names that a shell would take for more than a name; `touch forged` is what they try.
const COMMANDS: [&[u8]; 8] = [
    b"00 other network.conflist",
    b"01-it's \"quoted\".conflist",
    b"02-$(touch forged).conflist",
    b"03-`touch forged`.conflist",
    b"04;touch forged;.conflist",
    b"05-a\ntouch forged\n.conflist",
    b"06-\x1b]0;t\x07\xe2\x80\xae\xff&&touch forged.conflist",
    b"07-' 'touch forged' '.conflist",
];

#[test]
fn a_fix_with_any_name_in_it_can_be_pasted() {
    use std::os::unix::ffi::OsStrExt;

    scene(1, |lab| {
        daemon::start(&mut lab.nodes[0], &[])?;
        lab.nodes[0].wait_ready()?;
        let host = lab.nodes[0].host.clone();
        let directory = std::path::Path::new("/etc/cni/net.d");
        for name in COMMANDS {
            let path = directory.join(std::ffi::OsStr::from_bytes(name));
            host.enter(|| std::fs::write(&path, "{}")).map_err(|error| format!("{path:?}: {error}"))?;
        }
        let device = "$(>forged)";
        host.run("ip", &["link", "add", device, "type", "bridge"])?;
        for address in ["10.244.9.9/24", "fd00:10:244:9::9/64"] {
            host.run("ip", &["address", "add", address, "dev", device])?;
        }
        let answer = daemon::podwired(&host, &["doctor"])?;
        let fixes: Vec<_> = answer.said.lines().filter_map(|line| line.strip_prefix("    fix: ")).collect();
        check(fixes.len() == COMMANDS.len() + 2, || answer.said.clone())?;
        // As somebody pastes what is on the screen.
        host.run("mkdir", &["/run/here"])?;
        for fix in fixes {
            let pasted = host.run("bash", &["-c", &format!("cd /run/here\n{fix}\n")]);
            pasted.map_err(|why| format!("{fix}: {why}"))?;
        }
        let forged = host.run("ls", &["/run/here"])?;
        check(forged.is_empty(), || format!("a name was run: {forged}"))?;
        eventually(SOON, || {
            let found = daemon::json(&host, &["doctor", "--json"])?;
            check(found == serde_json::json!([]), || format!("{found:#}"))
        })?;
        for name in COMMANDS {
            let path = directory.join(std::ffi::OsStr::from_bytes(&[name, b".disabled"].concat()));
            check(host.enter(|| path.exists()), || format!("{path:?} is not there"))?;
        }
        Ok(())
    });
}

/// That none of the commands' answers, the log and the pages of health and metrics does harm.
fn all_harmless(node: &podwire_tests::lab::node::Node) -> Outcome {
    for arguments in [&["status"][..], &["status", "--json"], &["doctor"], &["doctor", "--json"]] {
        let answer = daemon::podwired(&node.host, arguments)?;
        harmless(&format!("podwired {arguments:?}"), &(answer.said.clone() + &answer.complaint))?;
        check(answer.said.lines().all(|line| line.len() < 4096), || format!("{arguments:?}: a line is too long"))?;
    }
    for path in ["/metrics", "/readyz", "/healthz"] {
        harmless(path, &node.host.enter(|| page(path)).map_err(|error| error.to_string())?)?;
    }
    harmless("the log", &daemon::of(node)?.said().join("\n"))
}

#[test]
fn what_health_says_of_a_device_and_what_a_runtime_answers_is_shown_as_escapes() {
    const SOCKET: &str = "/run/cri.sock";
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        host.run("ip", &["link", "set", "lo", "up"])?;
        // It has the overlay's port.
        host.run("ip", &["link", "add", DEVICE, "type", "vxlan", "id", "9", "dstport", "8472", "dev", "eth0"])?;
        host.run("ip", &["link", "set", DEVICE, "up"])?;
        let runtime = Cri::start(&host, SOCKET, RAW, &["a\u{1b}[2J\nFORGED"])?;
        let settings = host.enter(|| std::fs::write("/run/settings.toml", "garbage_after_seconds = 1\n"));
        settings.map_err(|error| error.to_string())?;
        let arguments = ["--settings", "/run/settings.toml", "--cri-socket", SOCKET, "--metrics", "127.0.0.1:9472"];
        daemon::start(&mut lab.nodes[0], &arguments)?;
        let readiness = || host.enter(|| page("/readyz")).map_err(|error| error.to_string());
        let why = eventually(SOON, || {
            let why = readiness()?;
            check(why.contains("has UDP port 8472"), || why.clone()).map(|()| why)
        })?;
        check(why.contains(r"e\u{1b}[2J"), || format!("{why:?}"))?;
        eventually(SOON, || {
            let status = daemon::json(&host, &["status", "--json"])?;
            check(status["runtime"]["sandboxes"] == 1, || status["runtime"].to_string())
        })?;
        all_harmless(&lab.nodes[0])?;
        // Words without end: gRPC has them percent-encoded, on one line.
        runtime.fails(Some(Failure::Status("13", "x".repeat(100_000))));
        eventually(SOON, || {
            let status = daemon::json(&host, &["status", "--json"])?;
            let failure = status["runtime"]["failure"].as_str().unwrap_or_default();
            check(failure.contains("gRPC status 13") && failure.len() < 1024, || status["runtime"].to_string())
        })?;
        all_harmless(&lab.nodes[0])
    });
}

#[test]
fn the_plugin_gives_no_device_a_name_or_alias_that_acts_on_a_terminal_and_passes_no_such_words_on() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let (pod, path) = host.pod("a")?;
        let configuration = serde_json::json!({
            "cniVersion": "1.1.0", "name": "net", "type": "podwire", "ipam": {"ranges": [[{"subnet": "10.7.0.0/28"}]]},
        });
        let call = podwire_tests::lab::runtime::Call::new("ADD", "a", &path, &configuration);
        for name in ["e\u{1b}[2J", "e\u{7f}", "e\u{9b}31m", "e\u{202e}", "e\u{200b}", "\u{3164}"] {
            let answer = call.clone().interface(name).execute(&host)?;
            check(answer.failure()?.0 == 4, || format!("{name:?}: {answer:?}"))?;
            harmless("a refusal", &(answer.output + &answer.log))?;
        }
        // A pod's name is in the alias of its device.
        let arguments = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={RAW};K8S_POD_NAME=a\nFORGED\u{1b}[2J");
        call.clone().with("CNI_ARGS", &arguments).execute(&host)?.result()?;
        let links = host.run("ip", &["link", "show"])?;
        check(links.contains("alias net: "), || links.clone())?;
        harmless("ip link", &links)?;
        harmless("ip link in the pod", &pod.run("ip", &["link", "show"])?)?;
        call.clone().verb("DEL").execute(&host)?.silent()?;
        // Another plugin's words on its standard error, and a place that cannot be looked at.
        let line = "mkdir -p /run/bin && cd /run/bin && printf '#!/bin/sh\ncat /run/words >&2\necho \"{}\"\n' >other && \
                    chmod 755 other && touch /run/file";
        host.run("sh", &["-ec", line])?;
        let words = [RAW.as_bytes(), b"\nsecond\r\xff\x9b\0\n", &b"x".repeat(10_000)].concat();
        host.enter(|| std::fs::write("/run/words", words)).map_err(|error| error.to_string())?;
        let delegated = serde_json::json!({
            "cniVersion": "1.1.0", "name": "net", "type": "podwire", "ipam": {"type": "other"},
        });
        let place = format!("/run/file/{RAW}:/run/bin");
        let answer = call.configured(&delegated).with("CNI_PATH", &place).execute(&host)?;
        check(answer.code == Some(1), || format!("{answer:?}"))?;
        check(answer.log.contains("other: evil\n") && answer.log.contains("\nother: second"), || {
            format!("{:?}", answer.log)
        })?;
        check(answer.log.contains("look at /run/file/"), || format!("{:?}", answer.log))?;
        harmless("the plugin's log", &answer.log)?;
        harmless("the plugin's answer", &answer.output)
    });
}
