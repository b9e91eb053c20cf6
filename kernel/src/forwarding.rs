//! Enabling IPv6 forwarding without losing the node's default route.
//!
//! A device that forwards ignores router advertisements unless `accept_ra` is 2, and the kernel removes the default
//! routes from advertisements at the moment of the change (Documentation/networking/ip-sysctl.rst). A node with such a
//! default route would be cut off.

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

/// Enables IPv6 forwarding on every device. Devices with a default route from an advertisement keep accepting
/// advertisements. Returns the settings that were changed, for the log.
///
/// # Errors
/// When a setting cannot be read or written; forwarding is then still off.
pub fn enable_ipv6(socket: &mut Socket) -> Result<Vec<Sysctl>> {
    let forwarding = ipv6();
    if forwarding.holds()? == Some(true) {
        return Ok(Vec::new());
    }
    let mut changed = Vec::new();
    for route in route::list(socket, ADVERTISED)? {
        let (0, Target::Gateway { device, .. }) = (route.destination.prefix(), route.target) else { continue };
        let Some(link) = link::by_index(socket, device)? else { continue };
        let accept_still = Sysctl::of_device("ipv6", &link.name, "accept_ra", "2");
        let accepted_so_far = Sysctl { value: "1", ..accept_still.clone() };
        if accepted_so_far.holds()? == Some(true) {
            accept_still.set()?;
            changed.push(accept_still);
        }
    }
    forwarding.set()?;
    changed.push(forwarding);
    Ok(changed)
}
