// SPDX-License-Identifier: Apache-2.0
//! The whole flow against a machine in memory: real keys, real signatures, a real record, and power that can fail anywhere.

extern crate std;

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::{fmt, time::Duration};

use ed25519_dalek::{Signer, SigningKey};
use racklet_trust::{
    Architecture, Digest, Manifest, PublicKey,
    digest::Hex,
    manifest::{Chunk, File, Kind},
    namespace,
    root::{RoleKeys, Roles, TrustRoot},
    slot::{self, Copies, SIZE, Slot, SlotRecord},
    sshsig,
};

use crate::{
    baked::{Baked, BakedError},
    flow::{self, Firmware},
    line::Line,
    place::PartitionId,
    verify::{Bootable, Files, ReadError, Refusal},
};

const ROOT_KEY: u8 = 1;
const FIRMWARE_KEY: u8 = 2;
const PAYLOAD_KEY: u8 = 3;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> PublicKey {
    let mut blob = Vec::new();
    for field in [&b"ssh-ed25519"[..], key(seed).verifying_key().as_bytes()] {
        blob.extend_from_slice(&u32::try_from(field.len()).unwrap().to_be_bytes());
        blob.extend_from_slice(field);
    }
    PublicKey::from_blob(&blob).unwrap()
}

fn sign(seed: u8, namespace: &str, message: &[u8]) -> Vec<u8> {
    let signature = key(seed).sign(&sshsig::to_be_signed(namespace, message));
    sshsig::armor(&public(seed), namespace, &signature.to_bytes()).into_bytes()
}

fn trust_root() -> Vec<u8> {
    let role = |seed| RoleKeys {
        threshold: 1,
        keys: [public(seed)].into_iter().collect(),
    };
    let roles = Roles {
        root: role(ROOT_KEY),
        config: role(ROOT_KEY),
        payload: role(PAYLOAD_KEY),
        firmware: role(FIRMWARE_KEY),
    };
    TrustRoot::new(Hex([7; 16]), 1, roles)
        .unwrap()
        .to_canonical()
}

/// A PE image as the firmware loads it, with these sections and nothing else.
fn image(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut image = vec![0; 0x1000];
    image[..2].copy_from_slice(b"MZ");
    image[0x3c] = 0x80;
    image[0x80..0x84].copy_from_slice(b"PE\0\0");
    image[0x86] = u8::try_from(sections.len()).unwrap();
    for (number, (name, contents)) in sections.iter().enumerate() {
        let header = 0x98 + number * 40;
        let address = u32::try_from(image.len()).unwrap();
        image[header..header + name.len()].copy_from_slice(name.as_bytes());
        let length = u32::try_from(contents.len()).unwrap();
        image[header + 8..header + 12].copy_from_slice(&length.to_le_bytes());
        image[header + 12..header + 16].copy_from_slice(&address.to_le_bytes());
        image.extend_from_slice(contents);
    }
    image
}

fn tray_image() -> Vec<u8> {
    image(&[
        (".trust", &trust_root()),
        (".tray", b"{\"tray\":\"tray-1\"}\n"),
        (
            ".board",
            br#"{"board":"qemu-x86_64","arguments":"console=ttyS0"}"#,
        ),
    ])
}

/// What a slot holds, and who signs it.
struct Sample {
    manifest: Manifest,
    signer: u8,
    namespace: &'static str,
}

impl Sample {
    fn new(version: u64) -> Self {
        let mut manifest = Manifest::new(Kind::Bootstrap, "stable", version, Architecture::X86_64);
        manifest.boards = vec!["qemu-x86_64".into()];
        manifest.arguments = "quiet".into();
        manifest.files = ["kernel", "initramfs"]
            .map(|name| File {
                name: name.into(),
                size: contents(name, version).len() as u64,
                sha256: Digest::of(&contents(name, version)),
                verity: None,
                chunks: vec![Chunk {
                    sha256: Digest::of(b"compressed, which a bootloader never sees"),
                    size: 1,
                    length: u32::try_from(contents(name, version).len()).unwrap(),
                }],
            })
            .into();
        Self {
            manifest,
            signer: FIRMWARE_KEY,
            namespace: namespace::MANIFEST,
        }
    }
}

fn contents(name: &str, version: u64) -> Vec<u8> {
    format!("{name} of version {version}").into_bytes()
}

#[derive(Clone, Default)]
struct Machine {
    files: BTreeMap<String, Vec<u8>>,
    record: [Option<[u8; SIZE]>; 2],
    read_only: bool,
    /// Writes to the record that still succeed before the power fails, in the middle of the sector.
    power: Option<u32>,
    said: String,
    partition: Option<[u8; 16]>,
    started: Vec<(Option<Slot>, String, String)>,
}

impl Machine {
    fn new(a: Option<Sample>, b: Option<Sample>) -> Self {
        let versions = [&a, &b].map(|slot| slot.as_ref().map(|sample| sample.manifest.version));
        let mut machine = Self::default();
        machine.set_record(SlotRecord::new(versions[0], versions[1]));
        for (slot, sample) in Slot::ALL.into_iter().zip([a, b]) {
            if let Some(sample) = sample {
                machine.install(slot, &sample);
            }
        }
        machine
    }

    fn set_record(&mut self, record: SlotRecord) {
        self.record = [Some(record.encode(1)), Some(record.encode(2))];
    }

    fn install(&mut self, slot: Slot, sample: &Sample) {
        let bytes = sample.manifest.to_canonical();
        let signature = sign(sample.signer, sample.namespace, &bytes);
        for name in ["kernel", "initramfs"] {
            let contents = contents(name, sample.manifest.version);
            self.put(slot, &format!("files/{name}"), contents);
        }
        self.put(slot, "signatures/0.sig", signature);
        self.put(slot, "manifest.json", bytes);
    }

    fn put(&mut self, slot: Slot, name: &str, contents: Vec<u8>) {
        self.files
            .insert(format!("racklet/{slot}/{name}"), contents);
    }

    /// One boot. Every kernel "comes back" here, as if it had failed to start; the first one started is the slot that was booted.
    fn boot(&mut self) -> Option<Slot> {
        let image = tray_image();
        let baked = Baked::from_image(&*image).unwrap();
        self.started.clear();
        let refused = flow::run(self, &baked, Architecture::X86_64);
        flow::give_up(self, &refused);
        self.started.first().and_then(|(slot, ..)| *slot)
    }

    #[track_caller]
    fn expect(&mut self, slot: Option<Slot>, text: &str) {
        assert_eq!(self.boot(), slot, "{}", self.said);
        assert!(self.said.contains(text), "{}", self.said);
    }
}

impl Files for Machine {
    fn read(&mut self, path: &str, most: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let contents = self.files.get(path);
        let most = usize::try_from(most).unwrap();
        Ok(contents.map(|contents| contents[..contents.len().min(most)].to_vec()))
    }
}

impl Copies for Machine {
    type Error = &'static str;

    fn read(&mut self, copy: usize) -> Result<[u8; SIZE], Self::Error> {
        self.record[copy].ok_or("no such sector")
    }

    fn write(&mut self, copy: usize, bytes: &[u8; SIZE]) -> Result<(), Self::Error> {
        if self.read_only {
            return Err("write-protected");
        }
        match &mut self.power {
            Some(0) => {
                let mut sector = self.record[copy].unwrap_or([0; SIZE]);
                sector[..100].copy_from_slice(&bytes[..100]);
                self.record[copy] = Some(sector);
                std::panic::panic_any("the power failed");
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.record[copy] = Some(*bytes);
        Ok(())
    }
}

impl Firmware for Machine {
    fn say(&mut self, text: fmt::Arguments<'_>) {
        self.said
            .push_str(&Line(Duration::from_millis(1234), text).to_string());
    }

    fn came_from(&self) -> Option<PartitionId> {
        self.partition.map(PartitionId)
    }

    fn pause(&mut self, _: Duration) {}

    fn start(&mut self, bootable: Bootable, end: &[u8], arguments: &str) -> Refusal {
        let version = bootable.manifest.version;
        assert_eq!(*bootable.kernel, contents("kernel", version));
        assert_eq!(*bootable.initramfs, contents("initramfs", version));
        let end = String::from_utf8_lossy(end).into_owned();
        self.started.push((bootable.slot, end, arguments.into()));
        Refusal::Start("its kernel came back".into())
    }
}

fn broken(change: impl Fn(&mut Sample)) -> Machine {
    let mut sample = Sample::new(5);
    change(&mut sample);
    Machine::new(Some(sample), Some(Sample::new(4)))
}

#[test]
fn slot_a_is_started_with_the_boards_and_the_manifests_arguments() {
    let mut machine = Machine::new(Some(Sample::new(5)), Some(Sample::new(4)));
    machine.expect(Some(Slot::A), "slot a: stable version 5 is verified");
    let (_, end, arguments) = &machine.started[0];
    assert_eq!(arguments, "console=ttyS0 quiet");
    assert!(end.contains("{\"slot\":\"a\",\"tries\":1,\"version\":5}\n"));
    assert!(end.contains("{\"tray\":\"tray-1\"}\n"));
    assert!(end.contains("racklet.dev/trust-root/v1"));
}

#[test]
fn what_is_started_is_told_which_partition_it_came_from() {
    let mut machine = Machine::new(Some(Sample::new(5)), None);
    machine.boot();
    assert!(!machine.started[0].1.contains("card.json"), "nobody knows");
    machine.partition = Some([0xab; 16]);
    machine.boot();
    assert!(
        machine.started[0]
            .1
            .contains("{\"v\":1,\"bootPartition\":\"abababab-abab-abab-abab-abababababab\"}\n")
    );
}

/// The image of a tray without a card: its sections in the order in which they are named.
fn carrying(sample: &Sample, change: impl Fn(&mut BTreeMap<&str, Vec<u8>>)) -> Vec<u8> {
    let version = sample.manifest.version;
    let manifest = sample.manifest.to_canonical();
    let mut sections = BTreeMap::from([
        (".trust", trust_root()),
        (".tray", b"{\"tray\":\"tray-1\"}\n".to_vec()),
        (
            ".board",
            br#"{"board":"qemu-x86_64","arguments":"console=ttyS0"}"#.to_vec(),
        ),
        (".sigs", sign(sample.signer, sample.namespace, &manifest)),
        (".slot", manifest),
        (".linux", contents("kernel", version)),
        (".initrd", contents("initramfs", version)),
    ]);
    change(&mut sections);
    let sections: Vec<(&str, &[u8])> = sections.iter().map(|(name, it)| (*name, &**it)).collect();
    image(&sections)
}

/// What is said and started by a machine that has no disk.
fn without_a_card(image: &[u8]) -> (Machine, String) {
    let mut machine = Machine::default();
    let baked = Baked::from_image(image).unwrap();
    let carried = baked.carried.as_ref().expect("it carries a slot");
    let refusal = flow::run_carried(&mut machine, carried, &baked, Architecture::X86_64);
    (machine, refusal.to_string())
}

#[test]
fn what_the_image_carries_is_started_without_a_card_and_nothing_is_said_of_a_slot() {
    let (mut machine, refusal) = without_a_card(&carrying(&Sample::new(5), |_| {}));
    machine.partition = Some([0xab; 16]);
    assert_eq!(refusal, "its kernel came back");
    let (slot, end, arguments) = &machine.started[0];
    assert_eq!((slot, &**arguments), (&None, "console=ttyS0 quiet"));
    assert!(end.contains("{\"tray\":\"tray-1\"}\n") && end.contains("racklet.dev/trust-root/v1"));
    assert!(!end.contains("boot.json") && !end.contains("card.json"));
    assert!(machine.said.contains("stable version 5 is verified"));
    let none = tray_image();
    assert_eq!(Baked::from_image(&*none).unwrap().carried, None);
}

#[test]
fn what_the_image_carries_is_refused_unless_all_of_it_is_signed_for_this_machine() {
    for section in [".slot", ".linux", ".initrd"] {
        let intact = carrying(&Sample::new(5), |_| {});
        let length = Baked::from_image(&*intact).unwrap();
        let length = length.carried.map_or(0, |carried| match section {
            ".slot" => carried.manifest.len(),
            ".linux" => carried.kernel.len(),
            _ => carried.initramfs.len(),
        });
        for at in 0..length {
            let bent = carrying(&Sample::new(5), |it| it.get_mut(section).unwrap()[at] ^= 4);
            let (machine, refusal) = without_a_card(&bent);
            assert!(machine.started.is_empty(), "{section} {at}: {refusal}");
        }
    }
    type Change = fn(&mut Sample);
    let changes: [(Change, &str); 4] = [
        (|it| it.signer = PAYLOAD_KEY, "1 signature by firmware keys"),
        (
            |it| it.namespace = namespace::GIT,
            "1 signature by firmware keys",
        ),
        (
            |it| it.manifest.boards = vec!["other".into()],
            "it is for other",
        ),
        (|it| it.manifest.kind = Kind::Payload, "payload"),
    ];
    for (change, reason) in changes {
        let mut sample = Sample::new(5);
        change(&mut sample);
        let (machine, refusal) = without_a_card(&carrying(&sample, |_| {}));
        assert!(
            machine.started.is_empty() && refusal.contains(reason),
            "{refusal}"
        );
    }
}

#[test]
fn an_image_that_carries_a_part_of_a_slot_is_not_usable() {
    for section in [".slot", ".sigs", ".linux", ".initrd"] {
        let image = carrying(&Sample::new(5), |it| drop(it.remove(section)));
        assert_eq!(
            Baked::from_image(&*image).map(|_| ()),
            Err(BakedError::Section(section))
        );
    }
}

#[test]
fn a_tampered_file_is_refused_and_the_other_slot_is_started() {
    for name in ["kernel", "initramfs"] {
        let mut machine = broken(|_| {});
        machine
            .files
            .get_mut(&format!("racklet/a/files/{name}"))
            .unwrap()[0] ^= 1;
        machine.expect(
            Some(Slot::B),
            &format!("slot a is refused: {name} has SHA-256"),
        );
    }
}

#[test]
fn every_single_byte_of_a_slot_counts() {
    let intact = Machine::new(Some(Sample::new(5)), None);
    for (path, contents) in &intact.files {
        // A signature's armor may be wrapped in other ways; what it decodes to is signed.
        for at in (0..contents.len()).step_by(if path.ends_with(".sig") { 7 } else { 1 }) {
            let mut machine = intact.clone();
            machine.files.get_mut(path).unwrap()[at] ^= 4;
            assert_eq!(machine.boot(), None, "{path}, byte {at}: {}", machine.said);
        }
    }
}

#[test]
fn a_slot_with_a_file_missing_or_cut_is_refused() {
    for name in ["manifest.json", "files/kernel", "files/initramfs"] {
        let mut machine = broken(|_| {});
        machine.files.remove(&format!("racklet/a/{name}"));
        machine.expect(Some(Slot::B), &format!("racklet/a/{name} is missing"));
    }
    let mut machine = broken(|_| {});
    machine
        .files
        .get_mut("racklet/a/files/kernel")
        .unwrap()
        .pop();
    machine.expect(
        Some(Slot::B),
        "slot a is refused: kernel has 18 bytes, not 19",
    );
    for nothing in [vec![], vec![0; 1 << 10]] {
        let mut machine = broken(|_| {});
        machine.put(Slot::A, "manifest.json", nothing);
        machine.expect(Some(Slot::B), "racklet/a/manifest.json is missing");
    }
    let mut machine = broken(|_| {});
    machine.put(Slot::A, "manifest.json", vec![b'x'; 1 << 20]);
    machine.expect(Some(Slot::B), "1 signature by firmware keys needed");
}

#[test]
fn what_lies_in_the_room_behind_a_slots_files_is_not_looked_at() {
    let mut machine = broken(|_| {});
    for name in ["manifest.json", "signatures/0.sig", "files/kernel"] {
        let path = format!("racklet/a/{name}");
        machine.files.get_mut(&path).unwrap().extend([0; 5000]);
    }
    machine.put(Slot::A, "signatures/1.sig", vec![0; 2048]);
    // The rest of a longer kernel that was there before.
    let kernel = machine.files.get_mut("racklet/a/files/kernel").unwrap();
    kernel.extend(b"of another version");
    machine.expect(Some(Slot::A), "slot a: stable version 5 is verified");
}

#[test]
fn an_unsigned_slot_is_refused() {
    let mut machine = broken(|_| {});
    machine.files.remove("racklet/a/signatures/0.sig");
    machine.expect(
        Some(Slot::B),
        "slot a is refused: 1 signature by firmware keys needed",
    );
}

#[test]
fn keys_of_other_roles_and_strangers_do_not_count() {
    for seed in [PAYLOAD_KEY, ROOT_KEY, 99] {
        broken(|sample| sample.signer = seed).expect(
            Some(Slot::B),
            "slot a is refused: 1 signature by firmware keys needed",
        );
    }
    broken(|sample| sample.namespace = namespace::GIT).expect(
        Some(Slot::B),
        "slot a is refused: 1 signature by firmware keys needed",
    );
}

#[test]
fn what_is_for_another_board_architecture_or_purpose_is_refused() {
    broken(|sample| sample.manifest.boards = vec!["rpi4".into()])
        .expect(Some(Slot::B), "it is for rpi4; this board is qemu-x86_64");
    broken(|sample| sample.manifest.architecture = Architecture::Aarch64)
        .expect(Some(Slot::B), "it is for aarch64; this is x86_64");
    broken(|sample| sample.manifest.kind = Kind::Payload)
        .expect(Some(Slot::B), "slot a is refused: ");
}

#[test]
fn an_expired_manifest_boots_because_firmware_has_no_trustworthy_clock() {
    broken(|sample| sample.manifest.expires = Some(1)).expect(Some(Slot::A), "verified");
}

#[test]
fn an_older_version_in_a_slot_is_refused() {
    let mut machine = Machine::new(Some(Sample::new(5)), Some(Sample::new(4)));
    machine.set_record(SlotRecord::new(Some(5), Some(4)).mark_good(Slot::A, 5));
    machine.install(Slot::A, &Sample::new(3));
    machine.expect(None, "slot a is refused: version 3 is older than version 5");
}

#[test]
fn three_starts_without_a_report_lead_to_the_other_slot() {
    let mut machine = Machine::new(Some(Sample::new(5)), Some(Sample::new(4)));
    // Each boot here uses one try of both slots, since a kernel that comes back is followed by the other slot.
    let first: Vec<_> = (0..3).map(|_| machine.boot()).collect();
    assert_eq!(first, [Some(Slot::A); 3]);
    machine.expect(
        Some(Slot::A),
        "every slot has failed 3 times; starting over in 10 s",
    );

    let mut tried = SlotRecord::new(Some(5), Some(4));
    for _ in 0..3 {
        tried = tried.choose(&[]).unwrap().record;
    }
    machine.set_record(tried);
    machine.expect(Some(Slot::B), "slot b: try 1 of 3");
}

#[test]
fn both_slots_refused_says_why_for_each_and_what_to_do() {
    let mut machine = broken(|sample| sample.signer = 99);
    machine.files.remove("racklet/b/files/kernel");
    machine.expect(None, "no slot can be started:");
    for text in [
        "  slot a: 1 signature by firmware keys needed",
        "  slot b: racklet/b/files/kernel is missing",
        "write a new image made by `racklet image build`; restarting in 60 s",
    ] {
        assert!(machine.said.contains(text), "{}", machine.said);
    }
    let mut empty = Machine::new(None, None);
    empty.expect(None, "  slot b: nothing is installed");
}

#[test]
fn either_copy_of_the_record_may_be_lost_and_both() {
    for copy in 0..2 {
        let mut machine = broken(|_| {});
        machine.record[copy].as_mut().unwrap()[40] ^= 1;
        machine.expect(
            Some(Slot::A),
            &format!("slot record {copy} is not used: its checksum is wrong"),
        );
    }
    let mut machine = broken(|_| {});
    machine.record = [None, Some([0; SIZE])];
    machine.expect(
        Some(Slot::A),
        "both slot records are lost: trying slot a, then b",
    );
    assert!(!slot::load(&mut machine).lost(), "counted anew");
}

#[test]
fn a_write_protected_disk_boots_the_slot_that_once_worked() {
    let mut machine = Machine::new(Some(Sample::new(4)), Some(Sample::new(5)));
    let good = SlotRecord::new(Some(4), None).mark_good(Slot::A, 4);
    machine.set_record(good.install(Slot::B, 5).unwrap());
    machine.read_only = true;
    machine.expect(
        Some(Slot::A),
        "write-protected; starting slot a without counting",
    );
}

#[test]
fn power_that_fails_while_a_try_is_counted_costs_at_most_the_count() {
    for slots in [(Some(5), Some(4)), (Some(5), None)] {
        let (a, b) = (slots.0.map(Sample::new), slots.1.map(Sample::new));
        let intact = Machine::new(a, b);
        for writes in 0..2 {
            let mut machine = intact.clone();
            machine.power = Some(writes);
            let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| machine.boot()));
            machine.power = None;
            assert!(cut.is_err() || slots.1.is_none(), "the power did fail");
            assert_eq!(machine.boot(), Some(Slot::A), "{}", machine.said);
        }
    }
}

#[test]
fn nothing_read_from_the_disk_can_forge_a_console_line() {
    let line = Line(
        Duration::from_millis(61_005),
        format_args!("a\nb\r\u{1b}[2J\u{e9}"),
    )
    .to_string();
    assert_eq!(line, "[   61.005] boot: a; b??[2J?\n");
}

#[test]
fn an_image_without_its_sections_says_which_one() {
    let trust = trust_root();
    let whole = [
        (".trust", &*trust),
        (".tray", b"{}"),
        (".board", br#"{"board":"b","arguments":""}"#),
    ];
    assert!(Baked::from_image(&*image(&whole)).is_ok());
    for missing in 0..3 {
        let mut sections = whole.to_vec();
        let (name, _) = sections.remove(missing);
        let error = Baked::from_image(&*image(&sections)).unwrap_err();
        assert_eq!(error, BakedError::Section(name));
    }
    let twice = [whole[0], whole[0], whole[1], whole[2]];
    assert_eq!(
        Baked::from_image(&*image(&twice)).unwrap_err(),
        BakedError::Section(".trust")
    );
    for board in [
        &br#"{"board":"b","arguments":"-- sh"}"#[..],
        br#"{"board":"b","arguments":"x=\""}"#,
        br#"{"board":"b","arguments":"rdinit=/x"}"#,
    ] {
        let mut injected = whole;
        injected[2].1 = board;
        assert!(matches!(
            Baked::from_image(&*image(&injected)),
            Err(BakedError::Board(_))
        ));
    }
}

#[test]
fn headers_that_lead_outside_the_image_are_refused() {
    let good = tray_image();
    for at in 0..0x120 {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            // Whatever the answer, it is an answer.
            let _ = Baked::from_image(&*bad);
        }
    }
    for length in 0..good.len() {
        assert!(Baked::from_image(&good[..length]).is_err());
    }
}
