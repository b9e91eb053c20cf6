//! A node as the world has it: a host that is plugged into the nodes' network, with a first process of its own. When that
//! one has ended, everything on the node has, save for its disk; the next one finds another network and an empty /run.

use std::fs::{self, File};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::kube::{self, Place};
use podwire_tests::lab::{UPLINK, wire};

use crate::service::{self, Service};
use crate::world::BRIDGE;

/// A node that is started whenever it has ended.
pub(crate) fn service(place: &Place, world: &Host, number: u16) -> Result<Service, String> {
    let name = kube::name(number);
    fs::create_dir_all(place.disk(&name)).map_err(|error| format!("{}: {error}", place.disk(&name).display()))?;
    service::write(&place.number(&name), &number.to_string())?;
    let (place_of, world, name_of) = (place.clone(), world.clone(), name.clone());
    Ok(Service::new(place, &name, "init", move |log| {
        // Nothing but what runs there keeps its network: it goes with the first process.
        first_process(&place_of, &boot(&place_of, &world, &name_of)?, log)
    }))
}

/// A host on the nodes' network, with the addresses that the node's number gives it now.
fn boot(place: &Place, world: &Host, name: &str) -> Result<Host, String> {
    let number = kube::read(&place.number(name))?;
    let number = number.parse().map_err(|error| format!("the number of {name}, {number:?}: {error}"))?;
    // The kernel takes away the network of a node that has ended only some time later.
    let _ = world.run("ip", &["link", "delete", &format!("to-{name}-0")]);
    let host = Host::new(name, &place.root)?;
    wire::plug(&host, UPLINK, world, BRIDGE, &kube::addresses(number))?;
    for address in kube::world_addresses() {
        wire::default_route(&host, address.ip())?;
    }
    Ok(host)
}

/// Starts the first process of the node's own.
fn first_process(place: &Place, host: &Host, log: File) -> Result<u32, String> {
    let own = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let mut command = Command::new(own);
    command.args(["machine", &host.name]).env("PODWIRE_KUBE_STATE", &place.root);
    host.enter(|| {
        unshare(CloneFlags::CLONE_NEWPID).map_err(|errno| format!("leave the world's processes: {errno}"))?;
        service::spawn(&mut command, log)
    })
}
