//! What is wrong with policies, as it is reported.
//!
//! What may not live here: when something is wrong.

use std::net::IpAddr;

use podwire_attachment::ledger::PodName;
use podwire_conf::Unknown;

use crate::policy::rejected::Rejected;
use crate::policy::unsupported::{Unknown as What, Unsupported};
use crate::report::problem::{Problem, ProblemKind};
use crate::sources::policy_objects::Objects;

/// What is wrong with the objects: those that cannot be had, and those that cannot be read.
pub(super) fn of_objects(objects: &Objects) -> Vec<Problem> {
    let failures = objects.failures().map(|(of, why)| Problem { subject: Some(of.clone()), ..not_in_force(why) });
    let unseen = objects.unseen().map(|unseen| Problem { subject: Some(unseen.name.clone()), ..not_in_force(unseen) });
    let unsupported = objects.unsupported().map(|(policy, found)| unsupported(policy, found));
    objects.rejected().map(rejected).chain(unsupported).chain(failures).chain(unseen).collect()
}

/// A policy that cannot be read.
fn rejected(rejected: &Rejected) -> Problem {
    Problem::new(ProblemKind::PolicyRejected, &rejected.name, format!("{rejected}: it has no effect"))
}

/// What a rule has that is not supported: it fails closed.
fn unsupported(policy: &str, Unsupported { field, what, accepts }: &Unsupported) -> Problem {
    let what = match what {
        What::Named(name) => format!("{name} are not supported"),
        What::Newer => "it has nothing that is known, as if it were of a newer API".into(),
    };
    let so = match accepts {
        true => "the rule accepts nothing",
        false => "the rule denies everything",
    };
    let text = format!("ClusterNetworkPolicy {policy}: {field}: {what}: {so}");
    Problem::new(ProblemKind::PolicyUnsupported, policy, text)
}

/// Why the policies are not in force as they are.
pub(super) fn not_in_force(why: impl std::fmt::Display) -> Problem {
    let text = format!("the NetworkPolicies are not in force as they are, what was in force stays: {why}");
    Problem::general(ProblemKind::PoliciesNotInForce, text)
}

/// Why the rules do not log what they refuse.
pub(super) fn not_logged(why: &str) -> Problem {
    let text = format!(
        "the NetworkPolicies are in force, and what they refuse is not logged: {why}; a kernel with NFT_LOG and nfnetlink_log does, \
         once podwired is started anew"
    );
    Problem::general(ProblemKind::RefusedNotLogged, text)
}

/// Attachments of which it is not known whose they are: policies do not see their pods.
pub(super) fn unnamed(nameless: &[IpAddr], damaged: &[&str]) -> Option<Problem> {
    let address = nameless.first();
    let why = match (address, damaged.first()) {
        (_, Some(record)) => format!(
            "{} records of the ledger cannot be read, {record} among them, and policies do not see their pods if these are new: \
             restart the pods",
            damaged.len()
        ),
        (Some(address), None) => format!(
            "the ledger has no name for the pods of {} addresses, {address} among them, and policies do not see their pods: they \
             were attached by an earlier podwire, or not by Kubernetes; restart the pods",
            nameless.len()
        ),
        (None, None) => return None,
    };
    Some(Problem { subject: address.map(ToString::to_string), ..not_in_force(why) })
}

/// A pod of which no object is known.
pub(super) fn unknown_pod(name: &PodName, policy: Unknown) -> Problem {
    let of_uid = if name.uid.is_empty() { String::new() } else { format!(" with the UID {:?}", name.uid) };
    let name = format!("{}/{}", name.namespace, name.name);
    let so = match policy {
        Unknown::Deny => "it reaches nothing but its node, and nothing else reaches it",
        Unknown::Allow => "no policy isolates it",
    };
    let text = format!("pod {name} is attached here, and the API has told of none{of_uid}: until it does, {so}");
    Problem::new(ProblemKind::PodUnknown, &name, text)
}
