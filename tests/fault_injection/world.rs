//! Hosts with pods that are to stay untouched, the pod that is attached and detached again and again, and what everything
//! looked like before.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use podwire_tests::lab::exchange::{Responder, exchange};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::runtime::{Answer, Call};
use podwire_tests::lab::scene::{Outcome, check, same, state};
use podwire_tests::lab::{Lab, SOON, eventually, wire};
use serde_json::{Value, json};

use super::look::{self, Look};

/// The pod that things are done to.
pub(crate) const POD: &str = "victim";

/// The network that it is attached to.
pub(crate) const NETWORK: &str = "net";

/// What is attached, and to what: the configuration of the calls, and what the pod and the host are like before.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// For messages.
    pub name: &'static str,
    /// What a runtime says of the pod (`runtimeConfig`), and other keys of the configuration.
    pub more: fn() -> Value,
    /// Whether the pod has an interface already, with default routes: ours then gets rules of its own.
    pub beside: bool,
    /// What the ledger of the network is like.
    pub ledger: Ledger,
}

/// What the ledger is like before a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ledger {
    /// As other pods have left it.
    Used,
    /// There is none: the host has never had a pod of the network.
    None,
    /// It is of an earlier boot, and knows a pod of then.
    Stale,
}

/// An attachment of a network that gives both families.
pub(crate) const PLAIN: Case = Case { name: "plain", more: || json!({}), beside: false, ledger: Ledger::Used };

/// The first one of a network.
pub(crate) const FIRST: Case = Case { name: "first", ledger: Ledger::None, ..PLAIN };

/// The first one of a network after the node was started anew, with a state directory that has outlived that.
pub(crate) const REBOOTED: Case = Case { name: "rebooted", ledger: Ledger::Stale, ..CAPABILITIES };

/// A second interface of its pod.
pub(crate) const BESIDE: Case = Case { name: "beside", beside: true, ..PLAIN };

/// An attachment with every capability of a runtime.
pub(crate) const CAPABILITIES: Case = Case {
    name: "capabilities",
    more: || {
        json!({"runtimeConfig": {
            "portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
                {"hostPort": 5353, "containerPort": 53, "protocol": "udp"},
            ],
            "bandwidth": {
                "ingressRate": 100_000_000, "ingressBurst": 8_000_000,
                "egressRate": 100_000_000, "egressBurst": 8_000_000,
            },
        }})
    },
    ..PLAIN
};

/// The configuration of a network, as the plugin is given it.
pub(crate) fn network(name: &str, third: u8, more: &Value) -> Value {
    let mut configuration = json!({
        "cniVersion": "1.1.0", "name": name, "type": "podwire", "mtu": 1400,
        "ipam": {
            "ranges": [[{"subnet": format!("10.{third}.0.0/28")}], [{"subnet": format!("fd00:{third}::/64")}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        configuration[key] = value.clone();
    }
    configuration
}

/// Two hosts. On both a pod of another network stays; on the first one of the same network too, so that nothing that
/// empties the whole network can be done there.
pub(crate) struct World {
    pub shared: Node,
    pub lonely: Node,
    _lab: Lab,
}

/// A host of the two.
pub(crate) struct Node {
    pub host: Host,
    case: Case,
    pod: Host,
    netns: PathBuf,
    kept: Vec<Kept>,
    /// Kernel of the host, kernel of the pod, disk.
    before: (Look, Look, Look),
    /// The host as other programs see it.
    whole: Value,
}

/// A pod that nobody touches.
struct Kept {
    host: Host,
    addresses: Vec<IpAddr>,
    before: Look,
    _responder: Responder,
}

impl World {
    /// A new one.
    ///
    /// # Errors
    /// What was refused.
    pub(crate) fn new(case: Case) -> Outcome<Self> {
        let lab = Lab::new(2)?;
        let shared = Node::new(&lab.nodes[0].host, case, case.ledger == Ledger::Used)?;
        let lonely = Node::new(&lab.nodes[1].host, case, false)?;
        Ok(Self { shared, lonely, _lab: lab })
    }
}

impl Node {
    fn new(host: &Host, case: Case, shared: bool) -> Outcome<Self> {
        let mut kept = vec![Kept::new(host, "foreign", &network("other", 9, &json!({})))?];
        if shared {
            kept.push(Kept::new(host, "neighbour", &network(NETWORK, 7, &json!({})))?);
        }
        let (pod, netns) = host.pod(POD)?;
        wire::set_up(&pod, "lo")?;
        if case.beside {
            pod.run("ip", &["link", "add", "eth9", "up", "type", "bridge"])?;
            pod.run("ip", &["route", "add", "default", "dev", "eth9"])?;
            pod.run("ip", &["-6", "route", "add", "default", "dev", "eth9"])?;
        }
        let mut node =
            Self { host: host.clone(), case, pod, netns, kept, before: Default::default(), whole: Value::Null };
        if case.ledger != Ledger::None {
            // What the first ADD makes for all that follow.
            node.call("ADD").execute(host)?.result()?;
            node.call("DEL").execute(host)?.result()?;
        }
        node.before = (look::settled(&node.host)?, look::settled(&node.pod)?, look::disk(&node.host)?);
        for kept in &mut node.kept {
            kept.before = look::settled(&kept.host)?;
        }
        node.whole = state(&node.host)?;
        Ok(node)
    }

    /// A call for the pod.
    pub(crate) fn call(&self, verb: &str) -> Call {
        let mut configuration = network(NETWORK, 7, &(self.case.more)());
        if verb == "GC" {
            configuration["cni.dev/valid-attachments"] = json!([]);
        }
        Call::new(verb, POD, &self.netns, &configuration)
    }

    /// The question whether the attachment is what ADD has answered.
    pub(crate) fn check(&self, result: &Value) -> Call {
        let mut configuration = network(NETWORK, 7, &(self.case.more)());
        configuration["prevResult"] = result.clone();
        Call::new("CHECK", POD, &self.netns, &configuration)
    }

    /// That everything is as before. What a killed process's child is still doing is waited for.
    ///
    /// # Errors
    /// What is not.
    pub(crate) fn as_before(&self, pod_is_known: bool) -> Outcome {
        let (host, pod, disk) = &self.before;
        // Rules of a second interface are in the pod: a DEL that does not get the pod's namespace cannot remove them, and the runtime
        // says so only when there is no pod any more.
        let rules_may_stay = self.case.beside && !pod_is_known;
        let seen = |look: Look| if rules_may_stay { look.without(|line| line.starts_with("rule")) } else { look };
        eventually(SOON, || {
            disk.same(&look::disk(&self.host)?, "the disk")?;
            host.same(&look::kernel(&self.host)?, "the host")?;
            seen(pod.clone()).same(&seen(look::kernel(&self.pod)?), "the pod")
        })?;
        if rules_may_stay {
            for family in ["-4", "-6"] {
                // Refused when there is none.
                let _ = self.pod.run("ip", &[family, "rule", "flush", "priority", "11300"]);
            }
        }
        Ok(())
    }

    /// That everything is as before by the eyes of other programs, which see more and take longer.
    ///
    /// # Errors
    /// What is not.
    pub(crate) fn as_before_in_all(&self) -> Outcome {
        same(&format!("the host {}", self.host.name), &self.whole, &state(&self.host)?)
    }

    /// That those who have nothing to do with it are as they were, and answer.
    ///
    /// # Errors
    /// Who is not.
    pub(crate) fn others_untouched(&self) -> Outcome {
        for kept in &self.kept {
            kept.before.same(&look::kernel(&kept.host)?, &format!("the pod {}", kept.host.name))?;
            for address in &kept.addresses {
                exchange(&self.host, *address)?;
            }
        }
        Ok(())
    }

    /// Whether a lock file is there.
    pub(crate) fn has_turns(&self) -> bool {
        let locks = PathBuf::from(look::STATE).join(NETWORK).join("turns");
        self.host.enter(|| fs::read_dir(locks).is_ok_and(|mut entries| entries.next().is_some()))
    }

    /// Makes the ledger what it is to be before a call.
    ///
    /// # Errors
    /// When that is refused.
    pub(crate) fn renew(&self) -> Outcome {
        if self.case.ledger == Ledger::Used {
            return Ok(());
        }
        let ledger = PathBuf::from(look::STATE).join(NETWORK);
        let of_ports = PathBuf::from(look::STATE).join(".ports");
        self.host.enter(|| {
            for directory in [&ledger, &of_ports] {
                match fs::remove_dir_all(directory) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(format!("remove {}: {error}", directory.display()));
                    }
                    _ => {}
                }
            }
            Ok(())
        })?;
        if self.case.ledger == Ledger::Stale {
            let result = self.call("ADD").execute(&self.host)?.result()?;
            // A boot ends every pod and all that the kernel has of it, and has an id of its own.
            self.host.run("ip", &["link", "delete", result["interfaces"][0]["name"].as_str().unwrap_or_default()])?;
            for family in ["4", "6"] {
                for (kind, set) in [("map", "hostports"), ("set", "hairpin")] {
                    self.host.run("nft", &["flush", kind, "inet", "podwire", &format!("{set}{family}")])?;
                }
            }
            self.host.enter(|| fs::write(ledger.join("boot"), "earlier\n")).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl Kept {
    fn new(host: &Host, name: &str, network: &Value) -> Outcome<Self> {
        let (pod, netns) = host.pod(name)?;
        wire::set_up(&pod, "lo")?;
        let responder = Responder::start(&pod)?;
        let result = Call::new("ADD", name, &netns, network).execute(host)?.result()?;
        Ok(Self { addresses: addresses(&result), host: pod, before: Look::default(), _responder: responder })
    }
}

/// The addresses of a result.
pub(crate) fn addresses(result: &Value) -> Vec<IpAddr> {
    let parse = |entry: &Value| entry["address"].as_str()?.split_once('/')?.0.parse().ok();
    result["ips"].as_array().into_iter().flatten().filter_map(parse).collect()
}

/// That an answer is the error object of the specification (section 5, "Error").
///
/// # Errors
/// What it is instead.
pub(crate) fn error(answer: &Answer) -> Outcome<u64> {
    let object: Value = serde_json::from_str(&answer.output).unwrap_or_default();
    let fields = (object["code"].as_u64(), object["msg"].as_str());
    check(answer.code == Some(1) && fields.1.is_some_and(|message| !message.is_empty()), || {
        format!("no error object: {answer:?}")
    })?;
    fields.0.ok_or_else(|| format!("no code: {answer:?}"))
}

/// Takes note of the end of those whose parents have gone: this process is the first of its world, so they are its
/// children. Those that this program has started itself are never the main thread's.
pub(crate) fn reap() {
    let children = fs::read_to_string("/proc/self/task/1/children").unwrap_or_default();
    let ids: BTreeSet<i32> = children.split_whitespace().filter_map(|id| id.parse().ok()).collect();
    for id in ids {
        // What is watched tells its tracer alone: an end that is noted here would be waited for in vain there.
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        if !status.lines().any(|line| line.split_whitespace().eq(["TracerPid:", "0"])) {
            continue;
        }
        // Still running, or another thread was faster.
        let _ = waitpid(Pid::from_raw(id), Some(WaitPidFlag::WNOHANG));
    }
}
