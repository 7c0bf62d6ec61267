// SPDX-License-Identifier: Apache-2.0
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt};

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::request::{DISCARD, FLUSH, GET_ID, READ, WRITE, WRITE_ZEROES};
use super::*;
use crate::testing::{Driver, set_clock, test_clock, test_memory};

const HEAD: u64 = 0x8000;
const DATA: u64 = 0x9000;
const STATUS: u64 = 0x8100;

struct Rig {
    memory: Memory,
    driver: Driver,
    queues: [Queue; 1],
    disk: Block<File>,
}

fn rig(read_only: bool) -> Rig {
    let memory = test_memory();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[7; 4 * 512 + 100]).unwrap();
    on(memory, file, read_only)
}

/// A driver that accepts what it is offered has this file as its disk.
fn on(memory: Memory, file: File, read_only: bool) -> Rig {
    let driver = Driver::new(&memory, 8);
    let queues = [driver.queue(&memory)];
    // A block device's size is where its end is.
    let size = (&file).seek(std::io::SeekFrom::End(0)).unwrap();
    let mut disk = Block::new(file, size, read_only, "root");
    disk.activate(disk.features());
    Rig {
        memory,
        driver,
        queues,
        disk,
    }
}

impl Rig {
    fn file(&self) -> &File {
        &self.disk.medium.as_ref().unwrap().backend
    }

    /// Runs a request; gives its status byte and length.
    fn request(&mut self, kind: u32, sector: u64, data: u32, write: bool) -> (u8, u32) {
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend(sector.to_le_bytes());
        self.memory
            .write_slice(&header, GuestAddress(HEAD))
            .unwrap();
        self.memory
            .write_slice(&[0xff], GuestAddress(STATUS))
            .unwrap();
        let mut parts = vec![(HEAD, 16, false), (DATA, data, write), (STATUS, 1, true)];
        if data == 0 {
            parts.remove(1);
        }
        self.driver.offer(&self.memory, &parts);
        // One range a turn.
        for _ in 0..RANGES {
            let turn = self.disk.notify(0, &mut self.queues, &self.memory);
            assert_eq!(turn, Ok(Turn::More));
            if let Some((_, len)) = self.driver.collect(&self.memory) {
                return (self.memory.read_obj(GuestAddress(STATUS)).unwrap(), len);
            }
        }
        panic!("more turns than ranges");
    }

    /// Runs a request for these ranges (sector, number of sectors, flags), cut or filled up to a length; gives its status.
    fn ranges_of(&mut self, kind: u32, ranges: &[(u64, u32, u32)], length: usize) -> u8 {
        let mut data = Vec::new();
        for (sector, count, flags) in ranges {
            data.extend(sector.to_le_bytes());
            data.extend(count.to_le_bytes());
            data.extend(flags.to_le_bytes());
        }
        data.resize(length, 0);
        self.memory.write_slice(&data, GuestAddress(DATA)).unwrap();
        let (status, written) = self.request(kind, u64::MAX, u32::try_from(length).unwrap(), false);
        assert_eq!(written, 1);
        status
    }

    fn ranges(&mut self, kind: u32, ranges: &[(u64, u32, u32)]) -> u8 {
        self.ranges_of(kind, ranges, 16 * ranges.len())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.file().metadata().unwrap().len()).unwrap()];
        self.file().read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// KiB of the host's file system.
    fn kib(&self) -> u64 {
        self.file().sync_all().unwrap();
        self.file().metadata().unwrap().blocks() / 2
    }
}

/// A file of a MiB without a zero in it.
fn full() -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![7; 1 << 20]).unwrap();
    file
}

#[test]
fn what_is_discarded_is_room_for_the_host_again_and_the_rest_is_as_it_was() {
    let mut rig = on(test_memory(), full(), false);
    let before = rig.kib();
    // 256 KiB from the second quarter's start, and 4 KiB elsewhere.
    assert_eq!(rig.ranges(DISCARD, &[(512, 512, 0), (1536, 8, 0)]), OK);
    assert_eq!(rig.kib(), before - 260);
    let bytes = rig.bytes();
    let kept = (0..1 << 20).filter(|at| !(0x4_0000..0x8_0000).contains(at));
    let mut kept = kept.filter(|at| !(0xc_0000..0xc_1000).contains(at));
    assert!(kept.all(|at| bytes[at] == 7));
}

#[test]
fn zeroes_read_as_zeroes_and_their_room_is_given_up_only_where_it_may_be() {
    let in_memory = || {
        let file = rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::empty());
        let file = File::from(file.unwrap());
        file.write_all_at(&vec![7; 1 << 20], 0).unwrap();
        file
    };
    // A file system in memory has no blocks that are marked as never written: there the zeros are written.
    for file in [full(), in_memory()] {
        let mut rig = on(test_memory(), file, false);
        let before = rig.kib();
        assert_eq!(rig.ranges(WRITE_ZEROES, &[(512, 512, 0), (3, 2, 0)]), OK);
        assert_eq!(rig.kib(), before, "kept");
        assert_eq!(rig.ranges(WRITE_ZEROES, &[(1024, 512, 1)]), OK);
        assert_eq!(rig.kib(), before - 256, "given up");
        let bytes = rig.bytes();
        for (at, byte) in bytes.iter().enumerate() {
            let zero = (0x4_0000..0xc_0000).contains(&at) || (1536..2560).contains(&at);
            assert_eq!(*byte == 0, zero, "{at:#x}");
        }
    }
}

/// A block device on a file of the host.
struct Loop(String);

impl Loop {
    /// None where this is no machine for it.
    fn on(file: &std::path::Path) -> Option<Loop> {
        let mut made = std::process::Command::new("losetup");
        let made = made.args(["-f", "--show"]).arg(file).output();
        let made = made.ok().filter(|made| made.status.success());
        if made.is_none() {
            eprintln!("not tried: this needs root and loop devices");
        }
        Some(Loop(String::from_utf8(made?.stdout).unwrap().trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let ended = std::process::Command::new("losetup")
            .args(["-d", &self.0])
            .status();
        assert!(ended.unwrap().success());
    }
}

#[test]
fn a_block_device_gives_up_its_room_too() {
    let mut under = tempfile::NamedTempFile::new().unwrap();
    under.write_all(&vec![7; 1 << 20]).unwrap();
    let Some(device) = Loop::on(under.path()) else {
        return;
    };
    let disk = File::options().read(true).write(true).open(&device.0);
    let mut rig = on(test_memory(), disk.unwrap(), false);
    let kib = |rig: &Rig| {
        rig.file().flush().unwrap();
        under.as_file().sync_all().unwrap();
        under.as_file().metadata().unwrap().blocks() / 2
    };
    let before = kib(&rig);
    assert_eq!(rig.ranges(DISCARD, &[(0, 512, 0)]), OK);
    assert_eq!(kib(&rig), before - 256);
    assert_eq!(
        rig.ranges(WRITE_ZEROES, &[(1024, 512, 0), (1701, 3, 0)]),
        OK
    );
    assert_eq!(kib(&rig), before - 256, "kept");
    assert_eq!(rig.ranges(WRITE_ZEROES, &[(512, 512, 1)]), OK);
    assert_eq!(kib(&rig), before - 512, "given up");
    let mut bytes = vec![1; 1 << 20];
    rig.file().read_exact_at(&mut bytes, 0).unwrap();
    let zero = |at: &usize| (512..1536).contains(at) || (1701..1704).contains(at);
    for at in 512..2048 {
        let sector = &bytes[at * 512..][..512];
        assert_eq!(sector, [if zero(&at) { 0 } else { 7 }; 512], "{at}");
    }
}

#[test]
fn of_a_request_with_one_bad_range_nothing_is_done() {
    let mut rig = on(test_memory(), full(), false);
    let good = (0, 8, 0);
    for (bad, status) in [
        ((2048, 1, 0), IO_ERROR),
        ((2047, 2, 0), IO_ERROR),
        ((0, 2049, 0), IO_ERROR),
        ((u64::MAX, 1, 0), IO_ERROR),
        ((u64::MAX, u32::MAX, 0), IO_ERROR),
        ((1 << 55, 8, 0), IO_ERROR),
        ((0, u32::MAX, 0), IO_ERROR),
        ((0, 0, 0), IO_ERROR),
        ((0, 8, 2), UNSUPPORTED),
        ((0, 8, 1 << 31), UNSUPPORTED),
    ] {
        for kind in [DISCARD, WRITE_ZEROES] {
            assert_eq!(rig.ranges(kind, &[good, bad]), status, "{kind} {bad:?}");
        }
    }
    // A discard gives up its room by itself; the flag that says so is one too many (5.2.6.2).
    assert_eq!(rig.ranges(DISCARD, &[good, (8, 8, 1)]), UNSUPPORTED);
    for length in [0, 1, 15, 17, 16 * (RANGES + 1)] {
        for kind in [DISCARD, WRITE_ZEROES] {
            let status = rig.ranges_of(kind, &[good; RANGES + 1], length);
            assert_eq!(status, IO_ERROR, "{kind}: {length}");
        }
    }
    assert!(rig.bytes().iter().all(|byte| *byte == 7));
    assert_eq!(rig.ranges(WRITE_ZEROES, &[good; RANGES]), OK);
    assert!(rig.bytes()[..4096].iter().all(|byte| *byte == 0));
}

#[test]
fn a_range_larger_than_the_driver_was_told_is_refused() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(2 << 30).unwrap();
    let mut rig = on(test_memory(), file, false);
    let told = |at: usize| u32::from_le_bytes(rig.disk.config()[at..at + 4].try_into().unwrap());
    assert_eq!([40, 52].map(told), [u32::try_from(RANGES).unwrap(); 2]);
    let most = told(36);
    assert_eq!(told(48), most);
    for kind in [DISCARD, WRITE_ZEROES] {
        assert_eq!(rig.ranges(kind, &[(0, most + 1, 0)]), IO_ERROR);
    }
}

#[test]
fn only_a_driver_that_accepted_to_discard_does_and_only_on_a_disk_that_is_written() {
    let range = &[(0, 8, 0)];
    let mut rig = on(test_memory(), full(), false);
    rig.disk.activate(F_FLUSH | F_DISCARD);
    assert_eq!(rig.ranges(WRITE_ZEROES, range), UNSUPPORTED);
    rig.disk.activate(F_FLUSH | F_WRITE_ZEROES);
    assert_eq!(rig.ranges(DISCARD, range), UNSUPPORTED);
    let mut rig = on(test_memory(), full(), true);
    assert_eq!(rig.disk.features() & (F_DISCARD | F_WRITE_ZEROES), 0);
    assert!(rig.disk.config()[36..].iter().all(|byte| *byte == 0));
    for kind in [DISCARD, WRITE_ZEROES] {
        assert_eq!(rig.ranges(kind, range), IO_ERROR);
    }
    assert!(rig.bytes().iter().all(|byte| *byte == 7));
}

#[test]
fn what_the_host_cannot_do_is_said_to_be_unsupported_and_counted() {
    // A character device has no room to give up; what is written to this one is taken.
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.unwrap();
    let cannot = null.discard(0, 4096).unwrap_err();
    assert_eq!(cannot.kind(), io::ErrorKind::Unsupported);
    null.zero(0, 5000, false).unwrap();
    let memory = test_memory();
    let mut rig = on(memory, null, false);
    rig.disk.sectors = 8;
    assert_eq!(rig.ranges(DISCARD, &[(0, 8, 0)]), UNSUPPORTED);
    assert_eq!(rig.ranges(WRITE_ZEROES, &[(0, 8, 0)]), OK);
    assert_eq!(
        format!("{:?}", rig.queues[0]).matches("failed: 1").count(),
        1
    );
}

#[test]
fn what_was_written_is_read_back_and_is_in_the_file() {
    let mut rig = rig(false);
    rig.memory
        .write_slice(&[9; 1024], GuestAddress(DATA))
        .unwrap();
    assert_eq!(rig.request(WRITE, 1, 1024, false), (OK, 1));
    assert_eq!(rig.request(FLUSH, 0, 0, false), (OK, 1));
    rig.memory
        .write_slice(&[0; 2048], GuestAddress(DATA))
        .unwrap();
    assert_eq!(rig.request(READ, 0, 2048, true), (OK, 2049));
    let mut bytes = [0; 2048];
    rig.memory
        .read_slice(&mut bytes, GuestAddress(DATA))
        .unwrap();
    assert_eq!(
        (bytes[511], bytes[512], bytes[1535], bytes[1536]),
        (7, 9, 9, 7)
    );
    let mut file = Vec::new();
    rig.file().rewind().unwrap();
    rig.file().read_to_end(&mut file).unwrap();
    assert_eq!(file[..2048], bytes);
}

#[test]
fn the_disk_is_identified() {
    let mut rig = rig(false);
    assert_eq!(rig.request(GET_ID, 0, 20, true), (OK, 21));
    let mut id = [1; 20];
    rig.memory.read_slice(&mut id, GuestAddress(DATA)).unwrap();
    assert_eq!(&id, b"root\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn nothing_outside_the_disk_is_reached() {
    let mut rig = rig(false);
    for (sector, len) in [
        (4, 512),
        (3, 1024),
        (0, 2560),
        (u64::MAX, 512),
        (1 << 55, 512),
        (0, 100),
        (0, 0),
    ] {
        assert_eq!(
            rig.request(READ, sector, len, true).0,
            IO_ERROR,
            "read {sector} {len}"
        );
        assert_eq!(
            rig.request(WRITE, sector, len, false).0,
            IO_ERROR,
            "write {sector} {len}"
        );
    }
    assert_eq!(rig.request(77, 0, 512, true).0, UNSUPPORTED);
}

#[test]
fn a_read_only_disk_refuses_writes() {
    let mut rig = rig(true);
    assert_eq!(rig.request(WRITE, 0, 512, false).0, IO_ERROR);
    assert_eq!(rig.request(READ, 0, 512, true).0, OK);
    assert_ne!(rig.disk.features() & F_READ_ONLY, 0);
}

#[test]
fn a_request_without_its_parts_goes_back_and_the_next_is_served() {
    // Without a status there is no place for a word; without a whole header the word is an error.
    for (parts, back) in [
        (&[(HEAD, 16, false)][..], (0, 0)),
        (&[(HEAD, 15, false), (STATUS, 1, true)], (0, 1)),
        (&[(STATUS, 1, true)], (0, 1)),
    ] {
        let mut rig = rig(false);
        rig.driver.offer(&rig.memory, parts);
        let turn = rig.disk.notify(0, &mut rig.queues, &rig.memory);
        assert_eq!(turn, Ok(Turn::More), "{parts:?}");
        assert_eq!(rig.driver.collect(&rig.memory), Some(back), "{parts:?}");
        if back.1 == 1 {
            let status: u8 = rig.memory.read_obj(GuestAddress(STATUS)).unwrap();
            assert_eq!(status, IO_ERROR, "{parts:?}");
        }
        assert_eq!(rig.request(READ, 0, 512, true).0, OK);
    }
}

#[test]
fn a_request_outside_of_memory_goes_back_and_the_next_is_served() {
    let mut rig = rig(false);
    let outside = [(HEAD, 16, false), (1 << 40, 512, true), (STATUS, 1, true)];
    rig.driver.offer(&rig.memory, &outside);
    rig.driver
        .offer(&rig.memory, &[(HEAD, 16, false), (DATA, 513, true)]);
    rig.memory
        .write_slice(&[0; 16], GuestAddress(HEAD))
        .unwrap();
    let mut turn = || rig.disk.notify(0, &mut rig.queues, &rig.memory);
    assert_eq!(turn(), Ok(Turn::More), "there is another");
    assert_eq!(turn(), Ok(Turn::More));
    assert_eq!(turn(), Ok(Turn::Done));
    assert_eq!(rig.driver.collect(&rig.memory), Some((0, 0)));
    assert_eq!(rig.driver.collect(&rig.memory), Some((3, 513)));
}

#[test]
fn a_read_of_65_mib_is_an_error_and_the_disk_goes_on() {
    let mut rig = rig(false);
    rig.driver = Driver::new(&rig.memory, 128);
    rig.queues = [rig.driver.queue(&rig.memory)];
    rig.memory
        .write_slice(&[0; 16], GuestAddress(HEAD))
        .unwrap();
    let mut parts = vec![(HEAD, 16, false)];
    parts.extend([(0x1_0000, 528 << 10, true); 126]);
    parts.push((STATUS, 1, true));
    rig.driver.offer(&rig.memory, &parts);
    let turn = rig.disk.notify(0, &mut rig.queues, &rig.memory);
    assert_eq!(turn, Ok(Turn::More));
    assert_eq!(rig.driver.collect(&rig.memory), Some((0, 1)));
    let status: u8 = rig.memory.read_obj(GuestAddress(STATUS)).unwrap();
    assert_eq!(status, IO_ERROR);
    assert_eq!(rig.request(READ, 0, 512, true).0, OK);
    // A driver that keeps to what it is told cannot come to that.
    let told = |at: usize| u32::from_le_bytes(rig.disk.config()[at..at + 4].try_into().unwrap());
    assert_ne!(rig.disk.features() & F_SIZE_MAX, 0);
    assert!(u64::from(told(8)) * u64::from(told(12)) <= MOST);
}

/// A file that says what was asked of it, in order, and where.
#[derive(Clone, Default)]
struct Told(std::sync::Arc<std::sync::Mutex<(String, Places)>>);

/// Offset and length of each.
type Places = Vec<(u64, u64)>;

impl Told {
    fn add(&self, what: char, offset: u64, length: u64) -> io::Result<()> {
        let mut told = self.0.lock().unwrap();
        told.0.push(what);
        told.1.push((offset, length));
        Ok(())
    }

    fn said(&self) -> String {
        self.0.lock().unwrap().0.clone()
    }
}

fn length(parts: Parts<'_>) -> u64 {
    parts.map(|part| u64::from(part.len)).sum()
}

impl Backend for Told {
    fn read(&self, _: &Memory, to: Parts<'_>, at: u64) -> io::Result<()> {
        self.add('r', at, length(to))
    }

    fn write(&self, _: &Memory, from: Parts<'_>, at: u64) -> io::Result<()> {
        self.add('w', at, length(from))
    }

    fn flush(&self) -> io::Result<()> {
        self.add('f', 0, 0)
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.add('d', offset, length)
    }

    fn zero(&self, offset: u64, length: u64, _: bool) -> io::Result<()> {
        self.add('z', offset, length)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(4096)
    }

    fn claim(&self, _: bool) -> io::Result<Claim> {
        self.add('c', 0, 0)?;
        let bytes = self.size()?;
        Ok(Claim {
            bytes,
            is_device: true,
        })
    }

    fn release(&self) {
        self.add('u', 0, 0).unwrap();
    }
}

#[test]
fn a_long_request_is_done_in_steps_and_a_reset_waits_for_one_of_them() {
    let memory = test_memory();
    let mut driver = Driver::new(&memory, 128);
    let told = Told::default();
    let mut disk = Block::new(told.clone(), 1 << 40, false, "");
    disk.activate(disk.features());
    let mut queues = [driver.queue(&memory)];
    // 40 MiB and a sector from the second sector on, then a read of 40 MiB over and over into the same buffer.
    memory.write_obj(DISCARD, GuestAddress(HEAD)).unwrap();
    memory.write_obj(1_u64, GuestAddress(DATA)).unwrap();
    memory
        .write_obj(40 * 2048 + 1_u32, GuestAddress(DATA + 8))
        .unwrap();
    memory.write_obj(0_u32, GuestAddress(DATA + 12)).unwrap();
    driver.offer(
        &memory,
        &[(HEAD, 16, false), (DATA, 16, false), (STATUS, 1, true)],
    );
    memory.write_obj(READ, GuestAddress(HEAD + 32)).unwrap();
    let mut read = vec![(HEAD + 32, 16, false)];
    read.extend([(0x1_0000, 512 << 10, true); 80]);
    read.push((STATUS, 1, true));
    driver.offer(&memory, &read);
    let mut turn = |disk: &mut Block<Told>| disk.notify(0, &mut queues, &memory);
    for given_back in [
        None,
        None,
        Some((0, 1)),
        None,
        None,
        Some((3, (40 << 20) + 1)),
    ] {
        assert_eq!(turn(&mut disk), Ok(Turn::More));
        assert_eq!(driver.collect(&memory), given_back);
    }
    assert_eq!(turn(&mut disk), Ok(Turn::Done));
    let steps = [
        (512, STEP),
        (512 + STEP, STEP),
        (512 + 2 * STEP, (8 << 20) + 512),
    ];
    let transfers = [(0, STEP), (STEP, STEP), (2 * STEP, 8 << 20)];
    assert_eq!(told.said(), "dddrrr");
    assert_eq!(told.0.lock().unwrap().1, [steps, transfers].concat());
    // What is left of one is forgotten with a reset.
    driver.offer(&memory, &read);
    assert_eq!(turn(&mut disk), Ok(Turn::More));
    disk.reset();
    disk.activate(0);
    assert_eq!(turn(&mut disk), Ok(Turn::Done));
    assert_eq!(told.said(), "dddrrrr");
}

fn rate(text: &str) -> DiskRate {
    serde_json::from_str(text).unwrap()
}

/// How often something had to wait.
fn throttled(queue: &Queue) -> usize {
    let shown = format!("{queue:?}");
    let (_, rest) = shown.split_once("throttled: ").unwrap();
    let (count, _) = rest.split_once(' ').unwrap();
    count.parse().unwrap()
}

#[test]
fn a_disk_is_as_slow_as_it_is_to_be_and_large_requests_are_done_in_parts() {
    let memory = test_memory();
    let mut driver = Driver::new(&memory, 32);
    let told = Told::default();
    let mut disk = Block::new(told.clone(), 1 << 20, false, "");
    disk.meter = Meter::unlimited(test_clock);
    disk.limit(&rate(r#"{"bytes":{"per_second":1048576,"burst":131500}}"#));
    disk.activate(disk.features());
    let mut queues = [driver.queue(&memory)];
    memory.write_obj(READ, GuestAddress(HEAD)).unwrap();
    let offer = |driver: &mut Driver| {
        let read = [
            (HEAD, 16, false),
            (0x1_0000, 512 << 10, true),
            (STATUS, 1, true),
        ];
        driver.offer(&memory, &read);
    };
    offer(&mut driver);
    let (mut now, mut waits) = (0, 0);
    loop {
        match disk.notify(0, &mut queues, &memory).unwrap() {
            Turn::At(at) => {
                assert!(at > now);
                // Looked at before its time, it waits on, and that is the same wait.
                assert_eq!(disk.notify(0, &mut queues, &memory), Ok(Turn::At(at)));
                (now, waits) = (at, waits + 1);
                set_clock(now);
            }
            Turn::More => {}
            Turn::Done => break,
        }
    }
    assert_eq!(driver.collect(&memory), Some((0, (512 << 10) + 1)));
    // In whole sectors, and to the nanosecond what is beyond the burst.
    let pieces = (0..4).map(|n| (n * 131_072, 131_072));
    assert_eq!(told.0.lock().unwrap().1, pieces.collect::<Vec<_>>());
    let beyond: u64 = (512 << 10) - 131_500;
    assert_eq!(now, (beyond * 1_000_000_000).div_ceil(1 << 20));
    assert_eq!((waits, throttled(&queues[0])), (3, 3));
    // What waits is forgotten with a reset, and a new rate is taken over while one waits.
    offer(&mut driver);
    assert!(matches!(
        disk.notify(0, &mut queues, &memory),
        Ok(Turn::At(_))
    ));
    disk.reset();
    disk.activate(0);
    assert_eq!(disk.notify(0, &mut queues, &memory), Ok(Turn::Done));
    offer(&mut driver);
    assert!(matches!(
        disk.notify(0, &mut queues, &memory),
        Ok(Turn::At(_))
    ));
    disk.knob().set(DiskRate::default());
    disk.refresh();
    assert_eq!(disk.notify(0, &mut queues, &memory), Ok(Turn::More));
    assert_eq!(driver.collect(&memory), Some((6, (512 << 10) + 1)));
}

#[test]
fn every_request_is_an_operation_whatever_it_is_and_however_many_parts_it_has() {
    let mut rig = on(test_memory(), full(), false);
    rig.disk.meter = Meter::unlimited(test_clock);
    let both = r#"{"bytes":{"per_second":1},"operations":{"per_second":1,"burst":6}}"#;
    rig.disk.limit(&rate(both));
    let ranges = [(0, 8, 0), (8, 8, 0)];
    assert_eq!(rig.ranges(DISCARD, &ranges), OK);
    assert_eq!(
        rig.ranges(DISCARD, &[(0, 2048, 0)]),
        OK,
        "which moves nothing"
    );
    assert_eq!(rig.ranges(WRITE_ZEROES, &ranges), OK);
    assert_eq!(rig.request(FLUSH, 0, 0, false).0, OK);
    assert_eq!(rig.request(GET_ID, 0, 20, true).0, OK);
    assert_eq!(rig.request(READ, 0, 512, true).0, OK);
    rig.driver
        .offer(&rig.memory, &[(HEAD, 16, false), (DATA, 513, true)]);
    let turn = rig.disk.notify(0, &mut rig.queues, &rig.memory);
    assert_eq!(turn, Ok(Turn::At(1_000_000_000)));
    set_clock(1_000_000_000);
    let turn = rig.disk.notify(0, &mut rig.queues, &rig.memory);
    assert_eq!(turn, Ok(Turn::More));
}

#[test]
fn a_disks_capacity_follows_its_file_as_far_as_that_may_grow() {
    let mut rig = on(test_memory(), full(), false);
    let orders = Arc::new(Orders::new(EventFd::new(0).unwrap()));
    rig.disk.grows(2 << 20);
    rig.disk.obeys(orders.clone());
    let file = rig.file().try_clone().unwrap();
    let look = |rig: &mut Rig, size: u64| {
        file.set_len(size).unwrap();
        rig.disk.refresh();
        assert!(orders.outcome().is_none(), "nobody asked");
        orders.ask(Order::Look).unwrap();
        assert!(orders.ask(Order::Detach).is_err(), "one at a time");
        rig.disk.refresh();
        let capacity = rig.disk.config()[..8].try_into().unwrap();
        (orders.wait().outcome, u64::from_le_bytes(capacity))
    };
    assert_eq!(look(&mut rig, (2 << 20) - 1), (Ok((2 << 20) - 512), 4095));
    assert_eq!(rig.request(WRITE, 4094, 512, false).0, OK);
    assert_eq!(rig.request(WRITE, 4095, 512, false).0, IO_ERROR);
    let (refused, capacity) = look(&mut rig, (2 << 20) + 1);
    assert!(refused.unwrap_err().contains("may have 2097152"));
    assert_eq!(capacity, 4095, "as it was");
    // It becomes smaller while a request is under way: the rest of that fails and makes no file larger.
    let most = rig.disk.meter.most();
    assert_eq!(most, u64::MAX);
    let slow = r#"{"bytes":{"per_second":1000000000000}}"#;
    rig.disk
        .limit(&rate(&slow.replace("}}", r#","burst":131072}}"#)));
    rig.memory.write_obj(WRITE, GuestAddress(HEAD)).unwrap();
    rig.memory.write_obj(0_u64, GuestAddress(HEAD + 8)).unwrap();
    let write = [
        (HEAD, 16, false),
        (0x1_0000, 512 << 10, false),
        (STATUS, 1, true),
    ];
    rig.driver.offer(&rig.memory, &write);
    let turn = |rig: &mut Rig| rig.disk.notify(0, &mut rig.queues, &rig.memory).unwrap();
    assert_eq!(turn(&mut rig), Turn::More);
    assert_eq!(rig.driver.collect(&rig.memory), None);
    assert_eq!(look(&mut rig, 131_072), (Ok(131_072), 256));
    while turn(&mut rig) != Turn::Done {}
    assert!(rig.driver.collect(&rig.memory).is_some());
    let status: u8 = rig.memory.read_obj(GuestAddress(STATUS)).unwrap();
    assert_eq!(
        (status, file.metadata().unwrap().len()),
        (IO_ERROR, 131_072)
    );
}

#[test]
fn a_driver_that_cannot_flush_is_told_of_a_change_when_it_is_kept() {
    for (features, expected) in [(0, "wfrdfzf"), (F_FLUSH, "wrdz")] {
        let memory = test_memory();
        let mut driver = Driver::new(&memory, 16);
        let told = Told::default();
        let mut disk = Block::new(told.clone(), 4096, false, "");
        disk.activate(features | F_DISCARD | F_WRITE_ZEROES);
        let mut queues = [driver.queue(&memory)];
        let all = [(WRITE, 512), (READ, 512), (DISCARD, 16), (WRITE_ZEROES, 16)];
        memory.write_obj(8_u32, GuestAddress(DATA + 8)).unwrap();
        for (n, (kind, length)) in (0..).zip(all) {
            let at = HEAD + 32 * n;
            memory.write_obj(kind, GuestAddress(at)).unwrap();
            let data = (DATA, length, kind == READ);
            driver.offer(&memory, &[(at, 16, false), data, (STATUS, 1, true)]);
            let _ = disk.notify(0, &mut queues, &memory).unwrap();
            assert_eq!(memory.read_obj::<u8>(GuestAddress(STATUS)).unwrap(), OK);
        }
        assert_eq!(told.said(), expected);
    }
}

proptest! {
    #[test]
    fn no_request_panics_or_grows_the_file(
        header in any::<[u8; 16]>(),
        parts in prop::collection::vec((0u64..0x2000, 1u32..0x2000, any::<bool>()), 1..7),
    ) {
        let mut rig = rig(false);
        rig.memory.write_slice(&header, GuestAddress(HEAD)).unwrap();
        let mut parts: Vec<_> = parts.into_iter().map(|(at, len, w)| (HEAD + at, len, w)).collect();
        parts.sort_by_key(|p| p.2);
        rig.driver.offer(&rig.memory, &parts);
        let _ = rig.disk.notify(0, &mut rig.queues, &rig.memory);
        prop_assert_eq!(rig.file().metadata().unwrap().len(), 4 * 512 + 100);
    }

    #[test]
    fn a_disk_is_as_an_array_of_bytes_would_be(
        requests in prop::collection::vec(
            (any::<bool>(), prop::collection::vec((0u64..9, 0u32..5, 0u32..3), 1..4)),
            1..8,
        ),
    ) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 8 * 512]).unwrap();
        let mut rig = on(test_memory(), file, false);
        let mut model = [7; 8 * 512];
        for (discard, ranges) in requests {
            let kind = if discard { DISCARD } else { WRITE_ZEROES };
            let known = u32::from(!discard);
            // The first fault decides.
            let fault = ranges.iter().find_map(|(sector, count, flags)| {
                if flags & !known != 0 {
                    Some(UNSUPPORTED)
                } else if *count == 0 || sector + u64::from(*count) > 8 {
                    Some(IO_ERROR)
                } else {
                    None
                }
            });
            prop_assert_eq!(rig.ranges(kind, &ranges), fault.unwrap_or(OK));
            if fault.is_none() {
                for (sector, count, _) in ranges {
                    let from = usize::try_from(sector).unwrap() * 512;
                    // A hole of a file reads as zeros, too.
                    model[from..from + count as usize * 512].fill(0);
                }
            }
            prop_assert!(rig.bytes() == model);
        }
    }
}
