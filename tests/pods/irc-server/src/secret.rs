//! A password that the server was given: it is compared, and neither shown nor written.

use std::{fmt, hint::black_box};

/// What stands for a password where a value is printed.
const HIDDEN: &str = "[password]";

/// A password, of clients or of the server operator.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// Takes the password.
    pub(crate) fn new(password: String) -> Self {
        Self(password)
    }

    /// Whether `given` is the password. The time depends on the length of what was given, not on how much of it is
    /// right.
    pub(crate) fn is(&self, given: &str) -> bool {
        let wanted = self.0.as_bytes();
        let mut difference = usize::from(given.len() != wanted.len());
        for (index, byte) in given.bytes().enumerate() {
            let counterpart = wanted.get(index % wanted.len().max(1)).copied().unwrap_or_default();
            // Without the box the loop might be ended at the first byte that differs.
            difference = black_box(difference | usize::from(byte ^ counterpart));
        }
        difference == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn secrets_are_the_same_only_when_every_byte_is() {
        let secret = Secret::new("secret".to_owned());
        assert!(secret.is("secret"));
        for wrong in ["", "s", "secre", "secret!", "Secret", "secretsecret", "xxxxxx"] {
            assert!(!secret.is(wrong), "{wrong}");
        }
        assert!(!Secret::new(String::new()).is("x"));
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Some(Secret::new("sesame".to_owned()))), "Some([password])");
    }
}
