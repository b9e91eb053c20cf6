//! Any environment and any stdin: the answer is a request that keeps its promises, or an error of the protocol's form.
//!
//! An input is lines `NAME=value`, an empty line, and then what is on stdin.

#![no_main]

use libfuzzer_sys::fuzz_target;
use podwire::cni::{self, Add, Failure, Request, Success, VERSIONS};
use podwire::plan::Plan;
use podwire_attachment::ipam;
use podwire_attachment::names::Attachment;
use podwire_conf::{Network, Range};
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let (environment, stdin) = text.split_once("\n\n").unwrap_or((&text, ""));
    let variables: Vec<_> = environment.lines().filter_map(|line| line.split_once('=')).collect();
    let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let read = |verb: Option<&str>| {
        let find = |name: &str| if name == "CNI_COMMAND" { verb.map(str::to_owned) } else { find(name) };
        cni::read(&find, &mut stdin.as_bytes())
    };
    match read(find("CNI_COMMAND").as_deref()) {
        Err(failure) => check_failure(&failure),
        Ok(Request::About) => {}
        Ok(Request::Version { version }) => {
            check_version(version);
            parse(&cni::render_versions(version));
        }
        Ok(Request::Add(request)) => {
            check_add(&request);
            check_deletable(&request.attachment, read(Some("DEL")));
        }
        Ok(Request::Check(request)) => {
            check_add(&request.add);
            assert!(matches!(read(Some("ADD")), Ok(Request::Add(_))), "what can be checked could be added");
        }
        Ok(Request::Del(request)) => {
            check_attachment(&request.attachment);
            check_version(request.version);
            assert!(request.netns.is_none_or(|netns| !netns.is_empty()), "an empty variable is a missing one");
        }
        Ok(Request::Gc(request)) => {
            check_name(&request.network);
            check_version(request.version);
        }
        Ok(Request::Status(request)) => {
            check_name(&request.name);
            check_version(request.version);
        }
    }
});

/// One line, which is one object.
fn parse(answer: &str) -> Value {
    assert!(answer.ends_with('\n') && answer.lines().count() == 1, "more than a line: {answer:?}");
    let value: Value = serde_json::from_str(answer).expect("an answer is JSON");
    assert!(value.is_object(), "an answer is an object: {answer:?}");
    value
}

fn check_failure(failure: &Failure) {
    let answer = failure.render();
    assert!(answer.len() < 2048, "{} bytes: {answer:?}", answer.len());
    let value = parse(&answer);
    // Those of the specification that a request can be refused with, and our own. The rest is reserved.
    let code = value["code"].as_u64().expect("a code is a number");
    assert!(matches!(code, 1 | 2 | 4..=8 | 11) || code >= 100, "{answer}");
    assert!(value["msg"].as_str().is_some_and(|message| !message.is_empty()), "{answer}");
    assert!(value["cniVersion"].as_str().is_some_and(|version| VERSIONS.contains(&version)), "{answer}");
    assert!(value.get("details").is_none_or(Value::is_string), "{answer}");
}

fn check_version(version: &str) {
    assert!(VERSIONS.contains(&version), "{version:?} is not spoken");
}

/// A name is a directory's and a part of a key.
fn check_name(name: &str) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    assert!(name.bytes().all(allowed) && name.as_bytes()[0].is_ascii_alphanumeric(), "{name:?}");
    assert!(name.len() <= 255, "{name:?}");
}

fn check_attachment(attachment: &Attachment) {
    let Attachment { network, container, interface } = attachment;
    check_name(network);
    assert!(container.as_bytes()[0].is_ascii_alphanumeric(), "{container:?}");
    assert!(container.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)), "{container:?}");
    // `dev_valid_name` of net/core/dev.c, whose `isspace` knows Latin-1, and the template of `dev_alloc_name`.
    let refused = |byte: u8| matches!(byte, b'/' | b':' | b'%' | b' ' | 9..=13 | 0xa0);
    assert!((1..16).contains(&interface.len()) && !interface.bytes().any(refused), "{interface:?}");
    assert!(!matches!(interface.as_str(), "." | ".." | "all" | "default"), "{interface:?}");
}

/// DEL of what ADD has made must not fail for a reason that did not stop ADD.
fn check_deletable(attachment: &Attachment, del: Result<Request, Failure>) {
    match del {
        Ok(Request::Del(del)) => assert_eq!(del.attachment, *attachment),
        other => panic!("what could be added cannot be deleted: {other:?}"),
    }
}

fn check_add(request: &Add) {
    check_attachment(&request.attachment);
    check_version(request.version);
    assert!(!request.netns.is_empty(), "an empty variable is a missing one");
    let network = &request.network;
    assert_eq!(Network::parse(&serde_json::to_value(network).expect("a network is written")).as_ref(), Ok(network));
    check_ranges(&network.ipam.ranges);
    assert!(
        request.requested.ports.iter().all(|port| port.host_port > 0 && port.pod_port > 0),
        "{:?}",
        request.requested
    );
    match &request.delegate {
        Some(delegate) => assert!(!delegate.kind.is_empty() && !delegate.kind.contains('/'), "{delegate:?}"),
        None => assert!(!network.ipam.ranges.is_empty(), "without a delegate there are addresses to give"),
    }
    check_answer(request);
}

fn check_ranges(sets: &[Vec<Range>]) {
    let all: Vec<_> = sets.iter().flatten().collect();
    for (place, range) in all.iter().enumerate() {
        assert!(range.first() <= range.last(), "{range}");
        let overlaps = |other: &&&Range| {
            other.subnet.is_ipv4() == range.subnet.is_ipv4()
                && other.first() <= range.last()
                && range.first() <= other.last()
        };
        assert!(all[..place].iter().find(overlaps).is_none(), "{range} overlaps another");
    }
    for set in sets {
        assert!(!set.is_empty() && set.iter().all(|range| range.subnet.is_ipv4() == set[0].subnet.is_ipv4()));
        let free = ipam::free(set, &[], 0);
        let given: u128 = free.iter().fold(0, |sum, part| sum.saturating_add(part.last - part.first).saturating_add(1));
        assert_eq!(given, ipam::size(set));
    }
}

/// The result of an ADD that gives the first address of each set.
fn check_answer(request: &Add) {
    let sets = &request.network.ipam.ranges;
    let first = |set: &Vec<Range>| Some(ipam::address(set, ipam::free(set, &[], 0).first()?.first));
    let plan = Plan::new(request, sets.iter().filter_map(first).collect(), &request.network.ipam.routes, None);
    // `IFNAMSIZ` and `IFALIASZ` of uapi/linux/if.h, with the zero at the end.
    assert!(plan.host.name.len() < 16 && plan.alias.len() < 256, "{plan:?}");
    let success = Success {
        gateways_on_link: plan.gateways_on_link(),
        host: (plan.host.name, plan.host.mac),
        pod: (plan.pod.name, plan.pod.mac),
        sandbox: request.netns.clone(),
        shaper: None,
        mtu: plan.mtu,
        addresses: plan.addresses.iter().map(|address| (*address, Plan::gateway(*address))).collect(),
        routes: plan.routes,
        dns: request.dns.clone().unwrap_or_default(),
    };
    let before = request.previous.as_ref().map_or(0, |previous| previous.interfaces().count());
    let answer = parse(&success.render(request.version, request.previous.as_ref()));
    assert_eq!(answer["cniVersion"], request.version);
    if cni::is_single(request.version) {
        let families = |ipv4: bool| success.addresses.iter().filter(|(address, _)| address.is_ipv4() == ipv4).count();
        assert!(families(true) <= 1 && families(false) <= 1, "{answer}");
        return;
    }
    let interfaces = answer["interfaces"].as_array().expect("interfaces are a list");
    assert_eq!(interfaces.len(), before + 2);
    let ips = answer["ips"].as_array().map_or(&[][..], Vec::as_slice);
    for ip in ips.iter().rev().take(success.addresses.len()) {
        let place = ip["interface"].as_u64().and_then(|place| usize::try_from(place).ok()).expect("an interface");
        assert_eq!(interfaces[place]["name"], request.attachment.interface.as_str());
        assert_eq!(interfaces[place]["sandbox"], request.netns.as_str());
    }
}
