//! Tests of the ledger as a whole, on a scratch directory.

mod addresses;
mod damage;
mod host_ports;
mod known_records;
mod lifecycle;
mod model;
mod properties;
mod scratch;
mod steps;
