// SPDX-License-Identifier: Apache-2.0
//! Monitor processes: started so that they outlive the hypervisor, found again, watched, and ended.
//!
//! A monitor is started by a short-lived process of this program ([`launch`]) in a session of its own; it ends at once,
//! so that the monitor's parent is `init`. Nothing that happens to the hypervisor, its session or its process group
//! reaches the monitor. Its end is seen through a pidfd, whoever its parent is.

use super::record::Process;
use racklet_api::V1;
use racklet_api::vmm::{ControlAction, ControlReply, ControlRequest};
use racklet_line::AskError;
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// The first argument that makes this program a launcher.
pub(crate) const LAUNCH: &str = "launch-monitor";

/// Why a monitor is not running.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("start the launcher")]
    Launcher(#[source] io::Error),
    #[error("the launcher failed: {0}")]
    Failed(String),
    #[error("the launcher said {0:?} instead of a process number")]
    Answer(String),
    #[error("another monitor of this workload is still there")]
    Held,
}

/// The launcher's exit code when another monitor holds the lock.
const HELD: u8 = 3;

/// Starts `vmm` for `folder` and returns its process. `lock` is held by the monitor as long as it lives.
pub(crate) fn start(vmm: &Path, folder: &Path, lock: &Path) -> Result<Process, LaunchError> {
    let program = std::env::current_exe().map_err(LaunchError::Launcher)?;
    let output = Command::new(program)
        .arg(LAUNCH)
        .args([vmm, folder, lock])
        .stdin(Stdio::null())
        .output()
        .map_err(LaunchError::Launcher)?;
    if output.status.code() == Some(HELD.into()) {
        return Err(LaunchError::Held);
    }
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().last().unwrap_or("it said nothing");
        return Err(LaunchError::Failed(format!("{line} ({})", output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let answer = text.trim_end().split_once(' ');
    answer
        .and_then(|(pid, start)| {
            Some(Process {
                pid: pid.parse().ok()?,
                start: start.parse().ok()?,
            })
        })
        .ok_or_else(|| LaunchError::Answer(text.chars().take(80).collect()))
}

/// The launcher: starts `vmm <folder>` in a session of its own, prints `<pid> <start time>` and ends.
///
/// The lock is the monitor's standard input: it lasts exactly as long as the monitor, whatever becomes of the launcher and the
/// hypervisor, so that no folder ever has two monitors.
pub(crate) fn launch(vmm: &Path, folder: &Path, lock: &Path) -> io::Result<ExitCode> {
    rustix::process::setsid()?;
    // For reading only: it is all that the confined monitor keeps of the host, and nothing that it could fill.
    let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let held = rustix::fs::open(lock, flags, Mode::from_raw_mode(0o600))?;
    match rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(ExitCode::from(HELD)),
        Err(error) => return Err(error.into()),
    }
    let log = File::create(folder.join("monitor.log"))?;
    let child = Command::new(vmm)
        .arg(folder)
        .current_dir("/")
        .stdin(held)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|error| {
            io::Error::new(error.kind(), format!("start {}: {error}", vmm.display()))
        })?;
    let start = start_time(child.id())?;
    // The hypervisor may have been killed meanwhile; it will find the monitor when it is back.
    let _ = writeln!(io::stdout(), "{} {start}", child.id());
    Ok(ExitCode::SUCCESS)
}

/// `starttime` of a process, and an error when it is gone or only waits to be reaped.
fn start_time(pid: u32) -> io::Result<u64> {
    let mut stat = String::new();
    File::open(format!("/proc/{pid}/stat"))?
        .take(4096)
        .read_to_string(&mut stat)?;
    parse_stat(&stat)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("/proc/{pid}/stat is not understood"),
            )
        })
        .map(|(_, start)| start)
}

/// State and start time: fields 3 and 22 of proc_pid_stat(5). The name in field 2 may hold anything, also `)`.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

/// A living monitor.
#[derive(Debug)]
pub(crate) struct Monitor {
    pidfd: OwnedFd,
}

impl Monitor {
    /// Holds on to `process`; `None` when it has ended.
    pub(crate) fn attach(process: Process) -> Option<Self> {
        let pid = Pid::from_raw(i32::try_from(process.pid).ok()?)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Only now: the descriptor holds whoever has the number, and this says whether that is the one meant.
        (start_time(process.pid).ok()? == process.start).then_some(Self { pidfd })
    }

    pub(crate) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Whether it has ended.
    pub(crate) fn ended(&self) -> bool {
        let mut fds = [rustix::event::PollFd::new(
            &self.pidfd,
            rustix::event::PollFlags::IN,
        )];
        matches!(
            rustix::event::poll(&mut fds, Some(&rustix::time::Timespec::default())),
            Ok(1)
        )
    }

    /// Waits for its end, at most for this time.
    fn wait(&self, time: Duration) {
        let mut fds = [rustix::event::PollFd::new(
            &self.pidfd,
            rustix::event::PollFlags::IN,
        )];
        let time = rustix::time::Timespec::try_from(time).expect("a short time");
        // An interrupted wait is only a short one.
        let _ = rustix::event::poll(&mut fds, Some(&time));
    }

    pub(crate) fn kill(&self) {
        // It may have ended meanwhile; that is what was wanted.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

/// Looks through all processes for the monitor of `folder`: for a start that the hypervisor did not see the end of.
pub(crate) fn find(folder: &Path) -> Option<Process> {
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue;
        };
        let mut line = Vec::new();
        let Ok(file) = File::open(format!("/proc/{pid}/cmdline")) else {
            continue;
        };
        if file.take(8192).read_to_end(&mut line).is_err() {
            continue;
        }
        let words: Vec<&[u8]> = line.split(|b| *b == 0).skip(1).collect();
        let is_it = words.first() != Some(&LAUNCH.as_bytes())
            && words.contains(&folder.as_os_str().as_encoded_bytes());
        if is_it && let Ok(start) = start_time(pid) {
            return Some(Process { pid, start });
        }
    }
    None
}

/// How long one try waits for the answer. What was written is read whenever the monitor comes to it, also without anybody who
/// waits for the answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long until the next try, where nobody listens yet.
const AGAIN: Duration = Duration::from_millis(200);

/// Asks the monitor of `folder` to stop its guest, until it has the order or is gone: it may still be opening its socket, or too
/// busy to answer. Ends at the latest with the process, which its starter ends by force when its time is over.
pub(crate) fn stop(folder: &Path, process: Process, grace_s: u32) {
    let socket = folder.join("control.sock");
    let request = ControlRequest {
        v: V1,
        action: ControlAction::Stop {
            grace_s: Some(grace_s),
        },
    };
    while let Some(monitor) = Monitor::attach(process) {
        match racklet_line::ask::<ControlReply>(&socket, &request, ANSWER) {
            Err(AskError::Connect(..) | AskError::Send(..)) => {}
            // The order is with the monitor, whatever it makes of the answer.
            Ok(_) | Err(AskError::Answer(..) | AskError::Silent(_)) => return,
        }
        monitor.wait(AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stat_line_is_read_whatever_the_name() {
        let fields: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        let line = format!("7 (a) R (x)) S {}", fields.join(" "));
        assert_eq!(parse_stat(&line), Some(('S', 22)));
        assert_eq!(parse_stat("7 (a"), None);
    }

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_number() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let process = Process {
            pid: child.id(),
            start: start_time(child.id()).expect("alive"),
        };
        let monitor = Monitor::attach(process).expect("alive");
        assert!(!monitor.ended());
        let other = Process {
            start: process.start + 1,
            ..process
        };
        assert!(Monitor::attach(other).is_none());
        monitor.kill();
        child.wait().expect("ends");
        assert!(monitor.ended());
        assert!(Monitor::attach(process).is_none());
    }
}
