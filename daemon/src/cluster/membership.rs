//! What the cluster says: its ranges and its nodes, as written by the operator or listed by the Kubernetes API. Not
//! validated: `view` does that.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// The cluster, from the outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// The ranges that all pods are in.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// The nodes.
    #[serde(rename = "node", default)]
    pub nodes: Vec<Member>,
}

/// A node, as one entry of the membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its name, unique.
    pub name: String,
    /// Its own address, which the others reach it by.
    pub address: IpAddr,
    /// The prefixes that its pods' addresses are out of; the first one is what its place on the overlay follows from.
    pub pod_cidrs: Vec<IpNetwork>,
    /// Other addresses of the node, of both families, which its programs may send to pods from. The overlay is neither sent to
    /// nor from them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
}

/// The most other addresses of a node that count.
pub const OTHER_ADDRESSES: usize = 16;

/// Where a membership file is wrong, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {text}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
    /// What was expected.
    pub text: String,
}

impl Membership {
    /// Reads the membership file's text.
    ///
    /// # Errors
    /// When it is not TOML, or lacks a key, or has one that there is not.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            ParseError {
                line: before.matches('\n').count() + 1,
                column: before.chars().rev().take_while(|it| *it != '\n').count() + 1,
                text: error.message().lines().collect::<Vec<_>>().join(", "),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_sample_is_read() {
        let membership = Membership::parse(include_str!("../../../conf/nodes.toml")).unwrap();
        let names: Vec<_> = membership.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!((names, membership.cluster_cidrs.len()), (vec!["node-1", "node-2", "node-3"], 2));
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let text = "cluster_cidrs = []\n[[node]]\nname = \"a\"\nadress = \"10.0.0.1\"\n";
        let error = Membership::parse(text).unwrap_err().to_string();
        assert!(error.starts_with("line 4, column 1: unknown field `adress`, expected one of"), "{error}");
        let error = Membership::parse("cluster_cidrs = [").unwrap_err().to_string();
        assert_eq!(error, "line 1, column 18: unclosed array, expected `]`");
    }
}
