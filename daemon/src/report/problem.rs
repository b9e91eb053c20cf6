//! Something that is wrong with this node, as the daemon sees it: its kind, what it is about, and a sentence. Programs
//! decide by the kind; only people read the sentence.
//!
//! Values only. What may not live here: how problems are found, and where they are shown.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cluster::rejected::{Reason, Rejected};
use crate::report::named::named;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind of problem it is.
    pub kind: ProblemKind,
    /// What it is about, where that is one thing: a node, a device, an address, a file, a change that the kernel refused.
    pub subject: Option<String>,
    /// What is wrong and what can be done, one sentence.
    pub text: String,
}

named! {
    /// The kinds of problems. Each has its symptom, its cause and its fix.
    pub enum ProblemKind {
        /// The membership cannot be read, and the last one that could be read is still used. Cause: the file is gone or is
        /// not valid TOML, or the Kubernetes API does not answer. Fix: correct the file, or see why the API does not
        /// answer; podwired reads again by itself.
        MembershipUnreadable = "membership-unreadable",
        /// There is no membership yet, so there is no overlay. Cause: the API has not answered since the start, or this
        /// node's object has no InternalIP or pod CIDR yet. Fix: what the sentence names.
        MembershipPending = "membership-pending",
        /// The membership has no entry for this node, so this node is not joined. Cause: the entry is missing, or podwired
        /// runs under another name. Fix: add the entry, or correct `--node-name`.
        NotInMembership = "not-in-membership",
        /// An entry of the membership cannot be right and is left out: that node is not reached. If it is this node's own,
        /// this node is not joined. Fix: correct the address or the pod CIDRs of the entry.
        EntryRejected = "entry-rejected",
        /// A cluster CIDR cannot be right and is left out, and with it every node whose pods are in it. Fix: correct
        /// `cluster_cidrs` on every node.
        ClusterRangeRejected = "cluster-range-rejected",
        /// A peer has not answered three probes in a row over the overlay: its pods are not reached. Cause: podwired does
        /// not run there, or the UDP port of the overlay is dropped on the path. Fix: `podwired doctor` finds out which.
        PeerSilent = "peer-silent",
        /// The path to a peer takes smaller packets than the underlay's MTU here: large packets are lost or fragmented. Fix: set the MTU of the underlay's interface to what the path takes, or repair the path.
        PathMtuTooSmall = "path-mtu-too-small",
        /// A pod has an address from pod CIDRs that this node no longer has: no other node reaches it. Fix: restart the
        /// pod.
        StaleAddress = "stale-address",
        /// The container runtime that is asked does not list pods of this node: they are kept, and what they hold is not
        /// released when they are dead. Cause: `--cri-socket` is another runtime's, or the runtime has lost its state. Fix:
        /// name the socket of the runtime that kubelet uses.
        SandboxesUnlisted = "sandboxes-unlisted",
        /// The container runtime has not answered for `garbage_after_seconds`: what dead pods hold is not released. Fix: start
        /// it, or name the socket of the runtime that kubelet uses.
        RuntimeSilent = "runtime-silent",
        /// A foreign firewall drops what is forwarded, and has no rule for pods: they reach nothing outside of their node, or
        /// are not reached. Fix: `podwired doctor` has the commands.
        ForwardPolicyDrop = "forward-policy-drop",
        /// A NetworkPolicy cannot be read, and has no effect: what it allows is not allowed, and whom it isolates is not isolated by
        /// it. Cause: it is newer than this podwired, or not valid. Fix: correct the field that the sentence names.
        PolicyRejected = "policy-rejected",
        /// A rule of a ClusterNetworkPolicy has something that podwire does not support, such as `nodes` or `domainNames`: it fails
        /// closed. If it accepts it matches nothing, and if it denies or passes it denies everything. Fix: write the rule with
        /// `namespaces`, `pods` or `networks`.
        PolicyUnsupported = "policy-unsupported",
        /// A pod is attached here, and its object is not known: nor are its policies, and it is treated as the settings say
        /// (`network_policy_unknown`). Cause: the Kubernetes API does not answer, or the object was deleted by force. Fix: none is
        /// needed once the API answers; a pod that was deleted ends with its sandbox.
        PodUnknown = "pod-unknown",
        /// The NetworkPolicies of the cluster are not in force as they are; what was in force stays. Cause: the Kubernetes API
        /// does not answer, or does not allow podwired to list pods, namespaces, networkpolicies and clusternetworkpolicies; or a file of the policy
        /// directory cannot be read or has a mistake; or the kernel has refused the rules; or a Pod, a Namespace or a record of the ledger cannot be read, or a record has no pod's name: policies
        /// do not see those pods. Fix: what the sentence names; podwired tries again by itself.
        PoliciesNotInForce = "policies-not-in-force",
        /// Packets that policies refuse are to be logged, and are not; they are refused all the same. Cause: another program reads the
        /// same group of the kernel's packet log, or the kernel has no NFT_LOG or nfnetlink_log. Fix: end that program, or load the
        /// module; for the rules podwired has to be started anew.
        RefusedNotLogged = "refused-not-logged",
        /// Repairs keep being undone by another program: packets are lost in between. Fix: find the program
        /// (`ip monitor all`) and keep it from podwire's devices and routes.
        Conflict = "conflict",
        /// This node's address is on none of its interfaces: there is no overlay. Fix: correct the address in the
        /// membership, or give it to an interface.
        NodeAddressMissing = "node-address-missing",
        /// There is no interface of the name that `--interface` gives: there is no overlay. Fix: correct the name.
        InterfaceMissing = "interface-missing",
        /// The MTU that is left for pods is smaller than their protocols need. Fix: raise the MTU of the underlay, or the
        /// `mtu` of the settings.
        MtuTooSmall = "mtu-too-small",
        /// The kernel lacks something that the overlay needs. Fix: a newer kernel.
        KernelUnsupported = "kernel-unsupported",
        /// A foreign device has the name of podwire's VXLAN device: there is no overlay. Fix: rename or remove it.
        ForeignDevice = "foreign-device",
        /// A foreign route or nexthop stands where podwire needs its own; it is not replaced, and the pods behind it are not
        /// reached. Fix: remove it.
        ForeignObject = "foreign-object",
        /// Another device or program has the UDP port of the overlay: there is no overlay. Fix: remove it, or set another
        /// `port` on every node.
        PortInUse = "port-in-use",
        /// The VXLAN device is changed by another program faster than podwired sets it. Fix: find that program
        /// (`ip monitor link`).
        DeviceUnstable = "device-unstable",
        /// The kernel has not taken an address into use in time. Fix: podwired tries again by itself; if it persists, see
        /// the kernel's log.
        AddressNotInUse = "address-not-in-use",
        /// With `overlay = "never"` there is no plain route to some pods: their node is not on the link, or they have IPv6
        /// addresses over an IPv4 underlay. Fix: `overlay = "auto"`.
        NoPlainRoute = "no-plain-route",
        /// Other programs have taken all nexthop ids that podwire uses: some peers have no route. Fix: see `ip nexthop`.
        NexthopIdsExhausted = "nexthop-ids-exhausted",
        /// The kernel has no sysctl that podwire has to set. Fix: load the module it belongs to, or boot with IPv6 where
        /// pods have IPv6 addresses.
        SysctlMissing = "sysctl-missing",
        /// A sysctl cannot be read or set. Cause: /proc/sys is read-only, or the right is missing. Fix: what the sentence
        /// names.
        SysctlRefused = "sysctl-refused",
        /// The kernel has refused a change or a list. Fix: what the sentence names; podwired tries again by itself.
        KernelRefused = "kernel-refused",
        /// The plugin's ledger cannot be read: pods are not repaired, and their addresses are not counted. Fix: what the
        /// sentence names.
        LedgerUnreadable = "ledger-unreadable",
        /// The conflist cannot be written: the container runtime finds no network, and the node stays NotReady. Fix: make
        /// its directory writable.
        ConflistNotWritten = "conflist-not-written",
        /// The plugin cannot be put in its place: pods cannot be started. Fix: make its directory writable.
        PluginNotInstalled = "plugin-not-installed",
    }
}

impl Problem {
    /// A problem that is about one thing.
    pub fn new(kind: ProblemKind, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { kind, subject: Some(subject.into()), text: text.into() }
    }

    /// A problem that is about the node as a whole, or about several things.
    pub fn general(kind: ProblemKind, text: impl Into<String>) -> Self {
        Self { kind, subject: None, text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<podwire_kernel::Error> for Problem {
    fn from(error: podwire_kernel::Error) -> Self {
        Self::new(ProblemKind::KernelRefused, error.operation(), error.to_string())
    }
}

impl From<&Rejected> for Problem {
    fn from(rejected: &Rejected) -> Self {
        let kind = match (rejected.node.as_str(), &rejected.reason) {
            ("", _) => ProblemKind::ClusterRangeRejected,
            (_, Reason::Missing(_)) => ProblemKind::NotInMembership,
            _ => ProblemKind::EntryRejected,
        };
        let subject = Some(rejected.node.clone()).filter(|node| !node.is_empty());
        Self { kind, subject, text: rejected.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_kebab_case_name_of_its_own_in_json_too() {
        let names: BTreeSet<_> = ProblemKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), ProblemKind::ALL.len());
        for kind in ProblemKind::ALL {
            assert!(kind.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{kind}");
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
