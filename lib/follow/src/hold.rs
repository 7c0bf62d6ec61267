// SPDX-License-Identifier: Apache-2.0
//! How long a server is left alone that refused us, or asked to be left alone.
//!
//! Servers count failed attempts: GitLab answers 403 to a whole address for an hour after thirty in three minutes, and five trays whose
//! token has expired make as many in a minute when each tries again within seconds. A token does not become good within seconds either.

use std::time::Duration;

use racklet_fetch::http::HttpError;
use racklet_fetch::remote::RemoteError;

/// The first wait after a refusal; each one after the next is twice as long ...
const FIRST: Duration = Duration::from_secs(60);
/// ... up to this, which is also the longest that a server may ask for.
const LONGEST: Duration = Duration::from_secs(900);

/// What an error says about when to ask again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hold {
    refused: bool,
    asked: Duration,
}

impl Hold {
    pub(crate) fn of(error: &RemoteError) -> Self {
        match error {
            RemoteError::Http(HttpError::Status {
                status,
                retry_after,
                ..
            }) => Self {
                refused: matches!(status, 401 | 403 | 404 | 407),
                asked: retry_after.unwrap_or_default().min(LONGEST),
            },
            _ => Self::default(),
        }
    }

    /// The shorter one, where there are two servers to ask.
    pub(crate) fn or(self, other: Self) -> Self {
        match self.wait(1) <= other.wait(1) {
            true => self,
            false => other,
        }
    }

    /// Credentials were refused, or there is nothing for them: one more of these in a row makes the wait longer.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        self.refused
    }

    /// The least time until the same may be asked again, after so many refusals in a row with this one.
    #[must_use]
    pub fn wait(self, refusals: u32) -> Duration {
        let refused = match self.refused {
            true => FIRST.saturating_mul(1 << refusals.saturating_sub(1).min(10)),
            false => Duration::ZERO,
        };
        refused.min(LONGEST).max(self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(status: u16, retry_after: Option<u64>) -> Hold {
        Hold::of(&RemoteError::Http(HttpError::Status {
            status,
            reason: String::new(),
            retry_after: retry_after.map(Duration::from_secs),
        }))
    }

    fn seconds(hold: Hold, refusals: [u32; 7]) -> [u64; 7] {
        refusals.map(|n| hold.wait(n).as_secs())
    }

    #[test]
    fn who_was_refused_asks_again_after_minutes_and_each_time_later() {
        for status in [401, 403, 404, 407] {
            let waits = seconds(hold(status, None), [1, 2, 3, 4, 5, 6, u32::MAX]);
            assert_eq!(waits, [60, 120, 240, 480, 900, 900, 900], "{status}");
        }
        for status in [408, 429, 500, 503] {
            assert_eq!(seconds(hold(status, None), [1; 7]), [0; 7], "{status}");
        }
    }

    #[test]
    fn a_server_that_names_a_time_is_left_alone_until_then_and_for_a_quarter_of_an_hour_at_most() {
        for status in [403, 429, 503] {
            assert_eq!(hold(status, Some(600)).wait(1).as_secs(), 600);
            assert_eq!(hold(status, Some(1 << 40)).wait(1).as_secs(), 900);
        }
        assert_eq!(hold(429, Some(30)).wait(5).as_secs(), 30);
        assert_eq!(hold(403, Some(30)).wait(2).as_secs(), 120);
    }
}
