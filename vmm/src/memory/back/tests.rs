// SPDX-License-Identifier: Apache-2.0
use std::io::Write;
use std::os::fd::AsFd;

use proptest::prelude::*;
use vm_memory::Bytes;

use super::*;
use crate::memory::files::MOST;
use crate::memory::{lay_file, map};

fn page() -> u64 {
    rustix::param::page_size() as u64
}

/// Memory of so many pages, each full of its own number and 1.
fn memory(pages: u64) -> Memory {
    let memory = map(&[(0, pages * page())]).unwrap();
    for n in 0..pages {
        fill(&memory, n, tag(n));
    }
    memory
}

fn tag(n: u64) -> u8 {
    u8::try_from(n % 200 + 1).unwrap()
}

fn fill(memory: &Memory, n: u64, byte: u8) {
    let bytes = vec![byte; rustix::param::page_size()];
    memory
        .write_slice(&bytes, GuestAddress(n * page()))
        .unwrap();
}

/// What all bytes of a page are.
fn byte(memory: &Memory, n: u64) -> u8 {
    let mut bytes = vec![0; rustix::param::page_size()];
    let read = memory.read_slice(&mut bytes, GuestAddress(n * page()));
    read.unwrap();
    assert!(bytes.iter().all(|b| *b == bytes[0]), "page {n}");
    bytes[0]
}

fn back(memory: &Memory, pages: Range<u64>) -> u64 {
    let len = (pages.end - pages.start) * page();
    let done = memory.give_back(GuestAddress(pages.start * page()), len);
    done.unwrap() / page()
}

/// How many of these pages are in the host's memory, a file's or the guest's own.
fn resident(memory: &Memory, pages: Range<u64>) -> usize {
    let bytes = pages.start * page()..pages.end * page();
    let (at, len) = memory.place(&bytes).unwrap();
    let mut there = vec![0_u8; usize::try_from(pages.end - pages.start).unwrap()];
    // SAFETY: `place` has found `len` bytes in a mapping of `memory`, and there is a byte for each page of them.
    let done = unsafe { libc::mincore(at, len, there.as_mut_ptr()) };
    assert_eq!(done, 0);
    there.iter().filter(|page| **page & 1 == 1).count()
}

/// A file of so many pages full of 255, laid from page `at` on.
fn with_file(memory: &Memory, at: u64, pages: u64) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    let bytes = pages * page();
    file.write_all(&vec![255; usize::try_from(bytes).unwrap()])
        .unwrap();
    lay_file(memory, GuestAddress(at * page()), bytes, file.as_fd(), 0).unwrap();
    file
}

#[test]
fn what_was_given_back_is_the_hosts_and_zeros_and_its_neighbours_are_what_they_were() {
    let memory = memory(16);
    assert_eq!(back(&memory, 4..8), 4);
    assert_eq!((resident(&memory, 4..8), resident(&memory, 0..16)), (0, 12));
    for n in 0..16 {
        let expected = if (4..8).contains(&n) { 0 } else { tag(n) };
        assert_eq!(byte(&memory, n), expected, "{n}");
    }
    fill(&memory, 5, 9);
    assert_eq!(byte(&memory, 5), 9, "taken back by use");
}

#[test]
fn pages_of_which_only_a_part_is_meant_are_kept() {
    let memory = memory(4);
    let give = |at: u64, len: u64| memory.give_back(GuestAddress(at), len).unwrap();
    assert_eq!(give(1, page() - 1), 0);
    assert_eq!(give(page() - 1, page()), 0);
    assert_eq!(give(1, 3 * page() - 2), page());
    assert_eq!([0, 1, 2, 3].map(|n| byte(&memory, n)), [1, 0, 3, 4]);
    for (at, len) in [(4 * page(), page()), (3 * page(), 2 * page())] {
        assert!(
            memory.give_back(GuestAddress(at), len).is_err(),
            "{at} {len}"
        );
    }
    assert!(memory.give_back(GuestAddress(page()), u64::MAX).is_err());
}

#[test]
fn a_files_pages_come_back_as_zeros_and_not_as_the_file() {
    let memory = memory(16);
    let file = with_file(&memory, 4, 8);
    fill(&memory, 6, 9);
    // Anonymous, of the file, written to, of the file, anonymous again.
    assert_eq!(back(&memory, 3..13), 10);
    assert_eq!(resident(&memory, 3..13), 0);
    assert_eq!((3..13).map(|n| byte(&memory, n)).max(), Some(0));
    assert_eq!((byte(&memory, 2), byte(&memory, 13)), (tag(2), tag(13)));
    fill(&memory, 6, 9);
    assert_eq!(back(&memory, 6..7), 1);
    assert_eq!(byte(&memory, 6), 0, "as any other page from then on");
    assert_eq!(file.metadata().unwrap().len(), 8 * page());
}

#[test]
fn a_guest_that_cuts_files_into_pieces_gets_no_more_mappings_than_there_may_be() {
    let pages = 4 * MOST as u64;
    let memory = map(&[(0, pages * page())]).unwrap();
    let _file = with_file(&memory, 0, pages);
    let maps = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().count()
    };
    let before = maps();
    let given: u64 = (0..pages / 2)
        .map(|n| back(&memory, 2 * n..2 * n + 1))
        .sum();
    assert_eq!(given, MOST as u64, "the first page is no cut");
    // Other tests run beside this one.
    assert!(maps() - before < 2 * MOST + 100, "{}", maps() - before);
    for n in 0..pages {
        let expected = if n % 2 == 0 && n < 2 * given { 0 } else { 255 };
        assert_eq!(byte(&memory, n), expected, "{n}: zeros or what it was");
    }
    assert_eq!(back(&memory, 0..pages), pages, "nothing is left to cut");
}

proptest! {
    #[test]
    fn memory_is_what_was_written_or_zeros_where_it_was_given_back(
        files in prop::collection::vec((0..32_u64, 1..8_u64), 0..4),
        steps in prop::collection::vec((any::<bool>(), 0..40_u64, 1..20_u64), 0..12)
    ) {
        let memory = memory(40);
        let mut expected: Vec<u8> = (0..40).map(tag).collect();
        let mut open = Vec::new();
        for (at, len) in files {
            open.push(with_file(&memory, at, len));
            expected[usize::try_from(at).unwrap()..][..usize::try_from(len).unwrap()].fill(255);
        }
        for (write, at, len) in steps {
            if write {
                fill(&memory, at, 7);
                expected[usize::try_from(at).unwrap()] = 7;
            } else {
                let end = (at + len).min(40);
                prop_assert_eq!(back(&memory, at..end), end - at);
                expected[usize::try_from(at).unwrap()..usize::try_from(end).unwrap()].fill(0);
            }
            let found: Vec<u8> = (0..40).map(|n| byte(&memory, n)).collect();
            prop_assert_eq!(&found, &expected);
        }
    }
}
