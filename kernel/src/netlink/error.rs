//! An error of a kernel operation: what was attempted, and the kernel's reply.
//!
//! No policy: the caller decides, by the predicates below, whether "already gone" is fine.

use std::{fmt, io};

use nix::errno::Errno;

/// The result of a kernel operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation: `operation: reply`, for example `add route 10.244.1.5/32: File exists (17)`.
#[derive(Debug)]
pub struct Error {
    operation: String,
    reply: Reply,
}

#[derive(Debug)]
enum Reply {
    /// A netlink error number, with the text of the extended acknowledgement where the kernel sent one.
    Kernel { errno: Errno, extack: Option<String> },
    /// A system call on the socket or on a file failed.
    System(io::Error),
    /// No reply, or one that could not be parsed.
    Unreadable(String),
    /// Something else is where the object was expected: what it is, and how to fix that.
    OtherObject(String),
    /// Nothing was sent: the caller has been told to stop.
    Stopped,
}

impl Error {
    /// A netlink error: `number` is positive, as in errno.h; `extack` is the text of the extended acknowledgement.
    pub fn kernel(operation: impl Into<String>, number: i32, extack: Option<String>) -> Self {
        Self { operation: operation.into(), reply: Reply::Kernel { errno: Errno::from_raw(number), extack } }
    }

    /// A failed system call.
    pub fn system(operation: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self { operation: operation.into(), reply: Reply::System(error.into()) }
    }

    /// A reply that did not come or could not be parsed.
    pub fn unreadable(operation: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { operation: operation.into(), reply: Reply::Unreadable(why.to_string()) }
    }

    /// Something else is where the object was expected.
    pub fn other_object(operation: impl Into<String>, found: impl Into<String>) -> Self {
        Self { operation: operation.into(), reply: Reply::OtherObject(found.into()) }
    }

    /// A dump that was not made, since the caller has been told to stop.
    pub fn stopped(operation: impl Into<String>) -> Self {
        Self { operation: operation.into(), reply: Reply::Stopped }
    }

    /// What was attempted, as the request describes it.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// The kernel refused: the operation was not done. Without a reply from the kernel it may have been.
    pub fn is_refusal(&self) -> bool {
        matches!(self.reply, Reply::Kernel { .. })
    }

    /// The error number, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        match &self.reply {
            Reply::Kernel { errno, .. } => Some(*errno),
            Reply::System(error) => error.raw_os_error().map(Errno::from_raw),
            Reply::Unreadable(_) | Reply::OtherObject(_) | Reply::Stopped => None,
        }
    }

    /// The object does not exist (any more), which is fine for a deletion.
    pub fn is_gone(&self) -> bool {
        use Errno::{EADDRNOTAVAIL, ENODEV, ENOENT, ENXIO, ESRCH};
        let gone = matches!(self.errno(), Some(ENOENT | ESRCH | ENODEV | ENXIO | EADDRNOTAVAIL));
        gone || matches!(self.reply, Reply::OtherObject(_))
    }

    /// There is no route to the address.
    pub fn is_unreachable(&self) -> bool {
        use Errno::{EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH};
        // A lookup that matches an unreachable, prohibit or blackhole route returns the error of that route.
        matches!(self.errno(), Some(ENETUNREACH | EHOSTUNREACH | EACCES | EINVAL))
    }

    /// The caller has been told to stop; the kernel was not asked.
    pub fn is_stopped(&self) -> bool {
        matches!(self.reply, Reply::Stopped)
    }

    /// The kernel does not support the operation.
    pub fn is_unsupported(&self) -> bool {
        self.errno() == Some(Errno::EOPNOTSUPP)
    }

    /// The caller lacks the permission.
    pub fn is_forbidden(&self) -> bool {
        matches!(self.errno(), Some(Errno::EPERM | Errno::EACCES))
    }

    /// Another socket or device uses the port.
    pub fn address_in_use(&self) -> bool {
        self.errno() == Some(Errno::EADDRINUSE)
    }

    /// The object is in use, or has other content.
    pub fn is_busy(&self) -> bool {
        self.errno() == Some(Errno::EBUSY)
    }

    /// What was read before has been changed meanwhile.
    pub fn is_outdated(&self) -> bool {
        self.errno() == Some(Errno::ERESTART)
    }

    /// The object exists already.
    pub fn already_there(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.operation)?;
        match &self.reply {
            Reply::Kernel { errno, extack } => {
                write!(f, "{} ({})", errno.desc(), *errno as i32)?;
                extack.as_ref().map_or(Ok(()), |extack| write!(f, ", the kernel says: {extack}"))
            }
            Reply::System(error) => match error.raw_os_error() {
                Some(number) => write!(f, "{} ({number})", Errno::from_raw(number).desc()),
                None => write!(f, "{error}"),
            },
            Reply::Unreadable(why) => write!(f, "no usable reply from the kernel: {why}"),
            Reply::OtherObject(found) => write!(f, "{found}"),
            Reply::Stopped => f.write_str("not dumped: something more urgent comes first"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_the_operation_then_the_kernels_reply() {
        let error = Error::kernel("add route 10.0.0.1/32", 17, Some("Nexthop has invalid gateway".into()));
        let expected = "add route 10.0.0.1/32: File exists (17), the kernel says: Nexthop has invalid gateway";
        assert_eq!(error.to_string(), expected);
        assert!(error.already_there() && !error.is_gone());
        assert!(Error::kernel("x", 3, None).is_gone());
        let stopped = Error::stopped("list links");
        assert!(stopped.is_stopped() && !error.is_stopped());
        assert_eq!(stopped.to_string(), "list links: not dumped: something more urgent comes first");
    }
}
