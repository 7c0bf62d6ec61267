// SPDX-License-Identifier: Apache-2.0
//! Days, just enough to say how old a price is.

use std::time::{SystemTime, UNIX_EPOCH};

use racklet_trust::date::civil;

/// A day of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// The year.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
}

impl Date {
    /// `2026-11-25`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('-').map(|field| field.parse::<i64>().ok());
        let date = Self {
            year: fields.next()??,
            month: fields.next()??,
            day: fields.next()??,
        };
        let good = fields.next().is_none()
            && (2000..3000).contains(&date.year)
            && (1..=12).contains(&date.month)
            && (1..=31).contains(&date.day);
        good.then_some(date)
    }

    /// The machine's day in UTC.
    #[must_use]
    pub fn today() -> Self {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let [year, month, day] = civil(seconds / 86_400)
            .map(|field| i64::try_from(field).expect("a year that a clock shows fits"));
        Self { year, month, day }
    }

    /// Whole months from this day to a later one; negative when that is earlier.
    #[must_use]
    pub fn months_until(self, later: Self) -> i64 {
        let months = (later.year - self.year) * 12 + later.month - self.month;
        months - i64::from(later.day < self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> Date {
        Date::parse(text).unwrap()
    }

    #[test]
    fn months_are_counted_when_they_are_over() {
        let from = date("2026-11-25");
        assert_eq!(from.months_until(date("2027-11-24")), 11);
        assert_eq!(from.months_until(date("2028-05-25")), 18);
        assert_eq!(from.months_until(date("2026-11-24")), -1);
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in ["", "2026-11", "2026-13-01", "2026-11-25-1", "yesterday"] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }
}
