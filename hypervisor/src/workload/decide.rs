// SPDX-License-Identifier: Apache-2.0
//! What to do next about one workload: a pure function of what is wanted, what is seen and the time.
//!
//! ```text
//!             Start                 ends by itself
//!   (nothing) ─────> Running ───────────────────────> Ended ──┐ policy and back-off say again: Start
//!                       │ Stop                          ^  ^──┘
//!                       v                               │  not wanted any more: Forget
//!                    Stopping ───(grace is over)──> Killing
//! ```
//!
//! A workload whose description changed is stopped only once everything the new one needs is there. Until then the old
//! one is kept, restarts included. Times are milliseconds of the boot clock, which neither steps nor stops.

use racklet_rack::{Backoff, RestartPolicy};

/// How a workload is to be started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) policy: RestartPolicy,
    pub(crate) backoff: Backoff,
}

/// What the rack repository wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted<Spec> {
    /// Equal specs are the same workload.
    pub(crate) spec: Spec,
    pub(crate) rules: Rules,
    /// Whether all it needs (image, network) is there.
    pub(crate) ready: bool,
}

/// What is the case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen<Spec> {
    /// What it was started as.
    pub(crate) spec: Spec,
    pub(crate) rules: Rules,
    pub(crate) phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its monitor is alive.
    Running,
    /// Its monitor is alive and was asked to end; at `force_at` patience ends.
    Stopping { force_at: u64 },
    /// Its monitor was sent SIGKILL.
    Killing,
    /// Its monitor is gone.
    Ended(End),
}

/// How and when a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) at: u64,
    pub(crate) how: How,
    /// How many runs in a row, this one included, were too short to call the workload settled; at least 1.
    pub(crate) streak: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Exit code 0.
    Success,
    /// Another exit code, a signal, a crash of the guest or of the monitor.
    Failure,
    /// It could not be started at all, and a retry without a change will hardly differ.
    Refused,
    /// We ended it.
    Ordered,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing, until something changes.
    Rest,
    /// Nothing, and look again at this time.
    Wait(u64),
    /// Start what is wanted.
    StartWanted,
    /// Start once more what ran before: what is wanted is not ready.
    StartAgain,
    /// Ask it to end.
    Stop,
    /// End it.
    Kill,
    /// Remove all traces.
    Forget,
}

/// The next step for one workload.
pub(crate) fn decide<Spec: PartialEq>(
    wanted: Option<&Wanted<Spec>>,
    seen: Option<&Seen<Spec>>,
    now: u64,
) -> Step {
    let Some(seen) = seen else {
        return match wanted {
            Some(wanted) if wanted.ready => Step::StartWanted,
            _ => Step::Rest,
        };
    };
    let same = wanted.is_some_and(|wanted| wanted.spec == seen.spec);
    let replaceable = wanted.is_none_or(|wanted| wanted.ready);
    match seen.phase {
        Phase::Running if same || !replaceable => Step::Rest,
        Phase::Running => Step::Stop,
        Phase::Stopping { force_at } if now < force_at => Step::Wait(force_at),
        Phase::Stopping { .. } => Step::Kill,
        Phase::Killing => Step::Rest,
        Phase::Ended(end) => match wanted {
            None => Step::Forget,
            // Rules are no part of the spec: the newest ones count at once.
            Some(wanted) if same && wanted.ready => {
                again(wanted.rules, end, now, Step::StartWanted)
            }
            Some(wanted) if wanted.ready => Step::StartWanted,
            Some(_) if same => Step::Rest,
            Some(_) => again(seen.rules, end, now, Step::StartAgain),
        },
    }
}

fn again(rules: Rules, end: End, now: u64, start: Step) -> Step {
    let wanted = match (rules.policy, end.how) {
        // We ended it for a change that was taken back: it is wanted as before.
        (_, How::Ordered) => return start,
        (RestartPolicy::Always, _) => true,
        (RestartPolicy::OnFailure, How::Success) => false,
        (RestartPolicy::OnFailure, _) => true,
        // It never ran: that is no run that could count as its only one.
        (RestartPolicy::Never, How::Refused) => true,
        (RestartPolicy::Never, _) => false,
    };
    if !wanted {
        return Step::Rest;
    }
    let due = end.at.saturating_add(delay(rules.backoff, end));
    if now < due { Step::Wait(due) } else { start }
}

/// Milliseconds between an end and the next start.
fn delay(backoff: Backoff, end: End) -> u64 {
    let longest = u64::from(backoff.max_seconds) * 1000;
    if end.how == How::Refused {
        return longest;
    }
    let doublings = end.streak.saturating_sub(1).min(32);
    (u64::from(backoff.initial_seconds) * 1000)
        .saturating_mul(1 << doublings)
        .min(longest)
}

/// The streak after a run of `ran` milliseconds that followed a streak of `before`: a run longer than the longest wait
/// counts as settled and starts anew.
pub(crate) fn streak(before: u32, ran: u64, backoff: Backoff) -> u32 {
    if ran > u64::from(backoff.max_seconds) * 1000 {
        1
    } else {
        before.saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: Rules = Rules {
        policy: RestartPolicy::Always,
        backoff: Backoff {
            initial_seconds: 1,
            max_seconds: 8,
        },
    };

    fn rules(policy: RestartPolicy) -> Rules {
        Rules { policy, ..RULES }
    }

    fn wanted(spec: u8, ready: bool) -> Option<Wanted<u8>> {
        Some(Wanted {
            spec,
            rules: RULES,
            ready,
        })
    }

    fn seen(spec: u8, phase: Phase) -> Option<Seen<u8>> {
        Some(Seen {
            spec,
            rules: RULES,
            phase,
        })
    }

    fn ended(at: u64, how: How, streak: u32) -> Phase {
        Phase::Ended(End { at, how, streak })
    }

    #[test]
    fn each_situation_has_its_step() {
        use Phase::{Killing, Running};
        let stopping = Phase::Stopping { force_at: 100 };
        let success = ended(0, How::Success, 1);
        for (w, s, now, step) in [
            (None, None, 0, Step::Rest),
            (wanted(1, true), None, 0, Step::StartWanted),
            (wanted(1, false), None, 0, Step::Rest),
            (wanted(1, true), seen(1, Running), 0, Step::Rest),
            (wanted(1, false), seen(1, Running), 0, Step::Rest),
            (wanted(2, true), seen(1, Running), 0, Step::Stop),
            (wanted(2, false), seen(1, Running), 0, Step::Rest),
            (None, seen(1, Running), 0, Step::Stop),
            (None, seen(1, stopping), 99, Step::Wait(100)),
            (None, seen(1, stopping), 100, Step::Kill),
            (wanted(2, true), seen(1, stopping), 99, Step::Wait(100)),
            (None, seen(1, Killing), 999, Step::Rest),
            (None, seen(1, success), 0, Step::Forget),
            (wanted(2, true), seen(1, success), 0, Step::StartWanted),
            (wanted(2, false), seen(1, success), 999, Step::Wait(1000)),
            (wanted(2, false), seen(1, success), 1000, Step::StartAgain),
            (wanted(1, true), seen(1, success), 999, Step::Wait(1000)),
            (wanted(1, true), seen(1, success), 1000, Step::StartWanted),
            (wanted(1, false), seen(1, success), 1000, Step::Rest),
            (
                wanted(1, true),
                seen(1, ended(0, How::Ordered, 1)),
                0,
                Step::StartWanted,
            ),
            (
                wanted(1, true),
                seen(1, ended(0, How::Failure, 3)),
                3999,
                Step::Wait(4000),
            ),
            (
                wanted(1, true),
                seen(1, ended(0, How::Failure, 30)),
                0,
                Step::Wait(8000),
            ),
            (
                wanted(1, true),
                seen(1, ended(0, How::Refused, 1)),
                0,
                Step::Wait(8000),
            ),
        ] {
            assert_eq!(
                decide(w.as_ref(), s.as_ref(), now),
                step,
                "{w:?} {s:?} at {now}"
            );
        }
    }

    #[test]
    fn the_restart_policy_is_obeyed() {
        use RestartPolicy::{Always, Never, OnFailure};
        for (policy, how, restarts) in [
            (Always, How::Success, true),
            (Always, How::Failure, true),
            (OnFailure, How::Success, false),
            (OnFailure, How::Failure, true),
            (OnFailure, How::Refused, true),
            (Never, How::Success, false),
            (Never, How::Failure, false),
            (Never, How::Refused, true),
        ] {
            let wanted = Wanted {
                spec: 1,
                rules: rules(policy),
                ready: true,
            };
            let step = decide(Some(&wanted), seen(1, ended(0, how, 1)).as_ref(), 1_000_000);
            assert_eq!(
                step == Step::StartWanted,
                restarts,
                "{policy:?} after {how:?}"
            );
        }
    }

    #[test]
    fn a_long_run_ends_the_streak() {
        assert_eq!(streak(7, 8001, RULES.backoff), 1);
        assert_eq!(streak(7, 8000, RULES.backoff), 8);
        assert_eq!(streak(u32::MAX, 0, RULES.backoff), u32::MAX);
    }

    /// A world that obeys the steps and in which things happen.
    #[derive(Debug, Clone)]
    enum Happening {
        Want(Option<(u8, bool)>),
        EndsByItself(How),
        ObeysStop,
        TimePasses(u64),
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            proptest::option::of((0u8..3, any::<bool>())).prop_map(Happening::Want),
            prop_oneof![Just(How::Success), Just(How::Failure), Just(How::Refused)]
                .prop_map(Happening::EndsByItself),
            Just(Happening::ObeysStop),
            (0u64..20_000).prop_map(Happening::TimePasses),
        ]
    }

    #[derive(Default)]
    struct World {
        wanted: Option<Wanted<u8>>,
        seen: Option<Seen<u8>>,
        streak: u32,
        now: u64,
    }

    impl World {
        fn alive(&self) -> bool {
            matches!(&self.seen, Some(s) if !matches!(s.phase, Phase::Ended(_)))
        }

        fn end(&mut self, how: How) {
            let at = self.now;
            self.streak = streak(self.streak, 0, RULES.backoff);
            let streak = self.streak;
            if let Some(seen) = &mut self.seen {
                seen.phase = Phase::Ended(End { at, how, streak });
            }
        }

        /// Carries out one step; true when something was done.
        fn turn(&mut self) -> Result<bool, TestCaseError> {
            let step = decide(self.wanted.as_ref(), self.seen.as_ref(), self.now);
            match step {
                Step::Rest => return Ok(false),
                Step::Wait(until) => {
                    prop_assert!(until > self.now, "waits for the past");
                    return Ok(false);
                }
                Step::StartWanted | Step::StartAgain => {
                    prop_assert!(!self.alive(), "started twice");
                    let wanted = self.wanted.clone().expect("something is wanted");
                    let spec = match (step, &self.seen) {
                        (Step::StartAgain, Some(seen)) => seen.spec,
                        _ => {
                            prop_assert!(wanted.ready, "started what is not ready");
                            wanted.spec
                        }
                    };
                    self.seen = seen(spec, Phase::Running);
                }
                Step::Stop => {
                    let seen = self.seen.as_mut().expect("something runs");
                    prop_assert!(
                        self.wanted
                            .as_ref()
                            .is_none_or(|w| w.spec != seen.spec && w.ready)
                    );
                    seen.phase = Phase::Stopping {
                        force_at: self.now + 10_000,
                    };
                }
                Step::Kill => {
                    prop_assert!(self.alive());
                    self.end(How::Ordered);
                }
                Step::Forget => {
                    prop_assert!(!self.alive() && self.wanted.is_none());
                    self.seen = None;
                    self.streak = 0;
                }
            }
            Ok(true)
        }
    }

    proptest! {
        /// Whatever happens, nothing is started twice, nothing good is stopped, and in the end what is wanted runs.
        #[test]
        fn the_world_converges(happenings in proptest::collection::vec(happening(), 0..60), last in proptest::option::of(0u8..3)) {
            let mut world = World::default();
            for happening in happenings {
                match happening {
                    Happening::Want(want) => world.wanted = want.and_then(|(spec, ready)| wanted(spec, ready)),
                    Happening::EndsByItself(how) if world.alive() => world.end(how),
                    Happening::ObeysStop if matches!(&world.seen, Some(s) if matches!(s.phase, Phase::Stopping { .. })) => world.end(How::Ordered),
                    Happening::TimePasses(ms) => world.now += ms,
                    _ => {}
                }
                for _ in 0..8 {
                    if !world.turn()? { break; }
                }
            }
            world.wanted = last.and_then(|spec| wanted(spec, true));
            for _ in 0..16 {
                if !world.turn()? { world.now += 10_000; }
            }
            match last {
                None => prop_assert_eq!(world.seen, None),
                Some(spec) => {
                    let seen = world.seen.expect("something runs");
                    prop_assert_eq!((seen.spec, seen.phase), (spec, Phase::Running));
                }
            }
        }
    }
}
