//! NetworkPolicy and ClusterNetworkPolicy as values: the objects (pods, namespaces, policies), what selects what, and what follows from all of them
//! for the pods of this node, as small numbers that the kernel can look up.
//!
//! ```text
//! API's JSON, YAML files → Pod, Namespace, NetworkPolicy, … → compiler → Compiled → changes, verdict, explanation
//! ```
//! What may not live here: a socket, a file, a clock, a log; all of it is pure. Who reads the objects and who writes the
//! compiled form into the kernel stand above.

pub mod change;
pub mod changes;
pub mod cluster_policy;
pub mod cluster_rule;
pub mod compiled;
pub mod compiler;
pub mod documents;
pub mod element;
pub mod explanation;
pub mod incremental;
pub mod ineffective;
pub mod ineffective_cluster;
pub mod inputs;
pub mod ip_block;
pub mod labels;
pub mod metadata;
pub mod named_ports;
pub mod namespace;
pub mod network_policy;
pub mod owners;
pub mod pod;
pub mod port;
pub mod question;
pub mod rejected;
pub mod restricted;
pub mod rule;
pub mod selector;
pub mod service_blocks;
pub mod service_range;
pub mod text;
pub mod tier;
pub mod too_large;
pub mod unsupported;

mod addresses;
mod atoms;
mod behind;
mod elements;
mod judge;
mod numbers;
mod pods_of;
mod pool;
mod port_lists;
mod port_ranges;
mod rows;
mod rules;
mod schema;
mod segments;
mod subjects;
mod tiers;

#[cfg(test)]
mod tests;
