//! A program as a list of instructions, with labels to jump to. One method, one instruction of RFC 9669.

use std::os::fd::AsRawFd;

use crate::bpf::map::{Map, Number};

/// The length of an instruction in bytes (RFC 9669, section 3.2).
pub(super) const LENGTH: usize = 8;

/// Classes, sizes, modes and operations (RFC 9669, section 3).
const LOAD_WIDE: u8 = 0x18;
const LOAD: u8 = 0x61;
const STORE_NUMBER: u8 = 0x62;
const STORE: u8 = 0x63;
const ARITHMETIC: u8 = 0x07;
const JUMP: u8 = 0x05;
const OF_REGISTER: u8 = 0x08;
const ADD: u8 = 0x00;
const AND: u8 = 0x50;
const SHIFT_LEFT: u8 = 0x60;
const SHIFT_RIGHT: u8 = 0x70;
const MOVE: u8 = 0xb0;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
/// `BPF_PSEUDO_MAP_FD`, `BPF_PSEUDO_MAP_VALUE` (uapi/linux/bpf.h): the immediate is a map's descriptor; it loads the
/// map, or the address of its first value.
const MAP: u8 = 1;
const VALUE: u8 = 2;

/// A register. R0 is a result, R1 to R5 are arguments and clobbered by a call, R6 to R9 are preserved, R10 is the end
/// of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are numbers")]
pub enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// How much is loaded or stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 4 bytes.
    Word = 0x00,
    /// 2 bytes.
    Half = 0x08,
    /// 1 byte.
    Byte = 0x10,
    /// 8 bytes.
    Double = 0x18,
}

/// When a jump is taken; numbers are compared unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Equal.
    Equal = 0x10,
    /// Greater.
    Above = 0x20,
    /// Some bit is set in both.
    Bit = 0x40,
    /// Not equal.
    Different = 0x50,
}

/// A place to jump to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// A program that is being written.
#[derive(Debug, Default)]
pub struct Code {
    instructions: Vec<Instruction>,
    /// The position of each label, once it is placed.
    labels: Vec<Option<usize>>,
    /// Which instruction jumps to which label.
    jumps: Vec<(usize, Label)>,
}

#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    number: i32,
}

impl Code {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    /// A label that is not placed yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Places a label here.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.instructions.len());
    }

    /// to = number
    pub fn set(&mut self, to: Register, number: i32) {
        self.push(ARITHMETIC | MOVE, to as u8, 0, 0, number);
    }

    /// to = from
    pub fn copy(&mut self, to: Register, from: Register) {
        self.push(ARITHMETIC | MOVE | OF_REGISTER, to as u8, from as u8, 0, 0);
    }

    /// to += number
    pub fn add(&mut self, to: Register, number: i32) {
        self.push(ARITHMETIC | ADD, to as u8, 0, 0, number);
    }

    /// to += from
    pub fn add_register(&mut self, to: Register, from: Register) {
        self.push(ARITHMETIC | ADD | OF_REGISTER, to as u8, from as u8, 0, 0);
    }

    /// to &= number, whose sign is extended.
    pub fn and(&mut self, to: Register, number: i32) {
        self.push(ARITHMETIC | AND, to as u8, 0, 0, number);
    }

    /// to <<= bits
    pub fn shift_left(&mut self, to: Register, bits: i32) {
        self.push(ARITHMETIC | SHIFT_LEFT, to as u8, 0, 0, bits);
    }

    /// to >>= bits
    pub fn shift_right(&mut self, to: Register, bits: i32) {
        self.push(ARITHMETIC | SHIFT_RIGHT, to as u8, 0, 0, bits);
    }

    /// to = what is at base + offset
    pub fn load(&mut self, width: Width, to: Register, base: Register, offset: i16) {
        self.push(LOAD | width as u8, to as u8, base as u8, offset, 0);
    }

    /// What is at base + offset = from
    pub fn store(&mut self, width: Width, base: Register, offset: i16, from: Register) {
        self.push(STORE | width as u8, base as u8, from as u8, offset, 0);
    }

    /// What is at base + offset = number
    pub fn store_number(&mut self, width: Width, base: Register, offset: i16, number: i32) {
        self.push(STORE_NUMBER | width as u8, base as u8, 0, offset, number);
    }

    /// to = a map, for a helper.
    pub fn map(&mut self, to: Register, map: &Map) {
        self.push(LOAD_WIDE, to as u8, MAP, 0, map.0.as_raw_fd());
        self.push(0, 0, 0, 0, 0);
    }

    /// to = the value of a [`Number`].
    pub fn number(&mut self, to: Register, number: &Number) {
        self.push(LOAD_WIDE, to as u8, VALUE, 0, number.0.as_raw_fd());
        self.push(0, 0, 0, 0, 0);
        self.load(Width::Double, to, to, 0);
    }

    /// Jumps to a label.
    pub fn jump(&mut self, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.push(JUMP, 0, 0, 0, 0);
    }

    /// Jumps to a label if the condition holds for a register and a number.
    pub fn jump_if(&mut self, condition: Condition, left: Register, right: i32, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.push(JUMP | condition as u8, left as u8, 0, 0, right);
    }

    /// Jumps to a label if the condition holds for two registers.
    pub fn jump_if_registers(&mut self, condition: Condition, left: Register, right: Register, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.push(JUMP | condition as u8 | OF_REGISTER, left as u8, right as u8, 0, 0);
    }

    /// Calls a kernel helper (`BPF_FUNC_*`).
    pub fn call(&mut self, helper: i32) {
        self.push(JUMP | CALL, 0, 0, 0, helper);
    }

    /// Returns R0.
    pub fn exit(&mut self) {
        self.push(JUMP | EXIT, 0, 0, 0, 0);
    }

    fn push(&mut self, code: u8, destination: u8, source: u8, offset: i16, number: i32) {
        self.instructions.push(Instruction { code, destination, source, offset, number });
    }

    /// As the kernel reads it. A jump to a label that was not placed has an invalid target, which the verifier refuses.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut instructions = self.instructions.clone();
        for (from, label) in &self.jumps {
            let to = self.labels[label.0].and_then(|to| i16::try_from(to as i64 - *from as i64 - 1).ok());
            instructions[*from].offset = to.unwrap_or(i16::MAX);
        }
        instructions.iter().flat_map(|instruction| instruction.bytes()).collect()
    }
}

impl Instruction {
    fn bytes(self) -> [u8; LENGTH] {
        let registers = match cfg!(target_endian = "little") {
            true => self.destination | self.source << 4,
            false => self.destination << 4 | self.source,
        };
        let ([a, b], [c, d, e, f]) = (self.offset.to_ne_bytes(), self.number.to_ne_bytes());
        [self.code, registers, a, b, c, d, e, f]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_match_the_kernels_macros() {
        let mut code = Code::new();
        code.set(Register::R0, -1);
        code.copy(Register::R6, Register::R1);
        code.load(Width::Word, Register::R2, Register::R6, 32);
        code.store(Width::Double, Register::R10, -8, Register::R2);
        code.store_number(Width::Byte, Register::R10, -44, 4);
        code.call(12);
        code.exit();
        let expected = [0xb7, 0xbf, 0x61, 0x7b, 0x72, 0x85, 0x95];
        let bytes = code.bytes();
        assert_eq!(bytes.iter().step_by(LENGTH).copied().collect::<Vec<_>>(), expected);
        if cfg!(target_endian = "little") {
            assert_eq!(bytes[..8], [0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
            assert_eq!(bytes[16..24], [0x61, 0x62, 32, 0, 0, 0, 0, 0]);
            assert_eq!(bytes[24..32], [0x7b, 0x2a, 0xf8, 0xff, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn a_jump_is_relative_to_the_next_instruction() {
        let mut code = Code::new();
        let (end, start) = (code.label(), code.label());
        code.place(start);
        code.jump_if(Condition::Equal, Register::R1, 0, end);
        code.jump(start);
        code.place(end);
        code.exit();
        let bytes = code.bytes();
        assert_eq!(i16::from_ne_bytes([bytes[2], bytes[3]]), 1);
        assert_eq!(i16::from_ne_bytes([bytes[10], bytes[11]]), -2);
    }
}
