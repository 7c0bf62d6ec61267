// SPDX-License-Identifier: Apache-2.0
//! MicroVMs inside a QEMU machine with emulated SVM, or EL2: the real host kernel, the real monitor, the real guest kernel and PID 1,
//! without the rest of a tray. The program `nested` (`tests/nested`) starts the cases inside and prints their outcomes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use racklet_boards::Board;
use racklet_cpio::Archive;
use serde_json::Value;

use crate::artifacts::Artifacts;
use crate::board::{board, emulator};
use crate::process::{Process, bound_to_us, output, tail};
use crate::qemu::Accelerator;
use crate::until::until;

/// All cases take about six minutes emulated on an idle machine, and took sixteen beside five compilers.
const BOUND: Duration = Duration::from_secs(3000);

/// How time passes in the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// As outside, two processors.
    Real,
    /// A nanosecond per instruction, one processor: what is measured repeats.
    Counted,
}

/// The case that starts the same guest in QEMU inside the machine.
pub const PEER: &str = "bench_peer";
/// …and the one that counts what leads out of KVM, here and in QEMU.
pub const EXITS: &str = "bench_exits";
/// As many guests as a tray may have, in a machine of 2 GiB.
pub const CROWD: &str = "bench_crowd";

/// Runs cases (all that measure nothing when there are none named) on the board that this run is about; gives each outcome by name.
///
/// # Errors
/// When the machine cannot be built or started, or ends before the last case: with the end of its console.
pub fn run(folder: &Path, only: &[&str], time: Time) -> Result<BTreeMap<String, Value>> {
    run_on(&board(), folder, only, time, "")
}

/// As [`run`], on this board, and every monitor is watched: one more outcome, `rules`, says which rules of its filters nothing needed.
///
/// # Errors
/// As for [`run`].
pub fn run_watched(board: &Board, folder: &Path, only: &[&str]) -> Result<BTreeMap<String, Value>> {
    run_on(board, folder, only, Time::Real, " watched")
}

/// With these words more on the kernel's command line.
fn run_on(
    board: &Board,
    folder: &Path,
    only: &[&str],
    time: Time,
    more: &str,
) -> Result<BTreeMap<String, Value>> {
    // Not all of them: of a tray's programs only the monitor and what it starts are in this machine.
    let artifacts = &Artifacts::of(board.architecture);
    let initramfs = folder.join("nested.cpio");
    let mut parts = Parts::of_a_tray(artifacts)?;
    let mut memory = "1G";
    parts.peer = only.contains(&PEER) || only.contains(&EXITS);
    parts.tools = only.is_empty() || only.contains(&"fio") || only.contains(&"iperf");
    if parts.peer || only.contains(&CROWD) {
        memory = "2G";
    }
    fs::write(&initramfs, archive(folder, &parts)?)?;
    let emulator = emulator(board);
    let mut command = bound_to_us(&emulator.program);
    command
        .args(&emulator.machine)
        .args(["-m", memory, "-nodefaults", "-no-user-config"])
        .args(["-display", "none", "-no-reboot"]);
    match time {
        Time::Real => command
            .args(Accelerator::chosen().arguments(board))
            .args(["-smp", "2"]),
        Time::Counted => command
            .args(["-accel", "tcg,thread=single", "-cpu", &emulator.processor])
            .args(["-icount", "shift=0,sleep=off"]),
    };
    let console = board.consoles.first().context("a console")?;
    command
        .arg("-kernel")
        .arg(artifacts.kernel())
        .arg("-initrd")
        .arg(&initramfs)
        .args(["-append", &(line(&console.device, only) + more)]);
    outcomes(folder, command)
}

/// The host kernel's command line.
fn line(console: &str, only: &[&str]) -> String {
    let mut line = format!("console={console} quiet panic=-1");
    if !only.is_empty() {
        line.push_str(&format!(" only={}", only.join(",")));
    }
    line
}

/// Runs the machine to its end; what it printed.
fn outcomes(folder: &Path, mut command: Command) -> Result<BTreeMap<String, Value>> {
    let console = folder.join("console.log");
    command
        .arg("-serial")
        .arg(format!("file:{}", console.display()));
    let mut machine = Process::spawn("QEMU", &mut command, &folder.join("qemu.log"))?;
    until("the end of all microVM cases", BOUND, || machine.ended())
        .with_context(|| format!("the console ended with\n{}", tail(&console, 40)))?;
    let text = String::from_utf8_lossy(&fs::read(&console)?).into_owned();
    let mut results = BTreeMap::new();
    for line in text.lines().filter_map(|l| l.strip_prefix("RESULT ")) {
        let (name, value) = line.split_once(' ').context("a result has a name")?;
        let value = serde_json::from_str(value).with_context(|| format!("the result of {name}"))?;
        results.insert(name.to_owned(), value);
    }
    if results.remove("end").is_none() {
        bail!(
            "the machine ended before its last case; its console ended with\n{}",
            tail(&console, 40)
        );
    }
    Ok(results)
}

/// What the machine is made of.
struct Parts {
    nested: Vec<u8>,
    vmm: Vec<u8>,
    guest_init: Vec<u8>,
    /// The monitor as a shell has it, where there is one.
    shell: Option<Vec<u8>>,
    /// The host kernel's modules by file name.
    modules: Modules,
    guest_kernel: Vec<u8>,
    /// QEMU and strace of this machine, too.
    peer: bool,
    /// This machine's fio and iperf3 as well.
    tools: bool,
}

type Modules = Vec<(String, Vec<u8>)>;

impl Parts {
    fn of_a_tray(artifacts: &Artifacts) -> Result<Parts> {
        let program = |name| -> Result<Vec<u8>> { Ok(fs::read(artifacts.tray_program(name))?) };
        Ok(Parts {
            nested: program("nested")?,
            vmm: program("vmm")?,
            guest_init: program("guest-init")?,
            shell: fs::read(artifacts.tray_program("racklet-vmm")).ok(),
            modules: artifacts.modules()?,
            guest_kernel: fs::read(artifacts.guest_kernel())?,
            peer: false,
            tools: false,
        })
    }
}

/// The machine's initramfs: the program, the monitor, and what a VM is made of.
fn archive(folder: &Path, parts: &Parts) -> Result<Vec<u8>> {
    let mut host = Archive::new();
    for path in ["dev", "sbin", "guest", "modules"] {
        host.directory(path, 0o755)?;
    }
    host.character_device("dev/console", 0o600, 5, 1)?;
    host.file("init", 0o755, &parts.nested)?;
    host.file("sbin/vmm", 0o755, &parts.vmm)?;
    if let Some(shell) = &parts.shell {
        host.file("sbin/racklet-vmm", 0o755, shell)?;
    }
    for (name, module) in &parts.modules {
        host.file(&format!("modules/{name}"), 0o644, module)?;
    }
    host.file("guest/vmlinux", 0o644, &parts.guest_kernel)?;
    host.file(
        "guest/vmlinux.zst",
        0o644,
        &zstd::encode_all(parts.guest_kernel.as_slice(), 3)?,
    )?;

    for (archive, program, contents) in [
        ("initramfs", "init", &parts.guest_init),
        ("spin", "spin", &parts.nested),
        ("silent", "silent", &parts.nested),
        ("work", "work", &parts.nested),
    ] {
        let mut guest = Archive::new();
        guest.directory("dev", 0o755)?;
        guest.character_device("dev/console", 0o600, 5, 1)?;
        guest.file(program, 0o755, contents)?;
        let guest = guest.finish();
        host.file(&format!("guest/{archive}.cpio"), 0o644, &guest)?;
    }
    host.file(
        "guest/root.erofs",
        0o644,
        &fs::read(root(folder, "root", &parts.nested, &[])?)?,
    )?;
    if parts.tools {
        let tools = root(folder, "tools", &parts.nested, &[FIO, IPERF])?;
        host.file("guest/tools.erofs", 0o644, &fs::read(tools)?)?;
    }
    host.file("guest/empty.ext4", 0o644, &fs::read(ext4(folder)?)?)?;
    let mut programs = Vec::new();
    if parts.tools {
        programs.extend(with_libraries(IPERF)?);
    }
    if parts.peer {
        programs.extend(with_libraries("/usr/bin/strace")?);
        programs.extend(qemu()?);
    }
    lay(&mut host, programs)?;
    Ok(host.finish())
}

const FIO: &str = "/usr/bin/fio";
const IPERF: &str = "/usr/bin/iperf3";

/// A program of this machine and what it is linked with.
fn with_libraries(program: &str) -> Result<Vec<PathBuf>> {
    let libraries = output(Command::new("ldd").arg(program))?;
    let libraries = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    Ok(libraries.chain([program]).map(PathBuf::from).collect())
}

/// This machine's QEMU: program, libraries, and the firmware of its machine `microvm`.
fn qemu() -> Result<Vec<PathBuf>> {
    let mut files = with_libraries("/usr/bin/qemu-system-x86_64")?;
    let firmware = [
        "qboot.rom",
        "linuxboot_dma.bin",
        "pvh.bin",
        "bios-microvm.bin",
    ]
    .map(|name| format!("/usr/share/qemu/{name}"));
    // Not every version of QEMU has each of the firmware files.
    files.extend(
        firmware
            .map(PathBuf::from)
            .into_iter()
            .filter(|f| f.exists()),
    );
    Ok(files)
}

/// Puts files of this machine to the same places there.
fn lay(host: &mut Archive, files: Vec<PathBuf>) -> Result<()> {
    let mut folders = BTreeSet::from([PathBuf::from("dev"), "sbin".into(), "guest".into()]);
    for path in BTreeSet::from_iter(files) {
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let inside = path.strip_prefix("/")?;
        let mut above: Vec<&Path> = inside.ancestors().skip(1).collect();
        above.reverse();
        for folder in above.into_iter().filter(|f| !f.as_os_str().is_empty()) {
            if folders.insert(folder.to_owned()) {
                host.directory(folder.to_str().context("a plain path")?, 0o755)?;
            }
        }
        host.file(inside.to_str().context("a plain path")?, 0o755, &bytes)?;
    }
    Ok(())
}

/// A workload's root: the program, empty folders, and programs of this machine at their own places.
fn root(folder: &Path, name: &str, program: &[u8], others: &[&str]) -> Result<PathBuf> {
    let tree = folder.join(name);
    for path in ["bin", "etc", "dev", "proc", "sys", "tmp", "run"] {
        fs::create_dir_all(tree.join(path))?;
    }
    let probe = tree.join("bin/probe");
    fs::write(&probe, program)?;
    fs::set_permissions(&probe, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    for other in others {
        for path in with_libraries(other)? {
            let to = tree.join(path.strip_prefix("/")?);
            fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
            // What a link leads to.
            fs::copy(&path, &to).with_context(|| format!("copy {}", path.display()))?;
        }
    }
    let image = folder.join(format!("{name}.erofs"));
    output(
        Command::new("mkfs.erofs")
            .args(["--all-root", "-T0"])
            .arg(&image)
            .arg(&tree),
    )?;
    Ok(image)
}

fn ext4(folder: &Path) -> Result<PathBuf> {
    let image = folder.join("empty.ext4");
    fs::File::create(&image)?.set_len(16 << 20)?;
    output(
        Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4"])
            .arg(&image),
    )?;
    Ok(image)
}

/// The lines that the workload of an ended microVM said.
///
/// # Panics
/// When this is no outcome of a microVM.
#[must_use]
pub fn lines(ended: &Value) -> Vec<&str> {
    ended["lines"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|l| l["line"].as_str().expect("text"))
        .collect()
}

/// Fails unless the workload ended with this code and the monitor ended well.
#[track_caller]
pub fn exited(ended: &Value, code: u8) {
    assert_eq!(ended["code"], 0, "{ended:#}");
    assert_eq!(ended["status"]["state"], "exited", "{ended:#}");
    assert_eq!(ended["status"]["code"], code, "{ended:#}");
}

/// Fails unless the workload said this line.
#[track_caller]
pub fn has(ended: &Value, line: &str) {
    assert!(lines(ended).contains(&line), "{line:?} is not in {ended:#}");
}

/// What a busy guest said: number, random number, time and card of each line.
fn ticks(ended: &Value) -> Vec<(u64, String, u64, String)> {
    let tick = |line: &&str| {
        let mut words = line.strip_prefix("tick ")?.split(' ').map(str::to_owned);
        let mut next = || words.next();
        let number = next()?.parse().ok()?;
        Some((number, next()?, next()?.parse().ok()?, next()?))
    };
    lines(ended).iter().filter_map(tick).collect()
}

/// Fails unless a busy guest that was saved went on as two machines, in the case `restored`.
///
/// # Panics
/// When it did not, or this is no outcome of that case.
#[track_caller]
pub fn two_went_on(case: &Value) {
    let bytes = &case["answer"]["snapshot"];
    assert!(bytes["memory"].as_u64() > Some(1 << 20), "{case:#}");
    let memory = |name: &str| case[name]["snapshot"]["memory"].as_u64();
    let (full, difference) = (memory("full"), memory("difference"));
    let less = difference
        .zip(full)
        .is_some_and(|(less, full)| less < full / 4);
    assert!(less, "{difference:?} of {full:?}");
    let last = ticks(&case["first"]).last().expect("it was busy").0;
    let [from, to] = ["from_ms", "to_ms"].map(|at| case[at].as_u64().expect("a time"));
    let mut random = [const { Vec::new() }; 2];
    for (n, random) in random.iter_mut().enumerate() {
        let ended = &case["ended"][n];
        for what in ["up", "told", "named"] {
            assert_eq!(case[what][n], true, "{what}: {case:#}");
        }
        let said = ticks(ended);
        // What was on its way over a connection is gone with it; nothing is said twice, and it went on from where it was.
        assert!(said.is_sorted_by(|a, b| a.0 < b.0), "{said:?}");
        assert!(
            said.first().is_some_and(|tick| tick.0 > last),
            "{last}: {said:?}"
        );
        let own = format!("02:52:4b:00:01:0{}", n + 1);
        let settled: Vec<_> = said.iter().filter(|tick| tick.3 == own).collect();
        assert!(settled.len() > 10, "{said:?}");
        for tick in settled {
            assert!((from..=to).contains(&tick.2), "{tick:?} {from} {to}");
            random.push(tick.1.clone());
        }
        assert_eq!(ended["status"]["stopped"], true, "{ended:#}");
    }
    let [one, two] = &random;
    assert!(one.iter().all(|number| !two.contains(number)), "{random:?}");
}
