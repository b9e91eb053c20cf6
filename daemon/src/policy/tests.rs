//! The compiler against a naive evaluator on random clusters, and the cases that real implementations got wrong.

mod cases;
mod comparison;
mod evaluator;
mod objects;
mod random;
mod stability;
mod world;
