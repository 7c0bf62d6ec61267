// SPDX-License-Identifier: Apache-2.0
//! An SNTP client (RFC 4330, RFC 5905 section 14): one question, one judged answer, and a choice among several.
//!
//! SNTP is not authenticated, so an answer is only ever a claim. What keeps a liar within bounds: the answer must
//! repeat 64 random bits that went out with the question, must lie at or after the caller's time floor, and, with
//! several servers, a majority must agree. The clock is not set here.

use core::time::Duration;

/// The port of time servers.
pub const PORT: u16 = 123;
/// Length of a question and of the part of an answer that is looked at.
pub const PACKET: usize = 48;
/// Seconds from 1900 (NTP) to 1970 (Unix).
const NTP_TO_UNIX: i64 = 2_208_988_800;
/// The longest round trip that still says something about the time.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(5);
/// The most uncertainty a server may admit to (root distance, RFC 5905 uses 1.5 s).
const MAX_ROOT_DISTANCE: Duration = Duration::from_millis(1500);
/// A clock further past the floor than this is a fault: the floor rises with every signed commit.
pub const MAX_AHEAD: Duration = Duration::from_secs(30 * 365 * 86_400);

/// A question on its way.
#[derive(Debug, Clone)]
pub struct Query {
    nonce: [u8; 8],
    sent: Duration,
}

/// A judged answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Unix time when the caller's monotonic clock showed zero.
    pub epoch: Duration,
    /// How far off that may be, in either direction.
    pub error: Duration,
    /// The server's distance from a reference clock.
    pub stratum: u8,
}

impl Sample {
    /// Unix time when the monotonic clock shows `now`.
    #[must_use]
    pub const fn at(&self, now: Duration) -> Duration {
        self.epoch.saturating_add(now)
    }
}

/// Why an answer does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too few bytes.
    #[error("{0} bytes are too few")]
    Short(usize),
    /// Not a server's answer in a known version.
    #[error("not a server's answer (version {version}, mode {mode})")]
    Mode {
        /// Version field.
        version: u8,
        /// Mode field.
        mode: u8,
    },
    /// Does not repeat the question's random timestamp.
    #[error("answers another question")]
    Origin,
    /// "Kiss-o'-death": the server wants to be left alone. Do not ask it again this boot.
    #[error("the server refuses service ({})", kiss(.0))]
    KissOfDeath([u8; 4]),
    /// The server says that its clock is not set.
    #[error("the server's clock is not synchronised")]
    Unsynchronised,
    /// The server's own error is too large.
    #[error("the server is off by up to {0:?}")]
    RootDistance(Duration),
    /// The answer took too long.
    #[error("round trip of {0:?}")]
    RoundTrip(Duration),
    /// Received after sent, or longer at the server than on the way.
    #[error("timestamps out of order")]
    Order,
    /// Before the time floor, or absurdly far after it.
    #[error("{0} s is before the time floor or absurdly far after it")]
    Implausible(i64),
}

fn kiss(code: &[u8; 4]) -> String {
    code.iter()
        .map(|byte| {
            if byte.is_ascii_graphic() {
                char::from(*byte)
            } else {
                '?'
            }
        })
        .collect()
}

impl Query {
    /// A question sent at `now`; `random` must be unpredictable (from `getrandom`). It stands where the client's clock
    /// would, which therefore does not leak.
    #[must_use]
    pub const fn new(random: u64, now: Duration) -> Self {
        // Zero would match a server that leaves the field empty.
        let nonce = if random == 0 { 1 } else { random };
        Self {
            nonce: nonce.to_be_bytes(),
            sent: now,
        }
    }

    /// The bytes to send.
    #[must_use]
    pub fn packet(&self) -> [u8; PACKET] {
        let mut packet = [0; PACKET];
        // No leap warning, version 4, mode 3 (client).
        packet[0] = 4 << 3 | 3;
        packet[40..].copy_from_slice(&self.nonce);
        packet
    }

    /// Judges an answer that arrived at `now`. `floor` is the Unix time before which it cannot be.
    // untrusted: sntp
    pub fn judge(&self, answer: &[u8], now: Duration, floor: Duration) -> Result<Sample, Refused> {
        let packet: &[u8; PACKET] = answer.first_chunk().ok_or(Refused::Short(answer.len()))?;
        let (leap, version, mode) = (packet[0] >> 6, packet[0] >> 3 & 7, packet[0] & 7);
        if mode != 4 || !(3..=4).contains(&version) {
            return Err(Refused::Mode { version, mode });
        }
        // Before anything else is believed, a kiss included.
        if packet[24..32] != self.nonce {
            return Err(Refused::Origin);
        }
        let stratum = packet[1];
        if stratum == 0 {
            return Err(Refused::KissOfDeath([
                packet[12], packet[13], packet[14], packet[15],
            ]));
        }
        if leap == 3 || stratum > 15 || packet[40..] == [0; 8] || packet[32..40] == [0; 8] {
            return Err(Refused::Unsynchronised);
        }
        let distance = short(packet, 4) / 2 + short(packet, 8);
        if distance > MAX_ROOT_DISTANCE {
            return Err(Refused::RootDistance(distance));
        }
        let trip = now.checked_sub(self.sent).ok_or(Refused::Order)?;
        if trip > MAX_ROUND_TRIP {
            return Err(Refused::RoundTrip(trip));
        }
        let received = timestamp(packet, 32, floor)?;
        let transmitted = timestamp(packet, 40, floor)?;
        let inside = transmitted.checked_sub(received).ok_or(Refused::Order)?;
        let on_the_way = trip.checked_sub(inside).ok_or(Refused::Order)?;
        // The answer left between "just now" and "one whole way ago": the middle, give or take half.
        let unix = transmitted.saturating_add(on_the_way / 2);
        Ok(Sample {
            epoch: unix.saturating_sub(now),
            error: on_the_way / 2 + distance,
            stratum,
        })
    }
}

/// 16.16 seconds.
fn short(packet: &[u8; PACKET], at: usize) -> Duration {
    let fixed = u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
    fraction(u64::from(fixed), 16)
}

/// `value` divided by two to the power of `bits`, as seconds.
fn fraction(value: u64, bits: u32) -> Duration {
    let nanoseconds = (u128::from(value) * 1_000_000_000) >> bits;
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// A 32.32 timestamp in the era that puts it nearest to the floor: 32 bits of seconds turn over in 2036.
fn timestamp(packet: &[u8; PACKET], at: usize, floor: Duration) -> Result<Duration, Refused> {
    let word = |at: usize| {
        u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
    };
    let floor_s = i64::try_from(floor.as_secs()).unwrap_or(i64::MAX - NTP_TO_UNIX - (1 << 33));
    let floor_ntp = floor_s + NTP_TO_UNIX;
    // Distance from the floor modulo one era, as a signed number.
    let distance = word(at)
        .wrapping_sub((floor_ntp & 0xffff_ffff) as u32)
        .cast_signed();
    let unix = floor_s + i64::from(distance);
    let ahead = u64::try_from(distance).map_err(|_| Refused::Implausible(unix))?;
    if ahead > MAX_AHEAD.as_secs() {
        return Err(Refused::Implausible(unix));
    }
    let seconds = u64::try_from(unix).map_err(|_| Refused::Implausible(unix))?;
    Ok(Duration::from_secs(seconds) + fraction(u64::from(word(at + 4)), 32))
}

/// What most of the samples agree on (Marzullo's algorithm over their error intervals): the middle of the stretch that
/// the most intervals share, provided that it is more than half of them. One sample agrees with itself.
#[must_use]
pub fn agree(samples: &[Sample]) -> Option<Sample> {
    // (where, is an end): at the same point beginnings sort first, so that intervals that touch overlap.
    let mut edges: Vec<(Duration, bool)> = samples
        .iter()
        .flat_map(|s| {
            [
                (s.epoch.saturating_sub(s.error), false),
                (s.epoch.saturating_add(s.error), true),
            ]
        })
        .collect();
    edges.sort_unstable();
    let (mut open, mut best, mut stretch) = (0_usize, 0_usize, None);
    for (index, (at, is_end)) in edges.iter().enumerate() {
        if *is_end {
            open -= 1;
        } else {
            open += 1;
            if open > best {
                best = open;
                stretch = edges.get(index + 1).map(|(end, _)| (*at, *end));
            }
        }
    }
    let (low, high) = stretch.filter(|_| best * 2 > samples.len())?;
    let error = (high - low) / 2;
    let epoch = low + error;
    let stratum = samples
        .iter()
        .filter(|s| s.epoch.abs_diff(epoch) <= s.error + error)
        .map(|s| s.stratum)
        .min()?;
    Some(Sample {
        epoch,
        error,
        stratum,
    })
}

#[cfg(test)]
mod tests;
