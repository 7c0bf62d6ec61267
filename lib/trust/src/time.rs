// SPDX-License-Identifier: Apache-2.0
//! Times as people read them; manifests, floors and what programs say to each other have Unix seconds.

use core::fmt;

/// Unix seconds, shown as `2026-09-21 14:13:20 UTC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utc(pub u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Days to year, month, day: https://howardhinnant.github.io/date_algorithms.html, from 0000-03-01.
        let (days, second) = (self.0 / 86_400 + 719_468, self.0 % 86_400);
        let (era, day) = (days / 146_097, days % 146_097);
        let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 {
            shifted + 3
        } else {
            shifted - 9
        };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString as _;

    #[test]
    fn dates_read_as_dates() {
        for (unix, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_827_696, "2000-02-29 12:34:56 UTC"),
            (1_790_000_000, "2026-09-21 14:13:20 UTC"),
            (4_102_444_799, "2099-12-31 23:59:59 UTC"),
            // Whatever a manifest says is shown.
            (u64::MAX, "584554051223-11-09 07:00:15 UTC"),
        ] {
            assert_eq!(Utc(unix).to_string(), text);
        }
    }
}
