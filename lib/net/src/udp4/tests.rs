// SPDX-License-Identifier: Apache-2.0
use super::*;
use proptest::prelude::*;

fn sample(payload: &[u8]) -> Datagram<'_> {
    Datagram {
        source: Ipv4Addr::UNSPECIFIED,
        destination: Ipv4Addr::BROADCAST,
        source_port: 68,
        destination_port: 67,
        payload,
    }
}

#[test]
fn known_header_has_the_known_checksum() {
    // The header every DHCP client sends for 300 bytes of BOOTP, don't-fragment set.
    let packet = packet(&sample(&[0; 300])).unwrap();
    assert_eq!(
        packet[..20],
        [
            0x45, 0, 0x01, 0x48, 0, 0, 0x40, 0, 64, 17, 0x39, 0xa6, 0, 0, 0, 0, 255, 255, 255, 255
        ]
    );
}

#[test]
fn unfinished_checksum_is_accepted_only_when_the_kernel_says_so() {
    let mut bytes = packet(&sample(b"offer")).unwrap();
    bytes[27] ^= 1;
    assert_eq!(parse(&bytes, true), Err(NotUdp::UdpChecksum));
    assert_eq!(parse(&bytes, false).unwrap().payload, b"offer");
}

#[test]
fn fragments_and_other_protocols_are_not_ours() {
    let mut bytes = packet(&sample(b"x")).unwrap();
    bytes[6] = 0x20;
    assert_eq!(parse(&bytes, true), Err(NotUdp::Kind));
    bytes[6] = 0x40;
    bytes[9] = 6;
    assert_eq!(parse(&bytes, true), Err(NotUdp::Kind));
}

proptest! {
    #[test]
    fn what_is_built_is_found_again(
        source: u32, destination: u32, source_port: u16, destination_port: u16,
        payload in proptest::collection::vec(any::<u8>(), 0..1500),
        padding in 0_usize..30,
    ) {
        let datagram = Datagram {
            source: source.into(), destination: destination.into(), source_port, destination_port, payload: &payload,
        };
        let mut bytes = packet(&datagram).unwrap();
        bytes.resize(bytes.len() + padding, 0xaa);
        prop_assert_eq!(parse(&bytes, true).unwrap(), datagram);
    }

    #[test]
    fn a_flipped_bit_is_noticed_or_outside_what_is_used(
        payload in proptest::collection::vec(any::<u8>(), 0..64), bit in 0_usize..(92 * 8),
    ) {
        let mut bytes = packet(&sample(&payload)).unwrap();
        let length = bytes.len();
        let bit = bit % (length * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(parse(&bytes, true).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), done: bool) {
        let _ = parse(&bytes, done);
    }
}
