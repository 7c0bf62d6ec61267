// SPDX-License-Identifier: Apache-2.0
//! The address of a Git repository: `https://host[:port]/path`, and nothing else.

use std::{fmt, str::FromStr};

use racklet_rack::url::Parts;
pub use racklet_rack::url::UrlError;
use rustls_pki_types::ServerName;

/// A checked `https` address.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpsUrl {
    /// Host in lower case, for names of hosts have none (RFC 4343); an IPv6 address without its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Begins with a slash and does not end with one.
    pub(crate) path: String,
}

impl FromStr for HttpsUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let Parts { host, port, path } = Parts::parse(text)?;
        // TLS has the last word about what can be in a certificate.
        if ServerName::try_from(host).is_err() {
            return Err(UrlError::Malformed(
                "the host is neither a name nor an address",
            ));
        }
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
            path: format!("/{path}"),
        })
    }
}

impl HttpsUrl {
    /// Whether `other` is this address or lies below it, on the same server.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let below = other.path.strip_prefix(&self.path);
        self.is_beside(other) && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether both are on one server: what is shown to one of them may be shown to the other.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }

    /// Host and port as the `Host` header and a reader want them.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == 443 {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority(), self.path)
    }
}

impl fmt::Debug for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn good_addresses_keep_their_parts() {
        for (text, host, port, path, back) in [
            (
                "https://git.example.org/rack.git",
                "git.example.org",
                443,
                "/rack.git",
                None,
            ),
            (
                "https://10.0.2.2:8443/git/rack/",
                "10.0.2.2",
                8443,
                "/git/rack",
                Some("https://10.0.2.2:8443/git/rack"),
            ),
            ("https://[fd00::1]:8443/r", "fd00::1", 8443, "/r", None),
            ("https://[fd00::1]/r", "fd00::1", 443, "/r", None),
        ] {
            let url: HttpsUrl = text.parse().unwrap();
            assert_eq!(
                (url.host.as_str(), url.port, url.path.as_str()),
                (host, port, path)
            );
            assert_eq!(url.to_string(), back.unwrap_or(text));
        }
    }

    #[test]
    fn an_address_covers_what_lies_below_it_on_the_same_server() {
        let url = |text: &str| text.parse::<HttpsUrl>().unwrap();
        let team = url("https://Git.example.org/team");
        for (text, covered) in [
            ("https://git.example.org/team", true),
            ("https://git.EXAMPLE.org:443/team/images.git", true),
            ("https://git.example.org/teamster/images.git", false),
            ("https://git.example.org/other", false),
            ("https://git.example.org:8443/team/images.git", false),
            ("https://evil.example.org/team/images.git", false),
        ] {
            assert_eq!(team.covers(&url(text)), covered, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "http://example.org/r",
            "ssh://example.org/r",
            "HTTPS://example.org/r",
            "example.org/r",
            "https://example.org",
            "https://example.org/",
            "https://user@example.org/r",
            "https://u:p@example.org/r",
            "https://ex ample.org/r",
            "https://example.org/r?x=1",
            "https://example.org/r#x",
            "https://example.org:0/r",
            "https://example.org:99999/r",
            "https://[fd00::1/r",
            "https://[example.org]/r",
            "https://[::1]x/r",
            "https:///r",
            "https://example.org/a/../b",
            "https://example.org/r\r\nX: y",
            "https://exämple.org/r",
        ] {
            assert!(text.parse::<HttpsUrl>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(text in "https://[a-z0-9.:\\[\\]-]{1,20}/[ -~]{0,20}") {
            if let Ok(url) = text.parse::<HttpsUrl>() {
                prop_assert_eq!(url.to_string().parse(), Ok(url));
            }
        }
    }
}
