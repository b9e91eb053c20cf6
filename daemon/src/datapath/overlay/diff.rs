//! The diff from observed to desired: requests in an order in which no packet is misrouted. Pure; no difference is no
//! request.

use std::collections::BTreeMap;

use podwire_kernel::Request;
use podwire_kernel::address::Address;
use podwire_kernel::link::{self, Link, Vxlan, vni_filter};
use podwire_kernel::neighbour::Neighbour;
use podwire_kernel::netlink::message::Message;
use podwire_kernel::nexthop::Nexthop;
use podwire_kernel::route::{Route, Target};

use crate::datapath::overlay::state::{Device, State};

/// What has to be done to the device before anything on it can be compared.
#[derive(Debug)]
pub enum DeviceChange {
    /// Nothing.
    Keep,
    /// It does not exist.
    Create(Request<Message>),
    /// It exists and cannot be changed in place.
    Recreate(Request<Message>),
    /// It can be changed in place.
    Change(Vec<Request<Message>>),
    /// A foreign device has its name.
    Foreign {
        /// Its kind.
        kind: String,
    },
}

/// Compares the device.
pub fn device(desired: &Device, found: Option<&Link>) -> DeviceChange {
    let Some(found) = found else {
        return DeviceChange::Create(desired.vxlan.create(&desired.name, desired.mac, desired.mtu));
    };
    let Some(vxlan) = found.vxlan else {
        return DeviceChange::Foreign { kind: found.kind.clone().unwrap_or_else(|| "physical device".into()) };
    };
    if (Vxlan { learning: desired.vxlan.learning, ..vxlan }) != desired.vxlan {
        return DeviceChange::Recreate(link::delete(&desired.name));
    }
    let mut changes = Vec::new();
    if found.controller.is_some() {
        changes.push(link::release(found.index));
    }
    if vxlan.learning != desired.vxlan.learning {
        changes.push(link::set_learning(found.index, desired.vxlan.learning));
    }
    if found.mac != Some(desired.mac) {
        changes.push(link::set_mac(found.index, desired.mac));
    }
    if found.mtu != desired.mtu {
        changes.push(link::set_mtu(found.index, desired.mtu));
    }
    if found.makes_link_local {
        changes.push(link::set_router_port(found.index, desired.mtu, None, &[]));
    }
    if !found.up {
        changes.push(link::set_up(found.index, &found.name));
    }
    if changes.is_empty() { DeviceChange::Keep } else { DeviceChange::Change(changes) }
}

/// Compares everything that belongs to the device with this index, if one is desired.
///
/// First additions (guards before routes, a nexthop before its routes), then removals (routes before the nexthop,
/// guards last): at no moment does a packet for a pod take another route.
///
/// The requests are built one by one as they are consumed: ten thousand peers are forty thousand of them.
pub fn state<'a>(
    desired: &'a State,
    found: &'a State,
    device: Option<u32>,
) -> impl Iterator<Item = Request<Message>> + use<'a> {
    let guard = |route: &&Route| matches!(route.target, Target::Unreachable | Target::Blackhole);
    // A route that exists and is not observed as ours is foreign: it is not replaced, and the kernel returns an error.
    let set = |route: &Route| match found.routes.get(&(route.destination, route.metric)) {
        Some(altered) if is_bare(route) && !is_bare(altered) => route.replace_bare(),
        Some(_) => route.replace(),
        None => route.add(),
    };
    let set_nexthop = |nexthop: &Nexthop| {
        let ours = found.nexthops.contains_key(&nexthop.id);
        if ours { nexthop.replace() } else { nexthop.add() }
    };
    let missing_vnis = desired.vnis.difference(&found.vnis).zip(device.into_iter().cycle());
    let surplus_vnis = found.vnis.difference(&desired.vnis).zip(device.into_iter().cycle());
    let first = missing_vnis
        .map(|(vni, device)| vni_filter::add(device, *vni))
        .chain(to_set(&desired.addresses, &found.addresses).map(Address::replace))
        .chain(to_set(&desired.routes, &found.routes).filter(guard).map(set))
        .chain(to_set(&desired.neighbours, &found.neighbours).map(Neighbour::replace))
        .chain(to_set(&desired.nexthops, &found.nexthops).map(set_nexthop))
        .chain(to_set(&desired.routes, &found.routes).filter(move |route| !guard(route)).map(set));
    let then = to_remove(&desired.routes, &found.routes)
        .filter(move |route| !guard(route))
        .map(Route::delete)
        .chain(to_remove(&desired.nexthops, &found.nexthops).map(Nexthop::delete))
        .chain(to_remove(&desired.neighbours, &found.neighbours).map(Neighbour::delete))
        .chain(to_remove(&desired.routes, &found.routes).filter(guard).map(Route::delete))
        .chain(to_remove(&desired.addresses, &found.addresses).map(Address::delete))
        .chain(surplus_vnis.map(|(vni, device)| vni_filter::delete(device, *vni)));
    first.chain(then)
}

/// Whether a route has no metrics: one with some is not replaced by one without, unless that is said.
fn is_bare(route: &Route) -> bool {
    !matches!(route.target, Target::Foreign | Target::NexthopWithin { .. })
}

/// The desired routes that are not observed, keyed by the operation that adds them.
pub fn routes_to_add<'a>(desired: &'a State, found: &'a State) -> impl Iterator<Item = (String, &'a Route)> {
    let absent = desired.routes.iter().filter(|(key, _)| !found.routes.contains_key(*key));
    absent.map(|(_, route)| (route.add().operation, route))
}

fn to_set<'a, K: Ord, V: PartialEq>(
    desired: &'a BTreeMap<K, V>,
    found: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = &'a V> {
    desired.iter().filter(|(key, value)| found.get(key) != Some(value)).map(|(_, value)| value)
}

fn to_remove<'a, K: Ord, V>(desired: &'a BTreeMap<K, V>, found: &'a BTreeMap<K, V>) -> impl Iterator<Item = &'a V> {
    found.iter().filter(|(key, _)| !desired.contains_key(key)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests;
