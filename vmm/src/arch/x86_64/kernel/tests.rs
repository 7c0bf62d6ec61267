// SPDX-License-Identifier: Apache-2.0
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::*;

fn memory() -> Memory {
    crate::memory::map(&[(0, 4 << 20)]).unwrap()
}

fn load_bytes(bytes: &[u8]) -> (Memory, Result<Kernel, KernelError>) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    let memory = memory();
    let loaded = load(&memory, file);
    (memory, loaded)
}

/// Two segments: 5 bytes at 2 MiB, and 3 bytes with 8 KiB of zeros at 3 MiB.
fn small_elf() -> Vec<u8> {
    let mut elf = vec![0; 8192 + 3];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18] = 62;
    elf[24..32].copy_from_slice(&0x20_0001u64.to_le_bytes());
    elf[32] = 64;
    elf[54] = 56;
    elf[56] = 2;
    for (at, offset, address, in_file, in_memory) in [
        (64, 5000u64, 0x20_0000u64, 5u64, 5u64),
        (120, 8192, 0x30_0000, 3, 8192),
    ] {
        elf[at] = 1;
        for (field, value) in [(8, offset), (24, address), (32, in_file), (40, in_memory)] {
            elf[at + field..at + field + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
    elf[5000..5005].copy_from_slice(b"hello");
    elf[8192..].copy_from_slice(b"bye");
    elf
}

#[test]
fn an_elf_kernel_is_placed_plain_and_compressed() {
    let elf = small_elf();
    for bytes in [elf.clone(), zstd::encode_all(&elf[..], 3).unwrap()] {
        let (memory, loaded) = load_bytes(&bytes);
        assert_eq!(
            loaded.unwrap(),
            Kernel {
                entry: 0x20_0001,
                end: 0x30_2000,
                header: None
            }
        );
        assert_eq!(
            &memory.read_obj::<[u8; 6]>(GuestAddress(0x20_0000)).unwrap(),
            b"hello\0"
        );
        assert_eq!(
            &memory.read_obj::<[u8; 4]>(GuestAddress(0x30_0000)).unwrap(),
            b"bye\0"
        );
    }
}

/// A segment of two pages and a bit, aligned in the file as in memory.
#[test]
fn the_whole_pages_of_a_plain_kernel_are_the_files_own_and_the_rest_is_copied() {
    let page = rustix::param::page_size() as u64;
    let mut elf = small_elf();
    let len = 2 * page + 10;
    for (field, value) in [(8, page * 4), (32, len), (40, len)] {
        elf[64 + field..64 + field + 8].copy_from_slice(&value.to_le_bytes());
    }
    elf[120 + 8..120 + 16].copy_from_slice(&(page * 8).to_le_bytes());
    elf.resize(usize::try_from(page * 8).unwrap() + 3, 0);
    let text = usize::try_from(page * 4).unwrap();
    elf[text..text + usize::try_from(len).unwrap()].fill(0x90);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&elf).unwrap();
    file.rewind().unwrap();
    let memory = memory();
    load(&memory, file.try_clone().unwrap()).unwrap();
    let read = |at: u64| memory.read_obj::<u8>(GuestAddress(0x20_0000 + at)).unwrap();
    assert_eq!([read(0), read(len - 1), read(len)], [0x90, 0x90, 0]);
    for (at, changed) in [(0, 0xcc), (2 * page - 1, 0xcc), (2 * page, 0x90)] {
        file.write_all_at(&[0xcc], page * 4 + at).unwrap();
        assert_eq!(read(at), changed, "{at}");
    }
}

#[test]
fn kernels_that_lie_are_refused() {
    let spoil = |at: usize, value: u64| {
        let mut elf = small_elf();
        elf[at..at + 8].copy_from_slice(&value.to_le_bytes());
        load_bytes(&elf).1.unwrap_err().to_string()
    };
    assert!(
        spoil(64 + 24, 0x7000).contains("needs memory"),
        "our own tables"
    );
    assert!(
        spoil(64 + 24, 0x40_0000).contains("needs memory"),
        "behind the end"
    );
    assert!(spoil(64 + 40, u64::MAX).contains("overflows"));
    assert!(spoil(64 + 32, 6).contains("larger in the file"));
    assert!(
        spoil(64 + 8, 8190).contains("file order"),
        "overlapping segments"
    );
    assert!(spoil(24, 0x10).contains("entry point"));
    assert!(spoil(32, 1 << 40).contains("program headers"));
    assert!(spoil(120 + 8, 9000).contains("to its end"));
    assert!(
        load_bytes(b"#!/bin/sh")
            .1
            .unwrap_err()
            .to_string()
            .contains("neither")
    );
    assert!(load_bytes(b"").1.is_err());
    let packed = zstd::encode_all(&small_elf()[..], 3).unwrap();
    assert!(
        load_bytes(&packed[..packed.len() - 8]).1.is_err(),
        "cut off"
    );
}

#[test]
fn a_bzimage_is_placed_at_one_mib_and_entered_at_its_64_bit_entry() {
    let mut image = vec![0; 5 * 512 + 1024];
    image[0x1f1] = 4;
    image[0x201] = 0x66;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
    image[0x236] = 1;
    image[0x1f4] = 64; // 1 KiB
    image[0x25a] = 0x20; // preferred at 2 MiB
    image[0x261] = 0x10; // 4 KiB
    image[5 * 512..5 * 512 + 4].copy_from_slice(b"code");
    let (memory, loaded) = load_bytes(&image);
    let kernel = loaded.unwrap();
    assert_eq!((kernel.entry, kernel.end), (0x10_0200, 0x20_1000));
    assert_eq!(kernel.header.unwrap().len(), 0x202 + 0x66 - 0x1f1);
    assert_eq!(
        &memory.read_obj::<[u8; 4]>(GuestAddress(0x10_0000)).unwrap(),
        b"code"
    );
    image[0x236] = 0;
    assert!(load_bytes(&image).1.is_err());
}

proptest! {
    #[test]
    fn no_spoiled_kernel_panics(at in 0usize..300, value in any::<u64>()) {
        let mut elf = small_elf();
        elf[at..at + 8].copy_from_slice(&value.to_le_bytes());
        let _ = load_bytes(&elf);
    }
}
