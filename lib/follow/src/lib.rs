// SPDX-License-Identifier: Apache-2.0
//! A rack followed safely, once for everybody who follows one: the bootstrap and the hypervisor OS do the same steps in the same order.
//!
//! ```text
//!   kept head ──> look ──> fetch ──> verify ──> keep, raise the floors ──> what its files want ──> what they pin ──> Verified
//!                  ^                    │ further away than one pack: a commit on the way, then again
//!                  └────────────────────┘
//! ```
//!
//! - [`Follower`]: the head accepted last, and how a newer one takes its place.
//! - [`Round`]: the rack's own server, and its mirrors where that one brings nothing.
//! - [`Hold`]: how long a server is left alone that refused us.
//! - [`desired`]: what a head's files want of one tray, or what is at fault with them.
//! - [`Shelf`]: what heads pin, from the cache or from a server: payloads and images, each with its proof.
//!
//! Nothing here waits, tries again or tells anybody: when, how often and in which words is the product's business. What may be believed
//! is `racklet-trust`'s.
#![forbid(unsafe_code)]

mod follower;
mod hold;
mod places;
mod shelf;
mod want;

pub use follower::{FollowError, Follower, Keeper, Looked, News};
pub use hold::Hold;
pub use places::{Place, Round};
pub use shelf::{BringError, Fetched, Here, Judge, Payload, Shelf};
pub use want::{AtFault, Desired, desired};

use racklet_fetch::http::HttpError;
use racklet_fetch::remote::RemoteError;

/// Whether what went wrong with a server may pass by itself, so that asking again within seconds makes sense: there was no answer, or
/// not all of it. An answer that is no good will be no better then: one that is not Git's, a pack that is refused, credentials that are.
fn may_pass(error: &RemoteError) -> bool {
    match error {
        RemoteError::Http(error) => match error {
            HttpError::Status { status, .. } => matches!(status, 408 | 429 | 500..),
            HttpError::Redirect { .. } | HttpError::TooLarge(_) | HttpError::NotGit { .. } => false,
            // A certificate may be good as soon as the clock is right.
            _ => true,
        },
        // In its own words, which may be those of a server that is overloaded.
        RemoteError::Server(_) => true,
        RemoteError::Redirect(_)
        | RemoteError::Line(_)
        | RemoteError::Version
        | RemoteError::Format(_)
        | RemoteError::Refs(_)
        | RemoteError::Pack(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_may_pass_by_itself_is_asked_again_soon() {
        let status = |status| HttpError::Status {
            status,
            reason: String::new(),
            retry_after: None,
        };
        let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
        for error in [
            HttpError::Cut(cut()),
            HttpError::NoTimeLeft,
            HttpError::NoAddress("git.example".into()),
            HttpError::TotalTime(Duration::from_secs(1)),
            status(408),
            status(429),
            status(503),
        ] {
            let error = RemoteError::Http(error);
            assert!(may_pass(&error), "{error}");
        }
        for error in [
            // Credentials, a missing repository, a captive portal.
            RemoteError::Http(status(401)),
            RemoteError::Http(status(403)),
            RemoteError::Http(status(404)),
            RemoteError::Http(HttpError::NotGit {
                found: "text/html".into(),
                expected: "git",
            }),
            RemoteError::Http(HttpError::TooLarge(1)),
            RemoteError::Redirect("https://elsewhere.example".into()),
            RemoteError::Version,
            RemoteError::Line("no"),
            RemoteError::Pack(racklet_fetch::pack::PackError::Trailer),
        ] {
            assert!(!may_pass(&error), "{error}");
        }
    }
}
