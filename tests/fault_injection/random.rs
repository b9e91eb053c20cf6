//! Random numbers that can be had again: PODWIRE_SEED in the environment is the seed, which is printed with every failure.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::sync::OnceLock;

/// A sequence of random numbers (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

/// The seed of this run.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| match std::env::var("PODWIRE_SEED") {
        Ok(given) => given.parse().unwrap(),
        Err(_) => {
            let mut bytes = [0; 4];
            File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).unwrap();
            u32::from_ne_bytes(bytes).into()
        }
    })
}

impl Random {
    /// The sequence of a name: each has its own.
    pub(crate) fn of(name: &str) -> Self {
        let mix = |mixed: u64, byte| (mixed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Self(name.bytes().fold(seed(), mix))
    }

    /// A number below a limit.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

impl fmt::Display for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PODWIRE_SEED={}", seed())
    }
}
