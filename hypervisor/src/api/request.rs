// SPDX-License-Identifier: Apache-2.0
//! One HTTP/1.1 request in, one response out, with every length bounded before memory is spent. hyper reads and writes them.
//!
//! No keep-alive, no pipelining, no upgrades: a request is small and rare, and what is not there cannot be attacked.

use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use racklet_api::hypervisor::access::{PASS_HEADER, SIGNATURE_HEADER};
use racklet_api::hypervisor::{Fault, MAX_BODY};
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io::{Read, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use super::polled::{Polled, Whole};

const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 32;
/// In each poll a byte is read or the answer goes on; an end to a conversation that does neither.
const MAX_POLLS: usize = MAX_HEAD + MAX_BODY + 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) pass: Option<String>,
    pub(super) signature: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Why what came is no request that is answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
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
}

/// Reads the one request of a connection, has it answered by `respond` and writes the answer. The stream bounds the time.
///
/// What is no HTTP, and a head beyond the bounds, hyper answers itself, with a status alone.
// untrusted: api_request
pub(super) fn serve<S: Read + Write>(
    stream: &RefCell<S>,
    respond: impl FnOnce(&mut S, &Request) -> Response,
) -> Result<(), hyper::Error> {
    let whole = &Cell::new(false);
    let respond = &Cell::new(Some(respond));
    let service = service_fn(move |asked: hyper::Request<Incoming>| {
        whole.set(asked.body().is_end_stream());
        async move {
            let taken = take(asked).await;
            whole.set(true);
            let response = match (taken, respond.take()) {
                (Ok(request), Some(respond)) => respond(&mut stream.borrow_mut(), &request),
                (Err(error @ RequestError::TooLarge), _) => Response::fault(413, error.to_string()),
                (Err(error), _) => Response::fault(400, error.to_string()),
                (Ok(_), None) => Response::fault(400, "one request per connection"),
            };
            hyper::Response::builder()
                .status(response.status)
                .header("content-type", response.kind)
                .header("cache-control", "no-store")
                .body(Whole(Some(response.body.into())))
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .keep_alive(false)
            .auto_date_header(false)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD)
            .serve_connection(Polled { stream, whole }, service)
    );
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..MAX_POLLS {
        if let Poll::Ready(done) = connection.as_mut().poll(&mut context) {
            return done;
        }
    }
    Ok(())
}

async fn take(asked: hyper::Request<Incoming>) -> Result<Request, RequestError> {
    let (head, mut incoming) = asked.into_parts();
    let header = |name: &str| {
        let mut values = head.headers.get_all(name).into_iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => match value.to_str() {
                Ok(text) => Ok(Some(text.to_owned())),
                Err(_) => Err(RequestError::Malformed),
            },
            // Which of two counts would be a matter of taste.
            (Some(_), Some(_)) => Err(RequestError::Malformed),
        }
    };
    // No client of ours sends one: what is read by its length alone has one meaning.
    if head.headers.contains_key("transfer-encoding") {
        return Err(RequestError::Malformed);
    }
    let mut request = Request {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        pass: header(PASS_HEADER)?,
        signature: header(SIGNATURE_HEADER)?,
        body: Vec::new(),
    };
    while let Some(frame) = poll_fn(|context| Pin::new(&mut incoming).poll_frame(context)).await {
        let frame = frame.map_err(|_| RequestError::Malformed)?;
        let data = frame.into_data().map_err(|_| RequestError::Malformed)?;
        if request.body.len() + data.len() > MAX_BODY {
            return Err(RequestError::TooLarge);
        }
        request.body.extend_from_slice(&data);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// Gives so many bytes per read, and keeps what is written.
    struct Client<'a> {
        sends: &'a [u8],
        at_once: usize,
        gets: Vec<u8>,
    }

    impl Read for Client<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let end = out.len().min(self.at_once);
            self.sends.read(&mut out[..end])
        }
    }

    impl Write for Client<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.gets.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What was taken for a request, and what was answered.
    fn served(sends: &[u8], at_once: usize) -> (Option<Request>, String) {
        let client = RefCell::new(Client {
            sends,
            at_once,
            gets: Vec::new(),
        });
        let mut taken = None;
        let _ = serve(&client, |_, request| {
            taken = Some(request.clone());
            Response::fault(404, "nothing here")
        });
        let gets = client.into_inner().gets;
        (taken, String::from_utf8(gets).expect("text"))
    }

    const POST: &[u8] =
        b"POST /v1/sync?a=%20b HTTP/1.1\r\nHost: t\r\nRacklet-Pass: P 1 2 S\r\nRACKLET-SIGNATURE: AAAA\r\nContent-Length: 2\r\n\r\n{}x";

    #[test]
    fn a_request_is_read_whole_however_it_arrives() {
        let expected = Request {
            method: "POST".into(),
            target: "/v1/sync?a=%20b".into(),
            pass: Some("P 1 2 S".into()),
            signature: Some("AAAA".into()),
            body: b"{}".to_vec(),
        };
        for at_once in [1, 7, 4096] {
            let (taken, answer) = served(POST, at_once);
            assert_eq!(taken.as_ref(), Some(&expected), "{at_once}");
            assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
            assert!(
                answer.ends_with("\r\n\r\n{\"error\":\"nothing here\"}\n"),
                "{answer}"
            );
        }
    }

    #[test]
    fn only_the_first_request_of_a_connection_is_answered() {
        let two = b"GET /1 HTTP/1.1\r\nHost: t\r\n\r\nGET /2 HTTP/1.1\r\nHost: t\r\n\r\n";
        for at_once in [1, 4096] {
            let (taken, answer) = served(two, at_once);
            assert_eq!(taken.expect("one").target, "/1");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        }
    }

    #[test]
    fn what_is_not_a_small_plain_request_is_refused() {
        let many = "x: y\r\n".repeat(40);
        let long = "a".repeat(20_000);
        let body = "a".repeat(MAX_BODY + 1);
        let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        for bad in [
            "".to_owned(),
            "GET / HTTP/1.1\r\n".to_owned(),
            "nonsense\r\n\r\n".to_owned(),
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc".to_owned(),
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na".to_owned(),
            format!(
                "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
            "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_owned(),
            "GET / HTTP/1.1\r\nRacklet-Pass: a\r\nRacklet-Pass: b\r\n\r\n".to_owned(),
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"),
            format!("GET / HTTP/1.1\r\n{many}\r\n"),
            format!("GET /{long} HTTP/1.1\r\n\r\n"),
        ] {
            let (taken, answer) = served(bad.as_bytes(), 4096);
            let shown = &bad[..bad.len().min(60)];
            assert_eq!(taken, None, "{shown:?}");
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
                "{shown:?}: {answer}"
            );
        }
    }

    #[test]
    fn a_stream_that_never_ends_is_given_up() {
        struct Endless;
        impl Read for Endless {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                out[..1].fill(b'a');
                Ok(1)
            }
        }
        impl Write for Endless {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let _ = serve(&RefCell::new(Endless), |_, request| panic!("{request:?}"));
    }
}
