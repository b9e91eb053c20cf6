//! Who has each address, kept from change to change: pods that are attached here by what they hold, others by what their node has
//! reported.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::policy::compiler::{is_elsewhere, is_newer, is_peer};
use crate::policy::pod::Pod;
use crate::policy::text::Text;

/// The pods by their addresses.
#[derive(Debug)]
pub struct Owners {
    node: Text,
    here: BTreeMap<IpAddr, Arc<Pod>>,
    elsewhere: BTreeMap<IpAddr, Arc<Pod>>,
    /// Pods that claim an address of `elsewhere` too: one that has gone and whose object has not, mostly.
    besides: BTreeMap<IpAddr, Vec<Arc<Pod>>>,
    /// The addresses that may have another owner than when they were asked for last.
    touched: BTreeSet<IpAddr>,
}

impl Owners {
    /// Nobody has any, as this node knows.
    pub fn new(node: &str) -> Self {
        let (here, elsewhere, besides, touched) = Default::default();
        Self { node: node.into(), here, elsewhere, besides, touched }
    }

    /// A pod of the cluster is another now, or comes, or goes.
    pub fn change(&mut self, before: Option<&Arc<Pod>>, after: Option<&Arc<Pod>>) {
        let node = self.node.clone();
        let elsewhere = |pod: &&Arc<Pod>| is_elsewhere(&node, pod);
        for pod in before.into_iter().filter(elsewhere) {
            pod.addresses.iter().for_each(|address| self.leave(*address, pod));
        }
        for pod in after.into_iter().filter(elsewhere) {
            pod.addresses.iter().for_each(|address| self.claim(*address, pod.clone()));
        }
    }

    fn claim(&mut self, address: IpAddr, pod: Arc<Pod>) {
        self.touched.insert(address);
        let beside = match self.elsewhere.get(&address) {
            Some(owner) if !is_newer(&pod, owner) => Some(pod),
            _ => self.elsewhere.insert(address, pod),
        };
        if let Some(pod) = beside {
            self.besides.entry(address).or_default().push(pod);
        }
    }

    fn leave(&mut self, address: IpAddr, pod: &Arc<Pod>) {
        let mut besides = self.besides.remove(&address).unwrap_or_default();
        besides.retain(|other| !Arc::ptr_eq(other, pod));
        if self.elsewhere.get(&address).is_some_and(|owner| Arc::ptr_eq(owner, pod)) {
            self.touched.insert(address);
            self.elsewhere.remove(&address);
            let newest = besides.iter().reduce(|best, other| if is_newer(other, best) { other } else { best }).cloned();
            if let Some(newest) = newest {
                besides.retain(|other| !Arc::ptr_eq(other, &newest));
                self.elsewhere.insert(address, newest);
            }
        }
        if !besides.is_empty() {
            self.besides.insert(address, besides);
        }
    }

    /// The pods that are attached here are these, each with the addresses that it holds.
    pub fn attach<'a>(&mut self, pods: impl Iterator<Item = (&'a Arc<Pod>, &'a [IpAddr])>) {
        let mut here: BTreeMap<IpAddr, Arc<Pod>> = BTreeMap::new();
        for (pod, addresses) in pods.filter(|(pod, _)| !pod.host_network) {
            for address in addresses {
                let held = here.entry(*address).or_insert_with(|| pod.clone());
                if is_newer(pod, held) {
                    *held = pod.clone();
                }
            }
        }
        let is_same = |address: &IpAddr| match (self.here.get(address), here.get(address)) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            _ => false,
        };
        let touched: Vec<_> =
            self.here.keys().chain(here.keys()).copied().filter(|address| !is_same(address)).collect();
        self.touched.extend(touched);
        self.here = here;
    }

    /// The addresses that may have another owner since this was called last, and their owners, as far as policies can mean them.
    pub fn changed(&mut self) -> Vec<(IpAddr, Option<Arc<Pod>>)> {
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().map(|address| (address, self.of(address).cloned())).collect()
    }

    fn of(&self, address: IpAddr) -> Option<&Arc<Pod>> {
        match self.here.get(&address) {
            Some(pod) => Some(pod).filter(|pod| is_peer(pod)),
            None => self.elsewhere.get(&address),
        }
    }
}
