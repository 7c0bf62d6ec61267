// SPDX-License-Identifier: Apache-2.0
//! The address of a Git repository: `https://host[:port]/path`, and nothing else. Decided here, for rack objects, a tray's
//! configuration and what fetches alike.

use racklet_tell::text::decimal;

/// Longest address accepted, in bytes.
const MAX: usize = 2048;

/// The parts of a good address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Host as written; an IPv6 address without its brackets.
    pub host: &'a str,
    /// 443 when none is written.
    pub port: u16,
    /// What stands behind the host, without a slash at its beginning and end; never empty.
    pub path: &'a str,
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

impl<'a> Parts<'a> {
    /// Takes an address apart.
    pub fn parse(text: &'a str) -> Result<Self, UrlError> {
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
            Some(port) => decimal(port)
                .filter(|&port| port != 0)
                .ok_or(UrlError::Malformed(
                    "the port is not a number from 1 to 65535",
                ))?,
        };
        if !is_host(host) {
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
        Ok(Self { host, port, path })
    }
}

/// A name as certificates have it, or an address. Unlike in [`crate::name::is_host`] labels may have `_`.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let numbers = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    if text.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    let last = text.rsplit('.').next().unwrap_or_default();
    // `127.0.0.01` is no address, and no name either.
    text.len() <= 253 && text.split('.').all(label) && !numbers(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_https_with_a_plain_path_and_no_secrets() {
        for good in [
            "https://git.example.org/r",
            "https://h:8443/a/b.git/",
            "https://[2001:db8::1]:8443/r",
            "https://192.0.2.1/r",
            "https://my_host/r",
        ] {
            assert!(Parts::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "http://h/r",
            "https://h",
            "https://h/",
            "https:///r",
            "https://u@h/r",
            "https://h/../r",
            "https://h/a/..",
            "https://h/./r",
            "https://h/r?x",
            "https://h/r#x",
            "https://h/a b",
            "https://h/\u{202e}r",
            "https://h:/r",
            "https://h:+443/r",
            "https://h:0443/r",
            "https://h:0/r",
            "https://h:65536/r",
            "https://-h/r",
            "https://a..b/r",
            "https://[::1/r",
            "https://[h]/r",
            "https://127.0.0.01/r",
        ] {
            assert!(Parts::parse(bad).is_err(), "{bad}");
        }
    }
}
