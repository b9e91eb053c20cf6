//! What the kernel has of ours: always a fresh look, never a memory.

use podwire_conf::defaults;
use podwire_kernel::{Result, Socket, address, link, neighbour, nexthop, route, tunnel};

use crate::desired::NexthopIds;
use crate::state::State;
use crate::view::View;

/// The MTU of the underlay in bytes: that of the device which has this node's own address, or Ethernet's where that is
/// the loopback device, behind which are all the others. `None` when no device has the address.
///
/// # Errors
/// When the kernel refuses to tell.
pub fn underlay_mtu(socket: &mut Socket, view: &View) -> Result<Option<u32>> {
    let addresses = address::list(socket, None)?;
    let Some(own) = addresses.iter().find(|found| found.address.ip() == view.own.address) else { return Ok(None) };
    let link = link::by_index(socket, own.device)?;
    Ok(link.map(|link| if link.loopback { defaults::MTU } else { link.mtu }))
}

/// Everything of ours on and behind the device with this index, and the nexthop ids that are in use.
///
/// # Errors
/// When the kernel refuses to tell, or a list was interrupted again and again.
pub fn state(socket: &mut Socket, device: u32) -> Result<(State, NexthopIds)> {
    let mut state = State { vnis: tunnel::list(socket, device)?.into_iter().collect(), ..State::default() };
    address::list(socket, Some(device))?.into_iter().for_each(|address| state.with_address(address));
    neighbour::list(socket, device)?.into_iter().for_each(|neighbour| state.with_neighbour(neighbour));
    route::list(socket, defaults::OVERLAY_PROTOCOL)?.into_iter().for_each(|route| state.with_route(route));
    let (ours, others) = nexthop::list(socket, defaults::OVERLAY_PROTOCOL)?;
    let mut ids = NexthopIds { taken: others.into_iter().collect(), ..NexthopIds::default() };
    for nexthop in ours {
        ids.taken.insert(nexthop.id);
        ids.ours.entry(nexthop.gateway).or_insert(nexthop.id);
        state.with_nexthop(nexthop);
    }
    Ok((state, ids))
}
