// SPDX-License-Identifier: Apache-2.0
//! Heads of answers: read, and held against what was asked for.

use std::time::{Duration, SystemTime};

use racklet_tell::text;

use super::{ANY, HttpError, MAX_HEADERS};

/// How an answer's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many more bytes.
    Length(u64),
    /// In chunks; so many more bytes of this one, then another head.
    Chunked { left: u64, first: bool },
    /// With the connection.
    Close,
    /// It has ended.
    Done,
}

#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) status: u16,
    reason: String,
    http_1_0: bool,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    encoded: bool,
    content_type: String,
    location: String,
    retry_after: Option<Duration>,
}

/// A header's words, as they may be shown.
fn cut(bytes: &[u8]) -> String {
    text::line(&String::from_utf8_lossy(bytes))
        .chars()
        .take(200)
        .collect()
}

/// A moment as HTTP writes it (RFC 9110, 5.6.7).
fn date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(str::from_utf8(value).ok()?).ok()
}

fn decimal(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

// untrusted: http_head
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, HttpError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let used = match response.parse(bytes) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(HttpError::Malformed("more than 64 headers"));
        }
        Err(_) => return Err(HttpError::Malformed("its head cannot be read")),
    };
    let mut head = Head {
        status: response.code.unwrap_or(0),
        reason: cut(response.reason.unwrap_or("").as_bytes()),
        http_1_0: response.version == Some(0),
        ..Head::default()
    };
    let (mut now, mut retry_at) = (None, None);
    for header in response.headers.iter() {
        let value = header.value.trim_ascii();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let length =
                decimal(value).ok_or(HttpError::Malformed("its length is not a number"))?;
            if head
                .length
                .replace(length)
                .is_some_and(|before| before != length)
            {
                return Err(HttpError::Malformed("it has two lengths"));
            }
        } else if is("transfer-encoding") {
            if head.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(HttpError::Malformed(
                    "its transfer encoding is not `chunked`",
                ));
            }
            head.chunked = true;
        } else if is("content-encoding") {
            head.encoded = !value.eq_ignore_ascii_case(b"identity");
        } else if is("connection") {
            head.close |= value
                .split(|&b| b == b',')
                .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"));
        } else if is("content-type") {
            head.content_type = cut(value);
        } else if is("retry-after") {
            head.retry_after = decimal(value).map(Duration::from_secs);
            retry_at = date(value);
        } else if is("date") {
            now = date(value);
        } else if is("location") {
            head.location = cut(value);
        }
    }
    if let (Some(now), Some(at)) = (now, retry_at) {
        // By the server's own clock: this one may be far from it.
        head.retry_after = Some(at.duration_since(now).unwrap_or_default());
    }
    Ok(Some((head, used)))
}

/// For [`crate::fuzz`].
pub(crate) fn fuzz_head(bytes: &[u8]) {
    if let Ok(Some((head, used))) = parse(bytes) {
        assert!(used <= bytes.len());
        let _ = check(&head, "a/b");
    }
}

/// Whether this is the Git answer that was asked for; if so, how its body ends and whether the connection can serve again.
pub(super) fn check(head: &Head, expected: &'static str) -> Result<(Framing, bool), HttpError> {
    match head.status {
        200 => {}
        301 | 302 | 303 | 307 | 308 => {
            return Err(HttpError::Redirect {
                status: head.status,
                location: head.location.clone(),
            });
        }
        status => {
            return Err(HttpError::Status {
                status,
                reason: head.reason.clone(),
                retry_after: head.retry_after,
            });
        }
    }
    // Neither parameters nor case belong to what it says (RFC 9110, 8.3.1).
    let kind = head.content_type.split(';').next().unwrap_or_default();
    if expected != ANY && !kind.trim().eq_ignore_ascii_case(expected) {
        return Err(HttpError::NotGit {
            found: head.content_type.clone(),
            expected,
        });
    }
    if head.encoded {
        return Err(HttpError::Malformed(
            "it is compressed, which was not asked for",
        ));
    }
    let keep = !head.close && !head.http_1_0;
    match (head.chunked, head.length) {
        (true, Some(_)) => Err(HttpError::Malformed("it has both a length and chunks")),
        (true, None) => Ok((
            Framing::Chunked {
                left: 0,
                first: true,
            },
            keep,
        )),
        (false, Some(length)) => Ok((Framing::Length(length), keep)),
        (false, None) => Ok((Framing::Close, false)),
    }
}
