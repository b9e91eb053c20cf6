//! NetworkPolicy as values: the objects (pods, namespaces, policies), what selects what, and what follows from all of them
//! for the pods of this node, as small numbers that the kernel can look up.
//!
//! ```text
//! API's JSON, YAML files → Pod, Namespace, NetworkPolicy → compiler → Compiled → changes, verdict, explanation
//! ```
//! What may not live here: a socket, a file, a clock, a log; all of it is pure. Who reads the objects and who writes the
//! compiled form into the kernel stand above.

pub mod changes;
pub mod compiled;
pub mod compiler;
pub mod documents;
pub mod element;
pub mod explanation;
pub mod inputs;
pub mod ip_block;
pub mod labels;
pub mod metadata;
pub mod named_ports;
pub mod namespace;
pub mod network_policy;
pub mod pod;
pub mod port;
pub mod rejected;
pub mod rule;
pub mod selector;
pub mod text;

mod atoms;
mod behind;
mod numbers;
mod pool;
mod port_ranges;
mod rules;
mod schema;
mod segments;
mod subjects;
mod syntax;

#[cfg(test)]
mod tests;
