//! The compiler against a naive evaluator on random clusters, and the cases that real implementations got wrong.

mod audit;
mod bounds;
mod cases;
mod cluster_policy;
mod comparison;
mod incremental;
mod objects;
mod stability;
mod world;
