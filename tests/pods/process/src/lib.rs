//! What the test pods have in common: how their programs start, log and end (`program`, `journal`), and how their tests
//! start a program, wait for what it logs and stop it (`process`). What may not live here: what only one of them does.

pub mod journal;
pub mod process;
pub mod program;
