// SPDX-License-Identifier: Apache-2.0
//! The supervisor's rules, one sentence each.

use super::*;
use proptest::prelude::*;

const NETD: Id = 0;
const HYPERVISOR: Id = 1;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Both services started as processes 10 and 11 at second 0.
fn running() -> Core {
    let mut core = Core::new(2, HYPERVISOR, at(0));
    assert_eq!(
        core.step(at(0), Event::Tick, 0),
        [Action::Start(NETD), Action::Start(HYPERVISOR)]
    );
    assert_eq!(core.step(at(0), Event::Started(NETD, 10), 0), []);
    assert_eq!(core.step(at(0), Event::Started(HYPERVISOR, 11), 0), []);
    core
}

fn healthy(core: &mut Core, now: Duration) {
    core.step(now, Event::Health(NETD, true, "up".into()), 0);
    core.step(now, Event::Health(HYPERVISOR, true, "reconciled".into()), 0);
}

#[test]
fn a_service_that_ends_starts_again_and_waits_longer_each_time() {
    let mut core = running();
    let (mut now, mut waits) = (at(0), Vec::new());
    for pid in 11..20 {
        let actions = core.step(now, Event::Ended(pid, Ended::Code(1)), 0);
        let [Action::Report(HYPERVISOR, Ended::Code(1), pause)] = actions[..] else {
            panic!("{actions:?}")
        };
        waits.push(pause.as_millis());
        assert_eq!(
            core.step(now + pause - Duration::from_millis(1), Event::Tick, 0),
            [],
            "too early"
        );
        now += pause;
        assert_eq!(core.step(now, Event::Tick, 0), [Action::Start(HYPERVISOR)]);
        core.step(now, Event::Started(HYPERVISOR, pid + 1), 0);
    }
    assert_eq!(
        waits,
        [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]
    );
    assert_eq!(core.services()[HYPERVISOR].restarts, 9);
    assert_eq!(
        core.services()[NETD].restarts,
        0,
        "the other one is left alone"
    );
}

#[test]
fn a_service_that_ran_steadily_starts_again_at_once() {
    let mut core = running();
    core.step(at(1), Event::Ended(11, Ended::Signal(9)), 0);
    core.step(at(2), Event::Tick, 0);
    core.step(at(2), Event::Started(HYPERVISOR, 12), 0);
    let actions = core.step(at(100), Event::Ended(12, Ended::Signal(9)), 0);
    assert_eq!(
        actions,
        [Action::Report(HYPERVISOR, Ended::Signal(9), FIRST_WAIT)]
    );
}

#[test]
fn orphans_that_end_concern_nobody() {
    assert_eq!(
        running().step(at(1), Event::Ended(4711, Ended::Code(0)), 0),
        []
    );
}

#[test]
fn a_boot_is_marked_good_once_all_were_healthy_for_a_while() {
    let mut core = running();
    healthy(&mut core, at(10));
    assert_eq!(core.wake(), Some(at(10) + SETTLE));
    assert_eq!(core.step(at(10) + SETTLE - at(1), Event::Tick, 0), []);
    assert_eq!(
        core.step(at(10) + SETTLE, Event::Tick, 0),
        [Action::MarkGood]
    );
    assert_eq!(core.step(at(10) + SETTLE, Event::MarkedGood(true), 0), []);
    assert!(core.marked_good());
    assert_eq!(core.step(at(1000), Event::Tick, 0), [], "once only");
}

#[test]
fn flapping_health_does_not_count() {
    let mut core = running();
    for second in (0..60).step_by(4) {
        healthy(&mut core, at(second));
        core.step(
            at(second + 3),
            Event::Health(HYPERVISOR, false, "lost".into()),
            0,
        );
    }
    assert!(!core.marked_good());
    // A crash ends a healthy stretch as well.
    healthy(&mut core, at(100));
    core.step(at(101), Event::Ended(10, Ended::Code(1)), 0);
    assert_eq!(
        core.step(at(101) + SETTLE, Event::Tick, 0),
        [Action::Start(NETD)]
    );
}

#[test]
fn a_mark_that_fails_waits_longer_each_time_and_never_asks_at_once() {
    let mut core = running();
    healthy(&mut core, at(0));
    let (mut now, mut waits) = (at(5), Vec::new());
    for _ in 0..7 {
        assert_eq!(core.step(now, Event::Tick, 0), [Action::MarkGood]);
        assert_eq!(
            core.step(now, Event::MarkedGood(false), 0),
            [],
            "what failed is not tried again at the same moment"
        );
        let next = core.wake().expect("tried again");
        assert_eq!(core.step(next - at(1), Event::Tick, 0), [], "too early");
        waits.push((next - now).as_secs());
        now = next;
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);
    assert!(!core.marked_good());
    core.step(now, Event::Tick, 0);
    core.step(now, Event::MarkedGood(true), 0);
    assert!(core.marked_good());
    assert_eq!(core.step(at(9999), Event::Tick, 0), [], "once only");
}

#[test]
fn a_boot_that_was_healthy_and_cannot_be_marked_stays_up_whatever_comes() {
    let mut core = running();
    healthy(&mut core, at(0));
    core.step(at(5), Event::Tick, 0);
    core.step(at(5), Event::MarkedGood(false), 0);
    core.step(
        at(6),
        Event::Health(HYPERVISOR, false, "no server".into()),
        0,
    );
    // The card is at fault, not this boot: it is marked when the card takes it, and nothing is stopped for it.
    for second in (10..UNHEALTHY_LIMIT.as_secs() * 3).step_by(10) {
        for action in core.step(at(second), Event::Tick, 0) {
            assert_eq!(action, Action::MarkGood);
            core.step(at(second), Event::MarkedGood(false), 0);
        }
    }
    assert!(!core.leaving());
}

#[test]
fn a_boot_that_never_becomes_healthy_reboots_so_that_its_tries_count() {
    let mut core = running();
    assert_eq!(
        core.step(UNHEALTHY_LIMIT, Event::Tick, 0),
        [Action::Terminate(11)]
    );
    assert!(core.leaving());
}

#[test]
fn a_good_boot_that_turns_unhealthy_stays_up() {
    let mut core = running();
    healthy(&mut core, at(0));
    core.step(at(10), Event::Tick, 0);
    core.step(at(10), Event::MarkedGood(true), 0);
    core.step(
        at(20),
        Event::Health(HYPERVISOR, false, "no server".into()),
        0,
    );
    assert_eq!(core.step(UNHEALTHY_LIMIT * 10, Event::Tick, 0), []);
}

#[test]
fn leaving_stops_the_hypervisor_then_workloads_then_the_rest() {
    let mut core = running();
    assert_eq!(
        core.step(at(5), Event::Leave(Leave::Poweroff), 0),
        [Action::Terminate(11)]
    );
    assert_eq!(
        core.step(at(6), Event::Leave(Leave::Reboot), 0),
        [],
        "the first wish counts"
    );
    let ended = core.step(at(6), Event::Ended(11, Ended::Code(0)), 0);
    assert_eq!(
        ended,
        [
            Action::Report(HYPERVISOR, Ended::Code(0), Duration::ZERO),
            Action::StopWorkloads
        ]
    );
    assert_eq!(
        core.step(at(7), Event::WorkloadsStopped, 0),
        [Action::Terminate(10)],
        "netd serves to the end"
    );
    let ended = core.step(at(8), Event::Ended(10, Ended::Code(0)), 0);
    assert_eq!(ended[1..], [Action::Leave(Leave::Poweroff)]);
}

#[test]
fn nothing_that_hangs_keeps_the_tray_from_leaving() {
    let mut core = running();
    core.step(at(0), Event::Leave(Leave::Reboot), 0);
    let mut seen = Vec::new();
    while let Some(until) = core.wake() {
        assert!(until < at(120), "bounded: {until:?}");
        seen.extend(core.step(until, Event::Tick, 0));
    }
    let expected = [
        Action::Kill(11),
        Action::StopWorkloads,
        Action::Terminate(10),
        Action::Terminate(11),
        Action::Kill(10),
        Action::Kill(11),
        Action::Leave(Leave::Reboot),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_service_that_was_just_starting_is_stopped_too() {
    let mut core = Core::new(1, 0, at(0));
    assert_eq!(core.step(at(0), Event::Tick, 0), [Action::Start(0)]);
    assert_eq!(core.step(at(0), Event::Leave(Leave::Reboot), 0), []);
    assert_eq!(
        core.step(at(0), Event::Started(0, 9), 0),
        [Action::Terminate(9)]
    );
    assert_eq!(
        core.step(at(1), Event::Ended(9, Ended::Code(0)), 0)[1..],
        [Action::StopWorkloads]
    );
    assert_eq!(
        core.step(at(1), Event::WorkloadsStopped, 0),
        [Action::Leave(Leave::Reboot)]
    );
}

#[test]
fn restarts_are_spread_but_never_by_more_than_half() {
    let mut core = running();
    let actions = core.step(at(0), Event::Ended(10, Ended::Code(1)), 255);
    let [Action::Report(NETD, _, pause)] = actions[..] else {
        panic!("{actions:?}")
    };
    assert!(
        pause > FIRST_WAIT && pause < FIRST_WAIT * 3 / 2,
        "{pause:?}"
    );
}

/// What happens to a tray in one step of the test below.
#[derive(Debug, Clone)]
enum Fate {
    Pass(u64),
    End(u32),
    Health(Id, bool),
    Settle,
    Leave,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => (0_u64..700).prop_map(Fate::Pass),
        2 => (10_u32..20).prop_map(Fate::End),
        3 => (0_usize..2, any::<bool>()).prop_map(|(id, healthy)| Fate::Health(id, healthy)),
        3 => Just(Fate::Settle),
        1 => Just(Fate::Leave),
    ]
}

proptest! {
    /// The caller feeds back what came of each action before it looks at the clock or the watchdog again. So at a clock that
    /// stands still, with everything failing, the core must fall silent, and must not want to be woken for what is past.
    #[test]
    fn whatever_fails_the_core_falls_silent_until_time_has_passed(
        fates in proptest::collection::vec(fate(), 0..40),
        starts_fail in any::<bool>(),
        marks_fail in any::<bool>(),
    ) {
        let mut core = Core::new(2, HYPERVISOR, at(0));
        let (mut now, mut pid) = (at(0), 10);
        for fate in fates {
            let event = match fate {
                Fate::Pass(seconds) => {
                    now += at(seconds);
                    Event::Tick
                }
                Fate::End(pid) => Event::Ended(pid, Ended::Code(1)),
                Fate::Health(id, healthy) => Event::Health(id, healthy, String::new()),
                Fate::Settle => {
                    healthy(&mut core, now);
                    now += SETTLE;
                    Event::Tick
                }
                Fate::Leave => Event::Leave(Leave::Reboot),
            };
            let mut events = vec![event, Event::Tick];
            let mut asked = 0;
            while let Some(event) = events.pop() {
                for action in core.step(now, event, 7) {
                    asked += 1;
                    prop_assert!(asked <= 20, "still asking: {action:?}");
                    match action {
                        Action::Start(id) if starts_fail => {
                            events.push(Event::NotStarted(id, "no".into()));
                        }
                        Action::Start(id) => {
                            pid += 1;
                            events.push(Event::Started(id, pid));
                        }
                        Action::MarkGood => events.push(Event::MarkedGood(!marks_fail)),
                        Action::StopWorkloads => events.push(Event::WorkloadsStopped),
                        _ => {}
                    }
                }
            }
            if let Some(wake) = core.wake() {
                prop_assert!(wake > now, "wants to be woken at {wake:?}, and it is {now:?}");
            }
        }
    }
}
