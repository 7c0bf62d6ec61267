// SPDX-License-Identifier: Apache-2.0
//! From the folder to the running guest: read, open, confine, run. Nothing of the guest runs before everything is given up.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};

use racklet_api::vmm::{MAX_CONFIG, VmConfig, VmState, balloon, exit};
use racklet_linux::signal::StopRequests;
use racklet_tell::error::chain;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, getegid, geteuid, set_parent_process_death_signal};
use vmm_sys_util::timerfd::TimerFd;

use crate::calls::Calls;
use crate::confine::seccomp::{self, Kind};
use crate::confine::{self, JailError};
use crate::control::{Control, History};
use crate::event_loop::EventLoop;
use crate::kick;
use crate::lifecycle::{Lifecycle, Words};
use crate::log::Log;
use crate::machine::{self, OpenError, Plan};
use crate::mark::Mark;
use crate::poll::Token;
use crate::rate;
use crate::snapshot;
use crate::status::StatusFile;
use crate::vcpu;

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not a valid configuration", path = path.display())]
    Config {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("another monitor runs in this folder")]
    Taken,
    #[error(
        "the monitor is to become user {uid} and group {gid}, which only root can make it: name your own in `confinement`"
    )]
    OtherUser { uid: u32, gid: u32 },
    #[error("{step}")]
    Host {
        step: &'static str,
        source: io::Error,
    },
    #[error("listen at {path}", path = path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("enter the cgroup {path}: does it exist?", path = path.display())]
    Cgroup { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Machine(#[from] OpenError),
    #[error(transparent)]
    Jail(#[from] JailError),
    #[error("compile the system call filters")]
    Filter(#[from] seccompiler::Error),
}

fn host<T>(step: &'static str, result: io::Result<T>) -> Result<T, StartError> {
    result.map_err(|source| StartError::Host { step, source })
}

/// Whether a monitor outlives who started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starter {
    /// It does: a tray's hypervisor may be started again while guests run.
    MayGo,
    /// The guest is stopped when its starter is gone, as by SIGTERM.
    Stays,
}

/// Runs the microVM of this folder until it ends; gives the process's exit status.
#[must_use]
pub fn run(folder: &Path, starter: Starter) -> i32 {
    // From here on, time is counted.
    let _ = rate::now();
    confine::close_inherited();
    confine::one_heap();
    let folder = match fs::canonicalize(folder) {
        Ok(folder) => folder,
        Err(e) => {
            let _ = writeln!(io::stderr(), "vmm: {}: {e}", folder.display());
            return exit::REFUSED;
        }
    };
    let mut status = StatusFile::new(&folder);
    match prepare(&folder, starter, &mut status) {
        Ok(ready) => ready.run(status),
        Err(error) => {
            let reason = chain(&error).replace(['\n', '\r'], " ");
            let _ = writeln!(io::stderr(), "vmm: {}: refused: {reason}", folder.display());
            if !matches!(error, StartError::Taken)
                && let Err(e) = status.write(&status.status(VmState::Refused { reason }))
            {
                let _ = writeln!(
                    io::stderr(),
                    "vmm: {}: status.json cannot be written: {e}",
                    folder.display()
                );
            }
            exit::REFUSED
        }
    }
}

fn read_config(folder: &Path) -> Result<VmConfig, StartError> {
    let path = folder.join("config.json");
    let mut bytes = Vec::new();
    let read =
        File::open(&path).and_then(|file| file.take(MAX_CONFIG as u64 + 1).read_to_end(&mut bytes));
    let read = read.and_then(|count| {
        if count > MAX_CONFIG {
            Err(io::ErrorKind::FileTooLarge.into())
        } else {
            Ok(())
        }
    });
    if let Err(source) = read {
        return Err(StartError::Read { path, source });
    }
    serde_json::from_slice(&bytes).map_err(|source| StartError::Config { path, source })
}

/// One monitor per folder: a lock that ends with the process. A plain file and not the folder itself: a descriptor of a folder leads
/// out of any root (`openat` with `..`), and this one stays open for life.
fn take_folder(folder: &Path) -> Result<File, StartError> {
    // Not through a link and without waiting for a writer: whoever was here before may have left anything under this name.
    let flags =
        OFlags::CREATE | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(folder.join("lock"), flags, Mode::from_raw_mode(0o600));
    let lock = File::from(host("open the file lock", opened.map_err(io::Error::from))?);
    if !host("look at the file lock", lock.metadata())?.is_file() {
        return host(
            "use the file lock",
            Err(io::Error::other("not a plain file")),
        );
    }
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StartError::Taken),
        Err(TryLockError::Error(source)) => host("lock the file lock", Err(source)),
    }
}

/// Everything is open and nothing is left to ask the host for.
struct Ready {
    folder: PathBuf,
    config: VmConfig,
    machine: machine::Machine,
    names: Vec<String>,
    control: Control,
    calls: Calls,
    logs: [Log; 2],
    timers: [TimerFd; 2],
    signals: StopRequests,
    filters: [seccompiler::BpfProgram; 4],
    _lock: File,
}

/// Makes the folder one in which the monitor can make files and nobody else can. An ordinary user's is his own already.
fn make_private(folder: &Path, gid: u32) -> Result<(), StartError> {
    let mode = if geteuid().is_root() {
        // The monitor makes files here but cannot replace those of root (`config.json`): sticky, writable by its group.
        host(
            "give the folder to the monitor's group",
            chown(folder, Some(0), Some(gid)),
        )?;
        0o1770
    } else {
        0o700
    };
    host(
        "set the folder's mode",
        fs::set_permissions(folder, Permissions::from_mode(mode)),
    )
}

fn prepare(folder: &Path, starter: Starter, status: &mut StatusFile) -> Result<Ready, StartError> {
    let lock = take_folder(folder)?;
    let config = read_config(folder)?;
    let (uid, gid) = (config.confinement.uid, config.confinement.gid);
    let own = (geteuid().as_raw(), getegid().as_raw());
    if own.0 != 0 && own != (uid, gid) {
        return Err(StartError::OtherUser { uid, gid });
    }
    make_private(folder, gid)?;
    status.belongs_to(uid, gid);
    host(
        "write status.json",
        status.write(&status.status(VmState::Starting)),
    )?;
    if let Some(cgroup) = &config.confinement.cgroup {
        confine::join_cgroup(cgroup).map_err(|source| StartError::Cgroup {
            path: cgroup.clone(),
            source,
        })?;
    }
    let logs = [
        host("open console.log", open_log(folder, "console.log", &config))?,
        host(
            "open workload.log",
            open_log(folder, "workload.log", &config),
        )?,
    ];
    let plan = Plan::new(&config);
    let names = plan.names.clone();
    let mut machine = machine::open(&plan)?;
    machine.places.largest = largest_file(&config);
    let control = listen(folder, "control.sock")?;
    let control = host(
        "watch control.sock",
        Control::new(control, machine.poll.clone()),
    )?;
    let calls = listen(folder, "vsock.sock")?;
    let calls = Calls::new(calls, machine.poll.clone(), machine.calls.clone());
    let calls = host("watch vsock.sock", calls)?;
    let timers = [Token::Timer, Token::Flush].map(|token| -> io::Result<TimerFd> {
        let timer = TimerFd::new().map_err(|e| io::Error::from_raw_os_error(e.errno()))?;
        machine.poll.readable(&timer, token)?;
        Ok(timer)
    });
    let [timer, flush] = timers;
    let timers = [host("make a timer", timer)?, host("make a timer", flush)?];
    let signals = host("take signals", StopRequests::block())?;
    host(
        "watch signals",
        machine.poll.readable(&signals, Token::Signal),
    )?;
    host("take the vCPUs' signal", kick::install())?;
    let filters = [
        seccomp::filter(Kind::Vcpu)?,
        seccomp::filter(Kind::Disk)?,
        seccomp::filter(Kind::Saver)?,
        seccomp::filter(Kind::EventLoop)?,
    ];
    let folder = folder.to_owned();
    let ready = Ready {
        folder,
        config,
        machine,
        names,
        control,
        calls,
        logs,
        timers,
        signals,
        filters,
        _lock: lock,
    };
    status.lack(ready.confine(starter)?);
    status.moved();
    Ok(ready)
}

/// One limit for all files that are written: no larger than the largest disk, what one may grow to or come with later, or a snapshot.
/// Block devices have no limit of this kind.
fn largest_file(config: &VmConfig) -> u64 {
    let disks = config.disks.iter().filter_map(|disk| {
        let now = fs::metadata(&disk.path).ok()?.len();
        Some(now.max(disk.grows_to.unwrap_or(0)))
    });
    // A snapshot's memory, a bit for each page of it, and a page behind that.
    let mib = u64::from(config.memory_mib);
    let memory = (mib + mib / 32_768 + 2) << 20;
    let log = config.log_bytes + (1 << 20);
    let spare = config.spare_disk_bytes.unwrap_or(0);
    disks.chain([memory, log, spare]).max().unwrap_or(memory)
}

fn open_log(folder: &Path, name: &str, config: &VmConfig) -> io::Result<Log> {
    let mut log = Log::open(&folder.join(name), config.log_bytes)?;
    log.give(config.confinement.uid, config.confinement.gid)?;
    log.moved(PathBuf::from(name));
    Ok(log)
}

/// A socket in the folder to which only the owner can connect.
fn listen(folder: &Path, name: &str) -> Result<UnixListener, StartError> {
    let path = folder.join(name);
    let failed = |source| StartError::Listen {
        path: path.clone(),
        source,
    };
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

impl Ready {
    /// Gives everything up. Everything that can fail has been done before, and from here on stderr is silent. Gives what this host
    /// lacks for it.
    fn confine(&self, starter: Starter) -> Result<Vec<String>, StartError> {
        host(
            "set resource limits",
            confine::limit(self.machine.places.largest),
        )?;
        // Fails harmlessly when the process leads its group already.
        let _ = rustix::process::setsid();
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = host("open /dev/null", null)?;
        let lacks = confine::enter(
            &self.folder,
            self.config.confinement.uid,
            self.config.confinement.gid,
        )?;
        if starter == Starter::Stays {
            // Here, as changing users forgets it.
            let end = set_parent_process_death_signal(Some(Signal::TERM));
            host("end with the starter", end.map_err(io::Error::from))?;
        }
        for what in &lacks {
            // The starter may not listen; the status says it, too.
            let _ = writeln!(io::stderr(), "vmm: {}: {what}", self.folder.display());
        }
        host("silence stderr", confine::silence(&null))?;
        Ok(lacks)
    }

    fn run(self, status: StatusFile) -> i32 {
        let [vcpu_filter, disk_filter, saver_filter, loop_filter] = self.filters;
        let machine = self.machine;
        let bus = Arc::new(machine.bus);
        let start = Arc::new(Barrier::new(machine.vcpus.len() + machine.disks.len() + 2));
        for disk in machine.disks {
            let started = disk.spawn(bus.clone(), disk_filter.clone(), start.clone());
            if let Err(e) = started {
                return failed(&status, format!("a disk's thread cannot be started: {e}"));
            }
        }
        drop(disk_filter);
        let desk = Arc::new(machine.desk);
        let vcpus = machine.vcpus.clone();
        let sources = snapshot::Sources {
            vm: machine.vm.clone(),
            vcpus: machine.vcpus,
            memory: machine.memory,
            saver: machine.saver,
            shown: machine.shown,
        };
        let started = snapshot::spawn(
            desk.clone(),
            sources,
            bus.clone(),
            saver_filter,
            start.clone(),
        );
        if let Err(e) = started {
            return failed(
                &status,
                format!("the saver's thread cannot be started: {e}"),
            );
        }
        for (number, vcpu) in vcpus.into_iter().enumerate() {
            let number = u8::try_from(number).expect("at most 32");
            if let Err(e) = vcpu::spawn(
                number,
                vcpu,
                bus.clone(),
                vcpu_filter.clone(),
                start.clone(),
            ) {
                return failed(&status, format!("a vCPU's thread cannot be started: {e}"));
            }
        }
        drop(vcpu_filter);
        let [console_log, workload_log] = self.logs;
        let [timer, flush] = self.timers;
        let later = vec![None; machine.engines.len()];
        let event_loop = EventLoop {
            poll: machine.poll,
            bus,
            engines: machine.engines,
            names: self.names,
            unfinished: machine.unfinished,
            later,
            knobs: machine.knobs,
            places: machine.places,
            console: machine.console,
            agent: machine.agent,
            vsock: machine.vsock,
            balloon: machine.balloon,
            balloon_most: balloon::most(self.config.memory_mib),
            control: self.control,
            calls: self.calls,
            waiting: machine.calls,
            history: History::default(),
            status,
            console_log,
            workload_log,
            timer,
            flush,
            flushing: false,
            signals: self.signals,
            desk,
            saving: None,
            restored: self.config.restore.as_ref().map(|_| {
                let cards = self.config.networks.iter();
                cards.map(|network| network.mac).collect()
            }),
            called: Mark::default(),
            life: Lifecycle::new(self.config.watchdog_s),
            words: Words::default(),
        };
        if let Err(e) = seccomp::apply(&loop_filter) {
            return failed(
                &event_loop.status,
                format!("the event loop cannot be confined: {e}"),
            );
        }
        drop(loop_filter);
        start.wait();
        let ended = event_loop.run();
        // These must live as long as the guest; the process ends now.
        drop((machine.vm, machine.notifications, self._lock));
        ended
    }
}

fn failed(status: &StatusFile, reason: String) -> i32 {
    let _ = status.write(&status.status(VmState::Failed { reason }));
    exit::FAILED
}
