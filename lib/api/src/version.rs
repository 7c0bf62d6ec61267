// SPDX-License-Identifier: Apache-2.0
//! The protocol version that files and messages carry.

use serde::{Deserialize, Serialize};

/// The protocol version: written as the number 1, and nothing else is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct V1;

impl From<V1> for u32 {
    fn from(V1: V1) -> u32 {
        1
    }
}

impl TryFrom<u32> for V1 {
    type Error = String;
    fn try_from(v: u32) -> Result<V1, String> {
        if v == 1 {
            Ok(V1)
        } else {
            Err(format!("version {v} is not known here, only 1 is"))
        }
    }
}
