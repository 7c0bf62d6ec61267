// SPDX-License-Identifier: Apache-2.0
//! The real program with a guest of a few instructions, as root and as an ordinary user. Needs root and a `/dev/kvm`, also one that
//! could not run Linux; without them each test says so and looks at nothing.
#![cfg(target_arch = "x86_64")]

use std::arch::global_asm;
use std::fs;
use std::io::{Read, Write};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_racklet-vmm");

// Entered at its first byte, at 1 MiB, as a kernel: a line, then every byte that is typed until a `q`; then what Linux says when it
// switches off, and a halt for ever.
global_asm!(
    ".pushsection .rodata",
    ".global racklet_shell_echo, racklet_shell_end",
    "racklet_shell_echo: mov dx, 0x3f8",
    "mov al, '>'",
    "out dx, al",
    "mov al, 10",
    "out dx, al",
    "2: mov dx, 0x3fd", // the line status: bit 0 says that a byte can be read
    "3: pause",
    "in al, dx",
    "test al, 1",
    "jz 3b",
    "mov dx, 0x3f8",
    "in al, dx",
    "out dx, al",
    "cmp al, 'q'",
    "jne 2b",
    "lea rsi, [rip + 5f]",
    "4: mov al, [rsi]",
    "test al, al",
    "jz 6f",
    "out dx, al",
    "inc rsi",
    "jmp 4b",
    "6: cli",
    "7: hlt",
    "jmp 7b",
    "5: .asciz \"\\n[    0.1] reboot: Power down\\n\"",
    "racklet_shell_end:",
    ".popsection",
);

unsafe extern "C" {
    static racklet_shell_echo: u8;
    static racklet_shell_end: u8;
}

/// A kernel of one segment at 1 MiB that is entered at its first byte.
fn kernel() -> Vec<u8> {
    let (from, to) = (&raw const racklet_shell_echo, &raw const racklet_shell_end);
    // SAFETY: both are labels of the one block above, the first before the second: what is between them is read-only data.
    let code = unsafe { std::slice::from_raw_parts(from, to.addr() - from.addr()) };
    let mut elf = vec![0; 120];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18] = 62; // x86-64
    elf[32] = 64; // one program header, behind this one
    elf[54] = 56;
    elf[56] = 1;
    elf[64] = 1; // to be loaded
    let size = code.len() as u64;
    for (at, value) in [
        (24, 0x10_0000), // entry
        (72, 120),       // offset
        (88, 0x10_0000), // address
        (96, size),
        (104, size),
    ] {
        elf[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    [&elf, code].concat()
}

/// A scratch folder that anybody may enter, with a kernel and a place for private folders.
struct Scene {
    folder: TempDir,
}

impl Scene {
    /// Nothing where no guest can be run here, which is said.
    fn new() -> Option<Scene> {
        let root = rustix::process::geteuid().is_root();
        let kvm = fs::File::options().read(true).write(true).open("/dev/kvm");
        if !root || kvm.is_err() {
            eprintln!("not tried: this needs root and /dev/kvm");
            return None;
        }
        let folder = tempfile::tempdir().expect("the folder is ours");
        let open = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .expect("the folder is ours");
        };
        open(folder.path(), 0o755);
        let scene = Scene { folder };
        fs::create_dir(scene.path("run")).expect("the folder is ours");
        open(&scene.path("run"), 0o777);
        fs::write(scene.path("kernel"), kernel()).expect("the folder is ours");
        fs::write(scene.path("racklet-vmm"), "").expect("the folder is ours");
        Some(scene)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `racklet-vmm` with these arguments behind `run --kernel`.
    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(["run", "--kernel"])
            .arg(self.path("kernel"))
            .args(more);
        self.prepared(command)
    }

    /// The same as an ordinary user, one who may use KVM.
    fn ordinary(&self, more: &[&str]) -> Command {
        // A device node of the user's own in a mount namespace of the test's own: the machine's stays as it is. The program is put
        // where the user can reach it, too.
        const AS_NOBODY: &str = "mount -t tmpfs none \"$0\" && mknod \"$0/kvm\" c 10 232 && chown 65534 \"$0/kvm\" && \
            mount --bind \"$0/kvm\" /dev/kvm && umount -l \"$0\" && mount --bind \"$PROGRAM\" \"$1\" && \
            exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all \"$@\"";
        let place = self.path("kvm");
        fs::create_dir_all(&place).expect("the folder is ours");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", AS_NOBODY]).arg(place);
        command
            .arg(self.path("racklet-vmm"))
            .args(["run", "--kernel"]);
        command.arg(self.path("kernel")).args(more);
        self.prepared(command)
    }

    fn prepared(&self, mut command: Command) -> Command {
        command.env("XDG_RUNTIME_DIR", self.path("run"));
        command.env("PROGRAM", PROGRAM);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Nothing is left of a private folder.
    #[track_caller]
    fn clean(&self) {
        let left: Vec<_> = fs::read_dir(self.path("run"))
            .expect("the folder is ours")
            .flatten()
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Types this and waits for the end.
fn typed(mut command: Command, text: &str) -> Output {
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(text.as_bytes()).expect("it reads");
    // Kept open: an end of input is not the guest's end.
    let output = child.wait_with_output().expect("it ends");
    drop(stdin);
    output
}

/// A guest that ends with its test, also with one that fails: else its monitor would go on for another 70 s.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // A guest that has no agent hears no order, and is ended.
            terminate(&self.0);
            let _ = self.0.wait();
        }
    }
}

impl Deref for Guest {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Guest {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours");
}

/// Waits for the guest's first line.
fn begun(mut command: Command) -> (Guest, ChildStdin) {
    let mut child = Guest(command.spawn().expect("it starts"));
    let stdin = child.stdin.take().expect("piped");
    let mut line = [0; 2];
    let out = child.stdout.as_mut().expect("piped");
    out.read_exact(&mut line).expect("it says something");
    assert_eq!(&line, b">\n");
    (child, stdin)
}

const SAID: &str = ">\nhello q\n[    0.1] reboot: Power down\n";

#[track_caller]
fn said(output: &Output, expected: &str) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text, expected, "{}: {errors}", output.status);
}

#[test]
fn a_guest_runs_on_this_terminal_and_leaves_nothing_behind() {
    let Some(scene) = Scene::new() else { return };
    let output = typed(scene.command(&[]), "hello q");
    said(&output, SAID);
    assert_eq!(output.status.code(), Some(0));
    scene.clean();
}

#[test]
fn an_ordinary_user_needs_nothing_but_kvm() {
    let Some(scene) = Scene::new() else { return };
    let output = typed(scene.ordinary(&[]), "hello q");
    said(&output, SAID);
    assert_eq!(output.status.code(), Some(0));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("user namespace"), "{errors}");
    scene.clean();
}

#[test]
fn the_monitor_of_an_ordinary_user_is_confined() {
    let Some(scene) = Scene::new() else { return };
    let folder = scene.path("run/kept");
    let (mut child, stdin) = begun(scene.ordinary(&["--folder", folder.to_str().unwrap()]));
    let status = fs::read_to_string(folder.join("status.json")).unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    let process = PathBuf::from(format!("/proc/{}", status["pid"]));
    let text = fs::read_to_string(process.join("status")).unwrap();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {text}"))
            .trim()
            .to_owned()
    };
    assert_eq!(field("Uid:"), "65534\t65534\t65534\t65534");
    for capabilities in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(capabilities), "0000000000000000", "{capabilities}");
    }
    assert_eq!(
        (field("NoNewPrivs:"), field("Seccomp:")),
        ("1".into(), "2".into())
    );
    for namespace in ["user", "mnt", "net", "ipc", "uts", "cgroup"] {
        let of = |process: &Path| fs::read_link(process.join("ns").join(namespace)).unwrap();
        assert_ne!(of(&process), of(Path::new("/proc/self")), "{namespace}");
    }
    let inside = fs::read_dir(process.join("root")).unwrap().flatten();
    let mut inside: Vec<_> = inside.map(|entry| entry.file_name()).collect();
    inside.sort();
    let files = [
        "config.json",
        "console.log",
        "control.sock",
        "lock",
        "status.json",
        "vsock.sock",
        "workload.log",
    ];
    assert_eq!(inside, files, "its root is its folder");
    assert_eq!(status.get("lacks"), None, "{status}");
    drop(stdin);
    // A guest that has no agent hears no order, and is ended.
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(11));
    assert!(!process.join("root").exists(), "the monitor is gone");
    assert!(
        folder.join("console.log").exists(),
        "a folder that was given is kept"
    );
}

#[test]
fn a_test_that_fails_leaves_no_monitor_behind() {
    let Some(scene) = Scene::new() else { return };
    let folder = scene.path("run/web");
    let command = scene.command(&["--folder", folder.to_str().unwrap()]);
    let test = std::thread::spawn(|| {
        let _guest = begun(command);
        panic!("on purpose");
    });
    assert!(test.join().is_err());
    // Who has the lock of the folder is its monitor.
    let lock = fs::File::open(folder.join("lock")).unwrap();
    lock.try_lock().expect("nobody runs there any more");
}

#[test]
fn one_document_starts_a_guest_and_its_end_is_one_json_value() {
    let Some(scene) = Scene::new() else { return };
    let disk = scene.path("disk");
    fs::write(&disk, vec![0; 4096]).unwrap();
    let document = scene.path("guest.json");
    let text = json!({"kernel": scene.path("kernel"), "cpus": 2, "memory_mib": 32, "disks": [{"path": disk, "read_only": true}]});
    fs::write(&document, text.to_string()).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--json", "--config"]).arg(&document);
    let output = typed(scene.prepared(command), "hello q");
    let ended: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(ended["state"], "powered-off", "{ended}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(SAID));
    assert_eq!(output.status.code(), Some(0));
    scene.clean();
}

#[test]
fn ctrl_a_x_ends_a_guest_and_what_cannot_be_is_refused_with_the_reason() {
    let Some(scene) = Scene::new() else { return };
    let output = typed(scene.command(&[]), "a\x01\x01\x01x");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.is_empty() || text.starts_with(">\n"), "{text:?}");
    assert_eq!(output.status.code(), Some(11));
    let output = typed(scene.command(&["--disk", "/dev/null"]), "");
    assert_eq!(output.status.code(), Some(12));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("neither a file nor a block device"),
        "{errors}"
    );
    let output = typed(scene.command(&["--memory", "1"]), "");
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("memory_mib: 1 is not within"), "{errors}");
    scene.clean();
}

#[test]
fn a_running_guest_is_paused_and_counted_from_another_shell() {
    let Some(scene) = Scene::new() else { return };
    let folder = scene.path("run/web");
    let (mut child, mut stdin) = begun(scene.command(&["--folder", folder.to_str().unwrap()]));
    let ask = |arguments: &[&str]| {
        let output = Command::new(PROGRAM)
            .args(arguments)
            .output()
            .expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    };
    let of = folder.to_str().unwrap();
    assert!(ask(&["ask", of, "pause"]).contains(r#""paused": true"#));
    assert!(!ask(&["ask", of, "resume"]).contains("paused"));
    let metrics = ask(&["metrics", of]);
    assert!(metrics.contains(r#"racklet_vm_exits_total{vm="web",exit="port-write"}"#));
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    stdin.write_all(b"q").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_guest_is_saved_from_another_shell_and_goes_on_as_often_as_is_wanted() {
    let Some(scene) = Scene::new() else { return };
    let folder = scene.path("run/web");
    let more = ["--memory", "64", "--folder", folder.to_str().unwrap()];
    let (mut child, _stdin) = begun(scene.command(&more));
    let save = |to: &Path| {
        let mut command = Command::new(PROGRAM);
        command.arg("snapshot").arg(&folder).arg(to).arg("--end");
        command.output().expect("it runs")
    };
    let there = save(&scene.path("run"));
    let errors = String::from_utf8_lossy(&there.stderr);
    assert!(
        !there.status.success() && errors.contains("exists"),
        "{errors}"
    );
    let full = scene.path("full");
    let mut command = Command::new(PROGRAM);
    command.arg("snapshot").arg(&folder).arg(&full);
    assert!(command.output().expect("it runs").status.success());
    // From here on, what has changed since.
    let saved = scene.path("saved");
    let mut command = Command::new(PROGRAM);
    command.arg("snapshot").arg(&folder).arg(&saved);
    command.arg("--end").arg("--since").arg(&full);
    let output = command.output().expect("it runs");
    let said: Value = serde_json::from_slice(&output.stdout).expect("it says how large it is");
    assert!(said["memory"].as_u64() < Some(1 << 20), "{said}");
    let state = fs::metadata(saved.join("state")).unwrap().len();
    assert_eq!(said["state"], state);
    assert_eq!(child.wait().unwrap().code(), Some(11), "ended by force");
    for typed in ["oneq", "twoq"] {
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--restore"]).arg(&saved);
        let mut child = scene.prepared(command).spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(typed.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with(typed), "{text:?}");
        assert_eq!(output.status.code(), Some(0), "{text:?}");
        drop(stdin);
    }
    let mut command = Command::new(PROGRAM);
    command
        .args(["run", "--memory", "32", "--restore"])
        .arg(&saved);
    let output = scene.prepared(command).output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("64 MiB of memory"), "{errors}");
    assert_eq!(output.status.code(), Some(12), "nothing was started");
}

#[test]
fn completions_and_manual_pages_are_written_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(PROGRAM)
            .args(arguments)
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(run(&["completion", "bash"]).contains("racklet-vmm"));
    run(&["man", folder.path().to_str().unwrap()]);
    let page = fs::read_to_string(folder.path().join("racklet-vmm-run.1")).unwrap();
    assert!(page.contains("Ctrl\\-A x"), "{page}");
    assert!(!folder.path().join("racklet-vmm-monitor.1").exists());
}
