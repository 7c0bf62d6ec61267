// SPDX-License-Identifier: Apache-2.0
//! How long each part of the bootstrap took and how much processor time it used, told once: for people, and for
//! `cargo xtask bench boot`. Where a machine's clock counts instructions, processor time is instructions without waiting.

use std::time::Duration;

use racklet_linux::clock;

/// Both clocks at one moment, or a difference of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Spent {
    /// Time, waiting included.
    wall: Duration,
    /// Processor time of this process.
    cpu: Duration,
}

impl Spent {
    fn now() -> Self {
        Self {
            wall: clock::since_boot(),
            cpu: clock::used(),
        }
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            wall: self.wall.saturating_sub(earlier.wall),
            cpu: self.cpu.saturating_sub(earlier.cpu),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            wall: self.wall + other.wall,
            cpu: self.cpu + other.cpu,
        }
    }
}

/// A running measurement. Times add up when a phase is entered again.
#[derive(Debug)]
pub(crate) struct Phases {
    done: Vec<(&'static str, Spent)>,
    current: (&'static str, Spent),
}

impl Phases {
    /// Begins with `first`, now. What the kernel did before, as the process that became PID 1, does not count.
    pub(crate) fn begin(first: &'static str) -> Self {
        Self {
            done: Vec::new(),
            current: (first, Spent::now()),
        }
    }

    /// Ends the present phase and enters another.
    pub(crate) fn enter(&mut self, next: &'static str) {
        self.enter_at(next, Spent::now());
    }

    fn enter_at(&mut self, next: &'static str, now: Spent) {
        let (name, since) = std::mem::replace(&mut self.current, (next, now));
        let spent = now.since(since);
        match self.done.iter_mut().find(|(done, _)| *done == name) {
            Some((_, sum)) => *sum = sum.plus(spent),
            None => self.done.push((name, spent)),
        }
    }

    /// One line of JSON with nanoseconds by phase, in order, and their sum.
    pub(crate) fn finish(mut self) -> String {
        self.enter("");
        self.json()
    }

    fn json(&self) -> String {
        let total = self
            .done
            .iter()
            .fold(Spent::default(), |sum, (_, spent)| sum.plus(*spent));
        let all = self.done.iter().copied().chain([("total", total)]);
        let field = |(name, spent): (&str, Spent)| {
            format!(
                "\"{name}\":{{\"ns\":{},\"cpu\":{}}}",
                spent.wall.as_nanos(),
                spent.cpu.as_nanos()
            )
        };
        let fields: Vec<String> = all.map(field).collect();
        format!("{{{}}}", fields.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up_in_order() {
        let at = |nanos| Spent {
            wall: Duration::from_nanos(nanos),
            cpu: Duration::from_nanos(nanos / 10),
        };
        let mut phases = Phases {
            done: Vec::new(),
            current: ("network", at(100)),
        };
        for (next, now) in [
            ("payload", 150),
            ("network", 250),
            ("kexec", 260),
            ("", 300),
        ] {
            phases.enter_at(next, at(now));
        }
        assert_eq!(
            phases.json(),
            r#"{"network":{"ns":60,"cpu":6},"payload":{"ns":100,"cpu":10},"kexec":{"ns":40,"cpu":4},"total":{"ns":200,"cpu":20}}"#
        );
    }
}
