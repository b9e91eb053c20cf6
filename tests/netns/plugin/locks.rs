//! Calls for the same pods at once, after one another and after a failure: ledger and kernel always agree.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use podwire_tests::lab::exchange::{Responder, exchange};
use podwire_tests::lab::runtime::{Answer, Call};
use podwire_tests::lab::scene::{Outcome, check, field, json as look, same, scene};
use podwire_tests::lab::wire;
use serde_json::{Value, json};

use super::attachment::{addresses, changed, fails, ledger, snapshot};
use super::stage::{alone, at_once, bare, held, ranges, warm};

#[test]
fn t3_t4_t6_a_failed_add_holds_nothing_and_may_be_retried_or_deleted() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        warm(&host, &path)?;
        let before = snapshot(&host, &[&pod])?;
        pod.run("ip", &["link", "add", "eth0", "type", "veth", "peer", "name", "far"])?;
        let add = Call::new("ADD", "p1", &path, &alone("1.0.0"));
        for _ in 0..3 {
            fails(&add.execute(&host)?, 102, "File exists")?;
            check(held(&host).is_empty(), || format!("{:?}", held(&host)))?;
        }
        // DEL leaves what is not podwire's.
        add.clone().verb("DEL").execute(&host)?.silent()?;
        let links = field(&look(&pod, "ip", &["-j", "link"])?, "ifname");
        check(links.len() == 3, || format!("{links:?}"))?;
        pod.run("ip", &["link", "delete", "eth0"])?;
        same("three failures and a DEL", &before, &snapshot(&host, &[&pod])?)?;
        add.execute(&host)?.result()?;
        add.verb("DEL").execute(&host)?.silent()?;
        same("the fourth and a DEL", &before, &snapshot(&host, &[&pod])?)
    });
}

#[test]
fn t8_t9_a_namespace_that_vanishes_during_add_leaves_nothing() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "warm")?;
        warm(&host, &path)?;
        host.remove_pod(&path)?;
        let before = snapshot(&host, &[])?;
        let mounts = host.run("cat", &["/proc/self/mounts"])?;
        for round in 0..8 {
            let name = format!("p{round}");
            let (pod, path) = host.pod(&name)?;
            drop(pod);
            let add = Call::new("ADD", &name, &path, &alone("1.0.0"));
            let running = add.start(&host)?;
            // Whatever it has done by then: the moment moves from round to round.
            thread::park_timeout(Duration::from_millis(round));
            host.remove_pod(&path)?;
            let answer = running.answer()?;
            if answer.code != Some(0) {
                answer.failure()?;
                check(held(&host).is_empty(), || format!("round {round}: {:?}", held(&host)))?;
            }
            add.verb("DEL").execute(&host)?.silent()?;
            check(held(&host).is_empty(), || format!("round {round}: {:?}", held(&host)))?;
        }
        same("eight pods that went away", &before, &snapshot(&host, &[])?)?;
        let found = host.run("cat", &["/proc/self/mounts"])?;
        check(found == mounts, || format!("mounts: {found}"))
    });
}

#[test]
fn l3_l4_the_first_calls_on_a_host_may_be_concurrent() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let mut other = ranges(json!([[{"subnet": "10.8.0.0/28"}], [{"subnet": "fd00:8::/64"}]]));
        other["name"] = "other".into();
        let mut calls = Vec::new();
        let mut pods = Vec::new();
        for number in 0..4 {
            let (pod, path) = host.pod(&format!("p{number}"))?;
            let add = Call::new("ADD", &format!("p{number}"), &path, &alone("1.1.0"));
            // Two interfaces of one pod, and a network beside.
            calls.push(add.clone().interface("net1"));
            calls.push(add.clone().interface("net2").configured(&other));
            calls.push(add);
            wire::set_up(&pod, "lo")?;
            pods.push((pod, path));
        }
        let answers = at_once(&host, &calls)?;
        let mut given = BTreeSet::new();
        for answer in &answers {
            given.extend(addresses(&answer.result()?)?);
        }
        check(given.len() == 2 * calls.len(), || format!("{given:?}"))?;
        for (pod, _) in &pods {
            let _responder = Responder::start(pod)?;
            let found = look(pod, "ip", &["-j", "address"])?;
            let reached: Vec<_> =
                found.as_array().into_iter().flatten().flat_map(|link| field(&link["addr_info"], "local")).collect();
            for address in given.iter().filter(|address| reached.contains(&address.to_string())) {
                exchange(&host, *address)?;
            }
        }
        let gone: Vec<_> = calls.into_iter().map(|call| call.verb("DEL")).collect();
        at_once(&host, &gone)?.iter().try_for_each(Answer::silent)?;
        let links = field(&look(&host, "ip", &["-j", "link"])?, "ifname");
        check(links == ["lo", "eth0"], || format!("{links:?}"))?;
        same("the ledger", &json!({}), &ledger(&host))
    });
}

#[test]
fn l2_ledger_and_kernel_agree_after_any_sequence_of_calls() {
    const PODS: usize = 6;
    scene(1, |lab| {
        let mut pods = Vec::new();
        for number in 0..PODS {
            let (host, pod, path) = bare(lab, &format!("p{number}"))?;
            warm(&host, &path)?;
            pods.push((Responder::start(&pod)?, pod, path));
        }
        let host = lab.nodes[0].host.clone();
        let before = snapshot(&host, &[])?;
        let valid: Value =
            (0..PODS).map(|number| json!({"containerID": format!("p{number}"), "ifname": "eth0"})).collect();
        let gc = changed(&alone("1.1.0"), "/cni.dev~1valid-attachments", valid);
        let life = |number: usize| -> Outcome<Option<Value>> {
            let add = Call::new("ADD", &format!("p{number}"), &pods[number].2, &alone("1.1.0"));
            let mut attached = None;
            // A run of numbers that has no order and is the same every time (Knuth's multiplicative hash).
            for step in 0_usize..8 {
                let dice = (number * 8 + step + 1).wrapping_mul(2_654_435_761) >> 7;
                match (dice % 4, attached.take()) {
                    (0, held) => {
                        add.clone().verb("GC").configured(&gc).execute(&host)?.silent()?;
                        attached = held;
                    }
                    (1 | 2, Some(result)) => {
                        let checked = changed(&alone("1.1.0"), "/prevResult", result);
                        add.clone().verb("CHECK").configured(&checked).execute(&host)?.silent()?;
                        attached = Some(checked["prevResult"].clone());
                    }
                    (_, Some(_)) => add.clone().verb("DEL").execute(&host)?.silent()?,
                    (_, None) => attached = Some(add.execute(&host)?.result()?),
                }
            }
            Ok(attached)
        };
        let lives = thread::scope(|scope| {
            let lives: Vec<_> = (0..PODS).map(|number| scope.spawn(move || life(number))).collect();
            lives
                .into_iter()
                .map(|life| life.join().map_err(|_| "a thread panicked".to_owned())?)
                .collect::<Outcome<Vec<_>>>()
        })?;
        let alive: Vec<_> = lives.iter().flatten().collect();
        let mut given = BTreeSet::new();
        for result in &alive {
            for address in addresses(result)? {
                exchange(&host, address)?;
                given.insert(address);
            }
        }
        check(!alive.is_empty() && given.len() == 2 * alive.len(), || format!("{given:?} for {} pods", alive.len()))?;
        check(held(&host).len() == 3 * alive.len(), || format!("{:?}", held(&host)))?;
        for (number, (_, _, path)) in pods.iter().enumerate() {
            Call::new("DEL", &format!("p{number}"), path, &alone("1.1.0")).execute(&host)?.silent()?;
        }
        same("the end of all", &before, &snapshot(&host, &[])?)
    });
}
