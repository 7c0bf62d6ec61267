// SPDX-License-Identifier: Apache-2.0
//! `/run/racklet/init.sock`: takes requests in and hands them to the one thread that decides.

use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use racklet_api::init::{Request, Response};
use racklet_line::{Bounds, Server, Unreadable};

/// How long the thread that decides may take: it may be writing to a slow card.
const DECISION: Duration = Duration::from_secs(30);

/// A request and where its answer goes.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) answer: Sender<Response>,
}

/// Listens at `path`, for root only, and passes requests to `hand`, one after the other: one thread decides anyway.
pub(crate) fn serve(path: &Path, hand: impl Fn(Asked) + Send + 'static) -> io::Result<()> {
    let mut server = Server::bind(path, Bounds::default())?;
    thread::Builder::new().name("api".into()).spawn(move || {
        loop {
            if server.wait().is_err() {
                // Out of memory, most likely: let some come back.
                thread::sleep(Duration::from_millis(100));
            }
            server.serve(|request| answer(request, &hand));
        }
    })?;
    Ok(())
}

fn answer(request: Result<Request, Unreadable>, hand: &impl Fn(Asked)) -> Response {
    let request = match request {
        Ok(request) => request,
        Err(error) => return Response::refused(error),
    };
    let (answer, answered) = mpsc::channel();
    hand(Asked { request, answer });
    answered
        .recv_timeout(DECISION)
        .unwrap_or_else(|_| Response::refused("init is on its way down"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use racklet_api::init::Op;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn requests_are_answered_one_by_one_and_nonsense_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("init.sock");
        serve(&path, |asked: Asked| {
            let response = match asked.request.op {
                Op::Reboot => Response::done(),
                _ => Response::refused("not in this test"),
            };
            let _ = asked.answer.send(response);
        })
        .expect("listens");
        let stream = UnixStream::connect(&path).expect("connects");
        let mut answers = BufReader::new(&stream).lines();
        for (request, answer) in [
            (r#"{"v":1,"op":"reboot"}"#, r#"{"v":1,"ok":true}"#),
            (r#"{"v":1,"op":"status"}"#, r#""error":"not in this test""#),
            (
                r#"{"v":2,"op":"reboot"}"#,
                "version 2 is not known here, only 1 is",
            ),
            (r#"{"v":1,"op":"explode"}"#, "not a request"),
            (r#"{"v":1,"op":"reboot"}"#, r#"{"v":1,"ok":true}"#),
        ] {
            (&stream)
                .write_all(format!("{request}\n").as_bytes())
                .expect("writes");
            let line = answers.next().expect("an answer").expect("reads");
            assert!(line.contains(answer), "{request} -> {line}");
        }
    }
}
