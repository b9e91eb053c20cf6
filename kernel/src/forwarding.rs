//! Turning on IPv6 forwarding without taking the node's own default route away.
//!
//! A device that forwards believes no router advertisement unless `accept_ra` is 2, and the kernel removes the default
//! routes that came by one at the moment of the change (Documentation/networking/ip-sysctl.rst). A node that got its
//! default route that way would be cut off.

use crate::link;
use crate::netlink::error::Result;
use crate::netlink::socket::Socket;
use crate::route::{self, Target};
use crate::sysctl::Sysctl;

/// `RTPROT_RA` (uapi/linux/rtnetlink.h).
const ADVERTISED: u8 = 9;

/// The setting itself, on.
pub fn ipv6() -> Sysctl {
    Sysctl { path: "net/ipv6/conf/all/forwarding".into(), value: "1" }
}

/// Turns IPv6 forwarding on for every device, having told those that a default route was learnt on to go on believing
/// advertisements. The settings that had to be changed, for the log.
///
/// # Errors
/// When a setting cannot be read or written; forwarding is then off still.
pub fn enable_ipv6(socket: &mut Socket) -> Result<Vec<Sysctl>> {
    let forwarding = ipv6();
    if forwarding.holds()? == Some(true) {
        return Ok(Vec::new());
    }
    let mut changed = Vec::new();
    for route in route::list(socket, ADVERTISED)? {
        let (0, Target::Gateway { device, .. }) = (route.destination.prefix(), route.target) else { continue };
        let Some(link) = link::by_index(socket, device)? else { continue };
        let believe = Sysctl::of_device("ipv6", &link.name, "accept_ra", "2");
        let believes_so_far = Sysctl { value: "1", ..believe.clone() };
        if believes_so_far.holds()? == Some(true) {
            believe.set()?;
            changed.push(believe);
        }
    }
    forwarding.set()?;
    changed.push(forwarding);
    Ok(changed)
}
