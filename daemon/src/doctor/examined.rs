//! What is examined: this node and its peers, as the daemon describes them or the files of the command line. Nothing is
//! looked up on the node here.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::IpNetwork;
use podwire_conf::defaults;

use super::error::Result;
use crate::args;
use crate::cluster::settings::Overlay;
use crate::cluster::view::{self, View};
use crate::observe::status::document::{PeerStatus, Reach, Status};
use crate::report::problem::{Problem, ProblemKind};
use crate::sources::{file, settings_file};

/// This node, as far as it is described.
pub(super) struct Examined {
    /// The cluster, where it is known.
    pub(super) cluster: Option<Cluster>,
    /// The UDP port of the overlay.
    pub(super) port: u16,
    /// The directory of the conflist.
    pub(super) conflists: PathBuf,
    /// Where the membership comes from.
    pub(super) source: Source,
    /// For how long it has been what it is, where that is known.
    pub(super) unchanged: Option<Duration>,
    /// Entries of it that are rejected, and why.
    pub(super) rejected: Vec<Rejected>,
    /// What the daemon has said, where it has been asked.
    pub(super) status: Option<Status>,
}

/// Where the membership comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// Neither the daemon nor the command line says.
    Unknown,
    /// A file.
    File(PathBuf),
    /// The Kubernetes API.
    Kubernetes,
}

/// A rejected entry.
pub(super) struct Rejected {
    /// The kind of problem that it is.
    pub(super) kind: ProblemKind,
    /// The node; empty for the cluster itself.
    pub(super) node: String,
    /// Why, for people.
    pub(super) why: String,
}

/// The cluster as this node accepts it.
pub(super) struct Cluster {
    pub(super) node: String,
    pub(super) address: IpAddr,
    pub(super) pod_cidrs: Vec<IpNetwork>,
    pub(super) cluster_cidrs: Vec<IpNetwork>,
    pub(super) peers: Vec<ExaminedPeer>,
    /// Whether there is to be an overlay at all.
    pub(super) has_overlay: bool,
}

/// A peer.
#[derive(Debug, Clone)]
pub(super) struct ExaminedPeer {
    pub(super) name: String,
    pub(super) address: IpAddr,
    pub(super) pod_cidrs: Vec<IpNetwork>,
    /// Those of them that plain routes lead to; where the daemon has not been asked, those that they may lead to.
    pub(super) plain: Vec<IpNetwork>,
}

impl ExaminedPeer {
    /// Whether an address of it may be reached by a plain route.
    pub(super) fn is_plain(&self, address: IpAddr) -> bool {
        self.plain.iter().any(|cidr| cidr.contains(address))
    }
}

impl Cluster {
    pub(super) fn has_family(&self, ipv4: bool) -> bool {
        self.cluster_cidrs.iter().any(|cidr| cidr.is_ipv4() == ipv4)
    }

    /// Two nodes, of which this is the first.
    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self {
            has_overlay: true,
            node: "node-1".into(),
            address: [192, 168, 50, 1].into(),
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            peers: vec![ExaminedPeer {
                name: "node-2".into(),
                address: [192, 168, 50, 2].into(),
                pod_cidrs: vec!["10.244.2.0/24".parse().unwrap()],
                plain: Vec::new(),
            }],
        }
    }

    fn of_view(name: &str, view: View, overlay: Overlay) -> Self {
        let peer = |(name, peer): (String, view::Peer)| {
            let may_be_plain = |cidr: &&IpNetwork| overlay != Overlay::Always && peer.carries_plain(cidr.ip());
            let plain = peer.pod_cidrs.iter().filter(may_be_plain).copied().collect();
            ExaminedPeer { name, address: peer.address, pod_cidrs: peer.pod_cidrs, plain }
        };
        Self {
            node: name.into(),
            address: view.own.address,
            pod_cidrs: view.own.pod_cidrs,
            cluster_cidrs: view.cluster_cidrs,
            peers: view.peers.into_iter().map(peer).collect(),
            has_overlay: overlay != Overlay::Never,
        }
    }

    fn of_status(status: &Status) -> Option<Self> {
        let plain = |peer: &PeerStatus| {
            let plain = peer.routes.iter().filter(|route| route.by == Reach::Plain);
            plain.map(|route| route.pod_cidr).collect()
        };
        let peer = |peer: &PeerStatus| ExaminedPeer {
            name: peer.name.clone(),
            address: peer.address,
            pod_cidrs: peer.pod_cidrs.clone(),
            plain: plain(peer),
        };
        Some(Self {
            node: status.node.clone(),
            address: status.address?,
            pod_cidrs: status.pod_cidrs.clone(),
            cluster_cidrs: status.cluster_cidrs.clone(),
            peers: status.peers.iter().map(peer).collect(),
            has_overlay: status.mode != Overlay::Never.to_string(),
        })
    }
}

impl Examined {
    /// As the files of the command line describe it; nothing where it names none.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn of_files(arguments: &args::Doctor) -> Result<Option<Self>> {
        let (Some(path), Some(name)) = (&arguments.nodes, &arguments.node_name) else { return Ok(None) };
        let membership = file::read(path)?;
        let settings = settings_file::read(arguments.settings.as_deref())?;
        let (cluster, rejected) = match View::new(&membership, name) {
            Ok(view) => {
                let rejected = view.rejected.clone();
                (Some(Cluster::of_view(name, view, settings.overlay)), rejected)
            }
            Err(own) => (None, vec![own]),
        };
        let entry = |rejected: crate::cluster::rejected::Rejected| Rejected {
            kind: Problem::from(&rejected).kind,
            why: rejected.reason.to_string(),
            node: rejected.node,
        };
        Ok(Some(Self {
            cluster,
            port: settings.port,
            conflists: arguments.conflist_directory.clone(),
            source: Source::File(path.clone()),
            unchanged: std::fs::metadata(path)
                .and_then(|file| file.modified())
                .ok()
                .and_then(|then| then.elapsed().ok()),
            rejected: rejected.into_iter().map(entry).collect(),
            status: None,
        }))
    }

    /// As the daemon describes it.
    pub(super) fn of_status(status: Status, arguments: &args::Doctor) -> Self {
        let conflists = PathBuf::from(&status.conflist).parent().map(PathBuf::from);
        let entry = |entry: &crate::observe::status::document::RejectedEntry| Rejected {
            kind: entry.kind.known().copied().unwrap_or(ProblemKind::EntryRejected),
            node: entry.node.clone(),
            why: entry.why.clone(),
        };
        Self {
            cluster: Cluster::of_status(&status),
            port: status.port,
            conflists: conflists.unwrap_or_else(|| arguments.conflist_directory.clone()),
            source: status.membership.file.clone().map_or(Source::Kubernetes, Source::File),
            unchanged: Some(Duration::from_secs(status.membership.age_seconds)),
            rejected: status.refused.iter().map(entry).collect(),
            status: Some(status),
        }
    }

    /// As far as the command line describes it.
    pub(super) fn unknown(arguments: &args::Doctor) -> Self {
        Self {
            cluster: None,
            port: defaults::OVERLAY_PORT,
            conflists: arguments.conflist_directory.clone(),
            source: Source::Unknown,
            unchanged: None,
            rejected: Vec::new(),
            status: None,
        }
    }
}
