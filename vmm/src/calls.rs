// SPDX-License-Identifier: Apache-2.0
//! `vsock.sock`: who connects there reaches a port of the guest. One line asks for it, `CONNECT 1234`, and one says that it is there,
//! `OK 1073741824`, with the number that the guest sees as the host's port; from then on both are one connection. Where the guest does
//! not take it, the connection ends without an answer. So do Firecracker and cloud-hypervisor, whose clients work here.
//!
//! ```text
//! accepted --line, within 10 s--> waiting for the device (a line up) --> the device's: request, response, OK
//!     '--no such line, too late, no driver, one too many--> closed, counted
//! ```
//!
//! Only its owner can connect (mode 0600). What he sends is bounded all the same: a line of 32 bytes, 16 callers without an answer.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use racklet_api::vmm::metrics::CallCounts;

use crate::devices::vsock::{PATIENCE, Stream};
use crate::dial::UnixEnd;
use crate::lock::lock;
use crate::poll::{Poll, Token};
use crate::rate;

/// Callers that have not said whom they want, and as many that the device has not looked at.
const MOST: usize = 16;
/// `CONNECT 4294967295` and its end are 19 bytes; what is read beyond the line belongs to the connection.
const LINE: usize = 32;

/// Bytes of one read, of which some are not used yet.
#[derive(Clone, Copy, Default)]
struct Piece {
    bytes: [u8; LINE],
    from: usize,
    to: usize,
}

impl Piece {
    fn take(&mut self, to: &mut [u8]) -> usize {
        let rest = &self.bytes[self.from..self.to];
        let count = rest.len().min(to.len());
        to[..count].copy_from_slice(&rest[..count]);
        self.from += count;
        count
    }
}

/// The port that a line asks for.
fn port(line: &[u8]) -> Option<u32> {
    let number = line.strip_prefix(b"CONNECT ")?;
    // Only digits: `parse` would take a sign.
    if !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(number).ok()?.parse().ok()
}

struct Caller {
    stream: UnixStream,
    read: Piece,
    /// A time of `rate::now`.
    until: u64,
}

/// The server.
pub(crate) struct Calls {
    listener: UnixListener,
    poll: Poll,
    /// By number, the oldest first.
    callers: BTreeMap<u32, Caller>,
    next: u32,
    waiting: Waiting,
}

impl Calls {
    pub(crate) fn new(listener: UnixListener, poll: Poll, waiting: Waiting) -> io::Result<Calls> {
        listener.set_nonblocking(true)?;
        poll.readable(&listener, Token::Calls)?;
        Ok(Calls {
            listener,
            poll,
            callers: BTreeMap::new(),
            next: 0,
            waiting,
        })
    }

    /// Takes a connection; one too many is closed at once.
    pub(crate) fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let taken = self.callers.len() < MOST
            && stream.set_nonblocking(true).is_ok()
            && self.poll.readable(&stream, Token::Caller(number)).is_ok();
        if !taken {
            return self.waiting.count(false);
        }
        let caller = Caller {
            stream,
            read: Piece::default(),
            until: rate::now().saturating_add(PATIENCE),
        };
        self.callers.insert(number, caller);
    }

    /// Reads on. Says whether somebody waits for the device from now on, which `listens` where the guest has a driver.
    pub(crate) fn serve(&mut self, number: u32, listens: bool) -> bool {
        let Some(mut caller) = self.callers.remove(&number) else {
            return false;
        };
        let read = rustix::io::read(&caller.stream, &mut caller.read.bytes[caller.read.to..]);
        match read {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                self.callers.insert(number, caller);
                return false;
            }
            Ok(count) if count > 0 => caller.read.to += count,
            // Gone, or said as much as there is room for and no line.
            _ => {
                self.waiting.count(false);
                return false;
            }
        }
        let said = &caller.read.bytes[..caller.read.to];
        let Some(end) = said.iter().position(|byte| *byte == b'\n') else {
            self.callers.insert(number, caller);
            return false;
        };
        let wanted = port(&said[..end]).filter(|_| listens);
        caller.read.from = end + 1;
        // Nobody listens to it here any more; the device has it watched when it takes it.
        if let Some(port) = wanted
            && self.poll.forget(&caller.stream).is_ok()
            && self.waiting.push(port, caller)
        {
            return true;
        }
        self.waiting.count(false);
        false
    }

    /// Until when somebody is waited for, if somebody is.
    pub(crate) fn until(&self) -> Option<u64> {
        self.callers.first_key_value().map(|(_, first)| first.until)
    }

    /// Lets those go that have not said in time whom they want.
    pub(crate) fn expire(&mut self, now: u64) {
        while let Some(first) = self.callers.first_entry()
            && first.get().until <= now
        {
            first.remove();
            self.waiting.count(false);
        }
    }
}

#[derive(Default)]
struct State {
    calls: VecDeque<(u32, Called)>,
    counts: CallCounts,
}

/// Those that the device is to look at, and how calls ended. Server and device have it.
#[derive(Clone, Default)]
pub(crate) struct Waiting(Arc<Mutex<State>>);

impl Waiting {
    fn push(&self, port: u32, caller: Caller) -> bool {
        let calls = &mut lock(&self.0).calls;
        if calls.len() >= MOST {
            return false;
        }
        let end = UnixEnd(caller.stream);
        let early = caller.read;
        calls.push_back((port, Called { end, early }));
        true
    }

    /// The next one, watched as `token` from now on.
    pub(crate) fn take(&self, poll: &Poll, token: Token) -> Option<(u32, Box<dyn Stream>)> {
        loop {
            let (port, called) = lock(&self.0).calls.pop_front()?;
            if poll.edges(&called.end.0, token).is_ok() {
                return Some((port, Box::new(called)));
            }
            self.count(false);
        }
    }

    pub(crate) fn count(&self, taken: bool) {
        let counts = &mut lock(&self.0).counts;
        let counter = if taken {
            &mut counts.taken
        } else {
            &mut counts.refused
        };
        *counter += 1;
    }

    pub(crate) fn counts(&self) -> CallCounts {
        lock(&self.0).counts
    }
}

/// The host's end of a connection that the host wants.
struct Called {
    end: UnixEnd,
    /// What came behind the line.
    early: Piece,
}

impl Stream for Called {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self.early.take(to) {
            0 => self.end.read(to),
            count => Ok(count),
        }
    }

    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.end.write(from)
    }

    fn end(&mut self) {
        self.end.end();
    }

    fn taken(&mut self, port: u32) -> io::Result<()> {
        let line = format!("OK {port}\n");
        // Its socket is empty still: less than all is who does not want to hear it.
        match self.end.write(line.as_bytes())? {
            count if count == line.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    struct Scene {
        calls: Calls,
        waiting: Waiting,
        poll: Poll,
        path: std::path::PathBuf,
        _folder: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Scene {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("vsock.sock");
            let (poll, waiting) = (Poll::new().unwrap(), Waiting::default());
            let listener = UnixListener::bind(&path).unwrap();
            let calls = Calls::new(listener, poll.clone(), waiting.clone()).unwrap();
            Scene {
                calls,
                waiting,
                poll,
                path,
                _folder: folder,
            }
        }

        /// A caller, whose number is that of those before it.
        fn connect(&mut self) -> UnixStream {
            let stream = UnixStream::connect(&self.path).unwrap();
            self.calls.accept();
            stream
        }

        fn taken(&self) -> Option<(u32, Box<dyn Stream>)> {
            let token = Token::Host {
                device: 0,
                token: 0,
            };
            self.waiting.take(&self.poll, token)
        }

        fn refused(&self) -> u64 {
            self.waiting.counts().refused
        }
    }

    #[track_caller]
    fn closed(mut stream: &UnixStream) {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }

    #[test]
    fn a_line_in_pieces_names_a_port_and_what_is_behind_it_belongs_to_the_connection() {
        let mut scene = Scene::new();
        let mut caller = scene.connect();
        for piece in ["CONN", "ECT 42949672"] {
            caller.write_all(piece.as_bytes()).unwrap();
            assert!(!scene.calls.serve(0, true));
        }
        caller.write_all(b"95\nearly").unwrap();
        assert!(scene.calls.serve(0, true));
        let (port, mut stream) = scene.taken().unwrap();
        assert_eq!(port, u32::MAX);
        assert!(scene.taken().is_none());
        stream.taken(7).unwrap();
        let mut line = [0; 5];
        caller.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"OK 7\n");
        caller.write_all(b", late").unwrap();
        let (mut said, mut piece) = (Vec::<u8>::new(), [0; 3]);
        while said.len() < 11 {
            let count = stream.read(&mut piece).unwrap();
            said.extend(&piece[..count]);
        }
        assert_eq!(said, b"early, late");
        assert_eq!(
            stream.read(&mut piece).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert_eq!(scene.refused(), 0);
    }

    #[test]
    fn what_is_no_such_line_is_closed_and_counted() {
        let lines: [&[u8]; 9] = [
            b"\n",
            b"CONNECT\n",
            b"CONNECT \n",
            b"CONNECT +1\n",
            b"CONNECT 1 \n",
            b"CONNECT 4294967296\n",
            b"connect 1\n",
            b"CONNECT 1\r\n",
            &[b'1'; LINE],
        ];
        let mut scene = Scene::new();
        for (n, line) in (0..).zip(lines) {
            let mut caller = scene.connect();
            caller.write_all(line).unwrap();
            assert!(!scene.calls.serve(n, true));
            // A line that is as long as may be needs one more look.
            assert!(!scene.calls.serve(n, true));
            closed(&caller);
            assert_eq!(scene.refused(), u64::from(n) + 1, "{line:?}");
        }
        let caller = scene.connect();
        drop(caller);
        assert!(!scene.calls.serve(9, true));
        let mut early = scene.connect();
        early.write_all(b"CONNECT 1\n").unwrap();
        assert!(!scene.calls.serve(10, false), "the guest has no driver");
        closed(&early);
        assert_eq!(scene.refused(), 11);
    }

    #[test]
    fn callers_that_say_nothing_are_bounded_and_go_in_time() {
        let mut scene = Scene::new();
        let before = rate::now();
        let callers: Vec<_> = (0..MOST).map(|_| scene.connect()).collect();
        closed(&scene.connect());
        assert_eq!(scene.refused(), 1);
        let until = scene.calls.until().unwrap();
        assert!(until >= before + PATIENCE);
        scene.calls.expire(until - 1);
        assert_eq!(scene.calls.callers.len(), MOST);
        scene.calls.expire(u64::MAX);
        assert_eq!((scene.calls.until(), scene.refused()), (None, 17));
        callers.iter().for_each(closed);
        // Those that the device does not look at are bounded, too.
        for n in 0..20 {
            let mut caller = scene.connect();
            caller.write_all(b"CONNECT 1\n").unwrap();
            assert_eq!(scene.calls.serve(n + 17, true), n < 16, "{n}");
        }
        assert_eq!(scene.refused(), 21);
    }
}
