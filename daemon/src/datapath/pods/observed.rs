//! What the kernel has of the host sides of all pods.
//!
//! What may not live here: what it should have (`podwire_attachment::host_side`), and what differs (`repair`).

use std::collections::{BTreeMap, BTreeSet};

use podwire_attachment::host_side::HostSide;
use podwire_conf::defaults;
use podwire_kernel::address::{self, Address};
use podwire_kernel::link::settings::{self, DeviceSettings};
use podwire_kernel::neighbour::{self, Neighbour};
use podwire_kernel::proxy_neighbour::{self, ProxyNeighbour};
use podwire_kernel::route::{self, Route};
use podwire_kernel::tc::loopback_filter;
use podwire_kernel::{Result, Socket};

/// What the kernel has for all pods.
pub(super) struct Observed {
    /// The devices that there are, by name.
    pub(super) devices: BTreeMap<String, DeviceSettings>,
    /// The routes to pods.
    pub(super) routes: Vec<Route>,
    /// The neighbours that are not there.
    pub(super) missing: Vec<Neighbour>,
    /// The gateways that a device does not answer for, and those that are no address of a device.
    pub(super) unanswered: (Vec<ProxyNeighbour>, Vec<Address>),
    /// The devices with the filter of 127.0.0.0/8, among those that need it.
    pub(super) filtered: BTreeSet<u32>,
}

impl Observed {
    /// Reads it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn read<'a>(socket: &mut Socket, pods: impl Iterator<Item = &'a HostSide> + Clone) -> Result<Self> {
        let names: Vec<_> = pods.clone().map(|pod| pod.name.as_str()).collect();
        let devices = settings::by_names(socket, &names)?;
        let there = || pods.clone().filter_map(|pod| Some((pod, devices.get(&pod.name)?.link.index)));
        let neighbours: Vec<_> = there().flat_map(|(pod, index)| pod.neighbours(index)).collect();
        let missing = neighbour::missing(socket, &neighbours)?;
        let gateways4: Vec<_> = there().filter_map(|(pod, index)| pod.gateway4(index)).collect();
        let gateways6: Vec<_> = there().filter_map(|(pod, index)| pod.gateway6(index)).collect();
        let unanswered = (proxy_neighbour::missing(socket, &gateways4)?, address::missing(socket, &gateways6)?);
        let mut filtered = BTreeSet::new();
        for (_, index) in there().filter(|(pod, _)| pod.loopback_ports) {
            if loopback_filter::attached(socket, index)? {
                filtered.insert(index);
            }
        }
        Ok(Self { routes: route::list(socket, defaults::POD_PROTOCOL)?, missing, unanswered, filtered, devices })
    }
}
