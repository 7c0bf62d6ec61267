// SPDX-License-Identifier: Apache-2.0
//! How long each part of the bootstrap took, told once, for people and for `cargo xtask bench boot`.

use std::time::Duration;

use racklet_linux::clock;

/// A running measurement. Times add up when a phase is entered again.
#[derive(Debug)]
pub(crate) struct Phases {
    done: Vec<(&'static str, Duration)>,
    current: (&'static str, Duration),
}

impl Phases {
    /// Begins with `first`, at this moment.
    pub(crate) fn begin(first: &'static str) -> Self {
        Self {
            done: Vec::new(),
            current: (first, clock::since_boot()),
        }
    }

    /// Ends the present phase and enters another.
    pub(crate) fn enter(&mut self, next: &'static str) {
        self.enter_at(next, clock::since_boot());
    }

    fn enter_at(&mut self, next: &'static str, now: Duration) {
        let (name, since) = std::mem::replace(&mut self.current, (next, now));
        let took = now.saturating_sub(since);
        match self.done.iter_mut().find(|(done, _)| *done == name) {
            Some((_, sum)) => *sum += took,
            None => self.done.push((name, took)),
        }
    }

    /// One line of JSON with nanoseconds by phase, in order, and their sum.
    pub(crate) fn finish(mut self) -> String {
        self.enter("");
        self.json()
    }

    fn json(&self) -> String {
        let total: Duration = self.done.iter().map(|(_, took)| *took).sum();
        let all = self.done.iter().copied().chain([("total", total)]);
        let fields: Vec<String> = all
            .map(|(name, took)| format!("\"{name}\":{}", took.as_nanos()))
            .collect();
        format!("{{{}}}", fields.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up_in_order() {
        let mut phases = Phases {
            done: Vec::new(),
            current: ("network", Duration::from_nanos(100)),
        };
        for (next, now) in [
            ("payload", 150),
            ("network", 250),
            ("kexec", 260),
            ("", 300),
        ] {
            phases.enter_at(next, Duration::from_nanos(now));
        }
        assert_eq!(
            phases.json(),
            r#"{"network":60,"payload":100,"kexec":40,"total":200}"#
        );
    }
}
