//! BPF: programs as values, written instruction by instruction, and the kernel's maps and loaded programs.
//!
//! There is no compiler and no object file: what a program does is in its source here, and a build needs nothing but
//! Rust. What may not live here: what any one program is for.

mod assembler;
mod call;
mod map;
mod program;

pub use self::assembler::{Code, Condition, Label, Register, Width};
pub use self::map::{Map, Number};
pub use self::program::Program;
