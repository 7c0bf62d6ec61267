// SPDX-License-Identifier: Apache-2.0
use std::io::{Read, Seek, Write};

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::testing::{Driver, test_memory};

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
    let driver = Driver::new(&memory, 8);
    let queues = [driver.queue(&memory)];
    Rig {
        memory,
        driver,
        queues,
        disk: Block::new(file, 4 * 512 + 100, read_only, "root"),
    }
}

impl Rig {
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
        let turn = self.disk.notify(0, &mut self.queues, &self.memory);
        assert_eq!(turn, Ok(Turn::More), "one request a turn");
        let (_, len) = self.driver.collect(&self.memory).unwrap();
        (self.memory.read_obj(GuestAddress(STATUS)).unwrap(), len)
    }
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
    rig.disk.backend.rewind().unwrap();
    rig.disk.backend.read_to_end(&mut file).unwrap();
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

/// A file that says what was asked of it, in order.
#[derive(Clone, Default)]
struct Told(std::sync::Arc<std::sync::Mutex<String>>);

impl Told {
    fn add(&self, what: char) -> io::Result<()> {
        self.0.lock().unwrap().push(what);
        Ok(())
    }
}

impl Backend for Told {
    fn read(&self, _: &Memory, _: Parts<'_>, _: u64) -> io::Result<()> {
        self.add('r')
    }

    fn write(&self, _: &Memory, _: Parts<'_>, _: u64) -> io::Result<()> {
        self.add('w')
    }

    fn flush(&self) -> io::Result<()> {
        self.add('f')
    }
}

#[test]
fn a_driver_that_cannot_flush_is_told_of_a_write_when_it_is_kept() {
    for (features, expected) in [(0, "wfr"), (F_FLUSH, "wr")] {
        let memory = test_memory();
        let mut driver = Driver::new(&memory, 8);
        let told = Told::default();
        let mut disk = Block::new(told.clone(), 4096, false, "");
        disk.activate(features);
        let mut queues = [driver.queue(&memory)];
        for (at, kind) in [(HEAD, WRITE), (HEAD + 32, READ)] {
            memory.write_obj(kind, GuestAddress(at)).unwrap();
            let data = (DATA, 512, kind == READ);
            driver.offer(&memory, &[(at, 16, false), data, (STATUS, 1, true)]);
            let _ = disk.notify(0, &mut queues, &memory).unwrap();
        }
        assert_eq!(*told.0.lock().unwrap(), expected);
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
        prop_assert_eq!(rig.disk.backend.metadata().unwrap().len(), 4 * 512 + 100);
    }
}
