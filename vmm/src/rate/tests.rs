// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;
use crate::testing::{set_clock, test_clock};

/// At each of these times somebody wants so much. Gives what passed: time (the latest there was) and amount.
fn run(bucket: &mut Bucket, wants: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut passed = Vec::new();
    for (now, amount) in wants {
        bucket.earn(*now);
        assert!(bucket.level <= bucket.burst && bucket.part < SECOND);
        if *amount <= bucket.burst && bucket.wait(*amount) == 0 {
            bucket.take(*amount);
            passed.push((bucket.seen, *amount));
        }
    }
    passed
}

/// Between any two of these moments no more passed than the burst and what the time between them earns.
fn is_kept(rate: u64, burst: u64, passed: &[(u64, u64)]) -> bool {
    (0..passed.len()).all(|from| {
        let mut sum = 0_u128;
        passed[from..].iter().all(|(at, amount)| {
            sum += u128::from(*amount);
            let earned = u128::from(rate) * u128::from(at - passed[from].0);
            // By the last whole unit: a part of one cannot pass.
            sum <= u128::from(burst) + earned / u128::from(SECOND)
        })
    })
}

/// Numbers of all sizes, the largest too.
fn any_size() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..4_u64,
        0..4 * SECOND,
        Just(u64::MAX),
        (0..64_u32).prop_map(|bit| 1 << bit)
    ]
}

proptest! {
    #[test]
    fn no_more_passes_than_the_burst_and_the_rate_at_any_numbers_and_times(
        rate in any_size(),
        burst in any_size(),
        start in any_size(),
        wants in prop::collection::vec((any_size(), any_size()), 1..30),
    ) {
        let (rate, burst) = (rate.max(1), burst.max(1));
        let passed = run(&mut Bucket::full(rate, burst, start), &wants);
        prop_assert!(is_kept(rate, burst, &passed), "{:?}", passed);
    }

    #[test]
    fn what_waits_as_long_as_it_is_told_passes_then_and_not_a_nanosecond_before(
        rate in any_size(),
        burst in any_size(),
        taken in any_size(),
        wanted in any_size(),
        early in 0..SECOND,
    ) {
        let (rate, burst) = (rate.max(1), burst.max(1));
        let mut bucket = Bucket::full(rate, burst, 0);
        bucket.take(taken.min(burst));
        bucket.earn(early); // a part of a unit, mostly
        let wanted = wanted.min(burst);
        let wait = bucket.wait(wanted);
        prop_assume!(wait < u64::MAX - early);
        if wait > 0 {
            let mut before = bucket.clone();
            before.earn(early + wait - 1);
            prop_assert!(before.wait(wanted) > 0);
        }
        bucket.earn(early + wait);
        prop_assert_eq!(bucket.wait(wanted), 0);
    }

    #[test]
    fn looking_often_earns_as_much_as_looking_once(
        rate in any_size(),
        burst in any_size(),
        mut times in prop::collection::vec(0..SECOND, 1..20),
    ) {
        let (rate, burst) = (rate.max(1), burst.max(1));
        let mut often = Bucket::full(rate, burst, 0);
        often.take(burst);
        let mut once = often.clone();
        times.sort_unstable();
        for time in &times {
            often.earn(*time);
        }
        once.earn(*times.last().unwrap());
        prop_assert_eq!((often.level, often.part), (once.level, once.part));
    }
}

/// Every bucket of up to 3 at up to 3 a second, everything that can happen to it in five steps of thirds of seconds, back and forth.
#[test]
fn no_small_bucket_lets_too_much_pass() {
    const THIRD: u64 = SECOND / 3 + 1;
    let mut cases = 0_u32;
    for (rate, burst) in (1..4).flat_map(|rate| (1..4).map(move |burst| (rate, burst))) {
        for case in 0..12_u32.pow(4) {
            let (mut now, mut rest) = (2 * THIRD, case);
            let wants = [(); 4].map(|()| {
                let (step, amount) = (rest % 3, rest / 3 % 4);
                rest /= 12;
                now = [now + THIRD, now, now - now.min(THIRD)][step as usize];
                (now, u64::from(amount))
            });
            let passed = run(&mut Bucket::full(rate, burst, 2 * THIRD), &wants);
            assert!(is_kept(rate, burst, &passed), "{rate} {burst} {wants:?}");
            cases += 1;
        }
    }
    assert_eq!(cases, 9 * 20_736);
}

fn limit<const LEAST: u64>(per_second: u64, burst: u64) -> Option<Limit<LEAST>> {
    let text = format!(r#"{{"per_second":{per_second},"burst":{burst}}}"#);
    Some(serde_json::from_str(&text).unwrap())
}

#[test]
fn both_limits_hold_or_nothing_is_taken() {
    let mut meter = Meter::unlimited(test_clock);
    assert_eq!(meter.take(u64::MAX, 1), Ok(()));
    meter.set(limit(1_000_000, 200_000), limit(10, 2));
    assert_eq!(meter.most(), 200_000);
    assert_eq!(meter.take(150_000, 1), Ok(()));
    let wait = |until, first| Err(Wait { until, first });
    assert_eq!(meter.take(100_000, 1), wait(50_000_000, true), "bytes");
    assert_eq!(meter.take(100_000, 1), wait(50_000_000, false));
    assert_eq!(meter.take(50_000, 1), Ok(()), "nothing was taken before");
    assert_eq!(meter.take(0, 1), wait(100_000_000, true), "operations");
    assert_eq!(meter.take(0, 0), Ok(()), "a further step of a request");
    set_clock(100_000_000);
    assert_eq!(meter.take(100_000, 1), Ok(()));
    // What was earned stays, up to the new burst; a limit that was not there begins full.
    set_clock(150_000_000);
    meter.set(limit(1_000_000, 131_072), None);
    assert_eq!(meter.take(50_000, 1), Ok(()));
    assert_eq!(meter.take(50_000, 1), wait(200_000_000, true));
    meter.set(None, limit(1, 1));
    assert_eq!(meter.take(u64::MAX, 1), Ok(()));
    assert_eq!(meter.take(0, 1), wait(1_150_000_000, true));
}

#[test]
fn a_knob_gives_what_was_set_last_once() {
    let knob = Knob::default();
    assert_eq!(knob.take(), None::<u32>);
    knob.set(1);
    knob.clone().set(2);
    assert_eq!((knob.take(), knob.take()), (Some(2), None));
}

#[test]
fn an_order_finds_its_device_and_one_for_none_is_refused() {
    let knobs = Knobs {
        disks: vec![(0, Knob::default()), (1, Knob::default())],
        cards: vec![(2, Knob::default())],
    };
    let order = |text: &str| serde_json::from_str(text).unwrap();
    let disk = order(r#"{"disk":{"number":1,"rate":{"operations":{"per_second":5}}}}"#);
    assert_eq!(knobs.turn(&disk), Ok(1));
    let set = knobs.disks[1].1.take().unwrap();
    assert_eq!(set.operations, limit(5, 5));
    assert_eq!(knobs.turn(&order(r#"{"card":{"number":0}}"#)), Ok(2));
    for (text, why) in [
        (r#"{"disk":{"number":2}}"#, "no number 2: 2 disks"),
        (r#"{"card":{"number":1}}"#, "no number 1: 1 cards"),
    ] {
        let refused = knobs.turn(&order(text)).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    assert!(knobs.disks[0].1.take().is_none());
}
