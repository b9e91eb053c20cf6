//! A contestant's own host, and the pods on it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use podwire_kernel::sysctl::{Proc, Sysctl, Tree};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::{SOON, eventually, wire};
use serde_json::Value;

use crate::contestant::{Contestant, Setup, Verb};
use crate::step::Step;
use crate::tools::Tools;

/// The host ports of the pods begin here.
const FIRST_PORT: usize = 10_000;

/// The ranges of the pods' addresses, by family. Every host has them to itself.
pub(crate) const SUBNETS: [&str; 2] = ["10.32.0.0/16", "fd00:32::/64"];

/// Whether the pods' devices look for duplicates of their addresses, which takes the kernel a second or two and is waited
/// for by ptp. podwire and bridge switch it off by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duplicates {
    /// Off for every device of the pod, whoever makes it.
    Ignored,
    /// As the kernel has it.
    Detected,
}

/// A contestant on its host.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Whose it is.
    pub(crate) contestant: Contestant,
    /// Where it runs.
    pub(crate) host: Host,
    /// Its pods, made beforehand.
    pub(crate) pods: Vec<Pod>,
    duplicates: Duplicates,
    tools: Tools,
}

/// A pod: a network namespace, and what the contestants are told of it.
#[derive(Debug)]
pub(crate) struct Pod {
    /// Its place among the pods of its host.
    pub(crate) number: usize,
    /// The container's id, as long as a runtime's.
    pub(crate) container: String,
    /// The file of its namespace.
    pub(crate) path: PathBuf,
    /// The addresses that it gets from the contestant that cannot choose.
    pub(crate) addresses: [String; 2],
    /// What it is to have.
    pub(crate) setup: Setup,
    /// What the last ADD has answered, which libcni keeps for the DEL.
    result: Mutex<Value>,
}

impl Pod {
    /// The host's port that leads to it, where it is to have one.
    pub(crate) fn host_port(&self) -> usize {
        FIRST_PORT + self.number
    }

    fn result(&self) -> Value {
        self.result.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, result: Value) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = result;
    }
}

impl Lane {
    /// A host with some pods that are not attached yet. It forwards, as every node does.
    ///
    /// # Errors
    /// A sentence that says what was refused.
    pub(crate) fn new(
        contestant: Contestant,
        pods: usize,
        duplicates: Duplicates,
        shared: &Path,
        tools: &Tools,
    ) -> Result<Self, String> {
        let host = Host::new(contestant.name(), shared)?;
        wire::set_up(&host, "lo")?;
        for address in ["192.0.2.1/32", "2001:db8::1/128"] {
            host.run("ip", &["address", "add", address, "dev", "lo"])?;
        }
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward && echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
        host.run("sh", &["-c", forward])?;
        let mut lane = Self { contestant, host, pods: Vec::new(), duplicates, tools: tools.clone() };
        lane.grow(pods)?;
        Ok(lane)
    }

    /// Makes pods until there are so many.
    ///
    /// # Errors
    /// A sentence that says what was refused.
    pub(crate) fn grow(&mut self, pods: usize) -> Result<(), String> {
        for number in self.pods.len()..pods {
            let (inside, path) = self.host.pod(&format!("pod-{number}"))?;
            wire::set_up(&inside, "lo")?;
            if self.duplicates == Duplicates::Ignored {
                // In the proc that the contestants use, every namespace that was looked at makes the next look dearer.
                let setting = Sysctl::of_device("ipv6", "default", "accept_dad", "0");
                let written = inside.enter(|| Tree::own(&Proc::private())?.set(&setting));
                written.map_err(|error| error.to_string())?;
            }
            let (third, fourth) = ((number + 2) / 256, (number + 2) % 256);
            self.pods.push(Pod {
                number,
                container: format!("{number:064x}"),
                path,
                addresses: [format!("10.32.{third}.{fourth}"), format!("fd00:32::{:x}", number + 2)],
                setup: Setup::DUAL,
                result: Mutex::default(),
            });
        }
        Ok(())
    }

    /// Says what every pod is to have from now on. None is attached.
    pub(crate) fn set_up(&mut self, setup: Setup) {
        for pod in &mut self.pods {
            pod.setup = setup;
        }
    }

    /// Does `verb` with a pod: the time it took. The calling thread is on the host.
    ///
    /// # Errors
    /// What a plugin has said.
    pub(crate) fn call(&self, pod: &Pod, verb: Verb) -> Result<Duration, String> {
        self.each(pod, verb, Step::execute)
    }

    /// As [`Lane::call`], each step of it by `execute`.
    ///
    /// # Errors
    /// What a plugin has said.
    pub(crate) fn each(
        &self,
        pod: &Pod,
        verb: Verb,
        mut execute: impl FnMut(&Step) -> Result<(Value, Duration), String>,
    ) -> Result<Duration, String> {
        let mut previous = if verb == Verb::Del { pod.result() } else { Value::Null };
        let mut total = Duration::ZERO;
        for part in self.contestant.steps(&self.tools, pod, verb) {
            let (result, took) = execute(&part.complete(&self.tools, pod, verb, &previous))?;
            total += took;
            if verb == Verb::Add {
                previous = result;
            }
        }
        pod.keep(if verb == Verb::Add { previous } else { Value::Null });
        Ok(total)
    }

    /// As [`Lane::call`], from anywhere.
    ///
    /// # Errors
    /// What a plugin has said.
    pub(crate) fn visit(&self, pod: &Pod, verb: Verb) -> Result<Duration, String> {
        self.host.enter(|| self.call(pod, verb))
    }

    /// Whether the host's port leads anywhere: what the plugin has to say about it is in the kernel's rules. The pod is
    /// attached.
    ///
    /// # Errors
    /// When the rules cannot be looked at.
    pub(crate) fn forwards(&self, pod: &Pod) -> Result<bool, String> {
        let port = pod.host_port().to_string();
        let rules = self.host.run("nft", &["list", "ruleset"])?;
        Ok(rules.split(|letter: char| !letter.is_ascii_digit()).any(|word| word == port))
    }

    /// Refuses a contestant whose attached pod cannot be reached, both ways: it would be fast for nothing.
    ///
    /// # Errors
    /// The address that does not answer.
    pub(crate) fn require_reachable(&self, pod: &Pod) -> Result<(), String> {
        let result = pod.result();
        let answered: Vec<_> = result["ips"].as_array().into_iter().flatten().collect();
        let mut addresses: Vec<_> = answered.iter().filter_map(|entry| entry["address"].as_str()).collect();
        if self.contestant == Contestant::Floor {
            addresses.extend(pod.addresses.iter().take(pod.setup.families.count()).map(String::as_str));
        }
        if addresses.len() != pod.setup.families.count() {
            return Err(format!("{} gave a pod the addresses {addresses:?}", self.contestant.name()));
        }
        addresses.iter().map(|address| address.split('/').next().unwrap_or(address)).try_for_each(|address| {
            // A carrier may be noticed late by whoever did not wait for it.
            eventually(SOON, || self.host.run("ping", &["-c", "1", "-W", "1", address]).map(drop))
        })
    }

    /// Which of its ways portmap has taken, by what is in the kernel's rules while a pod with a host port is attached.
    ///
    /// # Errors
    /// When the rules cannot be looked at.
    pub(crate) fn backend(&self) -> Result<&'static str, String> {
        let rules = self.host.run("nft", &["list", "ruleset"])?;
        let marks = [("CNI-HOSTPORT-DNAT", "iptables"), ("cni_hostport", "nftables")];
        let found = marks.into_iter().find(|(mark, _)| rules.contains(mark));
        found.map(|(_, backend)| backend).ok_or_else(|| format!("portmap has left nothing that is known in {rules}"))
    }
}
