// SPDX-License-Identifier: Apache-2.0
//! The cases, one after the other. `only=a,b` on the kernel command line chooses some; with `watched` their monitors are watched
//! ([`crate::rules`]).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use racklet_linux::clock;
use racklet_linux::rtnl::Rtnl;
use rustix::fs::{FallocateFlags, fallocate};
use serde_json::{Value, json};

use crate::bench;
use crate::host::{BOUND, Vm, modules, mounts, one_more_module, result, until};
use crate::{rules, tools};

type Case = (&'static str, fn() -> Value);

const CASES: &[Case] = &[
    ("one_more_module", one_more_module),
    ("hello", hello),
    ("compressed_two_cpus", compressed_two_cpus),
    ("read_only", read_only),
    ("network", network),
    ("disk", disk),
    ("disk_room", disk_room),
    ("disk_added", disk_added),
    ("fio", tools::fio),
    ("iperf", tools::iperf),
    ("overlay_on_disk", overlay_on_disk),
    ("not_found", not_found),
    ("signal", || Vm::new("signal", &["abort"]).run()),
    ("be_agent", be_agent),
    ("switched_off", || {
        Vm::new("switched-off", &["leave", "off"]).run()
    }),
    ("restarted", || {
        Vm::new("restarted", &["leave", "again"]).run()
    }),
    ("watchdog", watchdog),
    ("flood", flood),
    ("flood_stopped", flood_stopped),
    ("flood_slow", flood_slow),
    ("vsock", vsock),
    ("crowd", crowd),
    ("host_calls", host_calls),
    ("memory", memory),
    ("confined", confined),
    ("stop", || stopped("stop", "obey", 30)),
    ("stop_deaf", || stopped("stop-deaf", "deaf", 1)),
    ("power_off", power_off),
    ("kill_request", kill_request),
    ("paused", paused),
    ("exec", exec),
    ("from_a_shell", from_a_shell),
    ("restored", restored),
    ("monitor_killed", monitor_killed),
    ("guest_panic", guest_panic),
    ("guest_hangs", guest_hangs),
    ("refused", refused),
    ("no_kvm", no_kvm),
    ("devices", devices),
    ("quietly_off", || {
        Vm::new("quietly-off", &["leave-quietly", "off"]).run()
    }),
    ("quietly_again", || {
        Vm::new("quietly-again", &["leave-quietly", "again"]).run()
    }),
    ("bench_start", bench::start),
    ("bench_entry", bench::entry),
    ("bench_restore", bench::restore),
    ("bench_second", bench::second),
    ("bench_peer", bench::peer),
    ("bench_devices", bench::all_devices),
    ("bench_exits", bench::exits),
    ("bench_crowd", bench::crowd),
];

/// Only when they are named: what is measured, what other cases do one by one, and guests that say nothing of their end, which is
/// heard only where firmware is told.
fn is_named_only(case: &str) -> bool {
    case.starts_with("bench_") || ["devices", "quietly_off", "quietly_again"].contains(&case)
}

/// Runs them.
pub(crate) fn all() {
    mounts();
    modules();
    fs::set_permissions("/run", PermissionsExt::from_mode(0o755)).expect("it is ours");
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let only = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("only="));
    let watched = line.split_whitespace().any(|word| word == "watched");
    if watched {
        rules::begin();
    }
    for (name, case) in CASES {
        let wanted = only.map_or(!is_named_only(name), |only| {
            only.split(',').any(|o| o == *name)
        });
        if wanted {
            result(name, &case());
        }
    }
    if watched {
        result("rules", &rules::never());
    }
    result("end", &json!({}));
}

fn hello() -> Value {
    let mut vm = Vm::new("hello", &["hello", "a b", "ü"]);
    vm.guest["environment"] = json!({"COLOUR": "green"});
    vm.guest["user"] = json!({"uid": 33, "gid": 34});
    vm.guest["working_directory"] = json!("/tmp");
    let mut ended = vm.run();
    ended["host_time_s"] = json!(clock::wall().as_secs());
    ended
}

fn compressed_two_cpus() -> Value {
    let mut vm = Vm::new("two", &["hello"]);
    vm.config["cpus"] = json!(2);
    vm.config["kernel"] = json!("/guest/vmlinux.zst");
    vm.run()
}

fn read_only() -> Value {
    let mut vm = Vm::new("read-only", &["write", "/etc/x"]);
    vm.guest["overlay"] = json!({"kind": "none"});
    vm.run()
}

fn network() -> Value {
    let mut vm = Vm::new("network", &["echo-tcp", ADDRESS]);
    on_a_network(&mut vm);
    vm.run()
}

/// Where somebody sends back what it gets.
const ADDRESS: &str = "10.9.0.1:7000";

/// A tap with an address, and somebody who sends back what it gets.
fn on_a_network(vm: &mut Vm) {
    network_of(vm, "vmtap0", [10, 9, 0]);
    let listener = TcpListener::bind(ADDRESS).expect("the address is there");
    vm.guest["dns"] = json!(["10.9.0.1"]);
    thread::spawn(move || {
        if let Ok((stream, _)) = listener.accept() {
            let mut from = stream.try_clone().expect("a socket can be shared");
            let mut to = stream;
            // Its end is seen in what the guest says.
            let _ = std::io::copy(&mut from, &mut to);
        }
    });
}

/// A tap of this name; the host has address 1 of this prefix of 24 bits, and the guest 2.
pub(crate) fn network_of(vm: &mut Vm, tap: &str, prefix: [u8; 3]) {
    racklet_linux::tap::create(tap, 7001).expect("the host kernel has taps");
    let mut netlink = Rtnl::open().expect("netlink");
    let [lo, link] =
        ["lo", tap].map(|name| netlink.link(name).expect("netlink").expect("it is there"));
    for index in [lo.index, link.index] {
        netlink.set_up(index, true).expect("it is ours");
    }
    let [a, b, c] = prefix;
    netlink
        .add_address(link.index, [a, b, c, 1].into(), 24)
        .expect("it is ours");
    vm.config["networks"] = json!([{"tap": tap, "mac": "02:52:4b:00:00:01"}]);
    vm.guest["networks"] = json!([{
        "addresses": [format!("{a}.{b}.{c}.2/24"), format!("fd00:{b}::2/64")], "gateways": [format!("{a}.{b}.{c}.1")],
    }]);
}

fn disk() -> Value {
    let mut vm = Vm::new("disk", &["disk", "/dev/vdb"]);
    with_a_disk(&mut vm);
    let mut ended = vm.run();
    look_at_the_disk(&mut ended);
    ended
}

/// An empty file as a second disk.
const DISK: &str = "/run/disk";

fn with_a_disk(vm: &mut Vm) {
    File::create(DISK)
        .and_then(|f| f.set_len(8 << 20))
        .expect("/run is writable");
    vm.config["disks"]
        .as_array_mut()
        .expect("a list")
        .push(json!({"path": DISK, "read_only": false, "serial": "data-1"}));
}

fn look_at_the_disk(ended: &mut Value) {
    let bytes = fs::read(DISK).expect("it is there");
    ended["pattern_in_file"] = json!(
        bytes[1 << 20..(1 << 20) + 65_536]
            .iter()
            .all(|b| *b == 0xa5)
    );
    ended["rest_is_zero"] = json!(bytes[..1 << 20].iter().all(|b| *b == 0));
}

/// A disk with a file system, of which all is taken on the host, that is slow on purpose and becomes larger while the guest runs.
fn disk_room() -> Value {
    let path = "/run/room";
    fs::copy("/guest/empty.ext4", path).expect("it is in the initramfs");
    let disk = File::options().write(true).open(path);
    let disk = disk.expect("it was made");
    let length = disk.metadata().expect("it is open").len();
    let taken = fallocate(&disk, FallocateFlags::empty(), 0, length);
    taken.expect("/run is large enough");
    let kib = || disk.metadata().map_or(0, |m| m.blocks() / 2);
    let before = kib();
    let mut vm = Vm::new("room", &["room", "/dev/vdb"]);
    vm.config["disks"]
        .as_array_mut()
        .expect("a list")
        .push(json!({
            "path": path, "read_only": false, "grows_to": length + (1 << 20),
            "rate": {"bytes": {"per_second": 1 << 20, "burst": 1 << 20}},
        }));
    vm.start();
    let ready = vm.wait_text("workload.log", "ready");
    let metrics = vm.control(&json!("metrics"));
    let after = kib();
    let resize = json!({"resize": {"disk": 1}});
    disk.set_len(length + (2 << 20)).expect("/run is writable");
    let too_large = vm.control(&resize);
    disk.set_len(length + (1 << 20)).expect("/run is writable");
    let resized = vm.control(&resize);
    json!({
        "ready": ready, "metrics": metrics, "before_kib": before, "after_kib": after, "too_large": too_large, "resized": resized,
        "ended": vm.end(),
    })
}

/// A guest that gets a file system, gives it back and gets another one, which it cannot write to, in the same place.
fn disk_added() -> Value {
    let path = "/run/late";
    fs::copy("/guest/empty.ext4", path).expect("it is in the initramfs");
    let late = File::options().read(true).write(true).open(path);
    let late = late.expect("it was made");
    let mut vm = Vm::new("added", &["added", "/dev/vdb"]);
    vm.config["spare_disks"] = json!(1);
    vm.start();
    let ready = vm.wait_text("workload.log", "ready");
    let first = vm.control_with(&json!({"attach": {"serial": "late"}}), &[late.as_fd()]);
    let kept = vm.wait_text("workload.log", "kept");
    let detached = vm.control(&json!({"detach": {"disk": 1}}));
    let gone = vm.wait_text("workload.log", "gone");
    let root = File::open("/guest/root.erofs").expect("it is in the initramfs");
    let second = vm.control_with(&json!({"attach": {"read_only": true}}), &[root.as_fd()]);
    let ended = vm.end();
    let clean = fs::read(path).is_ok_and(|disk| is_clean(&disk));
    json!({
        "ready": ready, "first": first, "kept": kept, "detached": detached, "gone": gone, "second": second, "clean": clean,
        "ended": ended,
    })
}

/// The host wants connections to a guest: to a port at which nobody listens, then so many at once that each carry their own bytes and
/// end by halves.
fn host_calls() -> Value {
    const COUNT: usize = 200;
    let count = COUNT.to_string();
    let mut vm = Vm::new("host-calls", &["answer", "7000", &count]);
    vm.start();
    let ready = vm.wait_text("workload.log", "ready");
    let start = Instant::now();
    let nobody = call(&vm, 7001).map_or_else(|e| e.kind().to_string(), |_| "taken".to_owned());
    let refused_ms = start.elapsed().as_millis();
    let calls: io::Result<Vec<UnixStream>> = (0..COUNT).map(|_| call(&vm, 7000)).collect();
    let metrics = vm.control(&json!("metrics"));
    // Each with its own bytes, and more of them than a buffer on the way holds for most.
    let text = |n: usize| n.to_string().repeat(3000).into_bytes();
    let mut good = 0;
    for (n, mut stream) in calls.into_iter().flatten().enumerate() {
        let whole = stream
            .write_all(&text(n))
            .and_then(|()| stream.shutdown(Shutdown::Write))
            .and_then(|()| {
                let mut back = Vec::new();
                stream.read_to_end(&mut back).map(|_| back)
            });
        good += usize::from(whole.is_ok_and(|back| back == [&text(n), &b"behind"[..]].concat()));
    }
    json!({
        "ready": ready, "nobody": nobody, "refused_ms": refused_ms, "good": good, "metrics": metrics, "ended": vm.end(),
    })
}

/// A connection to a port of the guest, once it has taken it.
fn call(vm: &Vm, port: u32) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(vm.folder.join("vsock.sock"))?;
    writeln!(stream, "CONNECT {port}")?;
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    match line.starts_with(b"OK ") {
        true => Ok(stream),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Network, disk and a service of the host in one guest, where a start is slow.
fn devices() -> Value {
    let mut vm = Vm::new("devices", &["devices", ADDRESS, "5000", "/dev/vdb"]);
    on_a_network(&mut vm);
    with_a_disk(&mut vm);
    with_a_service(&vm);
    let mut ended = vm.run();
    look_at_the_disk(&mut ended);
    ended
}

/// Two runs over the same ext4 file system.
fn overlay_on_disk() -> Value {
    let path = "/run/overlay";
    fs::copy("/guest/empty.ext4", path).expect("it is in the initramfs");
    let run = |name| {
        let mut vm = Vm::new(name, &["count", "/count"]);
        vm.config["disks"]
            .as_array_mut()
            .expect("a list")
            .push(json!({"path": path, "read_only": false}));
        vm.guest["overlay"] = json!({"kind": "disk"});
        vm.run()
    };
    let mut both = json!({"first": run("overlay-1"), "second": run("overlay-2")});
    both["clean"] = json!(fs::read(path).is_ok_and(|disk| is_clean(&disk)));
    both
}

/// Whether an ext4 file system was closed: marked so, and no journal to replay (`s_state` and `s_feature_incompat` of its superblock,
/// Documentation/filesystems/ext4/super.rst).
fn is_clean(disk: &[u8]) -> bool {
    let (state, incompatible) = (1024 + 0x3a, 1024 + 0x60);
    disk[state] & 1 == 1 && disk[incompatible] & 4 == 0
}

fn not_found() -> Value {
    let mut vm = Vm::new("not-found", &[]);
    vm.guest["command"] = json!(["/bin/nothing"]);
    vm.run()
}

/// A workload without privileges that speaks to the monitor as guest-init does.
fn be_agent() -> Value {
    let mut vm = Vm::new("be-agent", &["be-agent"]);
    vm.guest["user"] = json!({"uid": 33, "gid": 34});
    vm.run()
}

fn flood() -> Value {
    let mut vm = Vm::new("flood", &["flood", "20000"]);
    vm.config["log_bytes"] = json!(65_536);
    let mut ended = vm.run();
    let size = |file: &str| fs::metadata(vm.folder.join(file)).map_or(0, |m| m.len());
    ended["sizes"] = json!([
        size("workload.log"),
        size("workload.log.1"),
        size("console.log")
    ]);
    ended
}

/// A monitor that is stopped while its guest sends its last lines, twice, for longer than a guest has to power off.
fn flood_stopped() -> Value {
    let mut vm = Vm::new("flood-stopped", &["flood", "5000"]);
    vm.start();
    vm.wait_text("workload.log", "line 00001000");
    vm.halt(Duration::from_secs(12));
    vm.wait_text("workload.log", "line 00003000");
    vm.halt(Duration::from_secs(12));
    vm.end()
}

/// A monitor, and with it its guest, that get a twentieth of a processor once the command talks.
fn flood_slow() -> Value {
    let mut vm = Vm::new("flood-slow", &["flood", "3000"]);
    vm.start();
    vm.wait_text("workload.log", "line 00000100");
    vm.crawl();
    vm.end()
}

/// A guest whose PID 1 called once and never again, where somebody waits for it to.
fn watchdog() -> Value {
    let mut vm = Vm::new("watchdog", &["hello"]);
    vm.config["arguments"] = json!("rdinit=/silent");
    vm.config["initramfs"] = json!(["/guest/silent.cpio"]);
    vm.config["watchdog_s"] = json!(10);
    let hung = vm.run();
    // And one that is well: it says nothing for longer than that.
    let mut vm = Vm::new("watched", &["deaf"]);
    vm.config["watchdog_s"] = json!(20);
    vm.guest["watchdog_s"] = json!(20);
    vm.start();
    vm.wait_text("workload.log", "ready");
    thread::sleep(Duration::from_secs(25));
    let well = vm.status();
    vm.control(&json!("kill"));
    vm.end();
    json!({"hung": hung, "well": well})
}

fn vsock() -> Value {
    let mut vm = Vm::new("vsock", &["echo-vsock", "5000"]);
    with_a_service(&vm);
    vm.run()
}

/// A guest with a thousand connections at once. How many descriptors its monitor has then, and on how many connections the host heard
/// what it should.
fn crowd() -> Value {
    let mut vm = Vm::new("crowd", &["crowd", "1000", "5000"]);
    let listener = listen(&vm);
    vm.start();
    let all: Vec<UnixStream> = (0..1000).map_while(|_| called(&listener)).collect();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", vm.pid())).map_or(0, Iterator::count);
    let mut numbers = Vec::new();
    for mut connection in &all {
        let mut number = [0; 4];
        let echoed = connection.read_exact(&mut number);
        let echoed = echoed.and_then(|()| connection.write_all(&number));
        numbers.push(echoed.map(|()| u32::from_le_bytes(number)));
    }
    let good = all.iter().zip(&numbers).filter(|(connection, number)| {
        number
            .as_ref()
            .is_ok_and(|number| halves(connection, *number).unwrap_or(false))
    });
    let good = good.count();
    let metrics = vm.control(&json!("metrics"));
    json!({"accepted": all.len(), "descriptors": descriptors, "good": good, "metrics": metrics, "ended": vm.end()})
}

/// The host's side of how a connection of the crowd ends: whether the guest did what it should.
fn halves(mut connection: &UnixStream, number: u32) -> io::Result<bool> {
    let mut rest = Vec::new();
    if number.is_multiple_of(2) {
        connection.read_to_end(&mut rest)?;
        connection.write_all(b"end")?;
        connection.shutdown(Shutdown::Write)?;
        return Ok(rest.is_empty());
    }
    connection.shutdown(Shutdown::Write)?;
    let mut more = [0; 4];
    connection.read_exact(&mut more)?;
    Ok(more == *b"more")
}

/// A guest that uses 64 MiB, frees them when it is told to, and is then asked to do without 48 MiB for a while.
fn memory() -> Value {
    let mut vm = Vm::new("memory", &["use", "64", "5000"]);
    let listener = listen(&vm);
    vm.start();
    let Some(mut guest) = called(&listener) else {
        vm.kill();
        return json!({"called": false, "ended": vm.end()});
    };
    let used = vm.anonymous_kib();
    guest.write_all(b"x").expect("the guest reads");
    let at_most = |kib: u64| move |vm: &Vm| Some(vm.anonymous_kib()).filter(|now| *now <= kib);
    let freed = until(|| at_most(used - (48 << 10))(&vm));
    let balloon = |mib: u32| vm.control(&json!({"balloon": {"mib": mib}}));
    let settles = |mib: u32| {
        let settled =
            || (vm.control(&json!({"balloon": {}}))["balloon"]["actual_mib"] == mib).then_some(());
        until(settled).is_some()
    };
    let too_much = balloon(97);
    let ordered = balloon(48);
    let (inflated, before) = (settles(48), vm.control(&json!("metrics")));
    // Each question asks the guest for its numbers, for the next one; those of its start are there before that.
    let told = until(|| {
        let metrics = vm.control(&json!("metrics"))["metrics"]["balloon"].clone();
        let said = |what: &str| metrics["guest"][what].as_u64();
        (said("available")? + (48 << 20) < said("total")?).then_some(metrics)
    });
    let undone = balloon(0);
    let deflated = settles(0);
    vm.control(&json!({"stop": {"grace_s": 30}}));
    json!({
        "used": used, "freed": freed, "too_much": too_much, "ordered": ordered, "inflated": inflated, "before": before, "told": told,
        "undone": undone, "deflated": deflated, "ended": vm.end(),
    })
}

/// The guest's connection, if it comes; whoever reads from it does not wait for ever either.
fn called(listener: &UnixListener) -> Option<UnixStream> {
    listener.set_nonblocking(true).ok()?;
    let stream = until(|| Some(listener.accept().ok()?.0))?;
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(BOUND)).ok()?;
    Some(stream)
}

/// Listens for the guest's connections to port 5000.
fn listen(vm: &Vm) -> UnixListener {
    fs::create_dir_all(&vm.folder).expect("/run is writable");
    let path = vm.folder.join("vsock.sock_5000");
    let listener = UnixListener::bind(&path).expect("/run is writable");
    fs::set_permissions(path, PermissionsExt::from_mode(0o666)).expect("it is ours");
    listener
}

/// A service of the host on vsock port 5000.
fn with_a_service(vm: &Vm) {
    let listener = listen(vm);
    thread::spawn(move || {
        if let Ok((stream, _)) = listener.accept() {
            let mut from = stream.try_clone().expect("a socket can be shared");
            let mut to = stream;
            // Its end is seen in what the guest says.
            let _ = std::io::copy(&mut from, &mut to);
        }
    });
}

/// Looks at a running monitor from outside.
fn confined() -> Value {
    let mut vm = Vm::new("confined", &["deaf"]);
    fs::create_dir_all("/sys/fs/cgroup/vm").expect("cgroup2 is mounted");
    vm.config["confinement"]["cgroup"] = json!("/sys/fs/cgroup/vm");
    vm.start();
    let up = vm.wait_state("up");
    let process = Path::new("/proc").join(vm.pid().to_string());
    let mut threads: Vec<Value> = Vec::new();
    for thread in fs::read_dir(process.join("task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status
                .lines()
                .find_map(|l| l.strip_prefix(name))
                .unwrap_or("");
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        threads.push(json!({
            "uid": field("Uid:"), "gid": field("Gid:"), "groups": field("Groups:"), "seccomp": field("Seccomp:"),
            "permitted": field("CapPrm:"), "bounding": field("CapBnd:"), "no_new_privs": field("NoNewPrivs:"),
        }));
    }
    let namespaces: Vec<&str> = ["mnt", "net", "ipc", "uts", "cgroup"]
        .into_iter()
        .filter(|kind| {
            let of = |path: &Path| fs::read_link(path.join("ns").join(kind)).ok();
            of(&process).is_some() && of(&process) != of(Path::new("/proc/1"))
        })
        .collect();
    let mut root: Vec<String> = fs::read_dir(process.join("root"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    root.sort();
    let fds: Vec<String> = fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| fs::read_link(e.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    let read = |file: &str| fs::read_to_string(process.join(file)).unwrap_or_default();
    let seen = json!({
        "up": up, "locked": vm.locked(), "lacks": vm.status()["lacks"].clone(), "threads": threads, "namespaces": namespaces, "root": root, "fds": fds,
        "mounts": read("mountinfo").lines().count(), "cgroup": read("cgroup").trim(), "limits": read("limits"),
        "config_owner": owner(&vm.folder.join("config.json")), "folder_mode": mode(&vm.folder),
        "control_mode": mode(&vm.folder.join("control.sock")),
        "state": vm.control(&json!("state")), "nonsense": vm.control(&json!("dance")),
    });
    vm.control(&json!("kill"));
    json!({"seen": seen, "ended": vm.end(), "locked": vm.locked()})
}

fn owner(path: &Path) -> Value {
    fs::metadata(path).map_or(Value::Null, |m| json!(m.uid()))
}

fn mode(path: &Path) -> Value {
    fs::metadata(path).map_or(Value::Null, |m| {
        json!(format!("{:o}", m.permissions().mode() & 0o7777))
    })
}

fn stopped(name: &str, probe: &str, grace_s: u32) -> Value {
    let mut vm = Vm::new(name, &[probe]);
    vm.start();
    let ready = vm.wait_text("workload.log", "ready");
    let answer = vm.control(&json!({"stop": {"grace_s": grace_s}}));
    json!({"ready": ready, "answer": answer, "ended": vm.end()})
}

/// Stands still, goes on, is typed to, and is stopped while it stands still.
fn paused() -> Value {
    let mut vm = Vm::new("paused", &["obey"]);
    vm.config["cpus"] = json!(2);
    vm.start();
    let ready = vm.wait_text("workload.log", "ready");
    let answer = vm.control(&json!("pause"));
    let before = vm.control(&json!("metrics"));
    thread::sleep(Duration::from_secs(2));
    let after = vm.control(&json!("metrics"));
    let resumed = vm.control(&json!("resume"));
    let console = vm.control(&json!({"console": {"from": 0}}));
    // "typed here" and a line's end, which the guest's own terminal echoes.
    let taken = vm.control(&json!({"input": {"data": "dHlwZWQgaGVyZQo="}}));
    let echoed = vm.wait_text("console.log", "typed here");
    let again = vm.control(&json!("pause"));
    vm.control(&json!({"stop": {"grace_s": 30}}));
    json!({
        "ready": ready, "answer": answer, "before": before, "after": after, "resumed": resumed, "console": console, "taken": taken,
        "echoed": echoed, "again": again, "ended": vm.end(),
    })
}

/// `racklet-vmm` as on a shell; what came of it.
fn shell(words: &[&str], input: &str) -> Value {
    let mut command = Command::new(SHELL);
    command
        .args(words)
        .env("XDG_RUNTIME_DIR", "/run")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let done = command.spawn().and_then(|mut child| {
        let mut stdin = child.stdin.take().expect("it is a pipe");
        let input = input.as_bytes().to_vec();
        // Beside the reading: what it says may be more than a pipe holds, and it says it while it reads.
        let typist = thread::spawn(move || stdin.write_all(&input));
        let out = child.wait_with_output();
        let _ = typist.join();
        out
    });
    match done {
        Ok(out) => json!({
            "code": out.status.code(), "out": String::from_utf8_lossy(&out.stdout), "err": String::from_utf8_lossy(&out.stderr),
        }),
        Err(error) => json!({"failed": error.to_string()}),
    }
}

const SHELL: &str = "/sbin/racklet-vmm";

/// Other processes in a guest that runs: with pipes, with a terminal, that cannot be started, and one whose caller goes.
fn exec() -> Value {
    let mut vm = Vm::new("exec", &["obey"]);
    vm.guest["environment"] = json!({"COLOUR": "green"});
    vm.start();
    let ready = vm.wait_text("workload.log", "ready");
    let folder = vm.folder.display().to_string();
    let run = |options: &[&str], command: &[&str], input: &str| {
        let words = [&["exec"], options, &[&folder, "/bin/probe"], command].concat();
        shell(&words, input)
    };
    let hello = run(&["-u", "33:34", "-w", "/tmp"], &["hello", "a b"], "");
    let echo = run(
        &["-e", "COLOUR=red"],
        &["say-back"],
        &"0123456\n".repeat(100_000),
    );
    let terminal = run(&["--tty"], &["terminal"], "");
    let nothing = shell(&["exec", &folder, "/no/such"], "");
    let mut gone = Command::new(SHELL)
        .args(["exec", &folder, "/bin/probe", "deaf"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it is in the initramfs");
    let mut said = [0; 5];
    let deaf = gone.stdout.take().map(|mut out| out.read_exact(&mut said));
    // Its caller goes without a word; then nobody is left but guest-init and the command.
    let _ = gone.kill();
    let _ = gone.wait();
    let left = until(|| {
        let count = run(&[], &["count-probes"], "");
        (count["out"] == "2\n").then_some(count)
    });
    let sockets = fs::read_dir(&vm.folder).into_iter().flatten().flatten();
    let sockets = sockets
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("vsock"))
        .count();
    vm.control(&json!({"stop": {"grace_s": 30}}));
    let ended = vm.end();
    let late = run(&[], &["hello"], "");
    json!({
        "ready": ready, "hello": hello, "echo": {"code": echo["code"], "bytes": echo["out"].as_str().map(str::len)},
        "terminal": terminal, "nothing": nothing, "deaf": deaf.is_some_and(|read| read.is_ok()),
        "left": left, "sockets": sockets, "ended": ended, "late": late,
    })
}

/// A Linux guest started by options, and by a document: the first ends with its command's code, the second says how as JSON.
fn from_a_shell() -> Value {
    let vm = Vm::new("from-a-shell", &["hello", "from a shell"]);
    vm.write();
    let own = vm.folder.join("guest.cpio").display().to_string();
    let mut words = vec![
        "run",
        "--kernel",
        "/guest/vmlinux",
        "--initramfs",
        "/guest/initramfs.cpio",
        "--initramfs",
        &own,
        "--disk",
        "/guest/root.erofs,ro",
        "--memory",
        "128",
    ];
    let arguments = vm.config["arguments"].as_str().unwrap_or_default();
    if !arguments.is_empty() {
        words.extend(["--append", arguments]);
    }
    let options = shell(&words, "");
    let document = json!({
        "kernel": "/guest/vmlinux.zst", "memory_mib": 128, "cpus": 2, "initramfs": vm.config["initramfs"],
        "disks": [{"path": "/guest/root.erofs", "read_only": true}], "arguments": arguments,
    });
    let path = vm.folder.join("document.json");
    fs::write(&path, document.to_string()).expect("/run is writable");
    let document = shell(
        &["run", "--json", "--config", &path.display().to_string()],
        "",
    );
    json!({"options": options, "document": document})
}

/// Its power button, before anybody in it could hear it and after that.
fn power_off() -> Value {
    let mut vm = Vm::new("power-off", &["obey"]);
    vm.start();
    let early = until(|| {
        let answer = vm.control(&json!("power-off"));
        (answer.is_object() || vm.status()["state"] == "up").then_some(answer)
    });
    let ready = vm.wait_text("workload.log", "ready");
    let answer = vm.control(&json!("power-off"));
    json!({"early": early, "ready": ready, "answer": answer, "ended": vm.end()})
}

/// A guest that is busy is saved and ends; a while later two go on from where it was, at once.
fn restored() -> Value {
    const SAVED: &str = "/run/saved";
    const FULL: &str = "/run/full";
    let card = |n: u8| {
        let tap = format!("snap{n}");
        racklet_linux::tap::create(&tap, 7001).expect("the host kernel has taps");
        json!([{"tap": tap, "mac": format!("02:52:4b:00:01:0{n}")}])
    };
    let mut vm = Vm::new("saved", &["live"]);
    vm.config["cpus"] = json!(2);
    vm.config["networks"] = card(0);
    vm.start();
    vm.wait_text("workload.log", "tick 20 ");
    let full = vm.save(Path::new(FULL), "go-on", None);
    let since = Some(Path::new(FULL));
    let difference = vm.save(Path::new("/run/difference"), "go-on", since);
    let answer = vm.save(Path::new(SAVED), "end", None);
    let first = vm.end();
    thread::sleep(Duration::from_secs(3));
    let mut both = [1, 2].map(|n| {
        let mut vm = Vm::new(&format!("restored-{n}"), &["live"]);
        let config = vm.config.as_object_mut().expect("an object");
        for begins in ["kernel", "initramfs", "arguments"] {
            config.remove(begins);
        }
        config.insert("cpus".to_owned(), json!(2));
        config.insert("restore".to_owned(), json!(SAVED));
        config.insert("vsock_cid".to_owned(), json!(70 + n));
        config.insert("networks".to_owned(), card(n));
        vm
    });
    let from = clock::wall().as_millis();
    both.iter_mut().for_each(Vm::start);
    let up = both.each_ref().map(|vm| vm.wait_state("up"));
    let told = both
        .each_ref()
        .map(|vm| vm.wait_text("console.log", "goes on from a snapshot"));
    let named = [1, 2].map(|n| {
        let mac = format!("02:52:4b:00:01:0{n}");
        both[n - 1].wait_text("workload.log", &mac)
    });
    // Some that are certainly each one's own.
    thread::sleep(Duration::from_secs(2));
    let ended = both.map(|mut vm| {
        vm.control(&json!({"stop": {"grace_s": 30}}));
        vm.end()
    });
    let to = clock::wall().as_millis();
    json!({
        "full": full, "difference": difference, "answer": answer, "first": first, "up": up, "told": told, "named": named, "ended": ended,
        "from_ms": u64::try_from(from).unwrap_or(0), "to_ms": u64::try_from(to).unwrap_or(0),
    })
}

fn kill_request() -> Value {
    let mut vm = Vm::new("kill", &["deaf"]);
    vm.start();
    vm.wait_state("up");
    vm.control(&json!("kill"));
    vm.end()
}

/// The monitor dies; the same folder is used again.
fn monitor_killed() -> Value {
    let mut vm = Vm::new("killed", &["deaf"]);
    vm.start();
    vm.wait_state("up");
    let mut second = Vm::new("killed", &["deaf"]);
    second.spawn();
    let taken = second.end();
    vm.kill();
    let first = vm.end();
    let socket = vm.control(&json!("state"));
    vm.guest["command"] = json!(["/bin/probe", "hello"]);
    json!({"taken": taken, "first": first, "socket": socket, "again": vm.run()})
}

fn guest_panic() -> Value {
    let mut vm = Vm::new("panic", &["hello"]);
    vm.config["arguments"] = json!("rdinit=/nothing");
    vm.run()
}

/// A guest whose PID 1 never calls: stopping it still ends.
fn guest_hangs() -> Value {
    let mut vm = Vm::new("hangs", &["hello"]);
    // The probe itself is PID 1.
    vm.config["arguments"] = json!("rdinit=/spin");
    vm.config["initramfs"] = json!(["/guest/spin.cpio"]);
    vm.start();
    let running = vm.wait_text("console.log", "spinning");
    vm.control(&json!({"stop": {"grace_s": 0}}));
    json!({"running": running, "ended": vm.end()})
}

fn refused() -> Value {
    let case = |name: &str, spoil: &dyn Fn(&mut Vm)| {
        let mut vm = Vm::new(name, &["hello"]);
        spoil(&mut vm);
        vm.run()
    };
    let no_config = {
        let mut vm = Vm::new("no-config", &[]);
        fs::create_dir_all(&vm.folder).expect("/run is writable");
        vm.spawn();
        vm.end()
    };
    json!({
        "no_config": no_config,
        "unknown_key": case("unknown-key", &|vm| vm.config["cpu"] = json!(1)),
        "root_user": case("root-user", &|vm| vm.config["confinement"]["uid"] = json!(0)),
        "no_kernel": case("no-kernel", &|vm| vm.config["kernel"] = json!("/nothing")),
        "bad_kernel": case("bad-kernel", &|vm| vm.config["kernel"] = json!("/guest/root.erofs")),
        "no_disk": case("no-disk", &|vm| vm.config["disks"][0]["path"] = json!("/nothing")),
        "no_tap": case("no-tap", &|vm| {
            vm.config["networks"] = json!([{"tap": "none0", "mac": "02:00:00:00:00:01"}]);
        }),
        "no_cgroup": case("no-cgroup", &|vm| vm.config["confinement"]["cgroup"] = json!("/sys/fs/cgroup/none")),
        "small": case("small", &|vm| {
            vm.config["memory_mib"] = json!(32);
            vm.config["initramfs"] = json!(["/guest/initramfs.cpio", "/guest/vmlinux"]);
        }),
    })
}

fn no_kvm() -> Value {
    fs::rename("/dev/kvm", "/dev/away").expect("the host has KVM");
    let ended = Vm::new("no-kvm", &["hello"]).run();
    fs::rename("/dev/away", "/dev/kvm").expect("it was there");
    ended
}
