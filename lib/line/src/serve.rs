// SPDX-License-Identifier: Apache-2.0
//! The answering side: several callers, none of whom can keep the others, or who answers, waiting.
//!
//! A caller gets a *turn* when its socket is readable: one read of at most [`TURN`] bytes, and answers to the requests that
//! are whole by then. What it sent beyond that waits in its socket, so that a caller who never stops sending still leaves the
//! others their turns. An answer that its socket does not take at once ends the connection: who does not read is never
//! waited for.

use std::fs;
use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{MAX_LINE, MOST_FILES};

/// Most bytes that are read from a caller in one turn.
const TURN: usize = 4096;

/// How much a server lets strangers have.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Callers at a time; a further one takes the place of the one that has been there longest.
    pub callers: usize,
    /// Longest request in bytes with its newline; at most [`MAX_LINE`] is of use.
    pub request: usize,
}

impl Default for Bounds {
    /// 16 callers, requests of 64 KiB.
    fn default() -> Self {
        Self {
            callers: 16,
            request: MAX_LINE,
        }
    }
}

/// Why a line is not a request.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not the JSON it should be.
    #[error("not a request: {0}")]
    Parse(serde_json::Error),
    /// It has no end within the bound; the connection ends after the answer.
    #[error("the request is too long")]
    TooLong,
}

/// A caller that is done, or that misbehaved: its connection is to be dropped.
#[derive(Debug)]
pub struct Gone;

/// The listening socket and its callers.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    callers: Vec<Caller>,
    bounds: Bounds,
}

impl Server {
    /// Listens at `path`, in the place of who listened there before. Only the same user (root, on a tray) may connect.
    ///
    /// # Errors
    /// What the system says about the folder (made if need be), the old socket, or the new one.
    pub fn bind(path: &Path, bounds: Bounds) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            callers: Vec::new(),
            bounds,
        })
    }

    /// What becomes readable when there is something to [`serve`](Self::serve).
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let callers = self.callers.iter().map(|caller| caller.stream.as_fd());
        std::iter::once(self.listener.as_fd()).chain(callers)
    }

    /// Waits until there is something to serve: for who has nothing else to wait for.
    ///
    /// # Errors
    /// What poll(2) says.
    pub fn wait(&self) -> io::Result<()> {
        let mut descriptors: Vec<PollFd<'_>> = self
            .descriptors()
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        match poll(&mut descriptors, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes new callers and gives each a turn. Does not wait.
    pub fn serve<Q: DeserializeOwned, R: Serialize>(
        &mut self,
        mut answer: impl FnMut(Result<Q, Unreadable>) -> R,
    ) {
        for _ in 0..self.bounds.callers {
            let Ok((stream, _)) = self.listener.accept() else {
                break;
            };
            let Ok(caller) = Caller::new(stream, self.bounds.request) else {
                continue;
            };
            if self.callers.len() >= self.bounds.callers {
                self.callers.remove(0);
            }
            self.callers.push(caller);
        }
        self.callers
            .retain_mut(|caller| caller.turn(&mut answer).is_ok());
    }
}

/// One connection of who asks.
#[derive(Debug)]
pub struct Caller {
    stream: UnixStream,
    unread: Vec<u8>,
    longest: usize,
    /// The rest of what was pushed, for when the socket takes it: at most [`MAX_LINE`] bytes.
    unsent: Vec<u8>,
    /// Whether descriptors that come with its bytes are taken; for anybody else the system closes them.
    takes_files: bool,
    /// Those of the last turn.
    files: Vec<OwnedFd>,
}

impl Caller {
    /// The caller at the other end of `stream`, whose requests are at most `longest` bytes.
    ///
    /// # Errors
    /// When the stream cannot be made non-blocking.
    pub fn new(stream: UnixStream, longest: usize) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            unread: Vec::new(),
            longest,
            unsent: Vec::new(),
            takes_files: false,
            files: Vec::new(),
        })
    }

    /// The same for who may send descriptors along with a request (unix(7), `SCM_RIGHTS`), at most [`MOST_FILES`].
    ///
    /// # Errors
    /// When the stream cannot be made non-blocking.
    pub fn with_files(stream: UnixStream, longest: usize) -> io::Result<Self> {
        Ok(Self {
            takes_files: true,
            ..Self::new(stream, longest)?
        })
    }

    /// The descriptors that came with the requests of the last turn. What nobody takes is closed with the next one.
    pub fn take_files(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.files)
    }

    /// Reads once and answers the requests that are whole by then. Does not wait.
    ///
    /// # Errors
    /// When the connection is to be dropped.
    pub fn turn<Q: DeserializeOwned, R: Serialize>(
        &mut self,
        mut answer: impl FnMut(Result<Q, Unreadable>) -> R,
    ) -> Result<(), Gone> {
        self.listen(|request| Some(answer(request)))
    }

    /// The same where some requests are answered later, by [`push`](Self::push).
    ///
    /// # Errors
    /// When the connection is to be dropped.
    pub fn listen<Q: DeserializeOwned, R: Serialize>(
        &mut self,
        mut answer: impl FnMut(Result<Q, Unreadable>) -> Option<R>,
    ) -> Result<(), Gone> {
        let mut bytes = [0; TURN];
        let count = match self.receive(&mut bytes) {
            Ok(0) => return Err(Gone),
            Ok(count) => count,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return Ok(());
            }
            Err(_) => return Err(Gone),
        };
        let mut rest = &bytes[..count];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end + 1);
            self.unread.extend_from_slice(line);
            rest = after;
            if self.unread.len() > self.longest {
                return self.refuse_length(answer);
            }
            let request = serde_json::from_slice(&self.unread).map_err(Unreadable::Parse);
            self.unread.clear();
            if let Some(answer) = answer(request) {
                self.reply(&answer)?;
            }
        }
        self.unread.extend_from_slice(rest);
        // Without its newline it is one byte longer than what is here.
        if self.unread.len() >= self.longest {
            return self.refuse_length(answer);
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.files.clear();
        if !self.takes_files {
            return self.stream.read(bytes);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(bytes)];
        // What has no room in `space` the system closes.
        let received = recvmsg(&self.stream, parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                // The space is rounded up; what is too many is closed here.
                let room = MOST_FILES - self.files.len();
                self.files.extend(files.take(room));
            }
        }
        Ok(received.bytes)
    }

    fn refuse_length<Q, R: Serialize>(
        &mut self,
        mut answer: impl FnMut(Result<Q, Unreadable>) -> Option<R>,
    ) -> Result<(), Gone> {
        if let Some(answer) = answer(Err(Unreadable::TooLong)) {
            self.reply(&answer)?;
        }
        Err(Gone)
    }

    /// Sends what is no answer to a request at hand. What the socket does not take at once waits here, and is sent by
    /// [`flush`](Self::flush) when the socket is writable; who has [unsent](Self::has_unsent) bytes is best left alone until then.
    ///
    /// # Errors
    /// When the connection is to be dropped: it broke, or more than [`MAX_LINE`] bytes would wait.
    pub fn push(&mut self, message: &impl Serialize) -> Result<(), Gone> {
        let mut line = serde_json::to_vec(message).map_err(|_| Gone)?;
        line.push(b'\n');
        if self.unsent.len() + line.len() > MAX_LINE {
            return Err(Gone);
        }
        self.unsent.append(&mut line);
        self.flush()
    }

    /// Sends what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// When the connection is to be dropped.
    pub fn flush(&mut self) -> Result<(), Gone> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return Err(Gone),
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Whether something waits for the socket to take it.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn reply(&mut self, answer: &impl Serialize) -> Result<(), Gone> {
        if self.has_unsent() {
            return self.push(answer);
        }
        let mut line = serde_json::to_vec(answer).map_err(|_| Gone)?;
        line.push(b'\n');
        match self.stream.write(&line) {
            Ok(written) if written == line.len() => Ok(()),
            _ => Err(Gone),
        }
    }
}

impl AsRawFd for Caller {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    const SMALL: Bounds = Bounds {
        callers: 2,
        request: 100,
    };

    struct Scene {
        server: Server,
        path: std::path::PathBuf,
        _folder: tempfile::TempDir,
    }

    impl Scene {
        fn new(bounds: Bounds) -> Self {
            let folder = tempfile::tempdir().expect("scratch");
            let path = folder.path().join("made/socket");
            let server = Server::bind(&path, bounds).expect("listens");
            Self {
                server,
                path,
                _folder: folder,
            }
        }

        fn connect(&self) -> BufReader<UnixStream> {
            BufReader::new(crate::connect(&self.path).expect("connects"))
        }

        /// A turn for everybody; numbers are answered with their doubles.
        fn turn(&mut self) -> usize {
            let mut asked = 0;
            self.server.serve(|request: Result<u32, Unreadable>| {
                asked += 1;
                request.map_or_else(|error| error.to_string(), |n| (n * 2).to_string())
            });
            asked
        }
    }

    fn line(from: &mut BufReader<UnixStream>) -> String {
        let mut line = String::new();
        from.read_line(&mut line).expect("an answer");
        line
    }

    #[test]
    fn only_the_owner_may_connect() {
        let scene = Scene::new(SMALL);
        let mode = fs::metadata(&scene.path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_request_in_pieces_is_answered_once_whole_and_several_one_by_one() {
        let mut scene = Scene::new(SMALL);
        let mut caller = scene.connect();
        for piece in ["2", "1", "\n1\n2\n3"] {
            assert_eq!(scene.turn(), 0);
            caller.get_mut().write_all(piece.as_bytes()).expect("sends");
        }
        assert_eq!(scene.turn(), 3);
        assert_eq!(line(&mut caller), "\"42\"\n");
        assert_eq!(line(&mut caller), "\"2\"\n");
    }

    #[test]
    fn nonsense_is_refused_with_the_reason_and_the_conversation_goes_on() {
        let mut scene = Scene::new(SMALL);
        let mut caller = scene.connect();
        caller.get_mut().write_all(b"\xff\xfe\n4\n").expect("sends");
        scene.turn();
        assert!(line(&mut caller).contains("not a request"));
        assert_eq!(line(&mut caller), "\"8\"\n");
    }

    #[test]
    fn a_line_at_the_bound_is_read_and_one_beyond_it_ends_the_conversation() {
        for (length, whole) in [(99, true), (100, false), (5000, false)] {
            let mut scene = Scene::new(SMALL);
            let mut caller = scene.connect();
            let mut sent = vec![b' '; length - 1];
            sent.extend_from_slice(b"4\n");
            caller.get_mut().write_all(&sent).expect("sends");
            assert_eq!(scene.turn(), 1);
            match whole {
                true => assert_eq!(line(&mut caller), "\"8\"\n"),
                false => assert!(line(&mut caller).contains("too long"), "{length}"),
            }
            assert_eq!(scene.server.callers.is_empty(), !whole);
        }
    }

    #[test]
    fn who_never_stops_sending_leaves_the_others_their_turns() {
        let mut scene = Scene::new(Bounds::default());
        let flood = crate::connect(&scene.path).expect("connects");
        while (&flood).write(&[b'\n'; 8192]).is_ok() {}
        let mut other = scene.connect();
        other.get_mut().write_all(b"4\n").expect("sends");
        // Each empty line is a request that is refused: not more of them in a turn than are read in it.
        assert!(scene.turn() <= TURN + 1);
        assert_eq!(line(&mut other), "\"8\"\n");
    }

    #[test]
    fn who_does_not_read_answers_is_dropped_and_not_waited_for() {
        let mut scene = Scene::new(Bounds::default());
        let deaf = crate::connect(&scene.path).expect("connects");
        let mut turns = 0;
        loop {
            let _ = (&deaf).write(&b"1\n".repeat(2048));
            scene.turn();
            turns += 1;
            if scene.server.callers.is_empty() {
                break;
            }
            assert!(turns < 10_000, "the socket takes answers without an end");
        }
    }

    #[test]
    fn what_is_pushed_waits_in_order_for_a_reader_and_not_without_bound() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let mut caller = Caller::new(ours, 100).expect("a caller");
        let mut pushed = 0_u64;
        while !caller.has_unsent() {
            caller.push(&pushed).expect("it is there");
            pushed += 1;
        }
        // An answer comes behind what waits, and cuts no message.
        (&theirs).write_all(b"1\n").expect("sends");
        let answered = caller.listen(|request: Result<u64, _>| request.ok().map(|n| n + 1000));
        answered.expect("it is there");
        let mut more = 0;
        while caller.push(&"x".repeat(1000)).is_ok() {
            more += 1;
            assert!(more <= MAX_LINE / 1000, "more waits than was said");
        }
        theirs.set_nonblocking(true).expect("it is a socket");
        let mut read = Vec::new();
        loop {
            let mut bytes = [0; 4096];
            match (&theirs).read(&mut bytes) {
                Ok(count) => read.extend_from_slice(&bytes[..count]),
                Err(_) if !caller.has_unsent() => break,
                Err(_) => caller.flush().expect("it is there"),
            }
        }
        let text = String::from_utf8(read).expect("JSON");
        let lines: Vec<&str> = text.lines().collect();
        let count = usize::try_from(pushed).expect("as many as fit");
        let numbers = lines[..count].iter().zip(0_u64..);
        assert!(numbers.into_iter().all(|(line, n)| *line == n.to_string()));
        assert_eq!(lines[count], "1001");
        assert_eq!(lines.len(), count + 1 + more);
    }

    #[test]
    fn a_further_caller_takes_the_place_of_the_oldest() {
        let mut scene = Scene::new(SMALL);
        let mut callers: Vec<_> = (0..3).map(|_| scene.connect()).collect();
        // Two are taken in a turn, as many as there is room for.
        scene.turn();
        scene.turn();
        assert_eq!(line_or_end(&mut callers[0]), "");
        for caller in &mut callers[1..] {
            caller.get_mut().write_all(b"1\n").expect("sends");
        }
        scene.turn();
        for caller in &mut callers[1..] {
            assert_eq!(line(caller), "\"2\"\n");
        }
    }

    fn line_or_end(from: &mut BufReader<UnixStream>) -> String {
        let mut line = String::new();
        // An error other than the end would be "would block": nobody hung up.
        from.read_line(&mut line).expect("the end");
        line
    }
}
