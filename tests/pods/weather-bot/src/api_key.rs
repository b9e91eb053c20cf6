//! The key of the weather API. It leaves this type only into a query of HTTP; it has no `Debug` and no `Display`.

/// What stands in a text in place of the key.
const HIDDEN: &str = "[key]";

/// A key that is not empty and has neither white space nor control characters.
pub(crate) struct ApiKey(String);

impl ApiKey {
    /// Takes the key as it stands in the environment. `None` when a character is white space or a control character
    /// (mostly the line end of a file that a secret was made from) or when it is empty.
    pub(crate) fn new(text: String) -> Option<Self> {
        let good =
            !text.is_empty() && !text.chars().any(|character| character.is_whitespace() || character.is_control());
        good.then_some(Self(text))
    }

    /// The key itself, for the query of a request and nothing else.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// The text with each occurrence of the key replaced: a service may repeat the key in an error message.
    pub(crate) fn hide_in(&self, text: &str) -> String {
        text.replace(&self.0, HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_replaced_wherever_a_text_repeats_it() {
        let key = ApiKey::new("0a1b".to_owned()).unwrap();
        assert_eq!(key.hide_in("0a1b is invalid, not 0a1b0a1b"), "[key] is invalid, not [key][key]");
    }

    #[test]
    fn an_empty_key_or_one_with_a_line_end_is_refused() {
        for text in ["", " ", "0a1b\n", "0a 1b", "0a\u{0}1b"] {
            assert!(ApiKey::new(text.to_owned()).is_none(), "{text:?}");
        }
    }
}
