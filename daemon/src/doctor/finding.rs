//! What `podwired doctor` reports: findings, and their kinds. Values only; the files beside this one look for
//! them.

use serde::{Deserialize, Serialize};

use super::fix::Fix;
use crate::report::named::{Documented, named};
use crate::report::problem::ProblemKind;

/// Findings of one kind that are listed; the others are counted.
pub(super) const LISTED: usize = 10;

/// The cause of something that is wrong, and a command that fixes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The group of causes that it belongs to.
    pub check: String,
    /// The kind of cause.
    pub kind: FindingKind,
    /// What it is about, where that is one thing: a node, a device, an address, a file, a sysctl.
    pub subject: Option<String>,
    /// The problem of the daemon, where it is one that the daemon has reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Documented<ProblemKind>>,
    /// The cause, one sentence.
    pub cause: String,
    /// What fixes it: a command that can be pasted into a shell.
    pub fix: String,
}

named! {
    /// The kinds of causes. Each has its symptom and its cause; the fix is the finding's own command.
    pub enum FindingKind {
        /// The doctor itself could not look at something. Cause: mostly a missing right.
        ExaminationFailed = "examination-failed",
        /// podwired does not answer: it does not run, or hangs.
        DaemonSilent = "daemon-silent",
        /// podwired could not do something; `problem` says of which kind it is.
        DaemonProblem = "daemon-problem",
        /// The membership cannot be read; the last one that could be read is still used.
        MembershipUnreadable = "membership-unreadable",
        /// The membership has no entry for this node: it is not joined.
        NotInMembership = "not-in-membership",
        /// An entry of the membership is rejected: that node is not reached.
        EntryRejected = "entry-rejected",
        /// A cluster CIDR is rejected: no node whose pods are in it is reached.
        ClusterRangeRejected = "cluster-range-rejected",
        /// The address of this node in the membership is on none of its interfaces.
        NodeAddressMissing = "node-address-missing",
        /// A foreign device has an address in the pods' ranges: packets for pods go there.
        ForeignAddress = "foreign-address",
        /// A foreign route leads packets for pods elsewhere.
        ForeignRoute = "foreign-route",
        /// A foreign VXLAN device has the UDP port of the overlay.
        ForeignVxlanPort = "foreign-vxlan-port",
        /// A network manager runs that takes podwire's devices or routes for its own.
        NetworkManager = "network-manager",
        /// The node, or podwire's device, does not forward.
        ForwardingOff = "forwarding-off",
        /// The reverse path filter of a pod's device is too loose: the pod may send from an address that is not its own.
        ReversePathLoose = "reverse-path-loose",
        /// The reverse path filter of the underlay's interface is too strict: it drops packets of a peer that this node
        /// answers by another interface.
        ReversePathStrict = "reverse-path-strict",
        /// The file system of the ledgers is all but full.
        LedgerFull = "ledger-full",
        /// Other users than root can write the ledgers.
        LedgerWritable = "ledger-writable",
        /// A ledger is of another boot; all of its pods are dead.
        LedgerOfOtherBoot = "ledger-of-other-boot",
        /// A pod has an address from pod CIDRs that this node no longer has.
        StaleAddress = "stale-address",
        /// An attachment holds addresses, and its device is gone.
        DeadAttachment = "dead-attachment",
        /// A device has a name as pods' devices have, and no ledger knows its pod.
        OrphanedDevice = "orphaned-device",
        /// A route of podwire's leads to no node of the membership.
        LeftoverRoute = "leftover-route",
        /// A nexthop of podwire's leads to no node of the membership.
        LeftoverNexthop = "leftover-nexthop",
        /// The container runtime that the daemon asks does not list pods of this node.
        SandboxesUnlisted = "sandboxes-unlisted",
        /// The container runtime that the daemon asks does not answer.
        RuntimeSilent = "runtime-silent",
        /// The table of tracked connections is all but full.
        ConntrackFull = "conntrack-full",
        /// A table of neighbours is all but full.
        NeighboursFull = "neighbours-full",
        /// The VXLAN device is missing.
        OverlayMissing = "overlay-missing",
        /// The VXLAN device is down.
        OverlayDown = "overlay-down",
        /// Packets to a peer's overlay address do not leave by the VXLAN device.
        OverlayBypassed = "overlay-bypassed",
        /// A peer has sent to pods here from an address that the membership does not list for it: dropped.
        SourceUnlisted = "source-unlisted",
        /// An address that is no peer's has sent to the VXLAN port: dropped.
        SenderUnknown = "sender-unknown",
        /// Plain packets of a peer's pods come in by another device than the plain route to them leads by: dropped.
        PlainAstray = "plain-astray",
        /// The interface with this node's address is down.
        UnderlayDown = "underlay-down",
        /// No peer answers at all: this node is cut off.
        NodeCutOff = "node-cut-off",
        /// A peer does not answer at all.
        PeerDown = "peer-down",
        /// There is no route to the address of a peer, or of any.
        NoRouteToPeer = "no-route-to-peer",
        /// No peer answers over the overlay, and some do on the underlay: the UDP port is blocked here.
        OverlayPortBlocked = "overlay-port-blocked",
        /// One peer answers on the underlay and not over the overlay.
        PeerOverlaySilent = "peer-overlay-silent",
        /// One peer answers on the underlay and not by the plain route to its pods.
        PeerPlainSilent = "peer-plain-silent",
        /// A peer answers echoes over the overlay, and neither TCP nor UDP: wrong checksums.
        WrongChecksums = "wrong-checksums",
        /// The path to peers loses the largest packets of the overlay.
        LargePacketsLost = "large-packets-lost",
        /// The path to peers fragments the largest packets of the overlay.
        LargePacketsFragmented = "large-packets-fragmented",
        /// A foreign firewall drops what is forwarded, and has no rule for pods.
        ForwardPolicyDrop = "forward-policy-drop",
        /// Another conflist sorts before podwire's: the container runtime uses that network.
        ConflistOutranked = "conflist-outranked",
        /// There is something else in the place of the conflist's directory.
        ConflistNoDirectory = "conflist-no-directory",
        /// IPVS sends packets to Services past NetworkPolicies.
        ServicesPastPolicies = "services-past-policies",
        /// A NetworkPolicy selects no pod.
        PolicySelectsNone = "policy-selects-none",
        /// A rule of a NetworkPolicy names a port that no pod declares which could be meant.
        PortUndeclared = "port-undeclared",
        /// A rule of a NetworkPolicy means addresses of Services only, which policies never see.
        BlockOfServices = "block-of-services",
        /// Repairs keep being undone by another program.
        Conflict = "conflict",
    }
}

impl FindingKind {
    /// The group that it belongs to; the names are stable.
    pub const fn check(self) -> &'static str {
        match self {
            Self::ExaminationFailed => "doctor",
            Self::DaemonSilent | Self::DaemonProblem => "daemon",
            Self::MembershipUnreadable | Self::NotInMembership | Self::EntryRejected | Self::ClusterRangeRejected => {
                "membership"
            }
            Self::NodeAddressMissing => "node-address",
            Self::ForeignAddress | Self::ForeignRoute => "overlap",
            Self::ForeignVxlanPort => "vxlan-port",
            Self::NetworkManager => "manager",
            Self::ForwardingOff => "forwarding",
            Self::ReversePathLoose | Self::ReversePathStrict => "rp-filter",
            Self::LedgerOfOtherBoot
            | Self::StaleAddress
            | Self::DeadAttachment
            | Self::OrphanedDevice
            | Self::LeftoverRoute
            | Self::LeftoverNexthop => "stale",
            Self::LedgerFull | Self::LedgerWritable => "ledger",
            Self::SandboxesUnlisted | Self::RuntimeSilent => "runtime",
            Self::ConntrackFull => "conntrack",
            Self::NeighboursFull => "neighbours",
            Self::OverlayMissing | Self::OverlayDown | Self::OverlayBypassed => "overlay",
            Self::SourceUnlisted | Self::SenderUnknown | Self::PlainAstray => "dropped",
            Self::UnderlayDown => "underlay",
            Self::NodeCutOff | Self::PeerDown | Self::NoRouteToPeer | Self::PeerPlainSilent => "peer",
            Self::OverlayPortBlocked | Self::PeerOverlaySilent => "overlay-port",
            Self::WrongChecksums => "checksum",
            Self::LargePacketsLost | Self::LargePacketsFragmented => "mtu",
            Self::ForwardPolicyDrop => "forward-policy",
            Self::ConflistOutranked | Self::ConflistNoDirectory => "conflist",
            Self::ServicesPastPolicies | Self::PolicySelectsNone | Self::PortUndeclared | Self::BlockOfServices => {
                "policies"
            }
            Self::Conflict => "conflict",
        }
    }
}

impl Finding {
    /// A finding that is about one thing.
    pub(super) fn new(
        kind: FindingKind,
        subject: impl Into<String>,
        cause: impl Into<String>,
        fix: impl Into<Fix>,
    ) -> Self {
        Self { subject: Some(subject.into()), ..Self::general(kind, cause, fix) }
    }

    /// A finding that is about the node as a whole, or about several things.
    pub(super) fn general(kind: FindingKind, cause: impl Into<String>, fix: impl Into<Fix>) -> Self {
        let check = kind.check().into();
        Self { check, kind, subject: None, problem: None, cause: cause.into(), fix: fix.into().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_has_the_names_of_its_group_and_of_its_kind_in_json() {
        let finding = Finding::new(FindingKind::OrphanedDevice, "pw1", "a", "b");
        let json = serde_json::json!({
            "check": "stale", "kind": "orphaned-device", "subject": "pw1", "cause": "a", "fix": "b"
        });
        assert_eq!(serde_json::to_value(&finding).unwrap(), json);
    }
}
