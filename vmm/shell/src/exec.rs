// SPDX-License-Identifier: Apache-2.0
//! `racklet-vmm exec`: another process in a running guest, on this terminal.
//!
//! ```text
//! listens at vsock.sock_PORT <--- monitor <--- guest-init, which knows the secret
//! stdin, signals, size of the terminal  --a thread-->  its input
//! stdout, stderr                        <-------------  its output
//! ```
//! Two threads, since a process that reads nothing more may still say a lot. What comes from the guest is bounded and parsed; output is
//! passed on as it is, as any remote shell does.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use racklet_api::guest::exec::{
    Call, Exec as Wanted, FromGuest, LOWEST_PORT, MAX_PIECE, Secret, ToGuest, Window, read, write,
};
use racklet_api::guest::{CommandEnd, GuestUser};
use racklet_api::vmm::console::Bytes;
use racklet_api::vmm::{ControlAction, ControlReply};
use racklet_linux::signal::{StopRequests, WindowChanges};
use racklet_tell::text;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{isatty, tcgetwinsize};

use crate::keys::{Keys, Wish};
use crate::run::{note, status_of};
use crate::terminal::Raw;

/// How long guest-init may take to call: a guest can be slow, and none that hears the order takes as long.
const CALLED_WITHIN: Duration = Duration::from_secs(60);
/// What a terminal is like that does not say.
const USUAL: Window = Window {
    rows: 24,
    columns: 80,
};
const TERMINATE: u8 = 15;
const KILL: u8 = 9;

/// Start another process in a running guest, with its input and output here
///
/// The guest's PID 1 has to be guest-init. Exit status: that of the process; 128 and the signal's number where one ended it, 127 where it
/// could not be started, 1 where it could not be asked for. On a terminal, Ctrl-A x kills it and Ctrl-A s has it end.
#[derive(Args)]
pub(crate) struct Exec {
    /// The microVM's folder, as given to `run --folder`
    folder: PathBuf,
    /// Give it a terminal, as a shell wants
    #[arg(long, short)]
    tty: bool,
    /// Whom it runs as, by number; the guest's command's user where absent
    #[arg(long, short, value_name = "UID[:GID]", value_parser = user)]
    user: Option<GuestUser>,
    /// Add a variable to its environment
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Where it starts
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Program and arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
}

fn user(text: &str) -> Result<GuestUser, String> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| {
        text.parse()
            .map_err(|_| format!("{text:?} is no number: names are known in the guest only"))
    };
    Ok(GuestUser {
        uid: number(uid)?,
        gid: number(gid)?,
    })
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}

impl Exec {
    fn wanted(&self) -> Wanted {
        let mut environment: BTreeMap<_, _> = self.env.iter().cloned().collect();
        if self.tty
            && let Ok(term) = std::env::var("TERM")
        {
            environment.entry("TERM".to_owned()).or_insert(term);
        }
        Wanted {
            command: self.command.clone(),
            environment,
            working_directory: self.workdir.clone(),
            user: self.user,
            terminal: self.tty.then(window),
        }
    }

    pub(crate) fn run(self) -> anyhow::Result<u8> {
        let stops = StopRequests::block().context("take signals")?;
        let changes = WindowChanges::block().context("take signals")?;
        let mut door = Door::open(&self.folder)?;
        let mut connection = door.guest()?;
        drop(door);
        let mut from = BufReader::new(connection.try_clone()?);
        write(&mut connection, &ToGuest::Start(self.wanted())).context("ask the guest")?;
        let raw = if self.tty { Raw::of_stdin() } else { None };
        let tty = self.tty;
        thread::spawn(move || {
            // The guest is gone, which the other thread sees.
            let _ = give(&mut connection, tty, &stops, &changes);
        });
        let end = show(&mut from);
        drop(raw);
        let (status, said) = status_of(&end?);
        if let Some(said) = said {
            note(&text::line(&said));
        }
        Ok(status)
    }
}

/// Of this terminal.
fn window() -> Window {
    let size = tcgetwinsize(rustix::stdio::stdin()).ok();
    size.filter(|size| size.ws_row > 0 && size.ws_col > 0)
        .map_or(USUAL, |size| Window {
            rows: size.ws_row,
            columns: size.ws_col,
        })
}

/// Where the guest is expected: a socket in the microVM's folder that goes with this.
struct Door {
    listener: UnixListener,
    path: PathBuf,
    secret: Secret,
}

impl Door {
    /// Listens at a port that nobody listens at, then has guest-init called.
    fn open(folder: &Path) -> anyhow::Result<Door> {
        let directory = File::open(folder).with_context(|| format!("open {}", folder.display()))?;
        let mut drawn = [0; 20];
        rustix::rand::getrandom(&mut drawn, rustix::rand::GetRandomFlags::empty())
            .context("draw a secret")?;
        let [a, b, c, d, secret @ ..] = drawn;
        // Of the upper half: services of a guest's owner have ports that people can remember.
        let port = (u32::from_le_bytes([a, b, c, d]) | 1 << 31).min(u32::MAX - 1);
        debug_assert!(port >= LOWEST_PORT);
        let name = format!("vsock.sock_{port}");
        // A socket's name has a hundred bytes of room, a folder's any number.
        let short = format!(
            "/proc/self/fd/{}/{name}",
            std::os::fd::AsRawFd::as_raw_fd(&directory)
        );
        let listener = UnixListener::bind(&short)
            .with_context(|| format!("make {name} in {}", folder.display()))?;
        let door = Door {
            listener,
            path: folder.join(name),
            secret: Secret::new(secret),
        };
        // The monitor may be another user, whose group the folder has.
        let group = directory.metadata().context("look at the folder")?.gid();
        if rustix::process::geteuid().is_root() {
            chown(&door.path, None, Some(group)).context("give the socket to the monitor")?;
        }
        fs::set_permissions(&door.path, fs::Permissions::from_mode(0o660))
            .context("set the socket's mode")?;
        let call = Call {
            port,
            secret: door.secret.clone(),
        };
        match crate::ask::ask(folder, ControlAction::Exec(call))? {
            ControlReply::Status(_) => Ok(door),
            other => bail!("the monitor answers something else: {other:?}"),
        }
    }

    /// Waits for guest-init. Whoever else comes is sent away.
    fn guest(&mut self) -> anyhow::Result<UnixStream> {
        let until = Instant::now() + CALLED_WITHIN;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).context("a time")?;
            let mut waits = [PollFd::new(&self.listener, PollFlags::IN)];
            match poll(&mut waits, Some(&left)) {
                Ok(0) => bail!(
                    "guest-init has not called within {} s: it is busy, or has as many processes started from outside as it takes",
                    CALLED_WITHIN.as_secs()
                ),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error).context("wait for the guest"),
                Ok(_) => {}
            }
            let (stream, _) = self.listener.accept().context("hear the guest")?;
            stream.set_read_timeout(Some(CALLED_WITHIN))?;
            // Byte by byte: what follows the greeting must stay in the socket.
            let mut greeting = BufReader::with_capacity(1, &stream);
            if let Ok(Some(FromGuest::Hello { secret, .. })) = read(&mut greeting)
                && secret.is(&self.secret)
            {
                stream.set_read_timeout(None)?;
                return Ok(stream);
            }
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Where it is gone, so is the folder.
        let _ = fs::remove_file(&self.path);
    }
}

/// Shows what the process says, up to its end.
fn show(from: &mut BufReader<UnixStream>) -> anyhow::Result<CommandEnd> {
    loop {
        let said = read(from).context("what the guest says")?;
        match said.context("the guest is gone, and did not say how the process ended")? {
            FromGuest::Output(bytes) => pass(io::stdout(), &bytes)?,
            FromGuest::Error(bytes) => pass(io::stderr(), &bytes)?,
            FromGuest::Ended(end) => return Ok(end),
            FromGuest::Hello { .. } | FromGuest::Started { .. } => {}
        }
    }
}

/// A reader that has enough ends this program, and with it the process.
fn pass(mut to: impl Write, bytes: &Bytes) -> anyhow::Result<()> {
    to.write_all(&bytes.0)
        .and_then(|()| to.flush())
        .context("write what the process says")
}

/// Gives the process what is typed, signals and the terminal's size.
fn give(
    to: &mut UnixStream,
    tty: bool,
    stops: &StopRequests,
    changes: &WindowChanges,
) -> io::Result<()> {
    let stdin = rustix::stdio::stdin();
    let raw = tty && isatty(stdin);
    let (mut keys, mut open, mut asked) = (Keys::default(), true, false);
    let mut bytes = [0; MAX_PIECE / 2]; // an escape and what follows it may become one byte more
    loop {
        let mut waits = vec![
            PollFd::new(stops, PollFlags::IN),
            PollFd::new(changes, PollFlags::IN),
        ];
        if open {
            waits.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        match poll(&mut waits, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = waits.iter().map(|w| !w.revents().is_empty()).collect();
        drop(waits);
        if ready[0] && stops.take() {
            let signal = if asked { KILL } else { TERMINATE };
            asked = true;
            write(to, &ToGuest::Signal(signal))?;
        }
        if ready[1] && changes.take() && tty {
            write(to, &ToGuest::Window(window()))?;
        }
        if ready.get(2) == Some(&true) {
            let count = match rustix::io::read(stdin, &mut bytes) {
                Ok(count) => count,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => continue,
                Err(_) => 0,
            };
            open = count > 0;
            let mut typed = Vec::new();
            let wish = match raw {
                true => keys.read(&bytes[..count], &mut typed),
                false => {
                    typed.extend(&bytes[..count]);
                    None
                }
            };
            if !typed.is_empty() {
                write(to, &ToGuest::Input(Bytes(typed)))?;
            }
            if let Some(wish) = wish {
                let signal = match wish {
                    Wish::Kill => KILL,
                    Wish::Stop => TERMINATE,
                };
                write(to, &ToGuest::Signal(signal))?;
            }
            if !open {
                write(to, &ToGuest::InputEnd)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers_and_variables_have_names() {
        let both = |text| user(text).map(|user| (user.uid, user.gid));
        assert_eq!(both("7"), Ok((7, 7)));
        assert_eq!(both("7:8"), Ok((7, 8)));
        assert!(both("me").unwrap_err().contains("in the guest"));
        assert!(both("7:").is_err() && both("-1").is_err());
        let made = variable("A=b=c").unwrap();
        assert_eq!((&*made.0, &*made.1), ("A", "b=c"));
        assert!(variable("=b").is_err() && variable("A").is_err());
    }
}
