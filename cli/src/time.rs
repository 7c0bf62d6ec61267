// SPDX-License-Identifier: Apache-2.0
//! Times as people read and write them. Files and JSON have Unix seconds.

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

const EXAMPLES: &str =
    "write how long ago (10m, 2h 30m, 3 days) or when (2026-03-01, 2026-03-01 17:00, 17:00)";

/// Now, in Unix seconds.
pub(crate) fn now() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}

/// Unix milliseconds by the reader's own clock.
pub(crate) fn local_millis(millis: u64) -> String {
    i64::try_from(millis)
        .ok()
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
        .map_or_else(
            || format!("{millis} ms after 1970"),
            |time| {
                time.to_zoned(TimeZone::system())
                    .strftime("%Y-%m-%d %H:%M:%S%.3f")
                    .to_string()
            },
        )
}

/// A time in the past, as a span from now or as a date, a time of this day, or both.
pub(crate) fn since(text: &str) -> Result<Timestamp, String> {
    since_at(text, &Zoned::now())
}

fn since_at(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    if let Ok(span) = text.parse::<Span>() {
        let then = now
            .checked_sub(span.abs())
            .map_err(|error| error.to_string())?;
        return Ok(then.timestamp());
    }
    instant(text, now).ok_or_else(|| EXAMPLES.to_owned())
}

/// Unix seconds, or a date and perhaps a time of day.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    instant(text, &Zoned::now())
        .and_then(|time| u64::try_from(time.as_second()).ok())
        .ok_or_else(|| "write Unix seconds or a date, such as 2026-03-01".to_owned())
}

fn instant(text: &str, now: &Zoned) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let local = match (text.parse::<DateTime>(), text.parse::<Time>()) {
        (Ok(both), _) => both,
        // A number alone could be anything.
        (_, Ok(time)) if text.contains(':') => now.date().to_datetime(time),
        _ => return None,
    };
    Some(local.to_zoned(now.time_zone().clone()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<String, String> {
        let now: Zoned = "2026-03-01T18:30:00+01:00[Europe/Berlin]"
            .parse()
            .map_err(|error: jiff::Error| error.to_string())?;
        since_at(text, &now).map(|time| time.to_string())
    }

    #[test]
    fn a_time_is_written_as_people_write_it() {
        for (text, expected) in [
            ("10m", "2026-03-01T17:20:00Z"),
            ("2h 30m", "2026-03-01T15:00:00Z"),
            ("3 days", "2026-02-26T17:30:00Z"),
            ("17:00", "2026-03-01T16:00:00Z"),
            ("2026-02-28", "2026-02-27T23:00:00Z"),
            ("2026-02-28 12:15", "2026-02-28T11:15:00Z"),
            ("2026-02-28T12:15:00Z", "2026-02-28T12:15:00Z"),
        ] {
            assert_eq!(at(text), Ok(expected.to_owned()), "{text}");
        }
        for wrong in ["", "soon", "10", "25:00", "2026-02-30"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn unix_seconds_and_dates_are_read() {
        assert_eq!(seconds("1790000000"), Ok(1_790_000_000));
        assert_eq!(seconds("2026-09-21T14:13:20Z"), Ok(1_790_000_000));
        assert!(seconds("-1").is_err() && seconds("tomorrow").is_err());
    }
}
