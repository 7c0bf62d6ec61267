// SPDX-License-Identifier: Apache-2.0
//! Fetching takes turns with looking at the rack repository: how long a turn is, what ends it, and what else goes wrong.

use crate::shared::Shared;
use racklet_fetch::cache::{ArriveError, NotCached};
use racklet_fetch::http::HttpError;
use racklet_fetch::pulse::Pulse;
use racklet_fetch::remote::RemoteError;
use racklet_fetch::tls::TlsError;
use racklet_fetch::url::UrlError;
use racklet_follow::{BringError, Hold};
use std::sync::Arc;
use std::time::Duration;

/// A turn of fetching, after which the rack repository is looked at again. Doubled each time it was too short, for lines on which not
/// even the manifest comes in a minute.
pub(super) const FIRST_TURN: Duration = Duration::from_secs(60);
const LAST_TURN: Duration = Duration::from_secs(1800);

/// Why something pinned is not here.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotBrought {
    #[error("the repository's address")]
    Url(#[from] UrlError),
    #[error("set up TLS")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Bring(#[from] BringError),
    #[error("it came, and the card did not take it")]
    NotCached(#[source] NotCached),
    #[error(
        "the rack's own server refused this tray or wants to be left alone; `racklet sync` has it asked at once"
    )]
    LeftAlone,
}

impl NotBrought {
    /// How long the server is to be left alone.
    pub(super) fn hold(&self) -> Hold {
        match self {
            Self::Bring(error) => error.hold(),
            _ => Hold::default(),
        }
    }

    /// How the turn ended, when nothing else is wrong.
    pub(super) fn cut(&self) -> Option<Cut> {
        let Self::Bring(BringError::Arrive(error)) = self else {
            return None;
        };
        match &**error {
            ArriveError::Remote(RemoteError::Http(HttpError::NoTimeLeft)) => Some(Cut::Over),
            ArriveError::Remote(RemoteError::Http(HttpError::CalledOff)) => Some(Cut::Nudged),
            _ => None,
        }
    }
}

/// Why a turn of fetching ended before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It was too short.
    Over,
    /// Somebody asked for a look at the rack repository.
    Nudged,
}

/// How long the next turn for the same thing may take.
pub(super) fn next_turn(turn: Duration, cut: Cut) -> Duration {
    match cut {
        Cut::Over => (turn * 2).min(LAST_TURN),
        Cut::Nudged => turn,
    }
}

/// Calls a fetch off when somebody asks for a look at the rack repository.
pub(super) struct Nudges(pub(super) Arc<Shared>);

impl std::fmt::Debug for Nudges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nudges")
    }
}

impl Pulse for Nudges {
    fn beat(&self) -> bool {
        !self.0.is_nudged()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_was_too_short_is_followed_by_a_longer_one_up_to_a_bound() {
        let seconds = |cuts: &[Cut]| {
            let turn = cuts
                .iter()
                .fold(FIRST_TURN, |turn, cut| next_turn(turn, *cut));
            turn.as_secs()
        };
        assert_eq!(seconds(&[Cut::Over]), 120);
        assert_eq!(seconds(&[Cut::Over, Cut::Nudged, Cut::Over]), 240);
        assert_eq!(seconds(&[Cut::Nudged; 9]), 60);
        assert_eq!(seconds(&[Cut::Over; 9]), 1800);
    }
}
