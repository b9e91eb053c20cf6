//! What the overlay needs from the kernel, checked once at the start: a clear error is better than a reconcile that
//! fails for ever.

use std::{fs, io};

use podwire_conf::defaults;
use podwire_kernel::link::vni_filter;
use podwire_kernel::{Socket, nexthop};
use thiserror::Error;
use tracing::info;

use crate::report::problem::{Problem, ProblemKind};

/// Checks for nexthop objects and VNI filters, and logs the result.
///
/// # Errors
/// What the kernel lacks.
pub(crate) fn ask(socket: &mut Socket) -> io::Result<()> {
    let release = release();
    let nexthops = has(nexthop::list(socket, defaults::OVERLAY_PROTOCOL).map(drop))?;
    if !nexthops {
        return Err(io::Error::other(without("nexthop objects", "5.3")));
    }
    // The VXLAN driver replies, which may be a module that is loaded with the first device.
    let filters = has(vni_filter::list(socket, 0).map(drop))?;
    let filters = if filters { "yes" } else { "known when the device is created" };
    info!(release, nexthop_objects = "yes", vni_filter = filters, "checked what the kernel supports");
    Ok(())
}

/// The kernel lacks something that newer ones have.
#[derive(Debug, Error)]
#[error("this kernel ({release}) has no {what}, which the overlay needs: Linux has them since {since}")]
pub(crate) struct Unsupported {
    /// The release of this one.
    release: String,
    what: &'static str,
    since: &'static str,
}

impl From<Unsupported> for Problem {
    fn from(unsupported: Unsupported) -> Self {
        Self::new(ProblemKind::KernelUnsupported, unsupported.what, unsupported.to_string())
    }
}

/// The error of a kernel that lacks something which newer ones have since a release.
pub(crate) fn without(what: &'static str, since: &'static str) -> Unsupported {
    Unsupported { release: release(), what, since }
}

/// Whether the kernel is older than a major version; false for an unknown release.
pub(crate) fn is_before(major: u32) -> bool {
    is_release_before(&release(), major)
}

fn is_release_before(release: &str, major: u32) -> bool {
    let found = release.split('.').next().and_then(|found| found.parse::<u32>().ok());
    found.is_some_and(|found| found < major)
}

/// The kernel's release, as in `uname -r`.
fn release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    release.map_or_else(|_| "of unknown release".into(), |release| release.trim().into())
}

fn has(answer: podwire_kernel::Result<()>) -> io::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if error.is_unsupported() => Ok(false),
        Err(error) => Err(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use podwire_kernel::Error;

    use super::*;

    #[test]
    fn a_release_is_compared_as_a_number() {
        assert!(is_release_before("5.19.0-50-generic", 6));
        assert!(!["6.0.0", "10.1", "of unknown release"].iter().any(|release| is_release_before(release, 6)));
    }

    #[test]
    fn unsupported_is_no_and_any_other_error_is_an_error() {
        // EOPNOTSUPP, EPERM.
        assert!(!has(Err(Error::kernel("list nexthops", 95, None))).unwrap());
        assert!(has(Ok(())).unwrap());
        let error = has(Err(Error::kernel("list nexthops", 1, None))).unwrap_err().to_string();
        assert!(error.starts_with("list nexthops: Operation not permitted"), "{error}");
    }
}
