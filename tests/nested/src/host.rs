// SPDX-License-Identifier: Apache-2.0
//! Starting a monitor as the hypervisor does: a folder, two files, a process.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use racklet_linux::module;
use racklet_vmm::snapshot::open_full;
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::rules;

/// Nothing here takes longer. Emulated beside five compilers on two processors, 20,000 lines of a guest took more than 120 s.
pub(crate) const BOUND: Duration = Duration::from_secs(400);
/// Where the hypervisor keeps the folders, too.
const FOLDERS: &str = "/run/racklet/vm";
/// …and the locks.
const LOCKS: &str = "/run/racklet/hypervisor";

/// Does with kernel modules what PID 1 of the hypervisor OS does with them, and keeps one of them.
pub(crate) fn modules() {
    let any = fs::read_dir("/modules").expect("it is in the initramfs");
    let any = any.flatten().next().expect("there are modules").path();
    fs::create_dir("/again").expect("the initramfs is writable");
    fs::copy(any, "/again/00-any.ko").expect("the initramfs is writable");
    module::load_all(Path::new("/modules")).expect("modules of this kernel");
    module::forbid().expect("loading is switched off");
}

/// What comes of loading one more.
pub(crate) fn one_more_module() -> Value {
    let result = module::load_all(Path::new("/again"));
    let error = result.as_ref().err().and_then(std::error::Error::source);
    let nested: Vec<String> = ["amd", "intel"]
        .iter()
        .filter_map(|maker| {
            fs::read_to_string(format!("/sys/module/kvm_{maker}/parameters/nested")).ok()
        })
        .map(|value| value.trim().to_owned())
        .collect();
    json!({"nested": nested, "loaded": result.is_ok(), "error": error.map(ToString::to_string)})
}

/// Mounts what the hypervisor OS has mounted.
pub(crate) fn mounts() {
    for (kind, path) in [
        ("devtmpfs", "/dev"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("tmpfs", "/run"),
        ("cgroup2", "/sys/fs/cgroup"),
    ] {
        fs::create_dir_all(path).expect("the initramfs is writable");
        mount(kind, path, kind, MountFlags::empty(), None)
            .unwrap_or_else(|e| panic!("mount {path}: {e}"));
    }
}

/// Prints a case's outcome.
pub(crate) fn result(name: &str, value: &Value) {
    println!("\nRESULT {name} {value}");
}

/// Asks until there is an answer.
pub(crate) fn until<T>(mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if start.elapsed() > BOUND {
            return None;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A microVM's folder and process.
pub(crate) struct Vm {
    pub(crate) folder: PathBuf,
    pub(crate) config: Value,
    pub(crate) guest: Value,
    child: Option<Child>,
    /// Who looks at its system calls, where somebody does. Ends with it.
    watcher: Option<Child>,
}

impl Vm {
    /// A small VM that runs `command` of the probe image.
    pub(crate) fn new(name: &str, command: &[&str]) -> Vm {
        let folder = Path::new(FOLDERS).join(name);
        let mut argv = vec!["/bin/probe"];
        argv.extend(command);
        let config = json!({
            "v": 1, "name": name, "cpus": 1, "memory_mib": 128, "kernel": "/guest/vmlinux",
            "initramfs": ["/guest/initramfs.cpio", folder.join("guest.cpio")],
            "disks": [{"path": "/guest/root.erofs", "read_only": true, "serial": "root"}],
            "arguments": "",
            "vsock_cid": 3, "confinement": {"uid": 7001, "gid": 7001},
        });
        let guest = json!({
            "v": 1, "hostname": name, "command": argv, "overlay": {"kind": "memory", "size_mib": 16},
        });
        Vm {
            folder,
            config,
            guest,
            child: None,
            watcher: None,
        }
    }

    /// Writes the files and starts the monitor.
    pub(crate) fn start(&mut self) {
        self.write();
        self.spawn();
    }

    /// Writes the files.
    pub(crate) fn write(&self) {
        fs::create_dir_all(&self.folder).expect("/run is writable");
        fs::write(self.folder.join("config.json"), self.config.to_string())
            .expect("/run is writable");
        let mut archive = racklet_cpio::Archive::new();
        archive.directory("racklet", 0o755).expect("a plain path");
        archive
            .file(
                "racklet/guest.json",
                0o644,
                self.guest.to_string().as_bytes(),
            )
            .expect("a plain path");
        fs::write(self.folder.join("guest.cpio"), archive.finish()).expect("/run is writable");
    }

    /// Starts the monitor on the files as they are, with a lock that it alone holds; or with none, where somebody has it.
    pub(crate) fn spawn(&mut self) {
        let stderr = fs::File::create(self.folder.join("stderr")).expect("/run is writable");
        let lock = self.lock().expect("/run is writable");
        // A second monitor of one folder is a case of its own: it gets an open file without the lock.
        let _ = lock.try_lock();
        let (mut command, gate) = rules::monitor("/sbin/vmm", &self.folder);
        let child = command
            .arg(&self.folder)
            .stdin(lock)
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("the monitor is in the initramfs");
        self.watcher = gate.map(|gate| gate.watch(child.id()));
        self.child = Some(child);
    }

    /// As the hypervisor gives it: a lock, in a folder of its own.
    fn lock(&self) -> io::Result<fs::File> {
        fs::create_dir_all(LOCKS)?;
        let path = Path::new(LOCKS).join(self.folder.file_name().unwrap_or_default());
        let made = fs::File::options().create(true).append(true).open(&path)?;
        drop(made);
        fs::File::open(path)
    }

    /// Whether somebody holds the lock that the monitor was given.
    pub(crate) fn locked(&self) -> bool {
        let lock = self.lock().expect("/run is writable");
        matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock))
    }

    /// The monitor's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it was started").id()
    }

    /// Anonymous memory of the monitor in KiB: what its guest has used, but for pages of files, and a little of its own.
    pub(crate) fn anonymous_kib(&self) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.pid());
        let rollup = fs::read_to_string(path).unwrap_or_default();
        let line = rollup.lines().find(|line| line.starts_with("Anonymous:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        kib.expect("the monitor runs, and the kernel counts it")
    }

    /// The state in `status.json`.
    pub(crate) fn status(&self) -> Value {
        let text = fs::read(self.folder.join("status.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or(Value::Null)
    }

    /// Waits for a state.
    pub(crate) fn wait_state(&self, state: &str) -> bool {
        until(|| (self.status()["state"] == state).then_some(())).is_some()
    }

    /// Waits for a text in a file of the folder.
    pub(crate) fn wait_text(&self, file: &str, text: &str) -> bool {
        until(|| self.read(file).contains(text).then_some(())).is_some()
    }

    /// A file of the folder.
    pub(crate) fn read(&self, file: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join(file)).unwrap_or_default()).into_owned()
    }

    /// One request on the control socket; the answer.
    pub(crate) fn control(&self, action: &Value) -> Value {
        let Ok(mut stream) = UnixStream::connect(self.folder.join("control.sock")) else {
            return json!("refused");
        };
        let request = json!({"v": 1, "do": action});
        let mut line = String::new();
        let done = writeln!(stream, "{request}")
            .and_then(|()| BufReader::new(stream).read_line(&mut line));
        done.map_or(json!("broken"), |_| {
            serde_json::from_str(&line).unwrap_or(Value::Null)
        })
    }

    /// Saves the guest into a new folder, after which it ends or goes on; the answer. With `since`, what differs from the one there.
    pub(crate) fn save(&self, to: &Path, then: &str, since: Option<&Path>) -> Value {
        fs::create_dir_all(to).expect("/run is writable");
        let file = |name| fs::File::create(to.join(name)).expect("/run is writable");
        let mut files = vec![file("state"), file("memory")];
        let mut order = json!({"snapshot": {"then": then}});
        if let Some(since) = since {
            let (digest, full) = open_full(since).expect("it was saved");
            order["snapshot"]["since"] = json!(digest);
            files.push(full);
        }
        let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        self.control_with(&order, &files)
    }

    /// One request on the control socket, and files with it; the answer.
    pub(crate) fn control_with(&self, action: &Value, files: &[BorrowedFd<'_>]) -> Value {
        let request = json!({"v": 1, "do": action});
        let socket = self.folder.join("control.sock");
        let answer = racklet_line::ask_with(&socket, &request, files, BOUND);
        answer.unwrap_or_else(|error| json!({"error": format!("{error:?}")}))
    }

    /// Stops the monitor, and with it its guest, for a while.
    pub(crate) fn halt(&self, time: Duration) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.expect("a process has a number");
        kill_process(pid, Signal::STOP).expect("it is ours");
        thread::sleep(time);
        kill_process(pid, Signal::CONT).expect("it is ours");
    }

    /// Lets monitor and guest run for one twentieth of the time, until they end.
    pub(crate) fn crawl(&mut self) {
        let start = Instant::now();
        while start.elapsed() < BOUND {
            let child = self.child.as_mut().expect("it was started");
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            self.halt(Duration::from_millis(95));
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the monitor as a fault would.
    pub(crate) fn kill(&mut self) {
        let child = self.child.as_mut().expect("it was started");
        child.kill().expect("it is ours");
    }

    /// Waits for the monitor's end; everything one may want to know about it.
    pub(crate) fn end(&mut self) -> Value {
        use std::os::unix::process::ExitStatusExt;
        let child = self.child.as_mut().expect("it was started");
        let ended = until(|| child.try_wait().ok().flatten());
        if ended.is_none() {
            // Shown as neither code nor signal.
            let _ = child.kill();
        }
        if let Some(watcher) = &mut self.watcher {
            // What it saw is written when it has ended.
            let _ = watcher.wait();
        }
        let lines: Vec<Value> = ["workload.log.1", "workload.log"]
            .iter()
            .flat_map(|file| {
                self.read(file)
                    .lines()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .map(|line| serde_json::from_str(&line).unwrap_or(Value::String(line)))
            .collect();
        let count = lines.len();
        let shown: Vec<Value> = lines.into_iter().skip(count.saturating_sub(40)).collect();
        let console = self.read("console.log");
        let console: Vec<&str> = console.lines().collect();
        json!({
            "code": ended.and_then(|e| e.code()), "signal": ended.and_then(|e| e.signal()),
            "status": self.status(), "stderr": self.read("stderr"),
            "lines": shown, "line_count": count,
            "console": console[console.len().saturating_sub(6)..],
        })
    }

    /// Starts it and waits for its end.
    pub(crate) fn run(&mut self) -> Value {
        self.start();
        self.end()
    }
}
