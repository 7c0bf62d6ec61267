// SPDX-License-Identifier: Apache-2.0
//! The guest's console over the control socket: bytes by their offset, counted from the guest's first.

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

/// Bytes of a console, which are any: base64 with padding where they are written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub Vec<u8>);

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> String {
        Base64::encode_string(&bytes.0)
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Bytes, String> {
        Base64::decode_vec(&text)
            .map(Bytes)
            .map_err(|_| "not base64 with padding".to_owned())
    }
}

/// A piece of the console's output. A reader who got one has everything up to `next`, but for what is counted as lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsolePiece {
    /// Offset of its first byte.
    pub from: u64,
    /// At most [`MAX_PIECE`] bytes; none where there are none yet.
    pub data: Bytes,
    /// Offset behind its last byte: where to go on.
    pub next: u64,
    /// Bytes before `from` that this reader asked for, or was to get next, and that are no longer kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Bytes of console output that a monitor keeps for those who attach later.
pub const KEPT: usize = 64 * 1024;
/// Most bytes of a [`ConsolePiece`].
pub const MAX_PIECE: usize = 4096;
/// Bytes of input that wait until the guest reads them; what is more is not taken.
pub const MAX_INPUT: usize = 4096;
