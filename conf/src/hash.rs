//! The hash that names are derived from. Peers and versions must agree on it: it never changes.

/// FNV-1a, 64 bits, over the parts with a separator that no part contains, then mixed so that every bit depends on
/// every byte (the finaliser of SplitMix64): parts that differ only in the last letter have hashes that differ in about
/// half of the bits.
pub fn stable(parts: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_separated_and_the_value_never_changes() {
        assert_ne!(stable(&["ab", "c"]), stable(&["a", "bc"]));
        assert_eq!(stable(&["10.244.1.0/24"]), 3_666_978_951_151_590_337);
    }
}
