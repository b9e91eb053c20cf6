//! Waiting for what the kernel does by itself after a request: carriers that are noticed, addresses that become usable.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use podwire_kernel::{Socket, link, route};

use crate::cni::{Code, Failure};

/// The first and the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(10));

/// Waits until a device is operational. Both ends have a carrier, but the kernel notices a carrier a little later and may
/// drop packets until then. Since Linux 6.8, asking for the device makes it notice; older kernels take their time.
pub(crate) fn wait_operational(socket: &mut Socket, device: u32, limit: Duration) -> Result<(), Failure> {
    let timed_out = || format!("device {device} did not become operational");
    wait(timed_out, limit, || match link::by_index(socket, device)? {
        Some(link) => Ok(link.operational),
        None => Err(Failure::new(Code::Kernel, format!("device {device} disappeared while it was set up"), "")),
    })
}

/// Waits until the pod accepts packets to its address: until then replies are lost. An IPv4 address is usable at once.
pub(crate) fn wait_local(inside: &mut Socket, address: IpAddr, limit: Duration) -> Result<(), Failure> {
    wait(|| format!("address {address} did not become usable"), limit, || Ok(route::is_local(inside, address)?))
}

fn wait(
    timed_out: impl Fn() -> String,
    limit: Duration,
    mut settled: impl FnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    let mut pause = PAUSES.0;
    while !settled()? {
        if Instant::now() > deadline {
            return Err(Failure::new(Code::Kernel, format!("{} within {limit:?}", timed_out()), ""));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
    Ok(())
}
