//! Scenes of NetworkPolicies without an API: files in a directory, pods with labels, packets between them. What may not live
//! here: policies of the Kubernetes API (`tests/apiserver/policies.rs`), and what follows from objects without a kernel
//! (`daemon/src/policy/`).

mod attempts;
mod beside_many;
mod cases_of_connections;
mod cases_of_pods;
mod cases_of_rules;
mod directory;
mod flows;
mod foreign;
mod labels;
mod packets;
mod readiness;
mod refused_log;
mod replaced_pods;
mod services;
mod stage;
mod tiers;
mod too_large;
mod without_ports;
