// SPDX-License-Identifier: Apache-2.0
//! One HTTP/1.1 request in, one response out, with every length bounded before memory is spent.
//!
//! No keep-alive, no chunked bodies, no upgrades: a request is small and rare, and what is not there cannot be attacked.

use racklet_api::hypervisor::access::{PASS_HEADER, SIGNATURE_HEADER};
use racklet_api::hypervisor::{Fault, MAX_BODY};
use serde::Serialize;
use std::io::{self, Read, Write};

const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 32;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) pass: Option<String>,
    pub(super) signature: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the request is not HTTP/1.1 as this server speaks it")]
    Malformed,
    #[error("the request is too large")]
    TooLarge,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) body: Vec<u8>,
}

impl Response {
    pub(super) fn json<T: Serialize>(value: &T) -> Self {
        let mut body = serde_json::to_vec(value).expect("API types have only text keys");
        body.push(b'\n');
        Self {
            status: 200,
            kind: "application/json",
            body,
        }
    }

    pub(super) fn fault(status: u16, error: impl Into<String>) -> Self {
        Self {
            status,
            ..Self::json(&Fault {
                error: error.into(),
            })
        }
    }

    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            413 => "Content Too Large",
            503 => "Service Unavailable",
            _ => "Error",
        };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n\r\n",
            self.status,
            self.kind,
            self.body.len()
        );
        to.write_all(head.as_bytes())?;
        to.write_all(&self.body)?;
        to.flush()
    }
}

/// Reads one request; the caller bounds the time.
// untrusted: api_request
pub(super) fn read(from: &mut impl Read) -> Result<Request, RequestError> {
    let mut bytes = Vec::with_capacity(1024);
    let mut piece = [0u8; 1024];
    loop {
        let read = from.read(&mut piece)?;
        if read == 0 {
            return Err(RequestError::Malformed);
        }
        bytes.extend_from_slice(&piece[..read]);
        // The end of the head may lie across two pieces.
        let searched = bytes.len().saturating_sub(read + 3);
        if let Some(at) = bytes[searched..].windows(4).position(|w| w == b"\r\n\r\n") {
            let body = bytes.split_off(searched + at + 4);
            return finish(from, &bytes, body);
        }
        if bytes.len() > MAX_HEAD {
            return Err(RequestError::TooLarge);
        }
    }
}

fn finish(from: &mut impl Read, head: &[u8], mut body: Vec<u8>) -> Result<Request, RequestError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(RequestError::TooLarge),
        _ => return Err(RequestError::Malformed),
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err(RequestError::Malformed);
    };
    let mut request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        pass: None,
        signature: None,
        body: Vec::new(),
    };
    let mut length: Option<usize> = None;
    for header in parsed.headers.iter() {
        let value = std::str::from_utf8(header.value)
            .map_err(|_| RequestError::Malformed)?
            .trim();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let parsed = value.parse().map_err(|_| RequestError::Malformed)?;
            if length.replace(parsed).is_some() {
                return Err(RequestError::Malformed);
            }
        } else if is("transfer-encoding") {
            return Err(RequestError::Malformed);
        } else if is(PASS_HEADER) {
            request.pass = Some(value.to_owned());
        } else if is(SIGNATURE_HEADER) {
            request.signature = Some(value.to_owned());
        }
    }
    let length = length.unwrap_or(0);
    if length > MAX_BODY {
        return Err(RequestError::TooLarge);
    }
    // More than announced would be a second request, which nobody answers.
    body.truncate(length);
    let missing = length - body.len();
    let read = from.take(missing as u64).read_to_end(&mut body)?;
    if read < missing {
        return Err(RequestError::Malformed);
    }
    request.body = body;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte per read.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let end = out.len().min(1);
            self.0.read(&mut out[..end])
        }
    }

    const POST: &[u8] =
        b"POST /v1/sync HTTP/1.1\r\nHost: t\r\nRacklet-Pass: P 1 2 S\r\nRACKLET-SIGNATURE: AAAA\r\nContent-Length: 2\r\n\r\n{}x";

    #[test]
    fn a_request_is_read_whole_however_it_arrives() {
        let expected = Request {
            method: "POST".into(),
            target: "/v1/sync".into(),
            pass: Some("P 1 2 S".into()),
            signature: Some("AAAA".into()),
            body: b"{}".to_vec(),
        };
        assert_eq!(read(&mut &POST[..]).expect("good"), expected);
        assert_eq!(read(&mut Trickle(POST)).expect("good"), expected);
    }

    #[test]
    fn what_is_not_a_small_plain_request_is_refused() {
        let many = "x: y\r\n".repeat(40);
        let long = "a".repeat(20_000);
        for bad in [
            "".to_owned(),
            "GET / HTTP/1.1\r\n".to_owned(),
            "nonsense\r\n\r\n".to_owned(),
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc".to_owned(),
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na".to_owned(),
            "POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n".to_owned(),
            "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_owned(),
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            format!("GET / HTTP/1.1\r\n{many}\r\n"),
            format!("GET /{long} HTTP/1.1\r\n\r\n"),
        ] {
            assert!(
                read(&mut bad.as_bytes()).is_err(),
                "{:?}",
                &bad[..bad.len().min(60)]
            );
        }
    }

    #[test]
    fn a_fault_is_json_with_its_status() {
        let mut out = Vec::new();
        Response::fault(404, "nothing here")
            .write(&mut out)
            .expect("written");
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n"), "{text}");
        assert!(text.ends_with("{\"error\":\"nothing here\"}\n"), "{text}");
    }
}
