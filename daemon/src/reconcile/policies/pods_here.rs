//! The pods that are attached here, by the records of the plugin's ledger: what their objects are, and which have none.
//!
//! What may not live here: what follows from that (`policies`), and how a record is read (`attachments`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use podwire_attachment::ledger::{PodName, Record};
use podwire_conf::Unknown;

use crate::policy::pod::Pod;
use crate::reconcile::policies::Policies;
use crate::reconcile::policies::problems::{unknown_pod, unnamed};
use crate::reconcile::recorded_pods;
use crate::report::policies::Attached;
use crate::report::problem::Problem;
use crate::sources::policy_objects::{Objects, Origin};

impl Policies {
    /// The pods that hold addresses here, by the plugin's ledger. What is wrong with it, and which pods are not known.
    pub(super) fn look_for_pods(&mut self, objects: &Objects) -> Result<Vec<Problem>, String> {
        let mut read = self.attachments.refresh();
        let is_held = |address: &IpAddr| {
            self.attachments.known.records().any(|record| record.addresses.iter().any(|held| held.address == *address))
        };
        // Whoever waits has written a record before.
        if read.is_ok() && !self.attaching.are_all(is_held) {
            self.attachments.mistrust();
            self.are_known = false;
            read = self.attachments.refresh();
        }
        if self.are_known && !self.concerns_attached(objects) {
            match &read {
                Ok(None) => return Ok(Vec::new()),
                Ok(Some(changed)) if self.follow_records(objects, changed) => return Ok(Vec::new()),
                _ => {}
            }
        }
        self.are_known = false;
        read?;
        let known = &self.attachments.known;
        let damaged: Vec<_> = known.damaged().collect();
        // A record that cannot be read now may be of a pod that is isolated already.
        let kept = if damaged.is_empty() { Attached::new() } else { (*self.attached).clone() };
        let (attached, nameless) = self.of_records(objects, known.records(), kept);
        (self.attached, self.nameless) = (Arc::new(attached), nameless);
        self.are_known =
            self.attached.values().all(|(pod, _)| pod.is_some()) && self.nameless.is_empty() && damaged.is_empty();
        // Of one whose ADD waits it is not said: mostly it becomes known.
        let is_awaited = |addresses: &[IpAddr]| addresses.iter().any(|address| self.attaching.is_awaited(address));
        let unknown = self.attached.iter().filter(|(_, (pod, addresses))| pod.is_none() && !is_awaited(addresses));
        let policy = self.report.borrow().settings.unknown_policies.unknown;
        Ok(unnamed(&self.nameless, &damaged)
            .into_iter()
            .chain(unknown.map(|(name, _)| unknown_pod(name, policy)))
            .collect())
    }

    /// The pods of these records, and those that are kept in any case, each as far as it is known with its object; and the addresses
    /// that have no pod's name.
    fn of_records<'a>(
        &self,
        objects: &Objects,
        records: impl Iterator<Item = &'a Record>,
        mut attached: Attached,
    ) -> (Attached, Vec<IpAddr>) {
        attached.values_mut().for_each(|(_, addresses)| addresses.clear());
        let (mut nameless, mut recorded) = (Vec::new(), BTreeMap::new());
        for record in records {
            let addresses = record.addresses();
            let name = match recorded_pods::pod(objects, record) {
                Some((name, pod)) => {
                    recorded.insert(name.clone(), pod);
                    Some(name)
                }
                None => record.pod.clone().filter(PodName::is_complete),
            };
            match name {
                Some(name) => attached.entry(name).or_default().1.extend(addresses),
                None => nameless.extend(addresses),
            }
        }
        for (name, (_, addresses)) in attached.iter_mut().filter(|(_, (_, addresses))| addresses.is_empty()) {
            addresses.extend(self.attached.get(name).into_iter().flat_map(|(_, before)| before));
        }
        for (name, (pod, _)) in &mut attached {
            let present = recorded.get(name).or_else(|| objects.pod(&name.namespace, &name.name)).cloned();
            let before = || self.attached.get(name).and_then(|(pod, _)| pod.clone());
            // The object may be of an earlier or a later pod of the same name.
            *pod = present.filter(|present| present.has_uid(&name.uid)).or_else(before);
        }
        (attached, nameless)
    }

    /// Follows records that have come or gone, where all was known before; whether all is known after it.
    fn follow_records(&mut self, objects: &Objects, changed: &[Record]) -> bool {
        let known = &self.attachments.known;
        if objects.origin != Origin::Api || known.damaged().next().is_some() {
            return false;
        }
        let names: BTreeSet<_> = changed.iter().map(|record| record.pod.as_ref()).collect();
        let concerned = known.records().filter(|record| names.contains(&record.pod.as_ref()));
        let (mut attached, nameless) = self.of_records(objects, concerned, Attached::new());
        if !nameless.is_empty() || attached.values().any(|(pod, _)| pod.is_none()) {
            return false;
        }
        let own = Arc::make_mut(&mut self.attached);
        for name in names.into_iter().flatten() {
            match attached.remove_entry(name) {
                Some((name, pod)) => _ = own.insert(name, pod),
                None => _ = own.remove(name),
            }
        }
        true
    }

    /// Whether one of the pods that are attached here has another object than before, or has lost it.
    fn concerns_attached(&self, objects: &Objects) -> bool {
        let is_attached = |pod: &Pod| {
            let (namespace, name) = (pod.namespace.to_string(), pod.name.to_string());
            let first = PodName { namespace, name, uid: String::new() };
            let next = self.attached.range(&first..).next();
            next.is_some_and(|(held, _)| (&held.namespace, &held.name) == (&first.namespace, &first.name))
        };
        objects.changed_pods(&self.seen).any(|(before, after)| before.or(after).is_some_and(|pod| is_attached(pod)))
    }

    /// Whether what policies say of an address is in force, now that a round has succeeded: it is a known pod's, or no pod's.
    pub(super) fn is_settled(&self, address: &IpAddr) -> bool {
        let mut pods = self.attached.values();
        let is_known = |pod: &Pod| self.followed.tells_of_namespace(pod);
        pods.any(|(pod, addresses)| addresses.contains(address) && pod.as_deref().is_some_and(is_known))
            || self.nameless.contains(address)
    }

    /// The addresses of pods of which no object is known, where these are to be denied everything.
    pub(super) fn unknown(&self) -> BTreeSet<IpAddr> {
        if self.report.borrow().settings.unknown_policies.unknown == Unknown::Allow {
            return BTreeSet::new();
        }
        let unknown = self.attached.values().filter(|(pod, _)| pod.is_none());
        unknown.flat_map(|(_, addresses)| addresses).copied().collect()
    }
}
