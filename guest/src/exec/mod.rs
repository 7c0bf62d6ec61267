// SPDX-License-Identifier: Apache-2.0
//! Processes beside the command, for callers on the host: each has a connection of its own and three threads at most.
//!
//! ```text
//! order -> session's thread --Event::Exec--> main loop: starts the process, and reaps it like all others
//!             |   '--- ended <--------------------'
//!             '-- threads: input from the connection, output and errors to it
//! ```
//! Only the main loop starts and reaps: a process that could not be started is waited for by `std`, and nobody else may reap it
//! before.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use racklet_api::V1;
use racklet_api::guest::exec::{Call, Exec, FromGuest, MAX_PIECE, MOST, ToGuest, read, write};
use racklet_api::guest::{CommandEnd, GuestConfig};
use racklet_api::vmm::console::Bytes;
use racklet_linux::{child, pty, session, vsock};
use rustix::net::Shutdown;

use crate::console::say;
use crate::event::Event;
use crate::supervise::program;

/// SIGHUP: whoever looked on has gone.
const HANGUP: u8 = 1;
/// SIGKILL.
const KILL: u8 = 9;
/// How long a process may take to end when its caller has gone.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long output is waited for that something which the process left behind may still write.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// Opens a connection to this port of the host.
pub(crate) type Dial = Arc<dyn Fn(u32) -> io::Result<File> + Send + Sync>;

/// As callers want it: from a port that only the guest's root can bind.
pub(crate) fn host() -> Dial {
    Arc::new(|port| vsock::connect_reserved(vsock::HOST, port))
}

/// What a session asks of the main loop.
pub(crate) struct Request {
    exec: Exec,
    answer: SyncSender<Result<Begun, String>>,
}

/// A process that was started.
struct Begun {
    pid: u32,
    /// Where it reads: a pipe, or the terminal.
    input: File,
    /// The terminal again, if it has one.
    terminal: Option<File>,
    output: File,
    errors: Option<File>,
    turns: Receiver<Turn>,
    /// For who hears the caller.
    leave: Sender<Turn>,
}

/// What a session waits for.
enum Turn {
    /// The process ended.
    Ended(CommandEnd),
    /// The caller has gone, or says what cannot be understood.
    Left,
}

/// All sessions, as the main loop has them.
pub(crate) struct Sessions {
    config: GuestConfig,
    dial: Dial,
    count: Arc<AtomicUsize>,
    /// By process.
    waited_for: HashMap<u32, Sender<Turn>>,
}

impl Sessions {
    pub(crate) fn new(config: GuestConfig, dial: Dial) -> Sessions {
        Sessions {
            config,
            dial,
            count: Arc::default(),
            waited_for: HashMap::new(),
        }
    }

    /// Begins a session for a caller. One too many is not answered.
    pub(crate) fn call(&self, call: Call, events: &SyncSender<Event>) {
        if self.count.fetch_add(1, Ordering::SeqCst) >= MOST {
            self.count.fetch_sub(1, Ordering::SeqCst);
            return say(&format!(
                "{MOST} processes were started from outside: no more"
            ));
        }
        let (dial, events) = (self.dial.clone(), events.clone());
        let place = Place(self.count.clone());
        thread::spawn(move || {
            let done = dial(call.port).and_then(|connection| {
                let ended = serve(&connection, &call, &events);
                // The other side, and our thread that reads from it, see the end.
                let _ = rustix::net::shutdown(&connection, Shutdown::Both);
                ended
            });
            if let Err(error) = done {
                say(&format!("a caller at port {}: {error}", call.port));
            }
            drop(place);
        });
    }

    /// Starts what a session wants.
    pub(crate) fn start(&mut self, request: Request) {
        let started = spawn(&self.config, &request.exec);
        if let Ok(begun) = &started {
            self.waited_for.insert(begun.pid, begun.leave.clone());
        }
        // A session whose caller has gone meanwhile is ended by it; none is there only when PID 1 is on its way out.
        let _ = request.answer.send(started);
    }

    /// Whether this process was one of a session.
    pub(crate) fn ended(&mut self, pid: u32, end: &CommandEnd) {
        if let Some(waits) = self.waited_for.remove(&pid) {
            // The session is over when its caller has gone.
            let _ = waits.send(Turn::Ended(end.clone()));
        }
    }
}

/// One of the [`MOST`].
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn spawn(config: &GuestConfig, exec: &Exec) -> Result<Begun, String> {
    let folder = exec.working_directory.as_ref();
    let folder = folder.unwrap_or(&config.working_directory);
    let user = exec.user.unwrap_or(config.user);
    let mut command = program(config, &exec.command, folder, user)?;
    command.envs(&exec.environment);
    let name = &exec.command[0];
    let (leave, turns) = channel();
    let failed = |what: &str, error: &io::Error| format!("{what}: {error}");
    let begun = |pid, input, terminal, output, errors| Begun {
        pid,
        input,
        terminal,
        output,
        errors,
        turns,
        leave,
    };
    if let Some(size) = exec.terminal {
        let made = pty::Pty::open(size.rows, size.columns, user.uid, user.gid);
        let terminal = made.and_then(|pty| pty.give(&mut command));
        let terminal = terminal.map_err(|e| failed("make a terminal", &e))?;
        let copy = || {
            terminal
                .try_clone()
                .map_err(|e| failed("share a terminal", &e))
        };
        let (input, output) = (copy()?, copy()?);
        let child = command.spawn();
        let child = child.map_err(|e| failed(&format!("start {name:?}"), &e))?;
        return Ok(begun(child.id(), input, Some(terminal), output, None));
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    session::own(&mut command);
    let child = command.spawn();
    let mut child = child.map_err(|e| failed(&format!("start {name:?}"), &e))?;
    let pid = child.id();
    let (Some(input), Some(output), Some(errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("a pipe is missing".to_owned());
    };
    let pipes: [OwnedFd; 3] = [input.into(), output.into(), errors.into()];
    let [input, output, errors] = pipes.map(File::from);
    // Reaped with all others: the handle is not waited for.
    Ok(begun(pid, input, None, output, Some(errors)))
}

/// A connection that several threads write lines to.
type Lines = Arc<Mutex<File>>;

fn send(lines: &Lines, what: &FromGuest) -> io::Result<()> {
    let mut connection = lines.lock().unwrap_or_else(PoisonError::into_inner);
    write(&mut *connection, what)
}

fn serve(connection: &File, call: &Call, events: &SyncSender<Event>) -> io::Result<()> {
    let lines: Lines = Arc::new(Mutex::new(connection.try_clone()?));
    let secret = call.secret.clone();
    send(&lines, &FromGuest::Hello { v: V1, secret })?;
    let mut from = BufReader::new(connection.try_clone()?);
    let exec = match read(&mut from)? {
        Some(ToGuest::Start(exec)) => exec,
        Some(_) => return Err(io::Error::other("it does not say what to start")),
        None => return Ok(()),
    };
    let (answer, answered) = sync_channel(1);
    let gone = || io::Error::other("the guest ends");
    let request = Box::new(Request { exec, answer });
    events.send(Event::Exec(request)).map_err(|_| gone())?;
    let begun = match answered.recv().map_err(|_| gone())? {
        Ok(begun) => begun,
        Err(reason) => {
            let end = CommandEnd::NotStarted { reason };
            return send(&lines, &FromGuest::Ended(end));
        }
    };
    let pid = begun.pid;
    // From here on the process is ended with the session, whatever happens.
    let told = send(&lines, &FromGuest::Started { pid });
    let (progress, heard) = channel::<()>();
    let sending = Arc::new(AtomicUsize::new(0));
    for (stream, make) in [
        (
            Some(begun.output),
            FromGuest::Output as fn(Bytes) -> FromGuest,
        ),
        (begun.errors, FromGuest::Error),
    ] {
        let Some(mut stream) = stream else { continue };
        let (lines, progress, sending) = (lines.clone(), progress.clone(), sending.clone());
        thread::spawn(move || {
            forward(&mut stream, |bytes| {
                sending.fetch_add(1, Ordering::SeqCst);
                let sent = send(&lines, &make(bytes));
                sending.fetch_sub(1, Ordering::SeqCst);
                // Nobody waits for the end yet, or any more.
                let _ = progress.send(());
                sent
            });
        });
    }
    drop(progress);
    let (input, terminal, leave) = (begun.input, begun.terminal, begun.leave);
    thread::spawn(move || {
        if let Err(error) = obey(&mut from, pid, input, terminal.as_ref()) {
            say(&format!("the caller of process {pid}: {error}"));
        }
        // The session is over when its process has ended.
        let _ = leave.send(Turn::Left);
    });
    let turn = told.map(|()| begun.turns.recv());
    let end = match turn {
        Ok(Ok(Turn::Ended(end))) => end,
        Ok(Err(_)) => over(),
        Ok(Ok(Turn::Left)) | Err(_) => hang_up(pid, &begun.turns),
    };
    // Everything that it said, however slowly the caller reads; not for ever what others may say who have its pipes.
    loop {
        match heard.recv_timeout(LAST_OUTPUT) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) if sending.load(Ordering::SeqCst) > 0 => {}
            Err(_) => break,
        }
    }
    send(&lines, &FromGuest::Ended(end))
}

/// Passes on what is read, until nobody writes or reads it any more.
fn forward(stream: &mut File, mut to: impl FnMut(Bytes) -> io::Result<()>) {
    let mut bytes = [0; MAX_PIECE];
    loop {
        match stream.read(&mut bytes) {
            Ok(count @ 1..) => {
                if to(Bytes(bytes[..count].to_vec())).is_err() {
                    return;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // A terminal that no program has open is an error (EIO), and the end like any other.
            Ok(0) | Err(_) => return,
        }
    }
}

/// Does what the caller says, until it has gone.
fn obey(
    from: &mut BufReader<File>,
    pid: u32,
    input: File,
    terminal: Option<&File>,
) -> io::Result<()> {
    let mut input = Some(input);
    while let Some(said) = read(from)? {
        match said {
            ToGuest::Start(_) => return Err(io::Error::other("it runs already")),
            ToGuest::Input(bytes) => {
                // A process that reads nothing more is no reason to end it.
                if let Some(to) = &mut input
                    && to.write_all(&bytes.0).is_err()
                {
                    input = None;
                }
            }
            ToGuest::InputEnd if terminal.is_none() => input = None,
            ToGuest::InputEnd => {}
            ToGuest::Window(size) => {
                if let Some(terminal) = terminal {
                    pty::resize(terminal, size.rows, size.columns)?;
                }
            }
            ToGuest::Signal(number) => child::signal_group(pid, number),
        }
    }
    Ok(())
}

/// The caller has gone: the process is told, and ended if that is not enough.
fn hang_up(pid: u32, turns: &Receiver<Turn>) -> CommandEnd {
    let end = |turn| match turn {
        Turn::Ended(end) => Some(end),
        Turn::Left => None,
    };
    child::signal_group(pid, HANGUP);
    while let Ok(turn) = turns.recv_timeout(PATIENCE) {
        if let Some(end) = end(turn) {
            return end;
        }
    }
    child::signal_group(pid, KILL);
    turns.iter().find_map(end).unwrap_or_else(over)
}

/// The guest's end is every process's.
fn over() -> CommandEnd {
    CommandEnd::Signal { signal: KILL }
}

#[cfg(test)]
mod tests;
