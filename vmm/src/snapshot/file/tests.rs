// SPDX-License-Identifier: Apache-2.0
use std::fs;
use std::os::unix::fs::FileExt;

use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryRegion};

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
        base: None,
        ram: ram.clone(),
        devices: Vec::new(),
        machine: serde_json::to_value(arch::example(2)).unwrap(),
    };
    let file = File::create(folder.path().join(MEMORY)).unwrap();
    let written = memory::write(&memory, &id, &file, None).unwrap();
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
        ("version 3", |b| b[MAGIC.len()] = b'3'),
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

/// A difference of this memory to the snapshot in `base`, in a folder of its own, and how much of it is no hole.
fn difference(base: &Path, memory: &Memory, id: Id) -> (tempfile::TempDir, u64) {
    let folder = tempfile::tempdir().unwrap();
    let (digest, full) = open_full(base).unwrap();
    let total = memory.size();
    let state = State {
        architecture: std::env::consts::ARCH.to_owned(),
        id,
        base: Some(Base {
            state: digest,
            id: memory::whose(&full, total)
                .unwrap()
                .expect("it is a full one"),
        }),
        ram: memory.iter().map(|r| (r.start_addr().0, r.len())).collect(),
        devices: Vec::new(),
        machine: serde_json::to_value(arch::example(2)).unwrap(),
    };
    let file = File::create(folder.path().join(MEMORY)).unwrap();
    let written = memory::write(memory, &id, &file, Some(&full)).unwrap();
    fs::write(folder.path().join(STATE), state.bytes().unwrap()).unwrap();
    std::os::unix::fs::symlink(base, folder.path().join(BASE)).unwrap();
    (folder, written)
}

/// All of it.
fn contents(memory: &Memory) -> Vec<u8> {
    let mut all = Vec::new();
    for region in memory.iter() {
        let from = all.len();
        all.resize(from + usize::try_from(region.len()).unwrap(), 0);
        memory
            .read_slice(&mut all[from..], region.start_addr())
            .unwrap();
    }
    all
}

#[test]
fn a_difference_has_just_the_pages_that_changed_and_with_its_base_all_of_memory() {
    let (base, ram) = folder();
    let memory = Snapshot::open(base.path())
        .unwrap()
        .map(&ram, 2, 0)
        .unwrap();
    let nothing = difference(base.path(), &memory, Hex([8; 16]));
    assert_eq!(nothing.1, 2 * 4096, "bits, and whose it is");
    // Two pages in a row, the last one of a range and the first of the next, one that becomes zeros, and one that is given back.
    for (at, value) in [
        (8192, 5),
        (12_288 + 4095, 6),
        (MIB - 4096, 7),
        (16 * MIB, 8),
        (0, 0),
    ] {
        memory.write_obj::<u8>(value, GuestAddress(at)).unwrap();
    }
    assert_eq!(
        memory.give_back(GuestAddress(17 * MIB), 4096).unwrap(),
        4096
    );
    let (folder, written) = difference(base.path(), &memory, Hex([9; 16]));
    assert_eq!(written, (4 + 2) * 4096, "zeros are holes");
    let there = Snapshot::open(folder.path())
        .unwrap()
        .map(&ram, 2, 0)
        .unwrap();
    assert!(contents(&there) == contents(&memory));
    let unchanged = Snapshot::open(nothing.0.path()).unwrap();
    let unchanged = unchanged.map(&ram, 2, 0).unwrap();
    let full = Snapshot::open(base.path())
        .unwrap()
        .map(&ram, 2, 0)
        .unwrap();
    assert!(contents(&unchanged) == contents(&full));
    // Whatever bits somebody sets: what is marked comes from the file, holes as zeros.
    let file = File::options()
        .write(true)
        .open(folder.path().join(MEMORY))
        .unwrap();
    file.write_all_at(&[0xff; 4096], 3 * MIB).unwrap();
    let all = Snapshot::open(folder.path())
        .unwrap()
        .map(&ram, 2, 0)
        .unwrap();
    let read = |at| all.read_obj::<u8>(GuestAddress(at)).unwrap();
    assert_eq!([read(8192), read(4097), read(16 * MIB)], [5, 0, 8]);
}

#[test]
fn a_difference_without_the_snapshot_that_it_was_made_to_is_refused() {
    type Spoil = fn(&Path, &Path);
    let cases: [(&str, Spoil); 6] = [
        ("base", |_, own| fs::remove_file(own.join(BASE)).unwrap()),
        ("not the snapshot that this one is", |base, _| {
            let mut state = fs::read(base.join(STATE)).unwrap();
            let last = state.len() - 1;
            state.insert(last, b' ');
            fs::write(base.join(STATE), state).unwrap();
        }),
        ("not the snapshot that this one is", |_, own| {
            // Another one of the same guest, and as whole.
            let another = own.join("another");
            fs::create_dir(&another).unwrap();
            let (folder, _) = folder();
            for name in [STATE, MEMORY] {
                fs::copy(folder.path().join(name), another.join(name)).unwrap();
            }
            let text = fs::read_to_string(another.join(STATE)).unwrap();
            let (_, body) = text.split_once('\n').unwrap();
            let body = body.replacen("\"clock\":0", "\"clock\":1", 1);
            let line = format!("{MAGIC}{VERSION} {}\n{body}", Digest::of(body.as_bytes()));
            fs::write(another.join(STATE), line).unwrap();
            fs::remove_file(own.join(BASE)).unwrap();
            std::os::unix::fs::symlink(another, own.join(BASE)).unwrap();
        }),
        ("memory is not the one", |base, _| {
            let file = File::options().write(true).open(base.join(MEMORY)).unwrap();
            file.write_all_at(&[1], 3 * MIB).unwrap();
        }),
        ("memory is not the one", |_, own| {
            let file = File::options().write(true).open(own.join(MEMORY)).unwrap();
            file.set_len(3 * MIB + 4096).unwrap();
        }),
        // Itself, over and over.
        ("not the snapshot that this one is", |_, own| {
            fs::remove_file(own.join(BASE)).unwrap();
            std::os::unix::fs::symlink(own, own.join(BASE)).unwrap();
        }),
    ];
    for (why, spoil) in cases {
        let (base, ram) = folder();
        let memory = Snapshot::open(base.path())
            .unwrap()
            .map(&ram, 2, 0)
            .unwrap();
        let (own, _) = difference(base.path(), &memory, Hex([9; 16]));
        spoil(base.path(), own.path());
        let said = refused(own.path(), &ram, 2, 0);
        assert!(said.contains(why), "{why}: {said}");
        assert_eq!(
            memory::whose(&open(own.path(), MEMORY).unwrap(), 3 * MIB).unwrap_or(None),
            None,
            "no difference is made to a difference"
        );
    }
}

#[test]
fn a_difference_of_4_mib_in_128_is_4_mib_and_two_pages() {
    let ram = vec![(0, 128 * MIB)];
    let memory = map(&ram).unwrap();
    let fill = |from: u64, to: u64, value: u8| {
        let piece = vec![value; 1 << 20];
        for at in (from..to).step_by(1 << 20) {
            memory.write_slice(&piece, GuestAddress(at)).unwrap();
        }
    };
    fill(0, 64 * MIB, 1);
    let base = tempfile::tempfile().unwrap();
    let full = memory::write(&memory, &Hex([1; 16]), &base, None).unwrap();
    fill(30 * MIB, 34 * MIB, 2);
    let file = tempfile::tempfile().unwrap();
    let written = memory::write(&memory, &Hex([2; 16]), &file, Some(&base)).unwrap();
    assert_eq!((full, written), (64 * MIB + 4096, 4 * MIB + 2 * 4096));
}
