// SPDX-License-Identifier: Apache-2.0
//! What a microVM costs. In the machine that counts, a nanosecond is an instruction of the whole machine: monitor, KVM and guest.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::host::{Vm, until};

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
            "own_kib": own_kib(&mappings(vm.pid())), "threads": threads,
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
        let answer = vm.save(Path::new(&saved));
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
        let mut child = Command::new("/usr/bin/qemu-system-x86_64")
            .args(["-M", "microvm,acpi=off", "-accel", "kvm", "-cpu", "host"])
            .args([
                "-m",
                &MEMORY_MIB.to_string(),
                "-nodefaults",
                "-no-user-config",
            ])
            .args(["-display", "none", "-no-reboot", "-kernel", KERNEL])
            .args([
                "-append",
                "console=ttyS0 8250.nr_uarts=1 reboot=t panic=-1 quiet",
            ])
            .args([
                "-drive",
                "id=root,if=none,format=raw,readonly=on,file=/guest/root.erofs",
            ])
            .args(["-device", "virtio-blk-device,drive=root,serial=root"])
            .args(["-device", "virtio-rng-device"])
            .arg("-initrd")
            .arg(&archive)
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(error)
            .spawn()
            .expect("QEMU is in the initramfs");
        let shown = until(|| said(&console, "guest-init:").then_some(()));
        let first_line = start.elapsed();
        let own = own_kib(&mappings(child.id()));
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

/// Proportional memory of all mappings but the guest's: neighbours that are as large as its memory together.
fn own_kib(all: &[Mapping]) -> u64 {
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
            .position(|kib| kib == MEMORY_MIB * 1024)
            .map(|last| from..from + last + 1)
    });
    let guest = guest.expect("a guest's memory is mapped");
    let own = all.iter().enumerate().filter(|(n, _)| !guest.contains(n));
    own.map(|(_, m)| m.pss).sum()
}
