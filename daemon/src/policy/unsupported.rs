//! What rules of ClusterNetworkPolicies have that podwire does not support.

/// What a rule has that is not supported, so that it fails closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The field.
    pub field: String,
    /// What it is.
    pub what: Unknown,
    /// Whether its rule accepts: then it matches nothing. Otherwise it denies everything.
    pub accepts: bool,
}

/// What is not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Something that is called so.
    Named(&'static str),
    /// Something that has none of the fields that are known: the API is newer.
    Newer,
}
