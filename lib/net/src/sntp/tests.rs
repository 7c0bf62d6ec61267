// SPDX-License-Identifier: Apache-2.0
use super::*;
use proptest::prelude::*;

const FLOOR: Duration = Duration::from_secs(1_790_000_000);
const NONCE: u64 = 0x0123_4567_89ab_cdef;

/// An answer whose clock shows `unix` (whole seconds) on receipt and on sending.
fn answer(unix: u64) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    packet[0] = 4 << 3 | 4;
    packet[1] = 2;
    packet[24..32].copy_from_slice(&NONCE.to_be_bytes());
    let ntp = ((unix + NTP_TO_UNIX as u64) & 0xffff_ffff) as u32;
    for at in [32, 40] {
        packet[at..at + 4].copy_from_slice(&ntp.to_be_bytes());
        packet[at + 4] = 0x80;
    }
    packet
}

fn judge(packet: &[u8]) -> Result<Sample, Refused> {
    let sent = Duration::from_secs(10);
    let query = Query::new(NONCE, sent);
    query.judge(packet, sent + Duration::from_millis(200), FLOOR)
}

#[test]
fn the_middle_of_the_round_trip_counts() {
    let sample = judge(&answer(1_790_000_100)).unwrap();
    let unix = sample.at(Duration::from_millis(10_200));
    assert_eq!(unix, Duration::from_millis(1_790_000_100_600));
    assert_eq!(sample.error, Duration::from_millis(100));
}

#[test]
fn answers_that_say_nothing_are_refused() {
    let with = |change: &dyn Fn(&mut [u8; PACKET])| {
        let mut packet = answer(1_790_000_100);
        change(&mut packet);
        judge(&packet).unwrap_err()
    };
    assert_eq!(with(&|p| p[24] ^= 1), Refused::Origin);
    assert_eq!(
        with(&|p| {
            p[1] = 0;
            p[12..16].copy_from_slice(b"RATE");
        }),
        Refused::KissOfDeath(*b"RATE")
    );
    assert_eq!(with(&|p| p[0] |= 0xc0), Refused::Unsynchronised);
    assert_eq!(with(&|p| p[1] = 16), Refused::Unsynchronised);
    assert_eq!(with(&|p| p[40..48].fill(0)), Refused::Unsynchronised);
    assert!(matches!(with(&|p| p[9] = 2), Refused::RootDistance(_)));
    assert!(matches!(with(&|p| p[0] = 4 << 3 | 3), Refused::Mode { .. }));
    // Sent before received, and longer at the server than the whole trip.
    assert_eq!(with(&|p| p[35] += 1), Refused::Order);
    assert_eq!(with(&|p| p[43] += 1), Refused::Order);
    assert_eq!(judge(&[0; 47]), Err(Refused::Short(47)));
}

#[test]
fn forged_kiss_without_the_nonce_is_ignored() {
    let mut packet = answer(1_790_000_100);
    packet[1] = 0;
    packet[24..32].fill(0);
    assert_eq!(judge(&packet), Err(Refused::Origin));
}

#[test]
fn late_answer_is_refused() {
    let query = Query::new(NONCE, Duration::ZERO);
    let late = Duration::from_secs(6);
    assert_eq!(
        query.judge(&answer(1_790_000_100), late, FLOOR),
        Err(Refused::RoundTrip(late))
    );
}

#[test]
fn time_before_the_floor_or_absurdly_after_it_is_refused() {
    for unix in [0, 1_789_999_999, 1_790_000_000 + 31 * 365 * 86_400] {
        assert!(
            matches!(judge(&answer(unix)), Err(Refused::Implausible(_))),
            "{unix}"
        );
    }
    assert!(judge(&answer(1_790_000_000)).is_ok());
}

#[test]
fn the_turn_of_the_era_in_2036_is_crossed() {
    // 2036-02-07T06:28:16Z is second 0 of era 1.
    let sample = judge(&answer(2_085_978_496 + 5)).unwrap();
    assert_eq!(
        sample.at(Duration::from_millis(10_200)).as_secs(),
        2_085_978_501
    );
}

fn sample(ms: u64, error: u64) -> Sample {
    Sample {
        epoch: Duration::from_millis(ms),
        error: Duration::from_millis(error),
        stratum: 2,
    }
}

#[test]
fn one_liar_among_three_is_outvoted_and_no_majority_is_no_answer() {
    let agreed = agree(&[sample(1000, 100), sample(990_000, 10), sample(1050, 100)]).unwrap();
    assert_eq!(agreed.epoch, Duration::from_millis(1025));
    assert_eq!(agree(&[sample(1000, 10), sample(2000, 10)]), None);
    assert_eq!(agree(&[sample(1000, 10)]).unwrap(), sample(1000, 10));
    assert_eq!(agree(&[]), None);
}

proptest! {
    #[test]
    fn honest_times_are_found_within_the_error(
        ahead in 0_u64..900_000_000, there in 0_u64..1000, back in 0_u64..1000,
    ) {
        let unix = FLOOR.as_secs() + ahead;
        let sent = Duration::from_secs(3);
        let now = sent + Duration::from_millis(there + back);
        let sample = Query::new(NONCE, sent).judge(&answer(unix), now, FLOOR).unwrap();
        let truth = Duration::from_millis(unix * 1000 + 500 + back);
        prop_assert!(sample.at(now).abs_diff(truth) <= sample.error);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..80), ours: bool, floor: u64, sent: u32, now: u32,
    ) {
        if ours && bytes.len() >= 32 {
            bytes[0] = 4 << 3 | 4;
            bytes[24..32].copy_from_slice(&NONCE.to_be_bytes());
        }
        let query = Query::new(NONCE, Duration::from_secs(sent.into()));
        let _ = query.judge(&bytes, Duration::from_secs(now.into()), Duration::from_secs(floor));
    }

    #[test]
    fn agreement_never_panics(values in proptest::collection::vec((0_u64..5000, 0_u64..500), 0..6)) {
        let samples: Vec<_> = values.iter().map(|(at, error)| sample(*at, *error)).collect();
        let _ = agree(&samples);
    }
}
