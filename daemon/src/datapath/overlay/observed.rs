//! The observed state: what the kernel has of ours, always from a fresh dump.

use podwire_conf::defaults;
use podwire_kernel::link::vni_filter;
use podwire_kernel::{Result, Socket, address, neighbour, nexthop, route};

use crate::datapath::overlay::state::{NexthopIds, State};

/// Everything of ours that belongs to the device with this index (if one is desired), and the nexthop ids in use.
///
/// # Errors
/// When the kernel refuses, or a dump was interrupted again and again.
pub fn state(socket: &mut Socket, device: Option<u32>) -> Result<(State, NexthopIds)> {
    let mut state = State::default();
    if let Some(device) = device {
        state.vnis = vni_filter::list(socket, device)?.into_iter().collect();
        address::list(socket, Some(device))?.into_iter().for_each(|address| state.with_address(address));
        neighbour::list(socket, device)?.into_iter().for_each(|neighbour| state.with_neighbour(neighbour));
    }
    route::list_bare(socket, defaults::OVERLAY_PROTOCOL)?.into_iter().for_each(|route| state.with_route(route));
    let (ours, others) = nexthop::list(socket, defaults::OVERLAY_PROTOCOL)?;
    let mut ids = NexthopIds { taken: others.into_iter().collect(), ..NexthopIds::default() };
    for nexthop in ours {
        ids.taken.insert(nexthop.id);
        ids.ours.entry(nexthop.gateway).or_insert(nexthop.id);
        state.with_nexthop(nexthop);
    }
    Ok((state, ids))
}
