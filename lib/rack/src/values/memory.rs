// SPDX-License-Identifier: Apache-2.0
//! Amounts of memory.

use super::{ValueError, as_text, shorten};
use racklet_tell::text::decimal;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An amount of memory in bytes, written as `256Mi` or `1Gi`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Memory(u64);

impl Memory {
    /// Bytes; always a whole number of MiB.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0
    }

    /// This many mebibytes, at least one.
    #[must_use]
    pub fn from_mib(mib: u32) -> Self {
        Self(u64::from(mib.max(1)) << 20)
    }

    /// Mebibytes.
    #[must_use]
    pub fn mib(&self) -> u64 {
        self.0 >> 20
    }
}

impl FromStr for Memory {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parsed = [("Mi", 20), ("Gi", 30), ("Ti", 40)]
            .iter()
            .find_map(|(unit, shift)| {
                let count: u64 = decimal(text.strip_suffix(unit)?)?;
                (count > 0 && count <= 1 << 20).then(|| count << shift)
            });
        parsed.map(Self).ok_or_else(|| {
            ValueError::new(format!(
                "`{}` is not an amount of memory: write for example 256Mi or 1Gi",
                shorten(text)
            ))
        })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1 << 30) {
            write!(f, "{}Gi", self.0 >> 30)
        } else {
            write!(f, "{}Mi", self.0 >> 20)
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

as_text!(Memory, "^[1-9][0-9]*(Mi|Gi|Ti)$", "256Mi");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_a_unit_and_no_overflow() {
        assert_eq!("256Mi".parse::<Memory>().expect("good").bytes(), 256 << 20);
        assert_eq!("1Gi".parse::<Memory>().expect("good").to_string(), "1Gi");
        for bad in [
            "",
            "256",
            "256M",
            "0Mi",
            "-1Mi",
            "+1Mi",
            "1.5Gi",
            "99999999999999999999Gi",
            "2000000Ti",
            "0256Mi",
        ] {
            assert!(bad.parse::<Memory>().is_err(), "{bad}");
        }
    }
}
