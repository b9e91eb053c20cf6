//! The case-mapping of nicks and channel names: `Folded`, the form in which two names are compared. What a well-formed
//! name is stands in `name.rs`.

/// A nick or channel name in the form in which names are compared: the `ascii` case-mapping that `005` advertises
/// (modern IRC documents, "CASEMAPPING"). Only A-Z are folded, so `{` and `[` are different letters here, unlike in
/// RFC 1459 section 2.2.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Folded(String);

impl Folded {
    /// Folds a name as it was written.
    pub(crate) fn new(name: &str) -> Self {
        Self(name.to_ascii_lowercase())
    }

    /// The folded name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Folded;

    #[test]
    fn letters_of_either_case_are_the_same_name() {
        assert_eq!(Folded::new("#Podwire"), Folded::new("#pODWIRE"));
    }

    #[test]
    fn brackets_and_braces_are_different_names_in_the_ascii_mapping() {
        assert_ne!(Folded::new("nick[]\\~"), Folded::new("nick{}|^"));
    }

    #[test]
    fn letters_outside_ascii_are_not_folded() {
        assert_ne!(Folded::new("#CAFÉ"), Folded::new("#café"));
        assert_eq!(Folded::new("#CAFé").as_str(), "#café");
    }
}
