// SPDX-License-Identifier: Apache-2.0
//! `racklet-vmm run`: a folder, a monitor, and its guest's console on this terminal until the guest is over.
//!
//! ```text
//! terminal --keys--> here --input--> monitor --> guest
//!          <-bytes--      <-console-
//! ```
//! The monitor is a process of its own, confined as far as its user may confine it; here nothing of the guest is looked at.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use racklet_api::V1;
use racklet_api::guest::CommandEnd;
use racklet_api::vmm::console::{Bytes, ConsolePiece};
use racklet_api::vmm::{ControlAction, ControlReply, ControlRequest, VmState, VmStatus, exit};
use racklet_linux::session;
use racklet_linux::signal::StopRequests;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{getegid, geteuid};

use crate::document::{Disk, Document};
use crate::keys::{Keys, Wish};
use crate::rate::DiskRate;
use crate::terminal::Raw;

/// Whom the monitor becomes where root starts it: the kernel's own "nobody". A tray gives each monitor a user of its own.
const NOBODY: u32 = 65534;
/// Seconds a guest's command has to end in order, where the guest listens to such orders.
const GRACE_S: u32 = 10;
/// Bytes read from the terminal at once.
const TYPED: usize = 1024;
/// How long input that the guest has not taken waits for the next try.
const AGAIN: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// Run a guest with its console on this terminal
///
/// What is typed is the guest's, Ctrl-C included, but for Ctrl-A x, which ends it now, and Ctrl-A s, which stops it in order.
#[derive(Args)]
pub(crate) struct Run {
    /// Kernel: ELF vmlinux, the same compressed with zstd, or a bzImage
    #[arg(long, short, value_name = "FILE", required_unless_present_any = ["config", "restore"])]
    kernel: Option<PathBuf>,
    /// Go on from a snapshot, which has the kernel, what it was started with, processors and memory; disks and cards as they were
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kernel", "config", "initramfs", "append"])]
    restore: Option<PathBuf>,
    /// An initramfs; several are put one behind the other
    #[arg(long, short, value_name = "FILE")]
    initramfs: Vec<PathBuf>,
    /// A disk, a file or block device: /dev/vda, /dev/vdb, … in this order; `,ro` behind it for one that the guest cannot write
    #[arg(long, short, value_name = "PATH[,ro]")]
    disk: Vec<String>,
    /// Places for disks that come while the guest runs (`racklet-vmm attach`)
    #[arg(long, value_name = "COUNT")]
    spare_disks: Option<u8>,
    /// Memory in MiB
    #[arg(long, short, value_name = "MIB")]
    memory: Option<u32>,
    /// Virtual processors
    #[arg(long, short, value_name = "COUNT")]
    cpus: Option<u8>,
    /// Added to the kernel's command line
    #[arg(long, short, value_name = "WORDS")]
    append: Option<String>,
    /// The guest as one JSON document, which `racklet-vmm schema` describes; other options come on top
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep the microVM's folder here (control socket, logs, status) instead of a private one that goes with it
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// When the guest is over, say how as one JSON value on standard output; its console goes to standard error
    #[arg(long)]
    json: bool,
}

/// Where a microVM's files are.
enum Folder {
    Kept(PathBuf),
    Private(tempfile::TempDir),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Folder::Kept(path) => path,
            Folder::Private(folder) => folder.path(),
        }
    }

    /// A folder that nobody else may enter. A private one is in the user's own runtime folder, where there is one.
    fn new(kept: Option<PathBuf>) -> anyhow::Result<Folder> {
        if let Some(path) = kept {
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
            let path =
                fs::canonicalize(&path).with_context(|| format!("find {}", path.display()))?;
            return Ok(Folder::Kept(path));
        }
        let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let within = own
            .filter(|path| path.is_absolute() && path.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        tempfile::Builder::new()
            .prefix("racklet-vm-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&within)
            .map(Folder::Private)
            .with_context(|| format!("make a folder in {}", within.display()))
    }
}

impl Run {
    fn document(&self) -> anyhow::Result<Document> {
        let mut document = match (&self.config, &self.kernel, &self.restore) {
            (_, _, Some(folder)) => Document::restored(folder.clone())?,
            (Some(path), ..) => {
                let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
                serde_json::from_slice(&text)
                    .with_context(|| format!("{} describes no guest", path.display()))?
            }
            (None, Some(kernel), None) => Document::of(kernel.clone()),
            (None, None, None) => bail!("a kernel is needed: --kernel, --config or --restore"),
        };
        if let Some(kernel) = &self.kernel {
            document.kernel = Some(kernel.clone());
        }
        document.initramfs.extend(self.initramfs.iter().cloned());
        document
            .disks
            .extend(self.disk.iter().map(|text| disk(text)));
        document.memory_mib = self.memory.unwrap_or(document.memory_mib);
        document.cpus = self.cpus.unwrap_or(document.cpus);
        document.spare_disks = self.spare_disks.unwrap_or(document.spare_disks);
        if let Some(words) = &self.append {
            let both = [document.arguments.as_str(), words].map(str::trim);
            document.arguments = both.join(" ").trim().to_owned();
        }
        Ok(document)
    }

    pub(crate) fn run(self) -> anyhow::Result<u8> {
        let (uid, gid) = if geteuid().is_root() {
            (NOBODY, NOBODY)
        } else {
            (geteuid().as_raw(), getegid().as_raw())
        };
        let config = self.document()?.config(uid, gid)?;
        let json = self.json;
        let folder = Folder::new(self.folder)?;
        fs::write(
            folder.path().join("config.json"),
            serde_json::to_vec(&config)?,
        )
        .context("write the monitor's configuration")?;
        let stops = StopRequests::block().context("take signals")?;
        let mut monitor = Monitor::start(folder.path())?;
        let control = monitor.connect(folder.path())?;
        if let Some(control) = control {
            let raw = Raw::of_stdin();
            let session = Session {
                folder: folder.path(),
                control: BufReader::new(control),
                stops,
                keys: Keys::default(),
                typed: Vec::new(),
                sent: false,
                stdin: true,
                asked: 0,
                json,
            };
            session.run()?;
            drop(raw);
        }
        let ended = monitor.0.wait().context("wait for the monitor")?;
        over(folder.path(), ended, json)
    }
}

/// The path, and whether `,ro` is behind it.
pub(crate) fn path_of(disk: &str) -> (&str, bool) {
    match disk.strip_suffix(",ro") {
        Some(path) => (path, true),
        None => (disk, false),
    }
}

fn disk(text: &str) -> Disk {
    let (path, read_only) = path_of(text);
    Disk {
        path: path.into(),
        read_only,
        serial: String::new(),
        rate: DiskRate::default(),
        grows_to: None,
        spare: false,
    }
}

/// The monitor's process, which does not outlive this one.
struct Monitor(Child);

impl Monitor {
    fn start(folder: &Path) -> anyhow::Result<Monitor> {
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        command.arg("monitor").arg(folder);
        // Why it starts nothing is in its status, too.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        session::own(&mut command);
        let child = command.spawn().context("start the monitor")?;
        Ok(Monitor(child))
    }

    /// Waits until it listens; nothing where it has ended instead.
    fn connect(&mut self, folder: &Path) -> anyhow::Result<Option<UnixStream>> {
        let socket = folder.join("control.sock");
        loop {
            let ended = self.0.try_wait().context("look at the monitor")?;
            if let Ok(control) = racklet_line::connect(&socket) {
                return Ok(Some(control));
            }
            if ended.is_some() {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It has ended, but for faults on the way: then nobody would speak to it any more.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// While the guest runs.
struct Session<'a> {
    folder: &'a Path,
    control: BufReader<UnixStream>,
    stops: StopRequests,
    keys: Keys,
    /// Input that the guest has not taken.
    typed: Vec<u8>,
    /// Some of it was sent, and how much was taken is not known yet.
    sent: bool,
    /// Standard input has not ended.
    stdin: bool,
    /// How often somebody wanted an end.
    asked: u32,
    json: bool,
}

impl Session<'_> {
    fn run(mut self) -> anyhow::Result<()> {
        self.send(ControlAction::Console { from: Some(0) })?;
        let mut line = Vec::new();
        loop {
            let waits = !self.typed.is_empty();
            let again = waits && !self.sent;
            let mut descriptors = vec![
                PollFd::new(self.control.get_ref(), PollFlags::IN),
                PollFd::new(&self.stops, PollFlags::IN),
            ];
            let input = io::stdin();
            if self.stdin && !waits {
                descriptors.push(PollFd::new(&input, PollFlags::IN));
            }
            match poll(&mut descriptors, again.then_some(&AGAIN)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("wait for the guest"),
            }
            let ready: Vec<bool> = descriptors
                .iter()
                .map(|d| !d.revents().is_empty())
                .collect();
            drop(descriptors);
            if ready[0] && !self.hear(&mut line)? {
                return Ok(()); // the monitor is over
            }
            if ready[1] && self.stops.take() {
                self.end(self.asked > 0)?;
            }
            if ready.get(2) == Some(&true) {
                self.read_keys()?;
            } else if again {
                self.enter()?;
            }
        }
    }

    /// Reads what the monitor says; false when it is gone.
    fn hear(&mut self, line: &mut Vec<u8>) -> anyhow::Result<bool> {
        loop {
            let bound = u64::try_from(racklet_line::MAX_LINE - line.len()).unwrap_or(0);
            match self.control.by_ref().take(bound).read_until(b'\n', line) {
                Ok(0) if bound == 0 => bail!("the monitor's answer is too long"),
                Ok(0) => return Ok(false),
                Ok(_) if line.last() == Some(&b'\n') => {
                    let reply = serde_json::from_slice(line).context("the monitor's answer");
                    line.clear();
                    self.heard(reply?)?;
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // As when it ended with requests unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(error).context("read from the monitor"),
            }
        }
    }

    fn heard(&mut self, reply: ControlReply) -> anyhow::Result<()> {
        match reply {
            ControlReply::Console(piece) => self.show(&piece),
            ControlReply::Input { taken } => {
                self.typed.drain(..taken.min(self.typed.len()));
                self.sent = false;
                Ok(())
            }
            ControlReply::Error { reason } => bail!("the monitor refuses: {reason}"),
            ControlReply::Status(_)
            | ControlReply::Metrics(_)
            | ControlReply::Balloon(_)
            | ControlReply::Snapshot(_)
            | ControlReply::Attached { .. }
            | ControlReply::Detached { .. }
            | ControlReply::Resized { .. } => Ok(()),
        }
    }

    fn show(&self, piece: &ConsolePiece) -> anyhow::Result<()> {
        if piece.lost > 0 {
            note(&format!(
                "{} bytes of the console were too fast for this terminal",
                piece.lost
            ));
        }
        let written = if self.json {
            io::stderr().write_all(&piece.data.0)
        } else {
            let mut out = io::stdout();
            out.write_all(&piece.data.0).and_then(|()| out.flush())
        };
        written.context("write the console")
    }

    fn read_keys(&mut self) -> anyhow::Result<()> {
        let mut bytes = [0; TYPED];
        let count = match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(()),
            Err(_) => 0,
        };
        self.stdin = count > 0;
        let wish = self.keys.read(&bytes[..count], &mut self.typed);
        self.enter()?;
        match wish {
            Some(Wish::Kill) => self.end(true),
            Some(Wish::Stop) => self.end(false),
            None => Ok(()),
        }
    }

    fn enter(&mut self) -> anyhow::Result<()> {
        if self.typed.is_empty() {
            return Ok(());
        }
        self.sent = true;
        let data = Bytes(self.typed.clone());
        self.send(ControlAction::Input { data })
    }

    /// Ends the guest: in order where its agent is there to obey, else at once, as nobody would hear the order.
    fn end(&mut self, now: bool) -> anyhow::Result<()> {
        self.asked += 1;
        let listens = status(self.folder).is_some_and(|status| status.state == VmState::Up);
        if now || !listens {
            return self.send(ControlAction::Kill);
        }
        self.send(ControlAction::Stop {
            grace_s: Some(GRACE_S),
        })
    }

    /// A monitor that is gone is seen when it is read from.
    fn send(&mut self, action: ControlAction) -> anyhow::Result<()> {
        let request = ControlRequest { v: V1, action };
        match racklet_line::write(self.control.get_mut(), &request) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                Err(error).context("write to the monitor")
            }
            _ => Ok(()),
        }
    }
}

pub(crate) fn note(text: &str) {
    // The reader of stderr may be gone; that is no reason for an end.
    let _ = writeln!(io::stderr(), "racklet-vmm: {text}");
}

fn status(folder: &Path) -> Option<VmStatus> {
    let mut text = Vec::new();
    let file = File::open(folder.join("status.json")).ok()?;
    file.take(64 * 1024).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Says how it ended; gives this program's own exit status.
fn over(folder: &Path, ended: ExitStatus, json: bool) -> anyhow::Result<u8> {
    let Some(status) = status(folder).filter(|status| status.state.is_final()) else {
        bail!("the monitor ended without a word ({ended})");
    };
    if json {
        crate::print(&format!("{}\n", serde_json::to_string(&status)?))?;
    }
    for lack in &status.lacks {
        note(lack);
    }
    let (code, said) = judge(&status.state);
    if let Some(said) = said {
        note(&said);
    }
    Ok(code)
}

/// This program's exit status for how a command or process of the guest ended, and what there is to say about it.
pub(crate) fn status_of(end: &CommandEnd) -> (u8, Option<String>) {
    match end {
        CommandEnd::Code { code } => (*code, None),
        CommandEnd::Signal { signal } => (128_u8.saturating_add(*signal), None),
        CommandEnd::NotStarted { reason } => (127, Some(reason.clone())),
    }
}

/// The exit status for a state, and what there is to say about it.
fn judge(state: &VmState) -> (u8, Option<String>) {
    let code = |status: i32| u8::try_from(status).unwrap_or(1);
    match state {
        VmState::Exited { end, .. } => status_of(end),
        VmState::PoweredOff | VmState::Rebooted => (0, None),
        VmState::Crashed { reason } => (code(exit::CRASHED), Some(format!("crashed: {reason}"))),
        VmState::Killed { reason } => (code(exit::KILLED), Some(format!("ended: {reason}"))),
        VmState::Refused { reason } => (code(exit::REFUSED), Some(format!("refused: {reason}"))),
        VmState::Failed { reason } => (code(exit::FAILED), Some(format!("failed: {reason}"))),
        VmState::Starting | VmState::Running | VmState::Up => (1, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_read_only_where_its_path_says_so() {
        let ro = disk("/a,b,ro");
        assert_eq!((ro.path.to_str(), ro.read_only), (Some("/a,b"), true));
        let rw = disk("/a,b");
        assert_eq!((rw.path.to_str(), rw.read_only), (Some("/a,b"), false));
    }

    #[test]
    fn a_guests_end_is_this_programs_exit_status() {
        let exited = |end| VmState::Exited {
            end,
            stopped: false,
        };
        let reason = || "why".to_owned();
        for (state, expected) in [
            (exited(CommandEnd::Code { code: 7 }), 7),
            (exited(CommandEnd::Signal { signal: 9 }), 137),
            (exited(CommandEnd::NotStarted { reason: reason() }), 127),
            (VmState::PoweredOff, 0),
            (VmState::Rebooted, 0),
            (VmState::Crashed { reason: reason() }, 10),
            (VmState::Killed { reason: reason() }, 11),
            (VmState::Refused { reason: reason() }, 12),
            (VmState::Failed { reason: reason() }, 13),
        ] {
            assert_eq!(judge(&state).0, expected, "{state:?}");
        }
    }
}
