// SPDX-License-Identifier: Apache-2.0
use std::fs;

use vm_memory::Bytes;

use super::*;

const MIB: u64 = 1 << 20;

/// A snapshot of a guest with two ranges of memory, in a folder.
fn folder() -> (tempfile::TempDir, Vec<(u64, u64)>) {
    let folder = tempfile::tempdir().unwrap();
    let ram = vec![(0, MIB), (16 * MIB, 2 * MIB)];
    let memory = map(&ram).unwrap();
    for (at, value) in [(0, 1), (4097, 2), (MIB - 1, 3), (17 * MIB, 4)] {
        memory.write_obj::<u8>(value, GuestAddress(at)).unwrap();
    }
    let id = Hex([7; 16]);
    let state = State {
        architecture: std::env::consts::ARCH.to_owned(),
        id,
        ram: ram.clone(),
        devices: Vec::new(),
        machine: serde_json::to_value(arch::example(2)).unwrap(),
    };
    let file = File::create(folder.path().join(MEMORY)).unwrap();
    let written = memory::write(&memory, &id, &file).unwrap();
    assert_eq!(written, 5 * 4096, "four pages and the last one");
    fs::write(folder.path().join(STATE), state.bytes().unwrap()).unwrap();
    (folder, ram)
}

#[test]
fn memory_comes_back_as_it_was_and_two_that_have_it_do_not_see_each_other() {
    let (folder, ram) = folder();
    let snapshot = Snapshot::open(folder.path()).unwrap();
    let summary = look(folder.path()).unwrap();
    assert_eq!((summary.cpus, summary.memory_mib), (2, 3));
    let two = [(); 2].map(|()| snapshot.map(&ram, 2, 0).unwrap());
    let read = |memory: &Memory, at| memory.read_obj::<u8>(GuestAddress(at)).unwrap();
    for memory in &two {
        for (at, value) in [(0, 1), (1, 0), (4097, 2), (MIB - 1, 3), (17 * MIB, 4)] {
            assert_eq!(read(memory, at), value, "{at}");
        }
        memory.write_obj::<u8>(9, GuestAddress(8192)).unwrap();
        two[0].write_obj::<u8>(8, GuestAddress(17 * MIB)).unwrap();
    }
    assert_eq!(
        [&two[0], &two[1]].map(|memory| read(memory, 17 * MIB)),
        [8, 4]
    );
    let (before, _) = self::folder();
    let bytes = |folder: &tempfile::TempDir| fs::read(folder.path().join(MEMORY)).unwrap();
    assert!(bytes(&folder) == bytes(&before), "nobody has written to it");
}

/// What is said of the snapshot in `folder` by who wants to have this machine.
fn refused(folder: &Path, ram: &[(u64, u64)], cpus: u8, devices: usize) -> String {
    let mapped =
        Snapshot::open(folder).and_then(|snapshot| snapshot.map(ram, cpus, devices).map(drop));
    racklet_tell::error::chain(&mapped.expect_err("is refused"))
}

#[test]
fn a_snapshot_of_another_machine_is_refused_with_what_it_needs() {
    let (folder, ram) = folder();
    for (ram, cpus, devices, why) in [
        (&ram[..], 1, 0, "2 processors"),
        (&ram[..1], 2, 0, "3 MiB of memory"),
        (&[(0, 3 * MIB)][..], 2, 0, "3 MiB of memory"),
        (&ram[..], 2, 1, "0 disks and 0 cards"),
    ] {
        let said = refused(folder.path(), ram, cpus, devices);
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_snapshot_that_is_damaged_cut_off_foreign_or_not_whole_is_refused_with_the_reason() {
    type Spoil = fn(&Path);
    let state = |folder: &Path, change: fn(&mut Vec<u8>)| {
        let path = folder.join(STATE);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    };
    // As somebody would write it who knows the format.
    fn forged(bytes: &mut Vec<u8>, from: &str, to: &str) {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let (_, body) = text.split_once('\n').unwrap();
        assert!(body.contains(from), "{from}");
        let body = body.replacen(from, to, 1);
        let digest = Digest::of(body.as_bytes());
        *bytes = format!("{MAGIC}{VERSION} {digest}\n{body}").into_bytes();
    }
    type Change = fn(&mut Vec<u8>);
    let spoiled: [(&str, Change); 12] = [
        ("no snapshot's", Vec::clear),
        ("no snapshot's", |b| b[0] ^= 1),
        ("no snapshot's", |b| b.truncate(30)),
        ("version 2", |b| b[MAGIC.len()] = b'2'),
        ("damaged", |b| b.truncate(b.len() - 1)),
        ("damaged", |b| b.push(b' ')),
        ("damaged", |b| {
            let at = b.len() / 2;
            b[at] ^= 1;
        }),
        ("cannot be", |b| forged(b, "\"ram\"", "\"rom\"")),
        ("cannot be", |b| {
            forged(b, "\"tsc_khz\":1", "\"tsc_khz\":-1")
        }),
        ("cannot be", |b| {
            forged(b, "\"xcrs\"", "\"more\":1,\"xcrs\"")
        }),
        ("taken on riscv64", |b| {
            forged(b, std::env::consts::ARCH, "riscv64")
        }),
        ("memory is not the one", |b| forged(b, "0707", "0708")),
    ];
    for (why, change) in spoiled {
        let (folder, ram) = folder();
        state(folder.path(), change);
        let said = refused(folder.path(), &ram, 2, 0);
        assert!(said.contains(why), "{why}: {said}");
    }
    let memory: [(&str, Spoil); 5] = [
        ("memory", |f| fs::remove_file(f.join(MEMORY)).unwrap()),
        ("not a plain file", |f| {
            fs::remove_file(f.join(MEMORY)).unwrap();
            fs::create_dir(f.join(MEMORY)).unwrap();
        }),
        ("memory is not the one", |f| {
            let file = File::options().write(true).open(f.join(MEMORY)).unwrap();
            file.set_len(3 * MIB).unwrap();
        }),
        ("memory is not the one", |f| {
            let file = File::options().write(true).open(f.join(MEMORY)).unwrap();
            file.set_len(4 * MIB).unwrap();
        }),
        ("memory is not the one", |f| {
            let file = File::options().write(true).open(f.join(MEMORY)).unwrap();
            file.write_all_at(&[8], 3 * MIB).unwrap();
        }),
    ];
    for (why, spoil) in memory {
        let (folder, ram) = folder();
        spoil(folder.path());
        let said = refused(folder.path(), &ram, 2, 0);
        assert!(said.contains(why), "{why}: {said}");
    }
}

#[test]
fn more_than_any_state_is_not_read() {
    let (folder, ram) = folder();
    let file = File::options()
        .append(true)
        .open(folder.path().join(STATE))
        .unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(refused(folder.path(), &ram, 2, 0).contains("damaged"));
}
