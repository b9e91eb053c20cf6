//! A request to the kernel, generic over its message.

/// A message with its flags and the operation that an error begins with.
#[derive(Debug, Clone)]
pub struct Request<T> {
    /// The operation, as in "add route 10.244.1.5/32": an error is this, a colon, and the kernel's reply.
    pub operation: String,
    /// The message.
    pub message: T,
    /// Flags beyond `NLM_F_REQUEST`.
    pub flags: u16,
    /// Whether it succeeds as well when the object does not exist (any more).
    pub removal: bool,
}

impl<T> Request<T> {
    /// A request with the given flags.
    pub fn new(operation: impl Into<String>, message: T, flags: u16) -> Self {
        Self { operation: operation.into(), message, flags, removal: false }
    }

    /// A request to remove something that may have gone already.
    pub fn removal(operation: impl Into<String>, message: T) -> Self {
        Self { operation: operation.into(), message, flags: 0, removal: true }
    }
}
