//! Addresses that are Services' (the API's ServiceCIDR): whatever they have is translated before policies judge.

use ipnetwork::IpNetwork;
use podwire_kernel::family;
use serde::Deserialize;

use crate::policy::metadata::Metadata;

/// What a ServiceCIDR has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRange {
    /// Its prefixes: one of each family at most.
    pub prefixes: Box<[IpNetwork]>,
}

/// A ServiceCIDR as the API writes it; what is not needed is skipped unread.
#[derive(Debug, Clone, Deserialize)]
pub struct Wire {
    /// Its metadata.
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Spec {
    #[serde(default)]
    cidrs: Vec<String>,
}

impl From<Wire> for ServiceRange {
    /// No policy follows from it, only what is said of them: a prefix that cannot be read is as good as one that is not known.
    fn from(wire: Wire) -> Self {
        let prefixes = wire.spec.cidrs.iter().filter_map(|prefix| prefix.parse::<IpNetwork>().ok());
        Self { prefixes: prefixes.map(family::masked).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_the_prefixes_of_both_families_and_none_that_cannot_be_read() {
        let text = r#"{"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16", "fd00:96::/112", "10.96"]},
            "status": {}}"#;
        let range = ServiceRange::from(serde_json::from_str::<Wire>(text).unwrap());
        let shown: Vec<_> = range.prefixes.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.96.0.0/16", "fd00:96::/112"]);
        let without = ServiceRange::from(serde_json::from_str::<Wire>(r#"{"metadata": {"name": "a"}}"#).unwrap());
        assert!(without.prefixes.is_empty());
    }
}
