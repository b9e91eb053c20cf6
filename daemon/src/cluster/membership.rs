//! What the cluster says: its ranges and its nodes, as written by the operator or listed by the Kubernetes API. Not
//! validated: `view` does that.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_conf::shown;
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

/// The most nodes of a membership file.
const NODES: usize = 65_536;

/// The most brackets, quotes, separators, spaces and line breaks of a membership file. Each becomes a value of the parser's, of
/// fifty bytes, right or wrong: of a file with nothing else that would be half a gigabyte. Sixty thousand nodes have less.
const SEPARATORS: usize = 2_500_000;

/// The most characters of what is said of a place: a key may be as long as the file.
const LONGEST_TEXT: usize = 512;

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
    /// When it is not TOML, or lacks a key, or has one that there is not; or has more in it than is read.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if let Some((place, _)) = text.bytes().enumerate().filter(|(_, byte)| is_separator(*byte)).nth(SEPARATORS) {
            let why = format!(
                "more than {SEPARATORS} brackets, quotes, separators and spaces up to here, the most that are read"
            );
            return Err(ParseError::at(text, place, why));
        }
        let membership: Self = toml::from_str(text).map_err(|error: toml::de::Error| {
            let why = error.message().lines().collect::<Vec<_>>().join(", ");
            ParseError::at(text, error.span().map_or(0, |span| span.start), shown::bounded(&why, LONGEST_TEXT))
        })?;
        match membership.nodes.len() {
            0..=NODES => Ok(membership),
            nodes => Err(ParseError::at(text, 0, format!("it has {nodes} nodes, and at most {NODES} are read"))),
        }
    }
}

/// Whether a byte ends a word of TOML, and may be one itself.
fn is_separator(byte: u8) -> bool {
    matches!(byte, b'[' | b']' | b'{' | b'}' | b',' | b'=' | b'.' | b'"' | b'\'' | b'#' | b' ' | b'\t' | b'\r' | b'\n')
}

impl ParseError {
    /// At this byte of a text.
    fn at(text: &str, place: usize, why: String) -> Self {
        let before = text.get(..place).unwrap_or_default();
        Self {
            line: before.matches('\n').count() + 1,
            column: before.chars().rev().take_while(|it| *it != '\n').count() + 1,
            text: why,
        }
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
        let long = format!("\"{}\\u001b\" = 1\n", "k".repeat(1_000_000));
        let error = Membership::parse(&long).unwrap_err().to_string();
        assert!(error.len() < 1024 && error.ends_with('…'), "{error}");
        let error = Membership::parse("cluster_cidrs = [").unwrap_err().to_string();
        assert_eq!(error, "line 1, column 18: unclosed array, expected `]`");
    }

    #[test]
    fn as_many_nodes_as_fit_are_read_and_a_text_of_separators_is_not() {
        let node = |number: usize| {
            let [.., a, b] = number.to_be_bytes();
            format!(
                "[[node]]\nname = \"node-{number}.example\"\naddress = \"192.168.{a}.{b}\"\npod_cidrs = [\"10.{a}.{b}.0/24\", \"fd00:{number:x}::/64\"]\n"
            )
        };
        let text = |nodes| "cluster_cidrs = []\n".to_owned() + &(0..nodes).map(node).collect::<String>();
        let whole = text(60_000);
        assert_eq!(Membership::parse(&whole).unwrap().nodes.len(), 60_000, "of {} bytes", whole.len());
        let short = "cluster_cidrs = []\nnode = [".to_owned();
        let many = short + &"{name=\"\",address=\"::\",pod_cidrs=[]},".repeat(NODES + 1) + "]";
        let error = Membership::parse(&many).unwrap_err().to_string();
        assert_eq!(error, "line 1, column 1: it has 65537 nodes, and at most 65536 are read");
        for filler in ["[", "a.", "\n", "{a=", " \t", "''"] {
            let error = Membership::parse(&filler.repeat(4_000_000)).unwrap_err().to_string();
            assert!(error.contains("more than 2500000 brackets"), "{filler:?}: {error}");
        }
    }
}
