//! The program as a file: its size, and what it needs beside itself.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// `PT_INTERP` (elf(5)): the program asks for a dynamic loader.
const INTERPRETER: u32 = 3;

/// `SHT_SYMTAB` (elf(5)): the symbols that stripping removes.
const SYMBOLS: u32 = 2;

/// What a program's file is like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Binary {
    /// In bytes.
    pub(crate) size: u64,
    /// It needs no loader and no library.
    pub(crate) linked_statically: bool,
    /// It has no symbols.
    pub(crate) stripped: bool,
}

impl Binary {
    /// Reads a program's file.
    ///
    /// # Errors
    /// When it cannot be read, or is no 64-bit little-endian ELF file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let bytes = fs::read(path).map_err(|error| format!("read {}: {error}", path.display()))?;
        Self::parse(&bytes).ok_or_else(|| format!("read {}: not a 64-bit little-endian ELF file", path.display()))
    }

    /// The tables of an ELF file: where they begin, and the length and number of their entries, are in its header.
    fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let kinds = |start: usize, kind_at: usize, length: usize, count: usize| {
            let start = usize::try_from(number(bytes, start, 8)?).ok()?;
            let length = usize::try_from(number(bytes, length, 2)?).ok()?;
            let count = usize::try_from(number(bytes, count, 2)?).ok()?;
            (0..count).map(|entry| number(bytes, start + entry * length + kind_at, 4)).collect::<Option<Vec<_>>>()
        };
        let (segments, sections) = (kinds(32, 0, 54, 56)?, kinds(40, 4, 58, 60)?);
        Some(Self {
            size: u64::try_from(bytes.len()).ok()?,
            linked_statically: !segments.contains(&INTERPRETER.into()),
            stripped: !sections.contains(&SYMBOLS.into()),
        })
    }
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let place = bytes.get(at..at + length)?;
    Some(place.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_distinguished_from_a_static_one() {
        // Tests are linked dynamically and have symbols.
        let own = Binary::read(&std::env::current_exe().unwrap()).unwrap();
        assert!(!own.linked_statically && !own.stripped && own.size > 100_000, "{own:?}");

        // An ELF header, a program header of the kind LOAD (1) at 64, and a section header of no kind at 120.
        let mut file = vec![0; 184];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        for (at, value) in [(32, 64), (40, 120), (54, 56), (56, 1), (58, 64), (60, 1), (64, 1)] {
            file[at] = value;
        }
        let expected = Binary { size: 184, linked_statically: true, stripped: true };
        assert_eq!(Binary::parse(&file), Some(expected));
        assert_eq!(Binary::parse(&file[..100]), None);
        assert_eq!(Binary::parse(b"#!/bin/sh\n"), None);
    }
}
