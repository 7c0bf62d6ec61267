// SPDX-License-Identifier: Apache-2.0
//! Packs that Git would not make, and a few that it does.

use std::io::Write;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    objects: 100,
    object: 10_000,
    inflated: 50_000,
    delta_depth: 5,
    ..Limits::RACK
};

/// One entry: its type, its stated size, what stands before the zlib stream, what is in it.
fn entry(kind: u8, stated: usize, before: &[u8], contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut size = stated >> 4;
    let mut byte = kind << 4 | u8::try_from(stated & 15).unwrap();
    while size > 0 {
        out.push(byte | 0x80);
        byte = u8::try_from(size & 0x7f).unwrap();
        size >>= 7;
    }
    out.push(byte);
    out.extend_from_slice(before);
    let mut zlib = flate2::write::ZlibEncoder::new(out, flate2::Compression::fast());
    zlib.write_all(contents).unwrap();
    zlib.finish().unwrap()
}

fn blob(contents: &[u8]) -> Vec<u8> {
    entry(3, contents.len(), &[], contents)
}

fn pack(stated: usize, entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = [
        b"PACK\0\0\0\x02",
        &u32::try_from(stated).unwrap().to_be_bytes()[..],
    ]
    .concat();
    out.extend(entries.concat());
    let digest = ring::digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, &out);
    out.extend_from_slice(digest.as_ref());
    out
}

fn unpack(entries: &[Vec<u8>]) -> Result<Objects, PackError> {
    read(
        &*pack(entries.len(), entries),
        Format::Sha1,
        &LIMITS,
        &mut Nowhere,
    )
}

fn name(contents: &[u8]) -> ObjectId {
    gix_object::compute_hash(Format::Sha1, Kind::Blob, contents).unwrap()
}

/// A delta that appends `byte` to a base of `size` bytes.
fn append(size: u8, byte: u8) -> Vec<u8> {
    vec![size, size + 1, 0x90, size, 1, byte]
}

fn ref_delta(base: &ObjectId, delta: &[u8]) -> Vec<u8> {
    entry(7, delta.len(), base.as_slice(), delta)
}

#[test]
fn objects_are_found_by_name() {
    let first = blob(b"hello");
    let distance = u8::try_from(first.len()).unwrap();
    let delta = append(5, b'!');
    let objects = unpack(&[
        first,
        entry(6, delta.len(), &[distance], &delta),
        ref_delta(&name(b"hello!"), &append(6, b'?')),
    ])
    .unwrap();
    for contents in [&b"hello"[..], b"hello!", b"hello!?"] {
        assert_eq!(objects[&name(contents)], (Kind::Blob, contents.to_vec()));
    }
}

#[test]
fn a_base_may_come_later() {
    let objects = unpack(&[
        ref_delta(&name(b"ab"), &append(2, b'c')),
        ref_delta(&name(b"a"), &append(1, b'b')),
        blob(b"a"),
    ])
    .unwrap();
    assert!(objects.contains_key(&name(b"abc")));
}

#[test]
fn sizes_are_refused_before_memory_is_spent() {
    let result = unpack(&[entry(3, 1 << 40, &[], b"a")]);
    assert!(matches!(result, Err(PackError::Object { stated, .. }) if stated == 1 << 40));
    // Ten kilobytes of zeros in a few bytes, over and over.
    let result = unpack(&vec![blob(&[0; 10_000]); 6]);
    assert!(matches!(result, Err(PackError::Inflated(50_000))));
    // A stream that holds more, or less, than it states.
    for (stated, contents) in [(10, &[0; 9000][..]), (9000, &[0; 10])] {
        assert!(matches!(
            unpack(&[entry(3, stated, &[], contents)]),
            Err(PackError::Zlib(0))
        ));
    }
    // A delta that states more than may be.
    let delta = [5, 0xff, 0xff, 0xff, 0x7f, 0x90, 5];
    let result = unpack(&[blob(b"hello"), ref_delta(&name(b"hello"), &delta)]);
    assert!(matches!(result, Err(PackError::Object { index: 1, .. })));
}

#[test]
fn false_counts_are_noticed() {
    let entries = [blob(b"a"), blob(b"b")];
    for (stated, wanted) in [(1, "checksum"), (3, ""), (101, "at most 100")] {
        let error = read(
            &*pack(stated, &entries),
            Format::Sha1,
            &LIMITS,
            &mut Nowhere,
        )
        .unwrap_err();
        assert!(error.to_string().contains(wanted), "{stated}: {error}");
    }
}

#[test]
fn deltas_without_a_base_are_refused() {
    let (a, b) = (name(b"nowhere"), name(b"nobody"));
    // Nothing can be its own base, or its base's base: a name is known only once the object is.
    let result = unpack(&[
        ref_delta(&a, &append(1, b'x')),
        ref_delta(&b, &append(1, b'y')),
    ]);
    assert!(matches!(result, Err(PackError::MissingBase(2))));
    let delta = append(1, b'b');
    for distance in [0, 127, 5] {
        assert!(unpack(&[blob(b"a"), entry(6, delta.len(), &[distance], &delta)]).is_err());
    }
}

#[test]
fn chains_of_deltas_end() {
    let chain = |length: u8| {
        let mut contents = b"a".to_vec();
        let mut entries = vec![blob(&contents)];
        for _ in 0..length {
            let size = u8::try_from(contents.len()).unwrap();
            entries.push(ref_delta(&name(&contents), &append(size, b'x')));
            contents.push(b'x');
        }
        entries
    };
    assert_eq!(unpack(&chain(5)).unwrap().len(), 6);
    assert!(matches!(unpack(&chain(6)), Err(PackError::Depth { .. })));
    let mut backwards = chain(6);
    backwards.reverse();
    assert!(matches!(unpack(&backwards), Err(PackError::Depth { .. })));
}

#[test]
fn what_is_behind_the_end_is_refused() {
    let mut bytes = pack(1, &[blob(b"a")]);
    bytes.push(0);
    assert!(matches!(
        read(&*bytes, Format::Sha1, &LIMITS, &mut Nowhere),
        Err(PackError::Surplus)
    ));
    let at = bytes.len() - 2;
    bytes[at] ^= 1;
    assert!(matches!(
        read(&*bytes, Format::Sha1, &LIMITS, &mut Nowhere),
        Err(PackError::Trailer)
    ));
}

/// Two messages of one SHA-1: the chosen-prefix collision of Leurent and Peyrin, "SHA-1 is a Shambles", 2020 (sha-mbles.github.io).
fn colliding() -> [Vec<u8>; 2] {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let mut lines = include_str!("collision.hex")
        .lines()
        .map(|line| line.as_bytes().chunks(2).map(byte).collect());
    [lines.next().unwrap(), lines.next().unwrap()]
}

#[test]
fn a_real_sha_1_collision_gives_no_name_to_an_object() {
    let [one, two] = colliding();
    let plain = |bytes: &[u8]| ring::digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    assert_ne!(one, two);
    assert_eq!(plain(&one).as_ref(), plain(&two).as_ref());
    let hash = |bytes: &[u8]| {
        let mut hasher = gix_hash::hasher(Format::Sha1);
        hasher.update(bytes);
        hasher.try_finalize()
    };
    for bytes in [&one, &two] {
        // Whatever comes behind, and however it is handed over.
        for more in [&b""[..], b"the same end"] {
            assert!(hash(&[bytes, more].concat()).is_err());
        }
        assert!(gix_hash::hasher(Format::Sha1).try_finalize().is_ok());
    }
    // It is this hasher that names objects, with a head before their bytes: which is why these two, as blobs, do not collide.
    let objects = unpack(&[blob(&one), blob(&two)]).unwrap();
    for bytes in [one, two] {
        let with_head = [format!("blob {}\0", bytes.len()).as_bytes(), &bytes].concat();
        assert_eq!(objects[&hash(&with_head).unwrap()], (Kind::Blob, bytes));
    }
    assert_eq!(objects.len(), 2);
}

proptest! {
    #[test]
    fn no_pack_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), entries in 0u8..4) {
        let _ = read(&*bytes, Format::Sha1, &LIMITS, &mut Nowhere);
        let framed = [&b"PACK\0\0\0\x02\0\0\0"[..], &[entries], &bytes].concat();
        let _ = read(&*framed, Format::Sha1, &LIMITS, &mut Nowhere);
    }

    #[test]
    fn no_cut_passes(at in any::<prop::sample::Index>()) {
        let bytes = pack(2, &[blob(b"hello"), ref_delta(&name(b"hello"), &append(5, b'!'))]);
        let result = read(&bytes[..at.index(bytes.len())], Format::Sha1, &LIMITS, &mut Nowhere);
        prop_assert!(matches!(result, Err(PackError::Read(_))));
    }
}
