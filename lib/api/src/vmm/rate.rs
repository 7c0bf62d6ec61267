// SPDX-License-Identifier: Apache-2.0
//! How fast a device may be. What is more waits, and is not lost.

use serde::{Deserialize, Serialize};

/// The most of a limit: as good as none.
const MOST: u64 = 1 << 40;
/// The least burst of bytes: a card's largest frame, 65,566 bytes with its header, has to fit, and is never cut.
const LEAST_BYTES: u64 = 128 << 10;

/// So many bytes per second.
pub type ByteLimit = Limit<LEAST_BYTES>;
/// So many requests or packets per second.
pub type CountLimit = Limit<1>;

/// So much per second, and after a rest so much at once: never more than `burst + per_second * seconds`, in any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Limit<const LEAST: u64> {
    /// 1 to 2^40.
    per_second: u64,
    /// `LEAST` to 2^40; where it is not written, a second's worth or the least.
    burst: u64,
}

impl<const LEAST: u64> Limit<LEAST> {
    /// At least 1.
    #[must_use]
    pub fn per_second(&self) -> u64 {
        self.per_second
    }

    /// At least `LEAST`.
    #[must_use]
    pub fn burst(&self) -> u64 {
        self.burst
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    per_second: u64,
    #[serde(default)]
    burst: Option<u64>,
}

impl<const LEAST: u64> TryFrom<Written> for Limit<LEAST> {
    type Error = String;

    fn try_from(written: Written) -> Result<Limit<LEAST>, String> {
        let Written { per_second, burst } = written;
        if !(1..=MOST).contains(&per_second) {
            return Err(format!(
                "per_second: {per_second} is not within 1 to {MOST}"
            ));
        }
        let burst = burst.unwrap_or(per_second.max(LEAST));
        if !(LEAST..=MOST).contains(&burst) {
            return Err(format!("burst: {burst} is not within {LEAST} to {MOST}"));
        }
        Ok(Limit { per_second, burst })
    }
}

/// Of a disk. What is absent is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskRate {
    /// Read, written and zeroed together. A discard moves none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteLimit>,
    /// Requests of any kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<CountLimit>,
}

/// Of a network card in one direction. What is absent is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Of whole frames. A large one that is cut further on counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteLimit>,
    /// Frames, as the guest gives and gets them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<CountLimit>,
}

/// Of a network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardRate {
    /// By the guest.
    #[serde(default)]
    pub sent: Flow,
    /// By the guest. What waits at the host is dropped there when it becomes too much, as on a slow line.
    #[serde(default)]
    pub received: Flow,
}

/// Which device is to have which limits from now on. They take the place of all that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RateOrder {
    /// A disk.
    Disk {
        /// From 0, as in `disks`.
        number: u8,
        /// None where absent.
        #[serde(default)]
        rate: DiskRate,
    },
    /// A network card.
    Card {
        /// From 0, as in `networks`.
        number: u8,
        /// None where absent.
        #[serde(default)]
        rate: CardRate,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_bounds_and_a_seconds_worth_of_burst() {
        let bytes = |text: &str| serde_json::from_str::<ByteLimit>(text);
        let limit = bytes(r#"{"per_second":1000000}"#).unwrap();
        assert_eq!((limit.per_second(), limit.burst()), (1_000_000, 1_000_000));
        let slow = bytes(r#"{"per_second":1}"#).unwrap();
        assert_eq!((slow.per_second(), slow.burst()), (1, 131_072));
        let written = serde_json::to_string(&slow).unwrap();
        assert_eq!(bytes(&written).unwrap(), slow);
        let count: CountLimit = serde_json::from_str(r#"{"per_second":7,"burst":1}"#).unwrap();
        assert_eq!((count.per_second(), count.burst()), (7, 1));
        for (text, why) in [
            (r#"{"per_second":0}"#, "per_second: 0"),
            (
                r#"{"per_second":1099511627777}"#,
                "per_second: 1099511627777",
            ),
            (r#"{"per_second":9,"burst":131071}"#, "burst: 131071"),
            (r#"{"per_second":9,"burst":1099511627777}"#, "burst"),
            (r#"{"per_second":9,"bursts":1}"#, "unknown field"),
            (r#"{"burst":131072}"#, "per_second"),
            (r#"{"per_second":-1}"#, "per_second"),
        ] {
            let error = bytes(text).unwrap_err().to_string();
            let shown = if why == "per_second" {
                "invalid value"
            } else {
                why
            };
            assert!(
                error.contains(why) || error.contains(shown),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn an_order_says_which_device_and_what_is_absent_is_not_limited() {
        let order = |text: &str| serde_json::from_str::<RateOrder>(text);
        let text = r#"{"disk":{"number":1,"rate":{"operations":{"per_second":5}}}}"#;
        let RateOrder::Disk { number: 1, rate } = order(text).unwrap() else {
            panic!("{text}");
        };
        assert_eq!((rate.bytes, rate.operations.unwrap().burst()), (None, 5));
        assert_eq!(
            order(r#"{"card":{"number":0}}"#).unwrap(),
            RateOrder::Card {
                number: 0,
                rate: CardRate::default()
            }
        );
        for text in [
            r#"{"disk":{"rate":{}}}"#,
            r#"{"disk":{"number":0,"rate":{"packets":{"per_second":1}}}}"#,
            r#"{"card":{"number":0,"rate":{"bytes":{"per_second":1}}}}"#,
            r#"{"sockets":{"number":0}}"#,
        ] {
            assert!(order(text).is_err(), "{text}");
        }
    }
}
