//! What a container runtime lists, and what the daemon makes of it: a pod that has a device is released only when the very
//! runtime that has listed it has forgotten it. The runtimes here list what a scene says; real ones are in `tests/runtimes`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use podwire_tests::lab::cri::{Cri, Failure};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::node::Node;
use podwire_tests::lab::process::Process;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, reaches, scene};
use podwire_tests::lab::{SOON, daemon, eventually};

const SOCKET: &str = "/run/cri.sock";
const SETTINGS: &str = "garbage_after_seconds = 1\n";

/// Longer than a pod with a device has to look dead with these settings, five seconds.
const LONG_ENOUGH: Duration = Duration::from_secs(8);

/// Attaches a sandbox, as a runtime of Kubernetes does.
fn sandbox(node: &Node, id: &str) -> Outcome<(Host, PathBuf)> {
    let (pod, path) = node.host.pod(id)?;
    let arguments = format!("IgnoreUnknown=1;K8S_POD_NAME={id};K8S_POD_INFRA_CONTAINER_ID={id}");
    let call = Call::new("ADD", id, &path, &node.configuration()?).with("CNI_ARGS", &arguments);
    call.execute(&node.host)?.result()?;
    Ok((pod, path))
}

/// The containers that have attachments.
fn attached(host: &Host) -> Outcome<Vec<String>> {
    let line =
        "cd /run/podwire/podwire/attachments && sed -n 's/.*\"container\":\"\\([^\"]*\\)\".*/\\1/p' * </dev/null";
    let mut names: Vec<_> = host.run("sh", &["-c", line])?.lines().map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

/// The problem that the runtime's list is, where the daemon has it.
fn problem(host: &Host) -> Outcome<Option<String>> {
    problem_of(host, "sandboxes-unlisted")
}

fn problem_of(host: &Host, kind: &str) -> Outcome<Option<String>> {
    let status = daemon::json(host, &["status", "--json"])?;
    let problems = status["problems"].as_array().ok_or("no problems")?;
    let of_runtime = problems.iter().find(|problem| problem["kind"] == kind);
    Ok(of_runtime.map(|problem| problem["text"].to_string()))
}

/// That these stay attached for longer than a dead pod would, and that the daemon then says what is wrong.
fn are_kept(host: &Host, containers: &[&str], named: &[&str]) -> Outcome {
    let since = Instant::now();
    while since.elapsed() < LONG_ENOUGH {
        let found = attached(host)?;
        check(found == containers, || format!("after {:?} of {containers:?} are left {found:?}", since.elapsed()))?;
    }
    let text = eventually(SOON, || problem(host)?.ok_or_else(|| "status says that all is OK".into()))?;
    check(named.iter().all(|name| text.contains(name)), || format!("{named:?} are not in {text}"))
}

fn start(node: &mut Node) -> Outcome {
    daemon::start_with_settings(node, SETTINGS, &["--cri-socket", SOCKET, "--metrics", "127.0.0.1:9472"])
}

fn process(node: &Node) -> Outcome<&Process> {
    daemon::of(node)
}

#[test]
fn a_runtime_that_lists_none_of_the_nodes_pods_costs_none_of_them_its_network() {
    scene(2, |lab| {
        let runtime = Cri::start(&lab.nodes[0].host.clone(), SOCKET, "containerd", &[])?;
        start(&mut lab.nodes[0])?;
        daemon::start(&mut lab.nodes[1], &[])?;
        lab.nodes[1].wait_ready()?;
        let _far = podwire_tests::lab::exchange::Responder::start(&lab.nodes[1].add_pod("far")?.host)?;
        let host = lab.nodes[0].host.clone();
        let pods = ["a", "b", "c"].map(|id| sandbox(&lab.nodes[0], id));
        let pods = pods.into_iter().collect::<Outcome<Vec<_>>>()?;
        let reached = || {
            pods.iter().try_for_each(|(pod, _)| {
                FAMILIES.into_iter().try_for_each(|like| {
                    let own = podwire_tests::lab::scene::json(pod, "ip", &["-json", "address", "show", "eth0"])?;
                    let infos = own[0]["addr_info"].as_array().ok_or("no addresses")?;
                    let of_family = |info: &&serde_json::Value| {
                        info["scope"] == "global" && (info["family"] == "inet") == like.is_ipv4()
                    };
                    let own = infos.iter().find(of_family).and_then(|info| info["local"].as_str());
                    let own = own.and_then(|text| text.parse().ok()).ok_or("no address")?;
                    eventually(SOON, || reaches(pod, own, lab.nodes[1].pod("far").address(like)))
                })
            })
        };
        reached()?;
        let named = ["containerd at /run/cri.sock (as --cri-socket says)", "none of this node's 3 pods"];
        are_kept(&host, &["a", "b", "c"], &named)?;
        reached()?;
        // Nor does one that has pods of its own: those of another runtime on this node, or of the host's network.
        runtime.lists(&["of-another", "of-the-host"]);
        are_kept(&host, &["a", "b", "c"], &["lists 2 sandboxes"])?;
        let said = process(&lab.nodes[0])?.said();
        let warnings: Vec<_> = said.iter().filter(|line| line.contains("WARN")).collect();
        check(warnings.len() == 1 && warnings[0].contains("none of this node's 3 pods"), || format!("{warnings:?}"))?;
        let findings = daemon::json(&host, &["doctor", "--json"])?;
        let finding = findings.as_array().and_then(|all| all.iter().find(|one| one["kind"] == "sandboxes-unlisted"));
        check(finding.is_some_and(|one| one["subject"] == SOCKET), || findings.to_string())?;
        let status = daemon::json(&host, &["status", "--json"])?;
        let runtime_is = &status["runtime"];
        let right =
            runtime_is["socket"] == SOCKET && runtime_is["name"] == "containerd" && runtime_is["sandboxes"] == 2;
        check(right && runtime_is["why"] == "as --cri-socket says", || runtime_is.to_string())?;
        // Half of them: the others are neither released nor forgotten to be named.
        runtime.lists(&["a"]);
        are_kept(&host, &["a", "b", "c"], &["not these of this node's 3 pods: b (pw", "c (pw"])?;
        runtime.lists(&["a", "b", "c"]);
        eventually(SOON, || {
            let problem = problem(&host)?;
            check(problem.is_none(), || format!("{problem:?}"))
        })?;
        reached()
    });
}

#[test]
fn a_pod_is_released_when_its_own_runtime_has_forgotten_it_and_what_was_listed_outlives_the_daemon() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let first = Cri::start(&host, SOCKET, "containerd", &["a", "b", "c"])?;
        start(&mut lab.nodes[0])?;
        for id in ["a", "b", "c"] {
            sandbox(&lab.nodes[0], id)?;
        }
        let remembers = |ids: &[&str]| {
            let file = host.run("cat", &["/run/podwire/listed-sandboxes.json"])?;
            check(ids.iter().all(|id| file.contains(&format!("\"{id}\""))), || file)
        };
        eventually(SOON, || remembers(&["a", "b", "c"]))?;
        lab.nodes[0].daemon.take().ok_or("no daemon")?.stop(SOON)?;
        first.lists(&["b", "c"]);
        start(&mut lab.nodes[0])?;
        let released = |id: &str| {
            let said = process(&lab.nodes[0])?.said();
            let text = format!("of container {id} (eth0, network podwire): the container runtime has forgotten it");
            check(said.iter().any(|line| line.contains(&text)), || format!("{text} is not in {}", said.join("\n")))
        };
        eventually(SOON, || released("a"))?;
        check(attached(&host)? == ["b", "c"], || format!("{:?}", attached(&host)))?;
        eventually(SOON, || {
            let file = host.run("cat", &["/run/podwire/listed-sandboxes.json"])?;
            check(!file.contains("\"a\"") && file.contains("\"b\""), || file)
        })?;
        // Another runtime in the place of the first: it lists one that is new to it, and has not had the other.
        drop(first);
        let second = Cri::start(&host, SOCKET, "cri-o", &["b"])?;
        are_kept(&host, &["b", "c"], &["cri-o at ", "not these of this node's 2 pods: c (pw"])?;
        // And one that has lost its state.
        second.lists(&[]);
        are_kept(&host, &["b", "c"], &["none of this node's 2 pods"])?;
        // What has no device any more is released, whatever was listed.
        host.run("ip", &["-n", "c", "link", "delete", "eth0"])?;
        eventually(SOON, || {
            let left = attached(&host)?;
            check(left == ["b"], || format!("{left:?}"))
        })
    });
}

#[test]
fn a_runtime_that_does_not_answer_is_a_problem_until_it_does() {
    scene(1, |lab| {
        start(&mut lab.nodes[0])?;
        let host = lab.nodes[0].host.clone();
        let silent = || problem_of(&host, "runtime-silent");
        let text = eventually(SOON, || silent()?.ok_or_else(|| "status says that all is OK".into()))?;
        check(text.contains("/run/cri.sock (as --cri-socket says)"), || text)?;
        let findings = daemon::json(&host, &["doctor", "--json"])?;
        let finding = findings.as_array().and_then(|all| all.iter().find(|one| one["kind"] == "runtime-silent"));
        check(finding.is_some_and(|one| one["subject"] == SOCKET), || findings.to_string())?;
        let _runtime = Cri::start(&host, SOCKET, "containerd", &[])?;
        eventually(SOON, || silent()?.map_or(Ok(()), Err))
    });
}

/// That these stay attached for a time.
fn stay(host: &Host, containers: &[&str], long: Duration) -> Outcome {
    let since = Instant::now();
    while since.elapsed() < long {
        let found = attached(host)?;
        check(found == containers, || format!("after {:?} of {containers:?} are left {found:?}", since.elapsed()))?;
    }
    Ok(())
}

#[test]
fn time_in_which_a_pod_was_not_listed_is_no_time_in_which_it_looked_dead() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let runtime = Cri::start(&host, SOCKET, "containerd", &["a", "b", "c", "d"])?;
        start(&mut lab.nodes[0])?;
        for id in ["a", "b", "c", "d"] {
            sandbox(&lab.nodes[0], id)?;
        }
        eventually(SOON, || host.run("grep", &["-q", "\"d\"", "/run/podwire/listed-sandboxes.json"]))?;
        // It has lost its state, is asked while it reads it again, and lists one pod sooner than the others.
        runtime.lists(&[]);
        are_kept(&host, &["a", "b", "c", "d"], &["none of this node's 4 pods"])?;
        runtime.lists(&["a"]);
        stay(&host, &["a", "b", "c", "d"], Duration::from_secs(3))?;
        runtime.lists(&["a", "b"]);
        stay(&host, &["a", "b", "c", "d"], Duration::from_millis(500))?;
        // A runtime that hangs or says what is wrong lists nothing either, and time begins again.
        runtime.fails(Some(Failure::Status("14", "containerd is not ready".into())));
        stay(&host, &["a", "b", "c", "d"], Duration::from_secs(3))?;
        runtime.fails(None);
        stay(&host, &["a", "b", "c", "d"], Duration::from_secs(3))?;
        eventually(SOON, || {
            let left = attached(&host)?;
            check(left == ["a", "b"], || format!("{left:?}"))
        })
    });
}

/// Which socket the daemon asks, and how many sandboxes are listed there.
fn asked(host: &Host, socket: &str, sandboxes: u64) -> Outcome {
    eventually(SOON, || {
        let runtime = daemon::json(host, &["status", "--json"])?["runtime"].clone();
        check(runtime["socket"] == socket && runtime["sandboxes"] == sandboxes, || runtime.to_string())
    })
}

#[test]
fn of_the_sockets_that_are_found_the_first_with_a_runtime_that_lists_sandboxes_is_kept() {
    const FIRST: &str = "/run/containerd/containerd.sock";
    const SECOND: &str = "/run/crio/crio.sock";
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        host.run("mkdir", &["-p", "/run/containerd", "/run/crio"])?;
        // Docker's containerd, which has no CRI, has only left its socket; later it starts.
        host.enter(|| std::os::unix::net::UnixListener::bind(FIRST)).map(drop).map_err(|error| error.to_string())?;
        let second = Cri::start(&host, SECOND, "cri-o", &["a"])?;
        daemon::start_with_settings(&mut lab.nodes[0], SETTINGS, &[])?;
        sandbox(&lab.nodes[0], "a")?;
        asked(&host, SECOND, 1)?;
        let docker = Cri::start(&host, FIRST, "", &[])?;
        docker.fails(Some(Failure::Status("14", "starting".into())));
        asked(&host, SECOND, 1)?;
        docker.fails(Some(Failure::Status("12", "unknown service runtime.v1.RuntimeService".into())));
        second.lists(&["a", "b"]);
        asked(&host, SECOND, 2)?;
        // Kept, it is not changed for another one while it restarts.
        docker.fails(None);
        stay(&host, &["a"], Duration::from_secs(1))?;
        drop(second);
        let silent = || problem_of(&host, "runtime-silent")?.ok_or_else(|| "nothing is wrong".into());
        let text = eventually(SOON, silent)?;
        check(text.contains(SECOND), || text)?;
        let second = Cri::start(&host, SECOND, "cri-o", &["a", "b", "c"])?;
        asked(&host, SECOND, 3)?;
        // One that turns out to have no CRI is asked no more.
        second.fails(Some(Failure::Status("12", String::new())));
        docker.lists(&["a", "b", "c", "d"]);
        asked(&host, FIRST, 4)
    });
}
