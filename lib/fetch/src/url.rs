// SPDX-License-Identifier: Apache-2.0
//! The address of a Git repository: `https://host[:port]/path`, and nothing else.

use std::{fmt, str::FromStr};

use rustls_pki_types::ServerName;

/// Longest address accepted, in bytes.
const MAX: usize = 2048;

/// A checked `https` address.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpsUrl {
    /// Host as written; an IPv6 address without its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Begins with a slash and does not end with one.
    pub(crate) path: String,
}

/// Why an address was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// http, git, ssh, file, ...
    #[error("{0:?} does not begin with https://; nothing else is ever used")]
    NotHttps(String),
    /// `user:password@`
    #[error(
        "the address holds a user name; put credentials where the tray configuration has a place for them"
    )]
    Credentials,
    /// Not a host, a port or a path.
    #[error("the address is not usable: {0}")]
    Malformed(&'static str),
}

impl FromStr for HttpsUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let rest = text
            .strip_prefix("https://")
            .ok_or_else(|| UrlError::NotHttps(text.chars().take(80).collect()))?;
        if text.len() > MAX {
            return Err(UrlError::Malformed("longer than 2048 bytes"));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(UrlError::Malformed(
                "it holds white space or characters outside ASCII",
            ));
        }
        if text.contains(['?', '#', '\\', '"', '<', '>']) {
            return Err(UrlError::Malformed(
                "it holds a query, a fragment or a quote",
            ));
        }
        let (authority, path) = rest
            .split_once('/')
            .ok_or(UrlError::Malformed("it has no path"))?;
        if authority.contains('@') {
            return Err(UrlError::Credentials);
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(inside) => {
                let (host, port) = inside
                    .split_once(']')
                    .ok_or(UrlError::Malformed("']' is missing"))?;
                let port = match port {
                    "" => None,
                    port => Some(
                        port.strip_prefix(':')
                            .ok_or(UrlError::Malformed("text after ']'"))?,
                    ),
                };
                if host.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err(UrlError::Malformed("no IPv6 address between the brackets"));
                }
                (host, port)
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            None => 443,
            Some(port) => {
                port.parse()
                    .ok()
                    .filter(|&port| port != 0)
                    .ok_or(UrlError::Malformed(
                        "the port is not a number from 1 to 65535",
                    ))?
            }
        };
        if ServerName::try_from(host).is_err() {
            return Err(UrlError::Malformed(
                "the host is neither a name nor an address",
            ));
        }
        let path = path.trim_end_matches('/');
        if path.is_empty() {
            return Err(UrlError::Malformed("it has no path"));
        }
        if path.split('/').any(|part| part == ".." || part == ".") {
            return Err(UrlError::Malformed("its path goes up"));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            path: format!("/{path}"),
        })
    }
}

impl HttpsUrl {
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
