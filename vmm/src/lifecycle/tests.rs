// SPDX-License-Identifier: Apache-2.0
use racklet_api::V1;

use super::*;

const HELLO: Event = Event::Report(AgentReport::Hello {
    v: V1,
    running: true,
});

fn ended(code: u8) -> Event {
    Event::Report(AgentReport::Ended {
        end: CommandEnd::Code { code },
    })
}

fn stop(grace_s: Option<u32>) -> Event {
    Event::Stop {
        grace_s,
        by: "request",
    }
}

fn life() -> Lifecycle {
    Lifecycle::new(None)
}

fn last(events: impl IntoIterator<Item = Event>) -> Action {
    let mut life = life();
    events.into_iter().flat_map(|e| life.on(e)).last().unwrap()
}

/// Seconds go by until something happens, at most ten thousand; which one it was, and what.
fn wait(life: &mut Lifecycle) -> (u32, Action) {
    (1..10_000)
        .find_map(|second| Some((second, life.on(Event::Tick).pop()?)))
        .expect("something happens")
}

#[test]
fn a_command_that_ends_is_released_and_its_code_is_the_result() {
    let mut life = life();
    assert_eq!(life.on(Event::Started), [Action::Publish(VmState::Running)]);
    assert_eq!(life.on(HELLO), [Action::Publish(VmState::Up)]);
    assert_eq!(life.on(HELLO), [], "a reconnect is no news");
    assert_eq!(
        life.on(ended(3)),
        [Action::Order(AgentOrder::Release), Action::Tick]
    );
    let exited = VmState::Exited {
        end: CommandEnd::Code { code: 3 },
        stopped: false,
    };
    assert_eq!(life.on(Event::Reset), [Action::Finish(exited, 0)]);
    assert!(life.state().is_final());
}

#[test]
fn a_guest_that_hangs_after_its_report_has_still_exited_with_its_first_report() {
    let exited = VmState::Exited {
        end: CommandEnd::Code { code: 0 },
        stopped: false,
    };
    let mut life = life();
    for event in [Event::Started, HELLO, ended(0), ended(9)] {
        life.on(event);
    }
    assert_eq!(wait(&mut life), (POWER_OFF_S, Action::Finish(exited, 0)));
}

#[test]
fn a_guest_that_repeats_its_report_does_not_put_off_its_end() {
    let mut life = life();
    life.on(Event::Started);
    life.on(HELLO);
    life.on(ended(0));
    for _ in 1..POWER_OFF_S {
        assert_eq!(life.on(ended(0)), [Action::Order(AgentOrder::Release)]);
        assert_eq!(life.on(Event::Tick), []);
    }
    assert!(matches!(
        life.on(Event::Tick)[..],
        [Action::Finish(VmState::Exited { .. }, 0)]
    ));
}

#[test]
fn an_end_without_a_report_is_a_crash_with_the_kernels_reason() {
    for how in [Event::Reset, Event::TripleFault] {
        assert!(matches!(
            last([Event::Started, how]),
            Action::Finish(VmState::Crashed { .. }, 10)
        ));
    }
    let mut life = life();
    life.on(panic("first"));
    life.on(panic("second"));
    let reason = "guest kernel: Kernel panic - not syncing: first".to_owned();
    assert_eq!(
        life.on(Event::Reset),
        [Action::Finish(VmState::Crashed { reason }, 10)]
    );
}

#[test]
fn a_stop_is_ordered_at_once_or_at_the_next_hello_and_becomes_a_kill() {
    let mut life = life();
    life.on(Event::Started);
    assert_eq!(life.on(stop(Some(5))), [Action::Tick]);
    let order = Action::Order(AgentOrder::Stop { grace_s: Some(5) });
    assert_eq!(
        life.on(HELLO),
        [Action::Publish(VmState::Up), order.clone()]
    );
    life.on(Event::Tick);
    assert_eq!(life.on(stop(Some(5))), [order]);
    // The second order puts nothing off: 15 s after the first.
    let (second, end) = wait(&mut life);
    assert_eq!(second, 14);
    assert!(matches!(end, Action::Finish(VmState::Killed { .. }, 11)));
}

#[test]
fn a_power_button_asks_and_forces_nothing() {
    let order = Action::Order(AgentOrder::Stop { grace_s: None });
    let mut life = life();
    life.on(Event::Started);
    assert!(!life.listens());
    life.on(HELLO);
    assert!(life.listens());
    life.on(Event::Pause);
    let pressed = life.on(Event::PowerButton);
    assert_eq!(
        pressed,
        [Action::Go, order.clone()],
        "no tick: no end is armed"
    );
    assert_eq!(
        life.on(HELLO),
        std::slice::from_ref(&order),
        "a connection may be lost"
    );
    for _ in 0..1000 {
        assert_eq!(life.on(Event::Tick), []);
    }
    assert_eq!(life.on(Event::PowerButton), [order], "pressed again");
    life.on(ended(0));
    assert_eq!(life.on(Event::PowerButton), [], "it ends already");
    let exited = VmState::Exited {
        end: CommandEnd::Code { code: 0 },
        stopped: true,
    };
    assert_eq!(life.on(Event::Reset), [Action::Finish(exited, 0)]);
}

#[test]
fn a_stopped_command_exits_as_stopped() {
    let exited = VmState::Exited {
        end: CommandEnd::Code { code: 143 },
        stopped: true,
    };
    let done = last([
        Event::Started,
        HELLO,
        stop(None),
        ended(143),
        stop(None),
        Event::Reset,
    ]);
    assert_eq!(done, Action::Finish(exited, 0));
}

fn panic(what: &str) -> Event {
    Event::Said(Said::Panic(format!("Kernel panic - not syncing: {what}")))
}

#[test]
fn a_kernel_that_says_that_it_switches_off_or_restarts_is_believed() {
    let off = Event::Said(Said::PoweringOff);
    assert_eq!(
        last([Event::Started, HELLO, off.clone()]),
        Action::Finish(VmState::PoweredOff, 14)
    );
    let restart = Event::Said(Said::Restarting);
    assert_eq!(
        last([Event::Started, HELLO, restart.clone(), Event::Reset]),
        Action::Finish(VmState::Rebooted, 15)
    );
    // guest-init's own restart and power-off, behind its report.
    for last_words in [vec![off], vec![restart, Event::Reset]] {
        let mut events = vec![Event::Started, HELLO, ended(0)];
        events.extend(last_words);
        assert!(matches!(
            last(events),
            Action::Finish(VmState::Exited { .. }, 0)
        ));
    }
}

#[test]
fn what_the_firmware_is_asked_for_has_its_name_but_behind_a_report_or_a_panic() {
    for (asked, state, status) in [
        (Event::PowerOff, VmState::PoweredOff, 14),
        (Event::Restart, VmState::Rebooted, 15),
    ] {
        assert_eq!(
            last([Event::Started, HELLO, asked.clone()]),
            Action::Finish(state, status)
        );
        assert!(matches!(
            last([Event::Started, HELLO, ended(0), asked.clone()]),
            Action::Finish(VmState::Exited { .. }, 0)
        ));
        assert!(matches!(
            last([Event::Started, panic("VFS"), asked]),
            Action::Finish(VmState::Crashed { reason }, 10) if reason.contains("VFS")
        ));
    }
}

#[test]
fn a_kernel_that_says_its_last_word_and_stays_is_ended() {
    let mut hung = life();
    hung.on(Event::Started);
    assert_eq!(hung.on(panic("Fatal exception")), [Action::Tick]);
    let (second, end) = wait(&mut hung);
    assert_eq!(second, LAST_WORD_S);
    assert!(
        matches!(end, Action::Finish(VmState::Crashed { reason }, 10) if reason.contains("Fatal"))
    );
    let mut stays = life();
    stays.on(Event::Started);
    stays.on(Event::Said(Said::Restarting));
    assert_eq!(
        wait(&mut stays),
        (LAST_WORD_S, Action::Finish(VmState::Rebooted, 15))
    );
}

#[test]
fn a_guest_without_a_sign_of_life_is_over_where_a_watchdog_is_wanted_and_only_there() {
    let mut watched = Lifecycle::new(Some(10));
    assert_eq!(
        watched.on(Event::Started),
        [Action::Publish(VmState::Running), Action::Tick]
    );
    let mut signs = [HELLO, Event::Output, Event::Report(AgentReport::Alive)].into_iter();
    for quiet in [BOOT_S + 9, 9, 9] {
        for _ in 0..quiet {
            assert_eq!(watched.on(Event::Tick), []);
        }
        watched.on(signs.next().expect("three"));
    }
    let (second, end) = wait(&mut watched);
    assert_eq!(second, 10);
    assert!(
        matches!(end, Action::Finish(VmState::Crashed { reason }, 10) if reason.contains("for 10 s"))
    );
    let mut never = Lifecycle::new(Some(10));
    never.on(Event::Started);
    let (second, end) = wait(&mut never);
    assert_eq!(
        second,
        BOOT_S + 10,
        "and one that never starts is noticed too"
    );
    assert!(
        matches!(end, Action::Finish(VmState::Crashed { reason }, 10) if reason.contains("for 70 s"))
    );
    let mut other = life();
    assert_eq!(
        other.on(Event::Started),
        [Action::Publish(VmState::Running)],
        "nobody counts"
    );
}

#[test]
fn where_no_processor_can_go_on_the_guest_has_crashed_and_not_the_monitor() {
    let lost = Event::Lost("it executes what is no memory".to_owned());
    assert!(matches!(
        last([Event::Started, lost]),
        Action::Finish(VmState::Crashed { reason }, 10) if reason.contains("no memory")
    ));
}

#[test]
fn a_kill_is_immediate() {
    assert!(matches!(
        last([Event::Kill]),
        Action::Finish(VmState::Killed { .. }, 11)
    ));
}

#[test]
fn no_time_passes_for_a_guest_that_stands_still_and_a_stop_lets_it_go_on() {
    let mut life = Lifecycle::new(Some(10));
    life.on(Event::Started);
    for _ in 0..BOOT_S + 9 {
        assert_eq!(life.on(Event::Tick), []);
    }
    assert_eq!(life.on(Event::Pause), [Action::Hold]);
    assert_eq!(life.on(Event::Pause), [], "it does already");
    for _ in 0..100 {
        assert_eq!(life.on(Event::Tick), []);
    }
    assert_eq!(life.on(Event::Resume), [Action::Go]);
    assert_eq!(life.on(Event::Resume), []);
    life.on(Event::Pause);
    assert_eq!(life.on(stop(Some(3))), [Action::Go]);
    let (second, end) = wait(&mut life);
    assert_eq!(second, 1, "the watchdog had one left: {end:?}");
    let mut life = self::life();
    life.on(Event::Started);
    life.on(HELLO);
    assert_eq!(
        life.on(stop(Some(3))).first(),
        Some(&Action::Tick),
        "it did not stand still"
    );
    life.on(ended(0));
    assert_eq!(life.on(Event::Pause), [Action::Hold]);
    assert_eq!(life.on(stop(None)), [Action::Go], "it is ending already");
}
