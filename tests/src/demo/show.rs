//! The part of the demo that is in the world of its own: the cluster, the checks, the end.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use podwire_tests::lab::exchange::{Responder, exchange};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::process::machine_id;
use podwire_tests::lab::{self, Lab, policies};

use crate::conversation::{self, Conversation};
use crate::leftovers::{self, Facts};
use crate::machine;
use crate::matrix::{End, Matrix, reach};
use crate::picture::{Box, draw};
use crate::policy;
use crate::screen::{Ink, Screen, short};

/// The pods of each node.
pub(crate) const PODS: [&[&str]; 3] = [&["irc-server", "probe-1"], &["weather-bot", "user-1"], &["user-2", "probe-3"]];

/// Families by their place in a list of addresses.
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// A failed check, and the hosts that had a part in it.
struct Failed {
    why: String,
    hosts: Vec<Host>,
}

/// The whole show. `directory` is where word is left for the part on the machine.
pub(crate) fn run(screen: &Screen, keep: bool, directory: &Path) -> Result<(), String> {
    let start = Instant::now();
    let mut end = SigSet::empty();
    end.add(Signal::SIGTERM);
    if keep {
        // For `stay`. Before there is another thread: one that does not hold it back would swallow it.
        end.thread_block().map_err(|errno| format!("hold back the signal to end: {errno}"))?;
    }

    screen.headline("podwire demo: three nodes, one flat pod network");
    let mut cluster = Cluster::build(screen)?;
    let checks = cluster.check(screen);
    let outcome = match checks {
        Ok(()) => Ok(()),
        Err(failed) => {
            cluster.explain(screen, &failed);
            Err(failed.why)
        }
    };
    if keep {
        cluster.invite(screen);
        if let Err(why) = &outcome {
            screen.failure(why);
        }
        return stay(cluster, &end, directory);
    }
    if outcome.is_err() {
        screen.wait_for_enter("Press Enter to take the cluster down. ").map_err(|error| error.to_string())?;
    }
    screen.headline("The end");
    let ended = screen.step("pods are detached, and every node is as it was before them", || cluster.end());
    outcome.and(ended)?;
    screen.step("no process of the cluster is left", no_process_left)?;
    screen.line(&format!("\n  every check held, in {}", short(start.elapsed())));
    Ok(())
}

/// Leaves the terminal alone, and waits to be told to end.
fn stay(mut cluster: Cluster, end: &SigSet, directory: &Path) -> Result<(), String> {
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        // Readers look for the name: it appears with its content.
        let beside = directory.join(format!("{name}.new"));
        fs::write(&beside, text).and_then(|()| fs::rename(&beside, &path)).map_err(|error| format!("{name}: {error}"))
    };
    let id = machine_id(std::process::id()).ok_or("find this process on the machine")?;
    let machine = Path::new("/run/machine/proc").join(id.to_string());
    let started = machine::started_at(&machine).ok_or("see when this process was started")?;
    let nothing = fs::OpenOptions::new().read(true).write(true).open("/dev/null").map_err(|error| error.to_string())?;
    let detach = || {
        nix::unistd::dup2_stdin(&nothing)?;
        nix::unistd::dup2_stdout(&nothing)?;
        nix::unistd::dup2_stderr(&nothing)
    };
    detach().map_err(|errno| format!("leave the terminal: {errno}"))?;
    write("keeper", &format!("{id} {started}"))?;
    end.wait().map_err(|errno| format!("wait for the end: {errno}"))?;
    let outcome = cluster.end().and_then(|()| no_process_left());
    write("result", outcome.as_ref().err().map_or("ok", String::as_str))?;
    outcome
}

/// The cluster with what runs in it.
struct Cluster {
    lab: Lab,
    before: Vec<Facts>,
    responders: Vec<Responder>,
    conversation: Option<Conversation>,
}

impl Cluster {
    fn build(screen: &Screen) -> Result<Self, String> {
        let mut lab = screen.step("three nodes and an outside host on the underlay 192.168.50.0/24", || Lab::new(3))?;
        policies::follow(&mut lab)?;
        screen.step("podwired on each of them: overlay, routes, firewall, conflist", || lab.start())?;
        let before = lab.nodes.iter().map(|node| leftovers::of_host(&node.host)).collect();
        screen.step("six pods, each by one execution of podwire", || {
            for (node, names) in lab.nodes.iter_mut().zip(PODS) {
                for name in names {
                    let pod = policies::add_pod_in(node, policy::namespace(name), name, &[("app", name)])?;
                    // As every pod has one: a process that does nothing but hold the pod's place.
                    pod.start(Command::new("sleep").arg("infinity"))?;
                }
            }
            Ok(())
        })?;
        Ok(Self { lab, before, responders: Vec::new(), conversation: None })
    }

    fn check(&mut self, screen: &Screen) -> Result<(), Failed> {
        screen.line(&format!("\n{}", self.picture()));
        self.reachability(screen)?;
        self.borders(screen)?;
        self.policy(screen)?;
        self.conversation(screen)
    }

    fn picture(&self) -> String {
        let boxes = self.lab.nodes.iter().map(|node| {
            let mut lines = vec![node.address().to_string()];
            lines.extend(lab::membership::pod_cidrs(node.number).iter().map(ToString::to_string));
            lines.push(String::new());
            for pod in &node.pods {
                lines.push(format!("{:<11} {}", pod.host.name, pod.addresses[0]));
                lines.push(format!("{:<11} {}", "", pod.addresses[1]));
            }
            Box { title: node.host.name.clone(), lines }
        });
        let outside = lab::outside_address(self.lab.nodes[0].address());
        draw(&format!("outside {outside} (weather-service)"), "underlay 192.168.50.0/24", &boxes.collect::<Vec<_>>())
    }

    /// Every pod to every pod.
    fn reachability(&mut self, screen: &Screen) -> Result<(), Failed> {
        let everywhere =
            self.lab.nodes.iter().flat_map(|node| &node.pods).map(|pod| &pod.host).chain([&self.lab.outside]);
        let responders: Result<Vec<_>, _> = everywhere.map(Responder::start).collect();
        self.responders = responders.map_err(|why| Failed { why, hosts: Vec::new() })?;
        for (place, family) in FAMILIES.iter().enumerate() {
            screen.headline(&format!("{family}: a random token over TCP from every pod to every pod, round trip"));
            let matrix = self.measure(screen, place, |_, _| false)?;
            let count = matrix.count();
            let verdict = format!("{count} of {count}, and each was seen to come from the pod's own address: no NAT");
            screen.line(&format!("  {} {verdict}", screen.paint(Ink::Good, "ok")));
        }
        Ok(())
    }

    /// The same with a NetworkPolicy.
    fn policy(&self, screen: &Screen) -> Result<(), Failed> {
        let name = policy::NAME;
        screen.headline(&format!("NetworkPolicy {name}: only the bot and the users reach the IRC server"));
        for line in policy::TEXT.lines() {
            screen.line(&format!("  {}", screen.paint(Ink::Quiet, line)));
        }
        let put = screen.step("in force on every node", || policy::put_in_force(&self.lab));
        let hosts = || self.lab.nodes.iter().map(|node| node.host.clone()).collect();
        put.map_err(|why| Failed { why, hosts: hosts() })?;
        for (place, family) in FAMILIES.iter().enumerate() {
            screen.headline(&format!("{family}: the same with the policy"));
            let matrix = self.measure(screen, place, policy::refuses)?;
            policy::explained(&self.lab, place).map_err(|why| Failed { why, hosts: hosts() })?;
            let (count, refused) = (matrix.count(), matrix.refused());
            let verdict =
                format!("{} of {count} as before; {refused} refused, by {name}, as podwired explains", count - refused);
            screen.line(&format!("  {} {verdict}", screen.paint(Ink::Good, "ok")));
        }
        Ok(())
    }

    /// Every pod to every pod in one family.
    fn measure(&self, screen: &Screen, family: usize, is_refused: fn(&str, &str) -> bool) -> Result<Matrix, Failed> {
        let pods: Vec<_> = self.lab.nodes.iter().flat_map(|node| &node.pods).collect();
        let ends: Vec<_> = pods.iter().map(|pod| End { host: &pod.host, addresses: &pod.addresses }).collect();
        let names: Vec<_> = pods.iter().map(|pod| pod.host.name.as_str()).collect();
        let matrix = Matrix::measure(&ends, family, is_refused);
        screen.line(&matrix.draw(screen, &names));
        let failures = matrix.failures();
        if failures.is_empty() {
            return Ok(matrix);
        }
        let (count, family) = (matrix.count(), FAMILIES[family]);
        let why = format!("{} of {count} {family} exchanges: {}", failures.len(), failures.join("; "));
        let named = |host: &&Host| failures.iter().any(|failure| failure.contains(&format!("from {} ", host.name)));
        let nodes = self.lab.nodes.iter().map(|node| &node.host);
        let hosts = pods.iter().map(|pod| &pod.host).filter(named).chain(nodes).cloned().collect();
        Err(Failed { why, hosts })
    }

    /// Node to pod, and pod to the world outside.
    fn borders(&self, screen: &Screen) -> Result<(), Failed> {
        screen.headline("Over the borders");
        let [first, second, _] = &self.lab.nodes[..] else { unreachable!("the demo has three nodes") };
        let (near, far) = (first.pod("probe-1"), second.pod("user-1"));
        for (place, family) in FAMILIES.iter().enumerate() {
            // A node speaks to its own pods from whichever address it has, to others' from its address on the overlay.
            let own = lab::membership::pod_cidrs(first.number)[place].network();
            let check = |what: String, hosts: &[&Host], work: &dyn Fn() -> Result<String, String>| {
                let outcome = work();
                let failed = |why| Failed { why, hosts: hosts.iter().map(|host| (*host).clone()).collect() };
                let detail = outcome.map_err(failed)?;
                screen.line(&format!("  {} {family} {what}: {detail}", screen.paint(Ink::Good, "ok")));
                Ok(())
            };
            check("node-1 to its own pod probe-1".into(), &[&first.host, &near.host], &|| {
                let exchange = exchange(&first.host, near.addresses[place])?;
                Ok(format!("{}, seen as {}", short(exchange.round_trip), exchange.seen))
            })?;
            check("node-1 to pod user-1 on node-2".into(), &[&first.host, &second.host, &far.host], &|| {
                let time = reach(&first.host, own, far.addresses[place])?;
                Ok(format!("{}, seen as {own}", short(time)))
            })?;
            let (outside, node) = (
                lab::outside_address(near.addresses[place]),
                lab::membership::underlay_address(first.number, near.addresses[place]),
            );
            check("pod probe-1 to the host outside".into(), &[&first.host, &near.host, &self.lab.outside], &|| {
                let time = reach(&near.host, node, outside)?;
                Ok(format!("{}, seen as the node's {node}", short(time)))
            })?;
        }
        Ok(())
    }

    fn conversation(&mut self, screen: &Screen) -> Result<(), Failed> {
        screen.headline("IRC across the cluster");
        let started =
            screen.step("server on node-1, bot on node-2, weather outside", || conversation::start(&mut self.lab));
        let held = started.and_then(|weather| conversation::hold(&self.lab, weather));
        let hosts = self.lab.nodes.iter().flat_map(|node| node.pods.iter().map(|pod| &pod.host).chain([&node.host]));
        let hosts: Vec<_> = hosts.cloned().collect();
        let conversation = held.map_err(|why| Failed { why, hosts: hosts.clone() })?;
        for line in &conversation.transcript {
            let ink = if line.starts_with('>') { Ink::Strong } else { Ink::Quiet };
            screen.line(&format!("  ada {}", screen.paint(ink, line)));
        }
        let asked = conversation::seen_outside(&self.lab, &conversation.weather);
        self.conversation = Some(conversation);
        let asked = asked.map_err(|why| Failed { why, hosts })?;
        screen.line(&format!("  {} the outside saw the bot's node: {asked}", screen.paint(Ink::Good, "ok")));
        Ok(())
    }

    /// Everything that may be of use to whoever looks for the reason.
    fn explain(&self, screen: &Screen, failed: &Failed) {
        screen.headline("What the hosts of the failed check look like");
        for host in &failed.hosts {
            screen.line(&lab::describe(host));
        }
        screen.line(&self.lab.said());
        screen.headline("To look around while the cluster is up (`scripts/demo --keep` leaves it up)");
        self.entrances(screen);
    }

    /// How to get in, with what to do there.
    fn invite(&self, screen: &Screen) {
        screen.headline("The cluster stays up");
        self.entrances(screen);
        let server = conversation::server_address(&self.lab);
        let (address, port, password) = (server.ip(), server.port(), conversation::PASSWORD);
        screen.headline("To talk IRC, enter a user's pod and");
        screen.line(&format!("  irssi --connect {address} --port {port} --password {password} --nick me"));
        screen.line(&format!(
            "  nc {address} {port}      then: PASS {password}, NICK me, USER me 0 * :me, WEATHER Paris"
        ));
        screen.headline("To change the cluster, enter a node and");
        screen.line(
            "  edit /run/lab/nodes.toml, the membership file that all nodes follow; `ip route` shows the difference",
        );
        screen.line(&format!(
            "  edit {}/{}, the policy and its pods; `podwired status` and who gets through show the difference",
            policies::directory(),
            policy::FILE
        ));
        screen.line("\n  scripts/demo --down takes it down");
    }

    fn entrances(&self, screen: &Screen) {
        for (name, line) in self.lab.entrances() {
            screen.line(&format!("  {name:<12} {line}"));
        }
    }

    /// Ends the pods as a runtime does, and compares each node with what it was before them; then the daemons.
    fn end(&mut self) -> Result<(), String> {
        self.conversation = None;
        self.responders.clear();
        for node in &mut self.lab.nodes {
            let names: Vec<_> = node.pods.iter().map(|pod| pod.host.name.clone()).collect();
            names.iter().try_for_each(|name| node.remove_pod(name))?;
        }
        for (node, before) in self.lab.nodes.iter_mut().zip(&self.before) {
            leftovers::compare(&node.host.name, before, &leftovers::of_host(&node.host))?;
            if let Some(mut daemon) = node.daemon.take() {
                let status = daemon.stop(lab::SOON)?;
                if !status.success() {
                    return Err(format!("podwired of {} ended with {status}", node.host.name));
                }
                // Stopping takes nothing away.
                leftovers::compare(&node.host.name, before, &leftovers::of_host(&node.host))?;
            }
        }
        Ok(())
    }
}

/// This process is the first of its world; when all it has started has ended, it is the only one. What others have left to
/// it, as the plugin leaves whoever removes a device, it takes note of.
fn no_process_left() -> Result<(), String> {
    lab::eventually(lab::SOON, || {
        while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {}
        let entries = fs::read_dir("/proc").map_err(|error| format!("list /proc: {error}"))?.filter_map(Result::ok);
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let others: Vec<_> = ids.filter(|id| *id != std::process::id()).map(|id| id.to_string()).collect();
        if others.is_empty() { Ok(()) } else { Err(format!("processes {} are left", others.join(", "))) }
    })
}
