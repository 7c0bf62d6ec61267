// SPDX-License-Identifier: Apache-2.0
//! Other people's judges of disks and networks: Debian's fio and iperf3, in a guest whose root has them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::cases::network_of;
use crate::host::{Vm, until};

/// A root like the others' that has both programs; not on every machine.
const ROOT: &str = "/guest/tools.erofs";
const MIB: u64 = 1 << 20;
/// Bytes of each disk that fio writes.
const DISK: u64 = 4 * MIB;
/// The host's address, where its iperf3 listens.
const SERVER: &str = "10.10.0.1";

fn vm(name: &str, command: &[&str]) -> Vm {
    let mut vm = Vm::new(name, command);
    vm.config["memory_mib"] = json!(256);
    vm.config["disks"][0]["path"] = json!(ROOT);
    vm
}

/// Two disks are written at random and read back, with flushes and discards on the way; then a bit of the first is not what was
/// written.
pub(crate) fn fio() -> Value {
    if !fs::exists(ROOT).unwrap_or(false) {
        return Value::Null;
    }
    let paths = ["/run/fio-1", "/run/fio-2"];
    for path in paths {
        let made = File::create(path).and_then(|file| file.set_len(DISK));
        made.expect("/run is writable");
    }
    let with_disks = |name, command: &[&str]| {
        let mut vm = vm(name, command);
        let disks = vm.config["disks"].as_array_mut().expect("a list");
        disks.extend(paths.map(|path| json!({"path": path, "read_only": false})));
        vm
    };
    let mut first = with_disks("fio", &["fio", "write"]);
    first.start();
    // Its last line is there before its end, and the counters with it.
    first.wait_text("workload.log", "done");
    let metrics = first.control(&json!("metrics"));
    first.control(&json!({"stop": {"grace_s": 30}}));
    let good = first.end();
    let altered = File::options().read(true).write(true).open(paths[0]);
    let altered = altered.and_then(|file| {
        let (mut byte, at) = ([0], DISK / 2 + 1234);
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[byte[0] ^ 0x10], at)
    });
    altered.expect("it was made above");
    let bad = with_disks("fio-altered", &["fio", "verify"]).run();
    json!({"good": good, "metrics": metrics, "altered": bad})
}

/// What the guest of [`fio`] does: runs it and says what it counted.
pub(crate) fn run_fio(what: &str) -> io::Result<i32> {
    let out = "/tmp/fio.json";
    let mut command = Command::new("/usr/bin/fio");
    command
        .args(["--output-format=json", "--output", out])
        .args(["--ioengine=libaio", "--direct=1", "--iodepth=8"])
        .args(["--verify=crc32c", "--verify_fatal=1", "--fsync=32"])
        .arg(format!("--size={DISK}"))
        .args(["--name=plain", "--filename=/dev/vdb", "--rw=randwrite"])
        .args(["--bsrange=4k-64k", "--blockalign=4k"]);
    if what == "verify" {
        command.arg("--verify_only");
    } else {
        // Each block is discarded, then written.
        command
            .args(["--name=trims", "--filename=/dev/vdc", "--rw=randtrimwrite"])
            .arg("--bs=16k");
    }
    let done = command.stdin(Stdio::null()).output()?;
    let said = fs::read_to_string(out)?;
    // A failed verification is told before it.
    let begin = said.find('{').ok_or(io::ErrorKind::InvalidData)?;
    let said: Value = serde_json::from_str(&said[begin..])?;
    for job in said["jobs"].as_array().into_iter().flatten() {
        let name = job["jobname"].as_str().unwrap_or_default();
        let count = |way: &str, what: &str| job[way][what].as_u64().unwrap_or(0);
        println!(
            "{name} error {} read {} written {} trimmed {} flushes {} deepest {}",
            job["error"],
            count("read", "io_bytes"),
            count("write", "io_bytes"),
            count("trim", "io_bytes"),
            count("sync", "total_ios"),
            job["iodepth_level"]["8"],
        );
    }
    println!("done");
    if what == "write" && done.status.success() {
        return crate::probe::wait(true);
    }
    Ok(done.status.code().unwrap_or(255))
}

/// A guest and its host send each other bytes over its card.
pub(crate) fn iperf() -> Value {
    if !fs::exists(ROOT).unwrap_or(false) {
        return Value::Null;
    }
    let mut vm = vm("iperf", &["iperf"]);
    network_of(&mut vm, "iperf0", [10, 10, 0]);
    let mut server = Command::new("/usr/bin/iperf3")
        .args(["--server", "--bind", SERVER])
        .env("TMPDIR", "/run")
        .stdout(Stdio::null())
        .spawn()
        .expect("it is in the initramfs");
    vm.start();
    vm.wait_text("workload.log", "done");
    let metrics = vm.control(&json!("metrics"));
    vm.control(&json!({"stop": {"grace_s": 30}}));
    let ended = vm.end();
    // It would serve for ever.
    let _ = server.kill();
    let _ = server.wait();
    json!({"ended": ended, "metrics": metrics})
}

/// What the guest of [`iperf`] does.
pub(crate) fn run_iperf() -> io::Result<i32> {
    let run = |options: &[&str]| -> io::Result<Value> {
        // The host's may not listen yet, or still be busy with the last one's end.
        let answer = until(|| {
            let ran = Command::new("/usr/bin/iperf3")
                .args(["--client", SERVER, "--json"])
                .args(options)
                .stdin(Stdio::null())
                .output();
            let said: Value = serde_json::from_slice(&ran.ok()?.stdout).ok()?;
            said["error"].is_null().then_some(said)
        });
        answer.ok_or_else(|| io::ErrorKind::TimedOut.into())
    };
    let bytes = (16 * MIB).to_string();
    for (name, way) in [("out", &[][..]), ("in", &["--reverse"])] {
        let said = run(&[&["--bytes", &bytes], way].concat())?;
        let end = &said["end"];
        println!(
            "{name} sent {} received {} again {}",
            end["sum_sent"]["bytes"], end["sum_received"]["bytes"], end["sum_sent"]["retransmits"],
        );
    }
    println!("done");
    crate::probe::wait(true)
}
