//! Which keys are surely absent: a split block Bloom filter (Putze et al. 2007, "Cache-, Hash- and
//! Space-Efficient Bloom Filters"; the same layout and salts as in Apache Parquet).
//!
//! A key's XXH3-64 picks one block of 32 bytes by its upper half and one bit in each of the block's
//! eight words by its lower half. With [`BITS_PER_KEY`] about 1 % of absent keys pass.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

const BITS_PER_KEY: usize = 10;
const BLOCK_BYTES: usize = 32;

const SALTS: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// The hash by which filters know a composite key.
pub(crate) fn hash_of(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The filter of keys with these hashes.
pub(super) fn build(hashes: &[u64]) -> Vec<u8> {
    let blocks = (hashes.len() * BITS_PER_KEY).div_ceil(BLOCK_BYTES * 8).max(1);
    let mut filter = vec![0u8; blocks * BLOCK_BYTES];
    for hash in hashes {
        let block = &mut filter[block_at(*hash, blocks)..][..BLOCK_BYTES];
        for (index, salt) in SALTS.iter().enumerate() {
            let bit = bit_of(*hash, *salt);
            block[index * 4 + bit / 8] |= 1 << (bit % 8);
        }
    }
    filter
}

/// Whether a key with this hash may be among those that the filter was built of.
pub(super) fn may_contain(filter: &Bytes, hash: u64) -> bool {
    let blocks = filter.len() / BLOCK_BYTES;
    if blocks == 0 {
        return true;
    }
    let block = &filter[block_at(hash, blocks)..][..BLOCK_BYTES];
    SALTS.iter().enumerate().all(|(index, salt)| {
        let bit = bit_of(hash, *salt);
        block[index * 4 + bit / 8] & (1 << (bit % 8)) != 0
    })
}

fn block_at(hash: u64, blocks: usize) -> usize {
    // The upper half scaled to the number of blocks: below it, so it fits.
    (((hash >> 32) * blocks as u64) >> 32) as usize * BLOCK_BYTES
}

fn bit_of(hash: u64, salt: u32) -> usize {
    (((hash & 0xffff_ffff) as u32).wrapping_mul(salt) >> 27) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_always_pass_and_others_seldom() {
        for count in [0u32, 1, 10, 1_000, 20_000] {
            let hash = |number: u32| hash_of(&number.to_le_bytes());
            let hashes: Vec<u64> = (0..count).map(hash).collect();
            let filter = Bytes::from(build(&hashes));
            assert!(hashes.iter().all(|hash| may_contain(&filter, *hash)));
            let others = (count..count + 10_000).filter(|n| may_contain(&filter, hash(*n)));
            assert!(others.count() < 250, "{count} keys");
        }
    }

    #[test]
    fn layout_is_fixed() {
        let filter = build(&[hash_of(b"a"), hash_of(b"b")]);
        assert_eq!(xxh3_64(&filter), LAYOUT_HASH);
    }

    /// What format version 1 gives for that filter.
    const LAYOUT_HASH: u64 = 14_157_473_193_854_818_850;
}
