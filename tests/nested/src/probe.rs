// SPDX-License-Identifier: Apache-2.0
//! The workload: does one thing and says what it saw.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use racklet_linux::power::{self, Leave};
use racklet_linux::signal::{Signal, Signals};
use racklet_linux::{clock, vsock};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::net::{Shutdown as Half, shutdown};

use crate::{rules, tools};

/// Bytes sent and expected back: more than any buffer on the way.
const ECHO: usize = 1 << 20;

/// Does what the arguments say; gives the exit status.
pub(crate) fn run(arguments: &[String]) -> i32 {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["hello", ..] => hello(&words[1..]),
        ["write", path] => fs::write(path, "x").map(|()| 0),
        ["echo-tcp", address] => TcpStream::connect(address).and_then(echo_tcp),
        ["echo-vsock", port] => echo_vsock(port),
        ["devices", address, port, path] => TcpStream::connect(address)
            .and_then(echo_tcp)
            .and_then(|_| echo_vsock(port))
            .and_then(|_| disk(path)),
        ["crowd", count, port] => crowd(count, port),
        ["answer", port, count] => answer(port, count),
        ["use", mib, port] => use_memory(mib, port),
        ["be-agent"] => be_agent(),
        ["disk", path] => disk(path),
        ["room", path] => room(path),
        ["added", path] => added(path),
        ["count", path] => count(path),
        ["flood", lines] => flood(lines.parse().unwrap_or(0)),
        ["leave", how] => leave(how),
        ["leave-quietly", how] => {
            // The kernel's last words are emergencies (level 0): from here on not even these reach the console.
            fs::write("/proc/sys/kernel/printk", "0").and_then(|()| leave(how))
        }
        ["abort"] => std::process::abort(),
        ["say-back"] => io::copy(&mut io::stdin(), &mut io::stdout()).map(|_| 7),
        ["terminal"] => terminal(),
        ["count-probes"] => count_probes(),
        ["live"] => live(),
        ["obey"] => wait(true),
        ["deaf"] => wait(false),
        ["fio", what] => tools::run_fio(what),
        ["iperf"] => tools::run_iperf(),
        ["gated", gate, program, folder] => rules::gated(gate, program, folder),
        ["watch", process, gate, to] => rules::watch(process, gate, to),
        ["rules"] => rules::say(),
        _ => Err(io::Error::other("unknown arguments")),
    };
    done.unwrap_or_else(|e| {
        println!("error: {e}");
        1
    })
}

/// What is known of the terminal that this has, if it has one.
fn terminal() -> io::Result<i32> {
    let stdin = io::stdin();
    let size = rustix::termios::tcgetwinsize(&stdin)?;
    let path = fs::read_link("/proc/self/fd/0")?;
    // By its name as well: as the controlling terminal.
    let opened = fs::File::open("/dev/tty").is_ok();
    println!(
        "{} {} {} {opened}",
        size.ws_row,
        size.ws_col,
        path.display()
    );
    Ok(0)
}

/// How many processes of this program there are, this one included.
fn count_probes() -> io::Result<i32> {
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        // `self` and `thread-self` are this one again.
        let process = entry.file_name().as_encoded_bytes()[0].is_ascii_digit();
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        count += u32::from(process && line.starts_with(b"/bin/probe\0"));
    }
    println!("{count}");
    Ok(0)
}

fn hello(arguments: &[&str]) -> io::Result<i32> {
    println!("arguments {arguments:?}");
    println!("colour {}", env::var("COLOUR").unwrap_or_default());
    println!(
        "host {}",
        fs::read_to_string("/proc/sys/kernel/hostname")?.trim()
    );
    println!("folder {}", env::current_dir()?.display());
    println!("time {}", clock::wall().as_secs());
    println!("cpus {}", thread::available_parallelism()?);
    println!(
        "online {}",
        fs::read_to_string("/sys/devices/system/cpu/online")?.trim()
    );
    println!(
        "serial {}",
        fs::read_to_string("/sys/block/vda/serial")
            .unwrap_or_default()
            .trim()
    );
    println!(
        "rng {}",
        fs::read_to_string("/sys/class/misc/hw_random/rng_current")
            .unwrap_or_default()
            .trim()
    );
    println!(
        "clock {}",
        fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")?
            .trim()
    );
    let flags = fs::read_to_string("/proc/cpuinfo")?;
    let virtualization = flags.split_whitespace().any(|f| f == "svm" || f == "vmx");
    println!("virtualization {virtualization}");
    let status = fs::read_to_string("/proc/self/status")?;
    for line in status
        .lines()
        .filter(|l| l.starts_with("Uid:") || l.starts_with("Gid:"))
    {
        println!("{}", line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    eprintln!("to standard error");
    // Session and group are its own.
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.split_whitespace().collect();
    println!(
        "leader {}",
        fields[0] == fields[4] && fields[0] == fields[5]
    );
    fs::write("/tmp/probe", "x")?;
    print!("no newline at the end");
    io::stdout().flush()?;
    Ok(3)
}

fn echo_tcp(stream: TcpStream) -> io::Result<i32> {
    println!(
        "resolv {}",
        fs::read_to_string("/etc/resolv.conf")
            .unwrap_or_default()
            .trim()
    );
    let routes = fs::read_to_string("/proc/net/route")?;
    println!(
        "routes {}",
        routes
            .lines()
            .skip(1)
            .filter(|l| l.starts_with("eth0"))
            .count()
    );
    println!(
        "inet6 {}",
        fs::read_to_string("/proc/net/if_inet6")?.contains("fd0000090000")
    );
    echo(&stream, &stream, || stream.shutdown(Shutdown::Write))
}

fn echo_vsock(port: &str) -> io::Result<i32> {
    let port = port.parse().unwrap_or(0);
    let stream = vsock::connect(vsock::HOST, port)?;
    print!("vsock ");
    echo(&stream, &stream, || Ok(()))
}

/// Many connections at once: each says its number and gets it back. Then the guest ends its half of every other one first and is told
/// "end"; of those between them the host ends its half first, and is told "more".
fn crowd(count: &str, port: &str) -> io::Result<i32> {
    let (count, port) = (
        count.parse::<u32>().map_err(io::Error::other)?,
        port.parse().map_err(io::Error::other)?,
    );
    let all: io::Result<Vec<File>> = (0..count)
        .map(|_| vsock::connect(vsock::HOST, port))
        .collect();
    let all = all?;
    for (number, mut connection) in (0..).zip(&all) {
        connection.write_all(&u32::to_le_bytes(number))?;
    }
    let mut good = 0;
    for (number, mut connection) in (0..).zip(&all) {
        let (mut back, mut rest) = ([0; 4], Vec::new());
        connection.read_exact(&mut back)?;
        let same = back == u32::to_le_bytes(number);
        if number.is_multiple_of(2) {
            shutdown(connection, Half::Write)?;
            connection.read_to_end(&mut rest)?;
            good += u32::from(same && rest == b"end");
        } else {
            connection.read_to_end(&mut rest)?;
            connection.write_all(b"more")?;
            good += u32::from(same && rest.is_empty());
        }
    }
    println!("connections {} good {good}", all.len());
    Ok(0)
}

/// Sends bytes and checks that the same come back.
fn echo(
    to: impl Write + Send,
    mut from: impl Read,
    finish: impl FnOnce() -> io::Result<()>,
) -> io::Result<i32> {
    let sent: Vec<u8> = (0..=250).cycle().take(ECHO).collect();
    let mut back = vec![0; ECHO];
    thread::scope(|scope| {
        let sent = &sent;
        let mut to = to;
        let sender = scope.spawn(move || to.write_all(sent));
        from.read_exact(&mut back)?;
        sender
            .join()
            .map_err(|_| io::Error::other("the sender panicked"))?
    })?;
    finish()?;
    println!("echo {}", sent == back);
    Ok(0)
}

/// Takes so many connections, all of them before it speaks, gives back what comes on each until that ends, and says a word behind it.
fn answer(port: &str, count: &str) -> io::Result<i32> {
    let port = port.parse().map_err(io::Error::other)?;
    let count: usize = count.parse().map_err(io::Error::other)?;
    let listener = vsock::listen(port)?;
    println!("ready");
    let taken: io::Result<Vec<File>> = (0..count).map(|_| listener.accept()).collect();
    let taken = taken?;
    println!("taken {}", taken.len());
    for mut stream in taken {
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        stream.write_all(&all)?;
        stream.write_all(b"behind")?;
    }
    Ok(0)
}

/// Uses memory until the host says a byte; then it is free, and there is no other work until the end.
fn use_memory(mib: &str, port: &str) -> io::Result<i32> {
    let mib: usize = mib.parse().map_err(io::Error::other)?;
    let used = vec![1_u8; mib << 20];
    let mut host = vsock::connect(vsock::HOST, port.parse().map_err(io::Error::other)?)?;
    host.read_exact(&mut [0])?;
    println!(
        "used {}",
        used.iter().filter(|byte| **byte == 1).count() >> 20
    );
    drop(used);
    wait(true)
}

/// Goes on and on: a line with its number, eight random bytes, the time and what the card is called.
fn live() -> io::Result<i32> {
    for n in 0_u64.. {
        let mut random = [0; 8];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let card = fs::read_to_string("/sys/class/net/eth0/address").unwrap_or_default();
        println!(
            "tick {n} {:016x} {} {}",
            u64::from_le_bytes(random),
            clock::wall().as_millis(),
            card.trim()
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(0)
}

/// Says to the monitor what only guest-init may say.
fn be_agent() -> io::Result<i32> {
    let said = vsock::connect(vsock::HOST, 1024).and_then(|mut agent| {
        agent.write_all(b"{\"report\":\"ended\",\"end\":\"code\",\"code\":77}\n")?;
        // Its answer is the order to power off.
        agent.read(&mut [0; 1])
    });
    println!("taken for the agent: {}", said.is_ok_and(|count| count > 0));
    Ok(5)
}

fn disk(path: &str) -> io::Result<i32> {
    println!(
        "serial {}",
        fs::read_to_string("/sys/block/vdb/serial")?.trim()
    );
    println!(
        "sectors {}",
        fs::read_to_string("/sys/block/vdb/size")?.trim()
    );
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    file.seek(SeekFrom::Start(1 << 20))?;
    file.write_all(&vec![0xa5; 65_536])?;
    file.sync_all()?;
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(1 << 20))?;
    let mut back = vec![0; 65_537];
    file.read_exact(&mut back)?;
    println!(
        "back {}",
        back[..65_536].iter().all(|b| *b == 0xa5) && back[65_536] == 0
    );
    println!(
        "root {}",
        OpenOptions::new()
            .write(true)
            .open("/dev/vda")
            .and_then(|mut f| f.write_all(b"x"))
            .is_err()
    );
    Ok(0)
}

/// What a disk gives back and takes: room of a removed file, zeroes, how long reading takes, and a capacity that changes.
fn room(path: &str) -> io::Result<i32> {
    const MIB: usize = 1 << 20;
    let inside = Path::new("/tmp/room");
    fs::create_dir(inside)?;
    let none = MountFlags::empty();
    mount(path, inside, "ext4", none, Some(c"discard"))?;
    let file = inside.join("file");
    fs::write(&file, vec![0xa5; 4 * MIB])?;
    rustix::fs::sync();
    fs::remove_file(&file)?;
    rustix::fs::sync();
    unmount(inside, UnmountFlags::empty())?;

    let disk = OpenOptions::new().read(true).write(true).open(path)?;
    let at = 8 * MIB as u64;
    disk.write_all_at(&vec![0xa5; MIB], at)?;
    disk.sync_all()?;
    let way = FallocateFlags::ZERO_RANGE.union(FallocateFlags::KEEP_SIZE);
    fallocate(&disk, way, at, MIB as u64)?;
    disk.sync_all()?;
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    let mut back = vec![1; MIB];
    disk.read_exact_at(&mut back, at)?;
    println!("zeroes {}", back.iter().all(|byte| *byte == 0));

    fs::write("/proc/sys/vm/drop_caches", "3")?;
    let start = Instant::now();
    disk.read_exact_at(&mut vec![0; 4 * MIB], 0)?;
    println!("read_ms {}", start.elapsed().as_millis());

    let sectors = || fs::read_to_string("/sys/block/vdb/size");
    let before = sectors()?;
    println!("ready");
    while sectors()? == before {
        thread::sleep(Duration::from_millis(10));
    }
    println!("sectors {}", sectors()?.trim());
    Ok(0)
}

/// Uses a disk that comes, goes, and comes as another one.
fn added(path: &str) -> io::Result<i32> {
    let sectors = || -> io::Result<u64> {
        let size = fs::read_to_string("/sys/block/vdb/size")?;
        size.trim().parse().map_err(io::Error::other)
    };
    let until = |there: bool| -> io::Result<u64> {
        while (sectors()? > 0) != there {
            thread::sleep(Duration::from_millis(10));
        }
        sectors()
    };
    let inside = Path::new("/tmp/added");
    fs::create_dir(inside)?;
    println!("sectors {}", sectors()?);
    println!("ready");
    println!("sectors {}", until(true)?);
    let serial = fs::read_to_string("/sys/block/vdb/serial")?;
    println!("serial {}", serial.trim());
    mount(path, inside, "ext4", MountFlags::empty(), None)?;
    fs::write(inside.join("file"), vec![0xa5; 1 << 20])?;
    unmount(inside, UnmountFlags::empty())?;
    println!("kept");
    until(false)?;
    println!("nothing {}", File::open(path)?.read(&mut [0; 512])?);
    println!("gone");
    println!("sectors {}", until(true)?);
    mount(path, inside, "erofs", MountFlags::RDONLY, None)?;
    println!("program {}", inside.join("bin/probe").exists());
    unmount(inside, UnmountFlags::empty())?;
    let mut disk = OpenOptions::new().write(true).open(path)?;
    let written = disk.write_all(&[0; 4096]).and_then(|()| disk.sync_all());
    println!("written {}", written.is_ok());
    Ok(0)
}

fn count(path: &str) -> io::Result<i32> {
    let before: u32 = fs::read_to_string(path)
        .ok()
        .and_then(|t| t.trim().parse().ok())
        .unwrap_or(0);
    fs::write(path, (before + 1).to_string())?;
    println!("count {}", before + 1);
    Ok(0)
}

/// Ends the machine past its PID 1, as `poweroff -f` and `reboot -f` do.
fn leave(how: &str) -> io::Result<i32> {
    let how = match how {
        "off" => Leave::Poweroff,
        _ => Leave::Reboot,
    };
    Err(power::leave(how))
}

fn flood(lines: u32) -> io::Result<i32> {
    let mut out = io::stdout().lock();
    for n in 0..lines {
        writeln!(out, "line {n:08} of a workload that talks a lot")?;
    }
    Ok(0)
}

/// PID 1 of a guest that never calls its monitor.
pub(crate) fn spin() -> ! {
    println!("spinning");
    loop {
        thread::park();
    }
}

/// PID 1 of a guest that calls its monitor once, as guest-init does, and then never again.
pub(crate) fn silent() -> ! {
    let mut agent = vsock::connect_reserved(vsock::HOST, 1024).expect("the monitor listens");
    agent
        .write_all(b"{\"report\":\"hello\",\"v\":1,\"running\":true}\n")
        .expect("the monitor reads");
    println!("silent");
    loop {
        thread::park();
    }
}

/// Waits for a signal; obeys SIGTERM or not.
pub(crate) fn wait(obey: bool) -> io::Result<i32> {
    let signals = Signals::block()?;
    println!("ready");
    loop {
        if signals.wait() == Signal::Terminate {
            println!("asked to end");
            if obey {
                return Ok(0);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
}
