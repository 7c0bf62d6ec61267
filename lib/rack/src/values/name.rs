// SPDX-License-Identifier: Apache-2.0
//! Names of objects.

use super::{ValueError, as_text, shorten};
use crate::name::is_label;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A DNS label (RFC 1123): the name of an object, usable in host names, file names and interface labels.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if is_label(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError::new(format!(
                "`{}` is not a name: use 1 to 63 of a-z, 0-9 and -, not beginning or ending with -",
                shorten(text)
            )))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

as_text!(Name, "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", "web");
