//! The first process of the world: the network that the nodes are plugged into, the control plane, and the nodes.

use std::process::ExitCode;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::kube::{self, Place};
use podwire_tests::lab::process::machine_id;
use podwire_tests::lab::{require_isolation, wire};

use crate::service::{self, Service};
use crate::{control_plane, credentials, node};

/// The bridge that is the nodes' network.
pub(crate) const BRIDGE: &str = "nodes";

/// Never ends by itself.
pub(crate) fn world(place: &Place, nodes: u16) -> Result<ExitCode, String> {
    require_isolation()?;
    let own = machine_id(std::process::id()).ok_or("this process is not known to the machine")?;
    service::write(&place.root.join("control-group"), &format!("podwire-kube-{own}"))?;
    service::write(&place.world(), &own.to_string())?;
    let world = Host::here("the world")?;
    wire::bridge(&world, BRIDGE)?;
    for address in kube::world_addresses() {
        // Nobody else is there yet who could have it, and the API server listens at once.
        let flags: &[&str] = if address.is_ipv6() { &["nodad"] } else { &[] };
        world.run("ip", &[&["address", "add", &address.to_string(), "dev", BRIDGE], flags].concat())?;
    }
    credentials::make(place, nodes)?;
    let mut services = control_plane::services(place)?;
    for number in 1..=nodes {
        services.push(node::service(place, &world, number)?);
    }
    services.iter_mut().for_each(Service::keep);
    service::keep_all(services)
}
