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

fn last(events: impl IntoIterator<Item = Event>) -> Action {
    let mut life = Lifecycle::default();
    events.into_iter().flat_map(|e| life.on(e)).last().unwrap()
}

#[test]
fn a_command_that_ends_is_released_and_its_code_is_the_result() {
    let mut life = Lifecycle::default();
    assert_eq!(life.on(Event::Started), [Action::Publish(VmState::Running)]);
    assert_eq!(life.on(HELLO), [Action::Publish(VmState::Up)]);
    assert_eq!(life.on(HELLO), [], "a reconnect is no news");
    assert_eq!(
        life.on(ended(3)),
        [Action::Order(AgentOrder::Release), Action::Arm(POWER_OFF_S)]
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
    assert_eq!(
        last([Event::Started, HELLO, ended(0), ended(9), Event::Timeout]),
        Action::Finish(exited, 0)
    );
}

#[test]
fn a_guest_that_repeats_its_report_does_not_put_off_its_end() {
    let mut life = Lifecycle::default();
    life.on(Event::Started);
    life.on(HELLO);
    life.on(ended(0));
    for _ in 0..3 {
        assert_eq!(life.on(ended(0)), [Action::Order(AgentOrder::Release)]);
    }
    assert!(matches!(
        life.on(Event::Timeout)[..],
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
    let mut life = Lifecycle::default();
    life.panicked("Kernel panic - not syncing: first".to_owned());
    life.panicked("Kernel panic - not syncing: second".to_owned());
    let reason = "guest kernel: Kernel panic - not syncing: first".to_owned();
    assert_eq!(
        life.on(Event::Reset),
        [Action::Finish(VmState::Crashed { reason }, 10)]
    );
}

#[test]
fn a_stop_is_ordered_at_once_or_at_the_next_hello_and_becomes_a_kill() {
    let mut life = Lifecycle::default();
    life.on(Event::Started);
    assert_eq!(life.on(stop(Some(5))), [Action::Arm(15)]);
    let order = Action::Order(AgentOrder::Stop { grace_s: Some(5) });
    assert_eq!(
        life.on(HELLO),
        [Action::Publish(VmState::Up), order.clone()]
    );
    assert_eq!(life.on(stop(Some(5))), [Action::Arm(15), order]);
    assert!(matches!(
        life.on(Event::Timeout)[..],
        [Action::Finish(VmState::Killed { .. }, 11)]
    ));
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

#[test]
fn a_kill_is_immediate() {
    assert!(matches!(
        last([Event::Kill]),
        Action::Finish(VmState::Killed { .. }, 11)
    ));
}
