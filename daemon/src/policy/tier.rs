//! The tiers in which policies are asked, one after the other, and what a rule of a ClusterNetworkPolicy does with what it matches.

use std::fmt;

/// A tier: what an earlier one decides no later one is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// ClusterNetworkPolicies that nobody can override.
    Admin,
    /// NetworkPolicies: of a pod that they isolate they always decide.
    Network,
    /// ClusterNetworkPolicies for pods that no NetworkPolicy isolates.
    Baseline,
}

/// What a rule of a ClusterNetworkPolicy does with a connection that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It is allowed, and nothing else is asked.
    Accept,
    /// It is refused, and nothing else is asked.
    Deny,
    /// The rest of the tier is not asked.
    Pass,
}

impl Tier {
    /// The one of a ClusterNetworkPolicy that is called so.
    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Admin, Self::Baseline].into_iter().find(|tier| tier.to_string() == name)
    }
}

impl Action {
    /// The one of this name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "Accept" => Some(Self::Accept),
            "Deny" => Some(Self::Deny),
            "Pass" => Some(Self::Pass),
            _ => None,
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "Admin",
            Self::Network => "NetworkPolicy",
            Self::Baseline => "Baseline",
        })
    }
}
