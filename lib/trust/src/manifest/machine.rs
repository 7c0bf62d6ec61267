// SPDX-License-Identifier: Apache-2.0
//! Whether a good manifest is for this machine at this time.

use alloc::{string::String, vec::Vec};

use super::{Kind, Manifest};
use crate::{Architecture, Verified, date::Utc};

/// Why a good manifest is not for this machine at this time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotForUs {
    /// Another architecture.
    #[error("it is for {found}; this is {here}")]
    Architecture {
        /// The manifest's.
        found: Architecture,
        /// This machine's.
        here: Architecture,
    },
    /// Another board.
    #[error("it is for {}; this board is {here}", boards.join(", "))]
    Board {
        /// The manifest's boards.
        boards: Vec<String>,
        /// This board.
        here: String,
    },
    /// Its time is over.
    #[error("it expired at {}, and it is {} now", Utc(*expires), Utc(*now))]
    Expired {
        /// Unix time in seconds.
        expires: u64,
        /// Unix time in seconds.
        now: u64,
    },
    /// A newer one was accepted before.
    #[error("version {found} is older than version {floor}, which was accepted before")]
    Downgrade {
        /// Its version.
        found: u64,
        /// The lowest version still accepted.
        floor: u64,
    },
}

/// The machine that a manifest is judged for.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// Its processor's.
    pub architecture: Architecture,
    /// The board's name.
    pub board: &'a str,
    /// Unix time in seconds; `None` where no trustworthy time is to be had (firmware).
    pub now: Option<u64>,
    /// The lowest version still accepted.
    pub floor: u64,
}

impl Verified<Manifest> {
    /// Whether this machine may use it now.
    ///
    /// # Errors
    /// [`NotForUs`] with the reason.
    pub fn accept(&self, machine: &Machine<'_>) -> Result<(), NotForUs> {
        if self.architecture != machine.architecture {
            return Err(NotForUs::Architecture {
                found: self.architecture,
                here: machine.architecture,
            });
        }
        if self.kind != Kind::Artifact && !self.boards.iter().any(|b| b == machine.board) {
            return Err(NotForUs::Board {
                boards: self.boards.clone(),
                here: machine.board.into(),
            });
        }
        if let (Some(expires), Some(now)) = (self.expires, machine.now)
            && now >= expires
        {
            return Err(NotForUs::Expired { expires, now });
        }
        match self.version < machine.floor {
            true => Err(NotForUs::Downgrade {
                found: self.version,
                floor: machine.floor,
            }),
            false => Ok(()),
        }
    }
}
