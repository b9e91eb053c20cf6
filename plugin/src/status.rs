//! STATUS: could an ADD succeed, and are attached pods connected? Nothing is changed, and nothing is waited for. A full range
//! is not an error: the next DEL frees an address, and a runtime that gets an error may consider the node broken and not
//! even send DEL.

use std::path::Path;

use podwire_attachment::error::Error;
use podwire_attachment::ledger::Ledger;
use podwire_kernel::Socket;
use podwire_kernel::sysctl::Sysctl;

use crate::cni::{Code, Failure, Status};
use crate::{delegate, node_ready};

/// Whether podwire is ready.
pub(crate) fn status(request: &Status, state: &Path) -> Result<(), Failure> {
    Ledger::could_be_written(state, &request.name)
        .map_err(|failure| Failure::new(Code::Unavailable, failure.to_string(), ""))?;
    node_ready::require(&request.network, Code::Unavailable, &mut Socket::route()?)?;
    let ledger = Ledger::of_this_boot(state, &request.name)
        .map_err(|failure| Failure::new(Code::Unavailable, failure.to_string(), ""))?;
    if let Some(ledger) = ledger {
        let limited = |error: Error| Failure::new(Code::Limited, error.to_string(), "");
        for (path, ipv4) in [("net/ipv4/ip_forward", true), ("net/ipv6/conf/all/forwarding", false)] {
            let off = (Sysctl { path: path.into(), value: "1" }).holds()? == Some(false);
            if off && ledger.has_claims(ipv4).map_err(limited)? {
                let message = format!("the node does not forward: {path} is not 1, so no pod is connected");
                return Err(Failure::new(Code::Limited, message, "the next ADD turns it on; see who turned it off"));
            }
        }
    }
    request.delegate.as_ref().map_or(Ok(()), |delegate| delegate::pass_on(delegate, "STATUS"))
}
