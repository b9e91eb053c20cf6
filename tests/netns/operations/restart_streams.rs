//! Never in the way: a thousand packets a second between pods of two nodes, and none is lost, whatever becomes of the
//! daemons and of the other nodes.

use std::process::Command;

use podwire_tests::lab::membership::Membership;
use podwire_tests::lab::node::Node;
use podwire_tests::lab::process::Process;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster};
use podwire_tests::lab::stream::Stream;
use podwire_tests::lab::{Lab, SOON, eventually};

/// Plays `changes` while a stream of each family flows, and finds that nothing was lost.
fn nothing_is_lost(lab: &mut Lab, changes: impl FnOnce(&mut Lab, &dyn Fn() -> Outcome) -> Outcome) -> Outcome {
    let near = lab.nodes[0].add_pod("near")?.host.clone();
    let far = lab.nodes[1].add_pod("far")?;
    let start = |like| Stream::start(&near, &far.host, far.address(like));
    let streams = [start(FAMILIES[0])?, start(FAMILIES[1])?];
    let flow = || streams.iter().try_for_each(Stream::flows);
    flow()?;
    changes(lab, &flow)?;
    flow()?;
    for stream in streams {
        let count = stream.finish()?;
        check(count.lost.is_empty(), || format!("of {} packets were lost: {:?}", count.sent, count.lost))?;
    }
    Ok(())
}

fn again(node: &mut Node, end: impl FnOnce(&mut Process) -> Outcome) -> Outcome {
    end(&mut node.daemon.take().ok_or("no daemon")?)?;
    node.start()?;
    node.wait_ready()
}

fn stop(daemon: &mut Process) -> Outcome {
    let status = daemon.stop(SOON)?;
    check(status.success(), || format!("it ended with {status}"))
}

#[test]
fn stopping_killing_and_starting_the_daemons_loses_no_packet() {
    cluster(2, |lab| {
        nothing_is_lost(lab, |lab, flow| {
            for _ in 0..3 {
                for node in &mut lab.nodes {
                    again(node, stop)?;
                    flow()?;
                    again(node, Process::kill)?;
                    flow()?;
                }
            }
            Ok(())
        })
    });
}

#[test]
fn replacing_the_daemons_binary_loses_no_packet() {
    cluster(2, |lab| {
        let program = podwire_tests::lab::program("podwired").map_err(|error| error.to_string())?;
        nothing_is_lost(lab, |lab, flow| {
            let node = &mut lab.nodes[0];
            let replace = format!("cp {0} /run/podwired.new && mv /run/podwired.new /run/podwired", program.display());
            for _ in 0..2 {
                // Over the one that runs, from the second time on.
                node.host.run("sh", &["-c", &replace])?;
                stop(&mut node.daemon.take().ok_or("no daemon")?)?;
                let mut command = Command::new("/run/podwired");
                command.args(["run", "--node-name", "node-1", "--nodes", "/run/lab/nodes.toml"]);
                node.daemon = Some(node.host.start("podwired of node-1", &mut command)?);
                node.wait_ready()?;
                flow()?;
            }
            Ok(())
        })
    });
}

#[test]
fn peers_that_join_leave_and_change_cost_the_others_no_packet() {
    cluster(2, |lab| {
        nothing_is_lost(lab, |lab, flow| {
            let arrives = |lab: &Lab, text: &str, there: bool| {
                eventually(SOON, || {
                    let nexthops = lab.nodes[0].host.run("ip", &["nexthop"])?;
                    check(nexthops.contains(text) == there, || nexthops)
                })
            };
            for _ in 0..3 {
                lab.write(&Membership::of(1..=20))?;
                arrives(lab, "dst 192.168.50.20 ", true)?;
                flow()?;
                let mut changed = Membership::of(1..=20);
                changed.nodes[10].1 = [192, 168, 50, 111].into();
                changed.nodes[11].2.truncate(1);
                changed.nodes[12].2 = vec!["10.244.213.0/24".parse().unwrap()];
                lab.write(&changed)?;
                arrives(lab, "dst 192.168.50.111 ", true)?;
                flow()?;
                lab.write(&Membership::of(1..=2))?;
                arrives(lab, "dst 192.168.50.20 ", false)?;
                flow()?;
            }
            Ok(())
        })
    });
}

#[test]
fn foreign_changes_that_keep_the_daemon_busy_cost_no_packet() {
    cluster(2, |lab| {
        nothing_is_lost(lab, |lab, flow| {
            let host = lab.nodes[0].host.clone();
            for number in 0..50 {
                let route = format!("172.16.{number}.0/24");
                host.run("ip", &["route", "add", &route, "via", "192.168.50.254"])?;
            }
            // And repairs beside them: of another peer's things.
            lab.write(&Membership::of(1..=3))?;
            for _ in 0..10 {
                eventually(SOON, || host.run("ip", &["route", "delete", "10.244.3.0/24"]))?;
                eventually(SOON, || host.run("ip", &["nexthop", "delete", "id", "11200002"]))?;
                flow()?;
            }
            Ok(())
        })
    });
}
