// SPDX-License-Identifier: Apache-2.0
use super::*;
use proptest::prelude::*;

fn question(names: &[&[u8]], kind: u16, class: u16) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 0, 0];
    packet.extend(u16::try_from(names.len()).unwrap().to_be_bytes());
    packet.extend([0; 6]);
    for name in names {
        packet.extend_from_slice(name);
        packet.extend(kind.to_be_bytes());
        packet.extend(class.to_be_bytes());
    }
    packet
}

const OURS: &[u8] = b"\x06tray-1\x05local\0";

#[test]
fn questions_about_the_own_name_are_found_in_any_case_and_behind_pointers() {
    for (names, kind, class, v4, v6, unicast) in [
        (&[OURS][..], A, IN, true, false, false),
        (&[b"\x06TRAY-1\x05Local\0"], AAAA, IN, false, true, false),
        (
            &[b"\x05other\x05local\0", OURS],
            ANY,
            ANY,
            true,
            true,
            false,
        ),
        (&[OURS], A, IN | TOP_BIT, true, false, true),
        // "local" of the first question, which stands at 18.
        (
            &[b"\x05other\x05local\0", b"\x06tray-1\xc0\x12"],
            A,
            IN,
            true,
            false,
            false,
        ),
    ] {
        let found = asked(&question(names, kind, class), "tray-1");
        let expected = Asked {
            v4,
            v6,
            unicast,
            id: 0x1234,
        };
        assert_eq!(found, Some(expected), "{names:?}");
    }
}

#[test]
fn other_names_answers_and_malformed_packets_get_none() {
    let refused: [&[u8]; 8] = [
        b"\x06tray-2\x05local\0",
        b"\x06tray-1\x05local\x03lan\0",
        b"\x06tray-1\0",
        b"\x05local\0",
        b"\0",
        b"\x06tray-1\xc0\x0c",
        b"\x06tray-1\x80local\0",
        b"\x06tray-1\x05loc",
    ];
    for name in refused {
        assert_eq!(asked(&question(&[name], A, IN), "tray-1"), None, "{name:?}");
    }
    assert_eq!(asked(&question(&[OURS], A, 3), "tray-1"), None, "Chaosnet");
    assert_eq!(asked(&question(&[OURS], 12, IN), "tray-1"), None, "PTR");
    let mut response = question(&[OURS], A, IN);
    response[2] = 0x84;
    assert_eq!(asked(&response, "tray-1"), None);
    let mut long = question(&[OURS], A, IN);
    long.resize(MAX_PACKET + 1, 0);
    assert_eq!(asked(&long, "tray-1"), None);
}

#[test]
fn the_answer_has_what_was_asked_for_and_a_plain_resolver_gets_its_question_back() {
    let addresses = [[192, 0, 2, 7].into(), Ipv6Addr::LOCALHOST.into()];
    let asked = Asked {
        v4: true,
        id: 7,
        ..Asked::default()
    };
    let record = |class: &[u8], ttl: u8| {
        [OURS, &[0, 1], class, &[0, 0, 0, ttl, 0, 4, 192, 0, 2, 7]].concat()
    };
    let all = answer("tray-1", &addresses, &asked, false).unwrap();
    assert_eq!(all[..HEADER], [0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(all[HEADER..], record(&[0x80, 1], 120));
    let one = answer("tray-1", &addresses, &asked, true).unwrap();
    assert_eq!(one[..HEADER], [0, 7, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
    let expected = [OURS, &[0, 1, 0, 1], &record(&[0, 1], 10)].concat();
    assert_eq!(one[HEADER..], expected);
    assert_eq!(answer("tray-1", &addresses[1..], &asked, false), None);
}

#[test]
fn a_flood_of_questions_gets_no_flood_of_answers() {
    let mut pace = Pace::default();
    let at = Duration::from_millis;
    let to_all = (0..1000).filter(|ms| pace.allows(at(*ms), true)).count();
    let to_one = (0..1000).filter(|ms| pace.allows(at(*ms), false)).count();
    assert_eq!((to_all, to_one), (1, 7));
    assert!(pace.allows(at(1000), true));
}

proptest! {
    #[test]
    fn arbitrary_packets_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = asked(&bytes, "tray-1");
    }
}
