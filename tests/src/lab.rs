//! A cluster out of namespaces: nodes with podwired on a simulated underlay, pods made by executing the plugin as a
//! runtime does, and a host outside of the cluster.

pub mod cgroup;
pub mod chain;
pub mod containerd;
pub mod cri;
pub mod daemon;
pub mod exchange;
pub mod frame;
pub mod host;
pub mod image;
pub mod kube;
pub mod machine;
pub mod membership;
pub mod node;
pub mod podman;
pub mod policies;
pub mod process;
pub mod runtime;
pub mod scene;
pub mod sctp;
pub mod stream;
pub mod wire;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs, io};

use host::Host;
use ipnetwork::IpNetwork;
use membership::Membership;
use node::Node;

/// Name of the bridge that is the underlay.
const BRIDGE: &str = "underlay";

/// The device of every host on the underlay.
pub const UPLINK: &str = "eth0";

/// How long things may take that take milliseconds on a machine with nothing else to do: that may be an emulated one, with
/// others beside it.
pub const SOON: Duration = Duration::from_secs(30);

/// The number of the outside host on the underlay; nodes are 1, 2, 3, ….
const OUTSIDE: u16 = 254;

/// A cluster.
#[derive(Debug)]
pub struct Lab {
    /// The nodes, in order.
    pub nodes: Vec<Node>,
    /// A host outside of the cluster, which every node's default route leads to. It has no route to any pod.
    pub outside: Host,
    switch: Host,
    shared: PathBuf,
}

impl Lab {
    /// An underlay, the outside host, and `count` nodes that nothing runs on yet. The membership file lists them.
    ///
    /// # Errors
    /// A sentence that says what was refused.
    pub fn new(count: u16) -> Result<Self, String> {
        require_isolation()?;
        static LABS: AtomicU32 = AtomicU32::new(0);
        let shared = Path::new("/run").join(format!("lab-{}", LABS.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&shared).map_err(|error| format!("create {}: {error}", shared.display()))?;
        let switch = Host::new("switch", &shared)?;
        wire::bridge(&switch, BRIDGE)?;
        let outside = Host::new("outside", &shared)?;
        wire::plug(&outside, UPLINK, &switch, BRIDGE, &membership::underlay(OUTSIDE))?;
        let mut lab = Self { nodes: Vec::new(), outside, switch, shared };
        for number in 1..=count {
            lab.add_node(number)?;
        }
        lab.write(&Membership::of(1..=count))?;
        Ok(lab)
    }

    /// Adds a host that can be a node; the membership file does not list it yet.
    ///
    /// # Errors
    /// A sentence that says what was refused.
    pub fn add_node(&mut self, number: u16) -> Result<(), String> {
        let host = Host::new(&membership::name(number), &self.shared)?;
        self.take_in(number, host)
    }

    /// Adds the machine itself as one, where that is a virtual one.
    ///
    /// # Errors
    /// A sentence that says what was refused.
    pub fn add_machine(&mut self, number: u16) -> Result<(), String> {
        let host = Host::machine(&membership::name(number), &self.shared)?;
        self.take_in(number, host)
    }

    fn take_in(&mut self, number: u16, host: Host) -> Result<(), String> {
        wire::plug(&host, UPLINK, &self.switch, BRIDGE, &membership::underlay(number))?;
        for address in membership::underlay(OUTSIDE) {
            wire::default_route(&host, address.ip())?;
        }
        self.nodes.push(Node::new(number, host));
        Ok(())
    }

    /// Plugs another interface of a node into the underlay.
    ///
    /// # Errors
    /// A sentence that says what was refused.
    pub fn plug(&self, node: &Node, device: &str, addresses: &[IpNetwork]) -> Result<(), String> {
        wire::plug(&node.host, device, &self.switch, BRIDGE, addresses)
    }

    /// Replaces the membership file, which every node reads, by a rename.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, membership: &Membership) -> Result<(), String> {
        let (path, beside) = (self.shared.join("nodes.toml"), self.shared.join("nodes.toml.new"));
        let write = fs::write(&beside, membership.text()).and_then(|()| fs::rename(&beside, &path));
        write.map_err(|error| format!("write {}: {error}", path.display()))
    }

    /// Changes the membership file in place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn edit(&self, membership: &Membership) -> Result<(), String> {
        let path = self.shared.join("nodes.toml");
        fs::write(&path, membership.text()).map_err(|error| format!("write {}: {error}", path.display()))
    }

    /// Starts podwired on every node, and waits until each is ready.
    ///
    /// # Errors
    /// What a daemon has said instead.
    pub fn start(&mut self) -> Result<(), String> {
        self.nodes.iter_mut().try_for_each(Node::start)?;
        self.nodes.iter().try_for_each(Node::wait_ready)
    }
}

impl Lab {
    /// How a human gets into each node and pod while the lab is up: a name and a command line for each.
    pub fn entrances(&self) -> Vec<(String, String)> {
        // Where the world has a user namespace of its own, that has to be entered first.
        let user = env::var_os("PODWIRE_ISOLATED").is_some_and(|world| world == "user");
        let user = if user { " --user --preserve-credentials" } else { "" };
        let enter = |process: Option<&process::Process>| {
            let id = process.and_then(process::Process::machine_id)?;
            Some(format!("nsenter --target {id}{user} --pid --mount --net"))
        };
        let of_node = |node: &Node| {
            let into_node = enter(node.daemon.as_ref());
            let pods = node.pods.iter().map(|pod| {
                // A pod in which nothing runs is entered from its node.
                let by_node = into_node.as_ref().map(|line| format!("{line} nsenter --net={}", pod.netns.display()));
                (pod.host.name.clone(), enter(pod.programs.first()).or(by_node))
            });
            [(node.host.name.clone(), into_node.clone())].into_iter().chain(pods).collect::<Vec<_>>()
        };
        let lines = self.nodes.iter().flat_map(of_node);
        lines.map(|(name, line)| (name, line.unwrap_or_else(|| "has no process to enter by".into()))).collect()
    }

    /// The log of each daemon.
    pub fn said(&self) -> String {
        let said = |node: &Node| {
            let lines = node.daemon.as_ref().map(process::Process::said).unwrap_or_default();
            format!("--- log of podwired on {}\n{}\n", node.host.name, lines.join("\n"))
        };
        self.nodes.iter().map(said).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A directory in a tmpfs of this world's own: it ends with it in any case.
        let _ = fs::remove_dir_all(&self.shared);
    }
}

/// An address of the outside host of the family of `like`.
pub fn outside_address(like: IpAddr) -> IpAddr {
    membership::underlay_address(OUTSIDE, like)
}

/// A host's network as a human looks at it, for the explanation of a failure.
pub fn describe(host: &Host) -> String {
    let looks: [(&str, &[&str]); 7] = [
        ("ip", &["-brief", "address"]),
        ("ip", &["route"]),
        ("ip", &["-6", "route"]),
        ("ip", &["nexthop"]),
        ("ip", &["neighbour"]),
        ("bridge", &["vni"]),
        ("nft", &["list", "ruleset"]),
    ];
    let look = |(program, arguments): (&str, &[&str])| {
        let found = host.run(program, arguments).unwrap_or_else(|why| why);
        format!("$ {program} {}\n{found}\n", arguments.join(" "))
    };
    format!("--- {}\n{}", host.name, looks.map(look).concat())
}

/// Where a program of this workspace is: beside this one, where `cargo build --workspace` puts it.
///
/// # Errors
/// When it is not there.
pub fn program(name: &str) -> io::Result<PathBuf> {
    let own = env::current_exe()?;
    let beside = own.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    let mut found = beside.filter(|path| path.is_file());
    found.next().ok_or_else(|| io::Error::other(format!("{name} is not built: `cargo build --workspace` builds it")))
}

/// The lab is never played in the machine's own namespaces.
///
/// # Errors
/// When this is not the first process of a world of its own.
pub fn require_isolation() -> Result<(), String> {
    if env::var_os("PODWIRE_ISOLATED").is_some() && std::process::id() == 1 {
        return Ok(());
    }
    Err("this would touch the machine's own network: run it by scripts/test, scripts/demo or scripts/bench".into())
}

/// Asks again and again until there is an answer, or the time is over.
///
/// # Errors
/// What was last said against it.
pub fn eventually<T>(within: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let deadline = Instant::now() + within;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(why) if Instant::now() >= deadline => return Err(format!("not within {within:?}: {why}")),
            // A look at the kernel takes about as long as this pause. (Parking would not pause: a thread that has waited for
            // another has a token left.)
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}
