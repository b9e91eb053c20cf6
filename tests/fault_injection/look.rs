//! What there is on a host: in the kernel, seen by rtnetlink and nft, and on disk. Two looks can be compared; what may
//! differ between them is left out here, and nowhere else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use futures_util::TryStreamExt;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{LinkAttribute, LinkInfo as InfoKind};
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::route::RouteAttribute;
use netlink_packet_route::tc::TcAttribute;
use nix::fcntl::{Flock, FlockArg};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::scene::{Outcome, check};
use podwire_tests::lab::{SOON, eventually};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};

/// Where the ledgers are.
pub(crate) const STATE: &str = "/run/podwire";

/// What was seen: a line for each thing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Look(BTreeMap<String, usize>);

impl Look {
    fn note(&mut self, line: String) {
        *self.0.entry(line).or_default() += 1;
    }

    /// That nothing has come and nothing has gone since.
    ///
    /// # Errors
    /// What has.
    pub(crate) fn same(&self, after: &Self, what: &str) -> Outcome {
        let only = |one: &Self, other: &Self| {
            let lines: Vec<_> = one.0.iter().filter(|(line, count)| other.0.get(*line) != Some(count)).collect();
            lines.iter().map(|(line, _)| format!("\n    {line}")).collect::<String>()
        };
        if self == after {
            return Ok(());
        }
        Err(format!("{what} has lost [{}]\n  and gained [{}]", only(self, after), only(after, self)))
    }

    /// Without the lines that a condition holds for.
    pub(crate) fn without(mut self, is: impl Fn(&str) -> bool) -> Self {
        self.0.retain(|line, _| !is(line));
        self
    }
}

/// The network of a host: devices, addresses, routes of all tables, rules, permanent neighbours, queues and nftables.
/// Counters and ages are left out.
pub(crate) fn kernel(host: &Host) -> Outcome<Look> {
    let look = host.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            dump(&handle).await.map_err(|error| error.to_string())
        })
    });
    let mut look = look.map_err(|why: String| format!("look at the network of {}: {why}", host.name))?;
    for line in host.run("nft", &["list", "ruleset"])?.lines() {
        look.note(format!("nftables {line}"));
    }
    Ok(look)
}

/// The network of a host once its link-local addresses, which come by themselves, have been taken into use: that takes a
/// second or two (RFC 4862 section 5.4).
pub(crate) fn settled(host: &Host) -> Outcome<Look> {
    let mut last = kernel(host)?;
    eventually(SOON, || {
        let now = kernel(host)?;
        let settled = now == last && !now.0.keys().any(|line| line.contains("Tentative"));
        last = now;
        check(settled, || format!("the network of {} does not come to rest", host.name))
    })?;
    Ok(last)
}

async fn dump(handle: &Handle) -> Result<Look, rtnetlink::Error> {
    let mut look = Look::default();
    let mut links = std::pin::pin!(handle.link().get().execute());
    while let Some(mut message) = links.try_next().await? {
        use LinkAttribute::{Address, Controller, IfAlias, IfName, Link, LinkInfo, Mtu};
        message.attributes.retain(|attribute| {
            matches!(attribute, IfName(_) | Mtu(_) | Address(_) | IfAlias(_) | LinkInfo(_) | Link(_) | Controller(_))
        });
        for attribute in &mut message.attributes {
            // A bridge's timers are in its information.
            if let LinkInfo(information) = attribute {
                information.retain(|part| matches!(part, InfoKind::Kind(_)));
            }
        }
        look.note(format!("link {message:?}"));
    }
    let mut addresses = std::pin::pin!(handle.address().get().execute());
    while let Some(mut message) = addresses.try_next().await? {
        message.attributes.retain(|attribute| !matches!(attribute, AddressAttribute::CacheInfo(_)));
        look.note(format!("address {message:?}"));
    }
    let (ipv4, ipv6) = (RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build());
    for family in [ipv4, ipv6] {
        let mut routes = std::pin::pin!(handle.route().get(family).execute());
        while let Some(mut message) = routes.try_next().await? {
            message.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::CacheInfo(_)));
            look.note(format!("route {message:?}"));
        }
    }
    for family in [IpVersion::V4, IpVersion::V6] {
        let mut rules = std::pin::pin!(handle.rule().get(family).execute());
        while let Some(message) = rules.try_next().await? {
            look.note(format!("rule {message:?}"));
        }
    }
    let mut neighbours = std::pin::pin!(handle.neighbours().get().execute());
    while let Some(mut message) = neighbours.try_next().await? {
        use netlink_packet_route::neighbour::NeighbourAttribute::{Destination, LinkLayerAddress};
        message.attributes.retain(|attribute| matches!(attribute, Destination(_) | LinkLayerAddress(_)));
        if message.header.state == NeighbourState::Permanent {
            look.note(format!("neighbour {message:?}"));
        }
    }
    let mut queues = std::pin::pin!(handle.qdisc().get().execute());
    while let Some(mut message) = queues.try_next().await? {
        use TcAttribute::{Stats, Stats2, Xstats};
        message.attributes.retain(|attribute| !matches!(attribute, Stats(_) | Stats2(_) | Xstats(_)));
        look.note(format!("queue {message:?}"));
    }
    Ok(look)
}

/// The ledgers of a host, file by file with their content. Left out is what may differ on a healthy host:
///
/// - directories, which are made once and stay, and the files that are locked, which are empty;
/// - `boot`, which a ledger has from the first ADD of a boot on;
/// - `free/`, the order in which addresses are given: a memory aid, made anew where it has lost one;
/// - `durations`, how long ADDs took: what was measured stays so;
/// - `writing` in a ledger without `boot`: that is none yet, and its first ADD writes there again.
///
/// A lock that somebody has is not left out.
pub(crate) fn disk(host: &Host) -> Outcome<Look> {
    host.enter(|| {
        let mut look = Look::default();
        walk(Path::new(STATE), &mut look).map_err(|error| format!("look at {STATE}: {error}"))?;
        Ok(look)
    })
}

fn walk(directory: &Path, look: &mut Look) -> std::io::Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // It may go while it is looked at.
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() {
            if name != "free" {
                walk(&path, look)?;
            }
            continue;
        }
        let place = path.display();
        if metadata.is_symlink() {
            look.note(format!("{place} → {}", fs::read_link(&path).unwrap_or_default().display()));
            continue;
        }
        let of_locks = directory.ends_with("turns");
        if (name == "lock" || of_locks) && is_locked(&path) {
            look.note(format!("{place} is locked"));
        }
        let unborn = name == "writing" && !directory.join("boot").exists() && !directory.ends_with(".ports");
        if !(["lock", "boot", "durations"].contains(&name.as_str()) || unborn) {
            look.note(format!("{place}: {}", String::from_utf8_lossy(&fs::read(&path).unwrap_or_default())));
        }
    }
    Ok(())
}

fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::options().write(true).open(path) else { return false };
    Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err()
}
