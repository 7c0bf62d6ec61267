// SPDX-License-Identifier: Apache-2.0
//! Addresses of repositories.

use super::{ValueError, as_text, shorten};
use crate::url::Parts;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Where a repository is: an `https://` address without credentials, query or fragment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryUrl(String);

impl RepositoryUrl {
    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Parts::parse(text)
            .map_err(|error| ValueError::new(format!("`{}`: {error}", shorten(text))))?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

as_text!(
    RepositoryUrl,
    "^https://[^?#@\\s]+$",
    "https://git.example.org/rack.git"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_https_without_secrets() {
        assert!(
            "https://git.example.org:8443/a/b.git"
                .parse::<RepositoryUrl>()
                .is_ok()
        );
        for bad in [
            "http://x/y",
            "git@host:x",
            "https://",
            "https://u:p@h/x",
            "https://h/x?y",
            "https://h/a b",
            "https://h/../r",
            "https://h",
        ] {
            assert!(bad.parse::<RepositoryUrl>().is_err(), "{bad}");
        }
    }
}
