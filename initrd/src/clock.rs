//! The guest's wall clock, and the randomness that it is given together with the time.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::Duration;

use dataplane_agent::Answer;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

use crate::sys;

pub(crate) const SEED_BYTES: usize = 32;
const RANDOM: &str = "/dev/random";

pub(crate) fn read() -> Result<Answer, String> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).map_err(|errno| format!("read the clock: {}", errno.desc()))?;
    let unix_ns = u64::try_from(Duration::from(now).as_nanos()).unwrap_or(u64::MAX);
    Ok(Answer::Clock { unix_ns })
}

/// Sets the clock first: it is what is late. Then the seed goes into the random pool, credited in full, and the kernel's
/// generator is made to draw from the pool at once (random(4)): two guests from one snapshot give the same numbers
/// until then.
pub(crate) fn set(unix_ns: u64, seed: &str) -> Result<Answer, String> {
    let seed = parse_seed(seed).ok_or("the seed is not 32 bytes in hex")?;
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from(Duration::from_nanos(unix_ns)))
        .map_err(|errno| format!("set the clock: {}", errno.desc()))?;
    let pool = File::open(RANDOM).map_err(|error| format!("open {RANDOM}: {error}"))?;
    sys::add_entropy(pool.as_fd(), &seed).map_err(|errno| format!("add to the random pool: {}", errno.desc()))?;
    sys::reseed_random(pool.as_fd()).map_err(|errno| format!("reseed from the random pool: {}", errno.desc()))?;
    Ok(Answer::Done)
}

fn parse_seed(hex: &str) -> Option<[u8; SEED_BYTES]> {
    let mut seed = [0; SEED_BYTES];
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if pairs.len() != SEED_BYTES || !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (byte, [high, low]) in seed.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_exactly_32_bytes_of_hex() {
        let seed = parse_seed(&"0aF1".repeat(16)).unwrap();
        assert_eq!(seed[..3], [0x0a, 0xf1, 0x0a]);
        for wrong in ["", "0", &"00".repeat(31), &"00".repeat(33), &"+1".repeat(32), &"ä".repeat(32), &"0".repeat(65)]
        {
            assert_eq!(parse_seed(wrong), None, "{wrong}");
        }
        assert!(set(0, "no seed").is_err());
    }

    #[test]
    fn the_clock_reads_as_the_system_does() {
        let Ok(Answer::Clock { unix_ns }) = read() else { panic!() };
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        assert!(now.abs_diff(u128::from(unix_ns)) < 10_000_000_000);
    }
}
