//! Mutations of inputs by a seeded generator: the same seed gives the same input, on every machine.

/// A small generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose numbers follow from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub const fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Longest mutation, in bytes.
const MAX_LEN: usize = 4096;
/// Bytes at which parsers change their minds.
const EDGES: [u8; 10] = [0, 1, 2, 4, 6, 0x0f, 0x40, 0x7f, 0x80, 0xff];

/// Changes `input` in one to eight places; `other` is an input that pieces may be taken from.
pub fn mutate(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    for _ in 0..=rng.below(8) {
        let at = rng.below(input.len() + 1);
        let len = rng.below(16) + 1;
        let end = (at + len).min(input.len());
        match rng.below(8) {
            0 => {
                input.drain(at..end);
            }
            1 => {
                let piece: Vec<u8> = (0..len).map(|_| rng.next() as u8).collect();
                input.splice(at..at, piece);
            }
            2 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            3 if !other.is_empty() => {
                let from = rng.below(other.len());
                let len = rng.below(other.len() - from) + 1;
                input.splice(at..at, other[from..from + len].iter().copied());
            }
            4 => input.truncate(at.max(1)),
            operation if at < input.len() => {
                input[at] = match operation {
                    5 => EDGES[rng.below(EDGES.len())],
                    6 => input[at].wrapping_add((rng.below(9) as u8).wrapping_sub(4)),
                    _ => input[at] ^ (1 << rng.below(8)),
                };
            }
            _ => input.push(rng.next() as u8),
        }
        input.truncate(MAX_LEN);
    }
}
