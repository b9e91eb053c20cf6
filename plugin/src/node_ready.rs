//! Whether podwired has prepared this node for a network that is its own: the conflist is on disk and outlives a reboot, what
//! stands behind it does not. A pod that is attached before has an address that leads nowhere, or that is another node's by
//! now.

use podwire_conf::{Network, defaults};
use podwire_kernel::Socket;
use podwire_kernel::route::{self, Route, Target};

use crate::cni::{Code, Failure};

/// Refuses what has no route of podwired's behind it. The kernel is asked, by the one address of each range that no pod has.
pub(crate) fn require(network: &Network, code: Code, host: &mut Socket) -> Result<(), Failure> {
    if !network.daemon {
        return Ok(());
    }
    for range in network.ipam.ranges.iter().flatten() {
        let (destination, protocol) = (range.subnet, defaults::OVERLAY_PROTOCOL);
        let wanted = Route { destination, metric: 0, target: Target::Unreachable, protocol };
        if !route::holds_for(host, &wanted, range.reserved())? {
            let message = format!("podwired has not prepared this node for the pods of {destination}");
            return Err(Failure::new(code, message, "it does when it starts; podwired status says what keeps it"));
        }
    }
    Ok(())
}
