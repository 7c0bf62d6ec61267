// SPDX-License-Identifier: Apache-2.0
//! What a microVM costs. In the machine that counts, a nanosecond is an instruction of the whole machine: monitor, KVM and guest.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cases::network_of;
use crate::host::{Vm, until};
use crate::work;

const MEMORY_MIB: u64 = 256;
const KERNEL: &str = "/guest/vmlinux";
/// Where the text of our guest kernel begins in its file; its first segment is text and read-only data.
const TEXT: u64 = 0x20_0000;

/// As on a tray: 1 vCPU, a root of erofs, guest-init and its configuration.
fn vm(name: &str) -> Vm {
    let mut vm = Vm::new(name, &["deaf"]);
    vm.config["memory_mib"] = json!(MEMORY_MIB);
    vm
}

/// From the start of the monitor's process to guest-init's first line and to a running command, three times.
pub(crate) fn start() -> Value {
    let run = |n: u32| {
        let mut vm = vm(&format!("bench-{n}"));
        let start = Instant::now();
        vm.start();
        vm.wait_text("console.log", "guest-init:");
        let first_line = start.elapsed();
        vm.wait_state("up");
        let up = start.elapsed();
        vm.wait_text("workload.log", "ready");
        let threads = fs::read_dir(format!("/proc/{}/task", vm.pid())).map_or(0, Iterator::count);
        let run = json!({
            "first_line_us": micros(first_line), "up_us": micros(up),
            "own_kib": own_kib(&mappings(vm.pid()), MEMORY_MIB), "threads": threads,
        });
        vm.control(&json!("kill"));
        vm.end();
        run
    };
    (0..3).map(run).collect()
}

/// The kernel, but that it begins with this code.
fn entered_at(code: &[u8], path: &str) {
    let mut kernel = fs::read(KERNEL).expect("the guest kernel is there");
    let long = |at: usize| u64::from_le_bytes(kernel[at..at + 8].try_into().expect("8 bytes"));
    // Entry point, then offset and address of the first program header.
    let at = usize::try_from(long(24) - long(64 + 24) + long(64 + 8)).expect("within the file");
    kernel[at..at + code.len()].copy_from_slice(code);
    fs::write(path, &kernel).expect("the initramfs is writable");
}

/// From the start of the monitor's process to the guest's first instruction, three times: the kernel as it is, but that its first
/// instructions write to the console and wait.
pub(crate) fn entry() -> Value {
    // mov $'!', %al; mov $0x3f8, %dx; out %al, %dx; mov $10, %al; out %al, %dx; hlt; jmp to the hlt.
    entered_at(
        b"\xb0!\x66\xba\xf8\x03\xee\xb0\x0a\xee\xf4\xeb\xfd",
        "/guest/entry",
    );
    let run = |n: u32| {
        let mut vm = vm(&format!("bench-entry-{n}"));
        vm.config["kernel"] = json!("/guest/entry");
        let start = Instant::now();
        vm.start();
        vm.wait_text("console.log", "!");
        let entered = start.elapsed();
        vm.control(&json!("kill"));
        vm.end();
        json!({"entry_us": micros(entered)})
    };
    (0..3).map(run).collect()
}

/// From the start of the monitor's process to the first instruction of a guest that goes on from a snapshot, three times for a small
/// memory and three times for a large one. It writes lines to the console all the time.
pub(crate) fn restore() -> Value {
    // mov $0x3f8, %dx; then mov $'!', %al; out %al, %dx; mov $10, %al; out %al, %dx; jmp to the first mov into al.
    entered_at(
        b"\x66\xba\xf8\x03\xb0!\xee\xb0\x0a\xee\xeb\xf8",
        "/guest/restore",
    );
    let mut seen = json!({});
    for mib in [128, 1024] {
        let saved = format!("/run/saved-{mib}");
        let mut vm = vm(&format!("bench-saved-{mib}"));
        vm.config["kernel"] = json!("/guest/restore");
        vm.config["memory_mib"] = json!(mib);
        vm.start();
        vm.wait_text("console.log", "!");
        let answer = vm.save(Path::new(&saved), "end", None);
        vm.end();
        let run = |n: u32| {
            let mut vm = self::vm(&format!("bench-restore-{mib}-{n}"));
            let config = vm.config.as_object_mut().expect("an object");
            for begins in ["kernel", "initramfs", "arguments"] {
                config.remove(begins);
            }
            config.insert("memory_mib".to_owned(), json!(mib));
            config.insert("restore".to_owned(), json!(saved));
            let console = vm.folder.join("console.log");
            let start = Instant::now();
            vm.start();
            // More often than other cases: a millisecond would be a tenth of what is measured.
            while !said(&console, "!") && start.elapsed() < Duration::from_secs(60) {
                thread::sleep(Duration::from_micros(20));
            }
            let restored = start.elapsed();
            vm.control(&json!("kill"));
            vm.end();
            json!({"restore_us": micros(restored)})
        };
        seen[format!("{mib}")] =
            json!({"answer": answer, "runs": (0..3).map(run).collect::<Value>()});
    }
    seen
}

/// Two guests of the same files: what the second one has of its kernel for itself alone.
pub(crate) fn second() -> Value {
    let mut vms = [vm("bench-one"), vm("bench-two")];
    for vm in &mut vms {
        vm.start();
        vm.wait_text("workload.log", "ready");
    }
    let all = mappings(vms[1].pid());
    let text: Vec<&Mapping> = all
        .iter()
        .filter(|m| m.name == KERNEL && m.offset == TEXT)
        .collect();
    let sum = |of: fn(&Mapping) -> u64| text.iter().map(|m| of(m)).sum::<u64>();
    let seen = json!({"text_kib": sum(|m| m.kib), "own_kib": sum(|m| m.anonymous)});
    for vm in &mut vms {
        vm.control(&json!("kill"));
        vm.end();
    }
    seen
}

/// The monitor's own memory when its guest has all devices that a guest may have.
pub(crate) fn all_devices() -> Value {
    let mut vm = vm("bench-devices");
    let disks = vm.config["disks"].as_array_mut().expect("a list");
    for n in 1..8 {
        let path = format!("/run/bench-disk-{n}");
        let made = File::create(&path).and_then(|file| file.set_len(1 << 20));
        made.expect("/run is writable");
        disks.push(json!({"path": path, "read_only": false}));
    }
    let card = |n: u32| {
        let tap = format!("bench{n}");
        racklet_linux::tap::create(&tap, 7001).expect("the host kernel has taps");
        json!({"tap": tap, "mac": format!("02:52:4b:00:02:0{n}")})
    };
    vm.config["networks"] = (0..4).map(card).collect();
    vm.start();
    vm.wait_text("workload.log", "ready");
    let all = mappings(vm.pid());
    let own = own_kib(&all, MEMORY_MIB);
    let mut parts: BTreeMap<&str, u64> = BTreeMap::new();
    for part in own_of(&all, MEMORY_MIB) {
        *parts.entry(&part.name).or_default() += part.pss;
    }
    let parts = json!(parts);
    let metrics = vm.control(&json!("metrics"));
    vm.control(&json!("kill"));
    vm.end();
    let devices = metrics["metrics"]["devices"].as_array().map(Vec::len);
    json!({"own_kib": own, "devices": devices, "parts": parts})
}

/// As many guests as a tray may have at once, of 64 MiB each; what there is of memory before and beside them.
pub(crate) fn crowd() -> Value {
    const EACH_MIB: u64 = 64;
    let before = memory_kib();
    let mut vms: Vec<Vm> = (0..24)
        .map(|n| {
            let mut vm = vm(&format!("bench-crowd-{n}"));
            vm.config["memory_mib"] = json!(EACH_MIB);
            vm.config["vsock_cid"] = json!(3 + n);
            vm.guest["command"] = json!(["/bin/probe", "obey"]);
            vm.start();
            vm
        })
        .collect();
    let up = vms.iter().filter(|vm| vm.wait_state("up")).count();
    let ready = vms
        .iter()
        .filter(|vm| vm.wait_text("workload.log", "ready"));
    let ready = ready.count();
    let answers = |vm: &&Vm| vm.control(&json!("state"))["status"]["state"] == "up";
    let answered = vms.iter().filter(answers).count();
    let all: Vec<_> = vms.iter().map(|vm| mappings(vm.pid())).collect();
    let own: Vec<u64> = all.iter().map(|all| own_kib(all, EACH_MIB)).collect();
    let whole: Vec<u64> = all
        .iter()
        .map(|all| all.iter().map(|m| m.pss).sum())
        .collect();
    let beside = memory_kib();
    for vm in &vms {
        vm.control(&json!({"stop": {"grace_s": 120}}));
    }
    let well = |vm: &mut Vm| vm.end()["status"]["state"] == "exited";
    let ended = vms.iter_mut().map(well).filter(|well| *well).count();
    json!({
        "up": up, "ready": ready, "answered": answered, "ended": ended, "own_kib": own, "pss_kib": whole,
        "total_kib": before.0, "before_kib": before.1, "left_kib": beside.1,
    })
}

/// Of the machine: MemTotal and MemAvailable.
fn memory_kib() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.expect("the kernel counts it")
    };
    (of("MemTotal:"), of("MemAvailable:"))
}

/// What runs as QEMU's machine `microvm` with what our guests are given.
fn qemu(memory_mib: u64, initramfs: &Path, arguments: &str) -> Command {
    let mut command = Command::new("/usr/bin/qemu-system-x86_64");
    command
        .args(["-M", "microvm,acpi=off", "-accel", "kvm", "-cpu", "host"])
        .args(["-m", &memory_mib.to_string(), "-nodefaults"])
        .args(["-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-kernel", KERNEL, "-append"])
        .arg(format!(
            "console=ttyS0 8250.nr_uarts=1 reboot=t panic=-1 quiet {arguments}"
        ))
        .args([
            "-drive",
            "id=root,if=none,format=raw,readonly=on,file=/guest/root.erofs",
        ])
        .args(["-device", "virtio-blk-device,drive=root,serial=root"])
        .args(["-device", "virtio-rng-device"])
        .arg("-initrd")
        .arg(initramfs)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// The same kernel, PID 1 and disk in Debian's QEMU, machine `microvm`, three times.
pub(crate) fn peer() -> Value {
    let run = |n: u32| {
        // For its configuration; it is never started.
        let ours = vm(&format!("bench-peer-{n}"));
        ours.write();
        let archive = ours.folder.join("initramfs.cpio");
        let mut whole = fs::read("/guest/initramfs.cpio").expect("it is there");
        whole.extend(fs::read(ours.folder.join("guest.cpio")).expect("it was written"));
        fs::write(&archive, whole).expect("/run is writable");
        let console = ours.folder.join("console.log");
        let error = File::create(ours.folder.join("stderr")).expect("/run is writable");
        let start = Instant::now();
        let mut child = qemu(MEMORY_MIB, &archive, "")
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .stderr(error)
            .spawn()
            .expect("QEMU is in the initramfs");
        let shown = until(|| said(&console, "guest-init:").then_some(()));
        let first_line = start.elapsed();
        let own = own_kib(&mappings(child.id()), MEMORY_MIB);
        let threads = fs::read_dir(format!("/proc/{}/task", child.id())).map_or(0, Iterator::count);
        let _ = child.kill();
        let _ = child.wait();
        if shown.is_none() {
            return json!({"console": ours.read("console.log"), "stderr": ours.read("stderr")});
        }
        json!({"first_line_us": micros(first_line), "own_kib": own, "threads": threads})
    };
    (0..3).map(run).collect()
}

/// How often a guest at work leads out of KVM into its monitor: ours and QEMU's, counted from outside by strace, as calls of KVM_RUN.
/// Each stage of the guest ends with a line of the same length, and the first stage is nothing but that.
pub(crate) fn exits() -> Value {
    const DISK: &str = "/run/exits-disk";
    let made = File::create(DISK).and_then(|file| file.set_len(u64::from(work::MIB) << 20));
    made.expect("/run is writable");
    let initramfs = "/guest/work.cpio";
    let arguments = "rdinit=/work";
    let ours = {
        let mut vm = vm("bench-exits");
        network_of(&mut vm, "exits0", work::PREFIXES[0]);
        vm.config["arguments"] = json!(format!("{arguments} network=0"));
        vm.config["initramfs"] = json!([initramfs]);
        let disks = vm.config["disks"].as_array_mut().expect("a list");
        disks.push(json!({"path": DISK, "read_only": false}));
        vm.start();
        let mut seen = stages(vm.pid(), &vm.folder, work::PREFIXES[0]);
        seen["tap_was_full"] = json!(tap_was_full("exits0"));
        vm.control(&json!("kill"));
        vm.end();
        seen
    };
    let theirs = {
        // For its folder and its tap; it is never started.
        let mut vm = vm("bench-exits-peer");
        network_of(&mut vm, "exits1", work::PREFIXES[1]);
        vm.write();
        let error = File::create(vm.folder.join("stderr")).expect("/run is writable");
        let mut child = qemu(
            MEMORY_MIB,
            Path::new(initramfs),
            &format!("{arguments} network=1"),
        )
        .args(["-drive", &format!("id=data,if=none,format=raw,file={DISK}")])
        .args(["-device", "virtio-blk-device,drive=data"])
        .args([
            "-netdev",
            "tap,id=card,ifname=exits1,script=no,downscript=no",
        ])
        .args([
            "-device",
            "virtio-net-device,netdev=card,mac=02:52:4b:00:00:01",
        ])
        .arg("-serial")
        .arg(format!("file:{}", vm.folder.join("console.log").display()))
        .stderr(error)
        .spawn()
        .expect("QEMU is in the initramfs");
        let mut seen = stages(child.id(), &vm.folder, work::PREFIXES[1]);
        seen["tap_was_full"] = json!(tap_was_full("exits1"));
        let _ = child.kill();
        let _ = child.wait();
        json!({"stages": seen, "stderr": vm.read("stderr")})
    };
    json!({"ours": ours, "peer": theirs["stages"], "stderr": theirs["stderr"]})
}

/// Packets to the guest for which nobody was fast enough to read them.
fn tap_was_full(tap: &str) -> Option<u64> {
    let count = fs::read_to_string(format!("/sys/class/net/{tap}/statistics/tx_dropped"));
    count.ok()?.trim().parse().ok()
}

/// How often the monitor called KVM_RUN in each stage of its guest, and how many interrupts that guest had of its devices.
fn stages(monitor: u32, folder: &Path, prefix: [u8; 3]) -> Value {
    let (console, calls) = (folder.join("console.log"), folder.join("calls"));
    let strace = Command::new("/usr/bin/strace")
        .args(["-f", "-e", "trace=ioctl", "-e", "signal=none", "-o"])
        .arg(&calls)
        .args(["-p", &monitor.to_string()])
        .stderr(Stdio::null())
        .spawn();
    let mut strace = strace.expect("it is in the initramfs");
    let count = || {
        let text = fs::read_to_string(&calls).unwrap_or_default();
        text.lines().filter(|line| line.contains("KVM_RUN")).count()
    };
    let host = work::host_end(prefix);
    let mut seen = json!({});
    let mut last = None;
    for stage in work::STAGES {
        let line = until(|| {
            let text = fs::read_to_string(&console).unwrap_or_default();
            let all: Vec<&str> = text.split_inclusive('\n').collect();
            let line = all.iter().find(|line| line.starts_with(stage))?;
            line.ends_with('\n').then(|| line.trim().to_owned())
        });
        let Some(line) = line else {
            seen["console"] = json!(fs::read_to_string(&console).unwrap_or_default());
            break;
        };
        // What led to this line's last byte is over, and the guest sleeps.
        thread::sleep(Duration::from_millis(300));
        let now = count();
        let mut numbers = line
            .split_whitespace()
            .filter_map(|n| n.parse::<u64>().ok());
        let (done, interrupts, too_fast) = (numbers.next(), numbers.next(), numbers.next());
        if let Some((calls, before)) = last.replace((now, interrupts)) {
            let interrupts = interrupts.zip(before).map(|(now, before)| now - before);
            seen[stage] = json!({
                "done": done, "exits": now - calls, "interrupts": interrupts, "too_fast": too_fast,
            });
        }
        if stage == work::BEFORE_PACKETS {
            work::send(&host, prefix);
        }
    }
    let _ = strace.kill();
    let _ = strace.wait();
    seen
}

fn said(file: &Path, text: &str) -> bool {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).contains(text)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A mapping of a process; sizes in KiB.
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    name: String,
    kib: u64,
    pss: u64,
    anonymous: u64,
}

/// `/proc/PID/smaps`, in the order of addresses.
fn mappings(pid: u32) -> Vec<Mapping> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let mut all: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        if let Some((start, end)) = first.split_once('-')
            && let (Some(start), Some(end)) = (hex(start), hex(end))
        {
            let offset = words.nth(1).and_then(hex).unwrap_or(0);
            let name = words.nth(2).unwrap_or_default().to_owned();
            let (kib, pss, anonymous) = ((end - start) / 1024, 0, 0);
            all.push(Mapping {
                start,
                end,
                offset,
                name,
                kib,
                pss,
                anonymous,
            });
        } else if let Some(last) = all.last_mut() {
            let number = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
            match first {
                "Pss:" => last.pss = number,
                "Anonymous:" => last.anonymous = number,
                _ => {}
            }
        }
    }
    all
}

/// Proportional memory of a monitor without its guest's.
fn own_kib(all: &[Mapping], memory_mib: u64) -> u64 {
    own_of(all, memory_mib).map(|m| m.pss).sum()
}

/// All mappings but the guest's: neighbours that are as large as its memory together.
fn own_of(all: &[Mapping], memory_mib: u64) -> impl Iterator<Item = &Mapping> {
    let guest = (0..all.len()).find_map(|from| {
        let mut end = all[from].start;
        let neighbours = all[from..].iter().take_while(|m| {
            let next = m.start == end;
            end = m.end;
            next
        });
        let mut kib = 0;
        neighbours
            .map(|m| {
                kib += m.kib;
                kib
            })
            .position(|kib| kib == memory_mib * 1024)
            .map(|last| from..from + last + 1)
    });
    let guest = guest.expect("a guest's memory is mapped");
    let numbered = all.iter().enumerate();
    numbered.filter_map(move |(n, m)| (!guest.contains(&n)).then_some(m))
}
