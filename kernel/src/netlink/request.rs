//! A request to the kernel, of whatever message.

/// A message with its flags and the sentence that an error will begin with.
#[derive(Debug, Clone)]
pub struct Request<T> {
    /// What is wished, as in "add route 10.244.1.5/32": an error is this, a colon, and the kernel's answer.
    pub operation: String,
    /// The message.
    pub message: T,
    /// Flags beyond `NLM_F_REQUEST`.
    pub flags: u16,
    /// Whether it is granted as well when there is no such thing: what should go and has gone, has gone.
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
