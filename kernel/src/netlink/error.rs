//! What went wrong when the kernel was asked for something: the operation, and the kernel's own answer.
//!
//! No policy: whether "already gone" is fine is for the caller to say, with the questions at the end.

use std::{fmt, io};

use nix::errno::Errno;

/// The result of asking the kernel.
pub type Result<T> = std::result::Result<T, Error>;

/// A refusal: `operation: answer`, for example `add route 10.244.1.5/32: File exists (17)`.
#[derive(Debug)]
pub struct Error {
    operation: String,
    answer: Reply,
}

#[derive(Debug)]
enum Reply {
    /// A netlink error number, with the kernel's extended acknowledgement text where it sent one.
    Kernel { errno: Errno, said: Option<String> },
    /// A system call on the socket or on a file failed.
    System(io::Error),
    /// There is no answer that could be understood.
    Unreadable(String),
}

impl Error {
    /// A netlink error: `number` is positive, as in errno.h; `said` is the extended acknowledgement.
    pub fn kernel(operation: impl Into<String>, number: i32, said: Option<String>) -> Self {
        Self { operation: operation.into(), answer: Reply::Kernel { errno: Errno::from_raw(number), said } }
    }

    /// A failed system call.
    pub fn system(operation: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self { operation: operation.into(), answer: Reply::System(error.into()) }
    }

    /// An answer that did not come or could not be understood.
    pub fn unreadable(operation: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { operation: operation.into(), answer: Reply::Unreadable(why.to_string()) }
    }

    /// What was wished, as the request had it.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// The kernel has said no: what was wanted is not done. Without an answer of its own it may be.
    pub fn is_refusal(&self) -> bool {
        matches!(self.answer, Reply::Kernel { .. })
    }

    /// The error number behind this refusal, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        match &self.answer {
            Reply::Kernel { errno, .. } => Some(*errno),
            Reply::System(error) => error.raw_os_error().map(Errno::from_raw),
            Reply::Unreadable(_) => None,
        }
    }

    /// The thing is not there (any more): what a deletion is content with.
    pub fn is_gone(&self) -> bool {
        use Errno::{EADDRNOTAVAIL, ENODEV, ENOENT, ENXIO, ESRCH};
        matches!(self.errno(), Some(ENOENT | ESRCH | ENODEV | ENXIO | EADDRNOTAVAIL))
    }

    /// There is no way to the address.
    pub fn is_unreachable(&self) -> bool {
        use Errno::{EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH};
        // A lookup that meets an unreachable, prohibiting or blackhole route answers with that route's own error.
        matches!(self.errno(), Some(ENETUNREACH | EHOSTUNREACH | EACCES | EINVAL))
    }

    /// The kernel does not know what it was asked for.
    pub fn is_unsupported(&self) -> bool {
        self.errno() == Some(Errno::EOPNOTSUPP)
    }

    /// Whoever asked may not.
    pub fn is_forbidden(&self) -> bool {
        matches!(self.errno(), Some(Errno::EPERM | Errno::EACCES))
    }

    /// Another socket or device has the port.
    pub fn address_in_use(&self) -> bool {
        self.errno() == Some(Errno::EADDRINUSE)
    }

    /// The thing is in use by another, or has another content.
    pub fn is_busy(&self) -> bool {
        self.errno() == Some(Errno::EBUSY)
    }

    /// What was read before was changed by somebody meanwhile.
    pub fn is_outdated(&self) -> bool {
        self.errno() == Some(Errno::ERESTART)
    }

    /// The thing is there already.
    pub fn already_there(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.operation)?;
        match &self.answer {
            Reply::Kernel { errno, said } => {
                write!(f, "{} ({})", errno.desc(), *errno as i32)?;
                said.as_ref().map_or(Ok(()), |said| write!(f, ", the kernel says: {said}"))
            }
            Reply::System(error) => match error.raw_os_error() {
                Some(number) => write!(f, "{} ({number})", Errno::from_raw(number).desc()),
                None => write!(f, "{error}"),
            },
            Reply::Unreadable(why) => write!(f, "no readable answer of the kernel: {why}"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_the_wish_then_the_kernels_answer() {
        let error = Error::kernel("add route 10.0.0.1/32", 17, Some("Nexthop has invalid gateway".into()));
        let expected = "add route 10.0.0.1/32: File exists (17), the kernel says: Nexthop has invalid gateway";
        assert_eq!(error.to_string(), expected);
        assert!(error.already_there() && !error.is_gone());
        assert!(Error::kernel("x", 3, None).is_gone());
    }
}
