// SPDX-License-Identifier: Apache-2.0
//! `/run/racklet/init.sock`: takes requests in and hands them to the one thread that decides.

use std::fs;
use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use racklet_api::init::{Request, Response};
use racklet_api::line;

/// At most so many conversations at once.
const MOST: usize = 16;
/// A silent partner is dropped after this.
const PATIENCE: Duration = Duration::from_secs(600);

/// A request and where its answer goes.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) answer: Sender<Response>,
}

/// Listens at `path`, for root only, and passes requests to `hand`.
pub(crate) fn serve(path: &Path, hand: impl Fn(Asked) + Clone + Send + 'static) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let open = Arc::new(AtomicUsize::new(0));
    thread::Builder::new().name("api".into()).spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors, most likely: let some close.
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            if open.fetch_add(1, Ordering::SeqCst) >= MOST {
                open.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            let (hand, count) = (hand.clone(), open.clone());
            let started = thread::Builder::new()
                .name("api-talk".into())
                .stack_size(256 << 10)
                .spawn(move || {
                    let _ = talk(&stream, &hand);
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            if started.is_err() {
                open.fetch_sub(1, Ordering::SeqCst);
            }
        }
    })?;
    Ok(())
}

fn talk(stream: &UnixStream, hand: &impl Fn(Asked)) -> Result<(), line::ReadError> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let request: Request = match line::read(&mut reader) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error @ line::ReadError::Parse(_)) => {
                line::write(
                    &mut writer,
                    &Response::refused(racklet_tell::error::Chain(&error)),
                )?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if request.v != 1 {
            line::write(
                &mut writer,
                &Response::refused("only version 1 is spoken here"),
            )?;
            continue;
        }
        let (answer, answered) = mpsc::channel();
        hand(Asked { request, answer });
        let response = answered.recv_timeout(Duration::from_secs(30));
        line::write(
            &mut writer,
            &response.unwrap_or_else(|_| Response::refused("init is on its way down")),
        )?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use racklet_api::init::Op;
    use std::io::{BufRead, Write};

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
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let stream = UnixStream::connect(&path).expect("connects");
        let mut answers = BufReader::new(&stream).lines();
        for (request, answer) in [
            (r#"{"v":1,"op":"reboot"}"#, r#"{"v":1,"ok":true}"#),
            (r#"{"v":1,"op":"status"}"#, r#""error":"not in this test""#),
            (r#"{"v":2,"op":"reboot"}"#, "only version 1"),
            (r#"{"v":1,"op":"explode"}"#, "does not parse"),
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
