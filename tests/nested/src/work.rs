// SPDX-License-Identifier: Apache-2.0
//! A guest at work that is the same under any monitor: a PID 1 that needs no agent. Each stage ends with a line of its name, of how much
//! it has done, of how many interrupts there were so far and how many packets came too fast for its socket, in a fixed width, and a
//! pause in which nothing happens.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::Duration;

use racklet_linux::rtnl::Rtnl;

/// What is read of the second disk.
pub(crate) const MIB: u16 = 16;
/// Of the networks of the two guests that are compared, 24 bits each.
pub(crate) const PREFIXES: [[u8; 3]; 2] = [[10, 11, 0], [10, 12, 0]];
const PACKETS: u16 = 1000;
const PORT: u16 = 7000;
/// The first is there to be subtracted: its line, and a pause.
pub(crate) const STAGES: [&str; 5] = ["begin", "quiet", "reads", "sends", "takes"];
/// The stage after whose line the host sends.
pub(crate) const BEFORE_PACKETS: &str = "sends";

/// The host's end: takes what the guest sends, of which nobody looks at anything.
pub(crate) fn host_end([a, b, c]: [u8; 3]) -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::new(a, b, c, 1), PORT)).expect("the address is there")
}

/// The host's part: as many packets, one behind the other.
pub(crate) fn send(socket: &UdpSocket, [a, b, c]: [u8; 3]) {
    // Time for the guest to come to its stage.
    thread::sleep(Duration::from_millis(1500));
    for _ in 0..PACKETS {
        // A card that is not ready loses one.
        let _ = socket.send_to(&[7; 1000], (Ipv4Addr::new(a, b, c, 2), PORT));
    }
}

pub(crate) fn as_pid_one() -> ! {
    if let Err(error) = work() {
        println!("failed {error}");
    }
    loop {
        thread::park();
    }
}

fn work() -> io::Result<()> {
    for (kind, path) in [("devtmpfs", "/dev"), ("proc", "/proc")] {
        fs::create_dir_all(path)?;
        rustix::mount::mount(kind, path, kind, rustix::mount::MountFlags::empty(), None)?;
    }
    let line = fs::read_to_string("/proc/cmdline")?;
    let [a, b, c] = PREFIXES[usize::from(line.contains("network=1"))];
    let mut netlink = Rtnl::open().map_err(io::Error::other)?;
    let card = netlink.link("eth0").map_err(io::Error::other)?;
    let card = card.ok_or(io::ErrorKind::NotFound)?;
    let here = Ipv4Addr::new(a, b, c, 2);
    netlink.set_up(card.index, true).map_err(io::Error::other)?;
    netlink
        .add_address(card.index, here.into(), 24)
        .map_err(io::Error::other)?;
    let socket = UdpSocket::bind((here, PORT))?;
    // Its first packet asks who has the address.
    socket.send_to(b"first", (Ipv4Addr::new(a, b, c, 1), PORT))?;
    thread::sleep(Duration::from_secs(2));
    for stage in STAGES {
        let done = match stage {
            "reads" => {
                let mut disk = File::open("/dev/vdb")?.take(u64::from(MIB) << 20);
                let read = io::copy(&mut disk, &mut io::sink())?;
                if read != u64::from(MIB) << 20 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                MIB
            }
            "sends" => {
                for _ in 0..PACKETS {
                    socket.send_to(&[7; 1000], (Ipv4Addr::new(a, b, c, 1), PORT))?;
                }
                PACKETS
            }
            "takes" => {
                socket.set_read_timeout(Some(Duration::from_secs(5)))?;
                let mut taken = 0;
                while socket.recv(&mut [0; 1500]).is_ok() {
                    taken += 1;
                }
                taken
            }
            _ => 0,
        };
        thread::sleep(Duration::from_secs(1));
        println!("{stage} {done:>5} {:>10} {:>5}", interrupts()?, too_fast()?);
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// Datagrams for which their reader was too slow.
fn too_fast() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let names = lines.next().unwrap_or_default().split(' ');
    let counts = lines.next().unwrap_or_default().split(' ');
    let found = names.zip(counts).find(|(name, _)| *name == "RcvbufErrors");
    let count = found.and_then(|(_, count)| count.parse().ok());
    count.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Of all virtio devices, on all processors.
fn interrupts() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/interrupts")?;
    let lines = text.lines().filter(|line| line.contains("virtio"));
    let numbers = lines.flat_map(|line| {
        let counts = line.split_whitespace().skip(1);
        counts.map_while(|word| word.parse::<u64>().ok())
    });
    Ok(numbers.sum())
}
