//! Whether this node is ready for podwired's network. The conflist is on disk and survives a reboot, but routes and firewall
//! do not. A pod that is attached too early has an address that is not routed, or that belongs to another node by now.

use podwire_conf::{Network, defaults};
use podwire_kernel::Socket;
use podwire_kernel::route::{self, Route, Target};

use crate::cni::{Code, Failure};

/// Refuses a range without podwired's unreachable route. The kernel is asked for the one address of each range that no pod
/// can have.
pub(crate) fn require(network: &Network, code: Code, host: &mut Socket) -> Result<(), Failure> {
    if !network.daemon {
        return Ok(());
    }
    for range in network.ipam.ranges.iter().flatten() {
        let (destination, protocol) = (range.subnet, defaults::OVERLAY_PROTOCOL);
        let wanted = Route { destination, metric: 0, target: Target::Unreachable, protocol };
        if !route::holds_for(host, &wanted, range.reserved())? {
            let message = format!("this node is not ready for pods of {destination}: podwired has not set it up");
            return Err(Failure::new(
                code,
                message,
                "podwired does when it starts; `podwired status` shows its problems",
            ));
        }
    }
    Ok(())
}
