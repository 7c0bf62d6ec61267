// SPDX-License-Identifier: Apache-2.0
//! Who may type: one session at a time.
//!
//! A session may take the input whenever it wants, also from another, which is told. One that is gone loses it: when its connection ends,
//! or, when that is not noticed (a laptop that was closed), as soon as nothing was heard of it for [`DEAD_AFTER`] seconds, whether
//! anybody types or prints meanwhile or not.

use racklet_wire::console::DEAD_AFTER;

/// A session, by a number that the wiring gives it and that no other has at the same time.
pub type Session = u8;

/// Who holds the input.
#[derive(Debug, Default)]
pub struct Input {
    holder: Option<Holder>,
    changes: u32,
}

#[derive(Debug)]
struct Holder {
    session: Session,
    /// Microseconds.
    heard: u64,
}

impl Input {
    /// Nobody's.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            holder: None,
            changes: 0,
        }
    }

    /// The session that holds it.
    #[must_use]
    pub fn holder(&self) -> Option<Session> {
        self.holder.as_ref().map(|it| it.session)
    }

    /// How often the holder changed so far, modulo 2^32: by this a session sees that it has something to tell its reader.
    #[must_use]
    pub fn changes(&self) -> u32 {
        self.changes
    }

    fn set(&mut self, holder: Option<Holder>) {
        self.changes = self.changes.wrapping_add(1);
        self.holder = holder;
    }

    /// A session takes it, whoever had it.
    pub fn take(&mut self, session: Session, now: u64) {
        match self.holder() == Some(session) {
            true => self.heard(session, now),
            false => self.set(Some(Holder {
                session,
                heard: now,
            })),
        }
    }

    /// A session gives it back, or ended.
    pub fn release(&mut self, session: Session) {
        if self.holder() == Some(session) {
            self.set(None);
        }
    }

    /// Something was heard of a session, at `now` (microseconds).
    pub fn heard(&mut self, session: Session, now: u64) {
        if let Some(holder) = &mut self.holder
            && holder.session == session
        {
            holder.heard = now;
        }
    }

    /// Takes it from a holder that is silent for too long by `now`. To be called once a second.
    pub fn tick(&mut self, now: u64) {
        if let Some(holder) = &self.holder
            && now.saturating_sub(holder.heard) >= DEAD_AFTER * 1_000_000
        {
            self.set(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn another_takes_it_over_and_both_can_see_that() {
        let mut input = Input::new();
        input.take(1, 0);
        let before = input.changes();
        input.take(2, SECOND);
        assert_eq!(input.holder(), Some(2));
        assert_ne!(input.changes(), before);
        // What the first still says changes nothing.
        input.heard(1, SECOND);
        input.release(1);
        assert_eq!(input.holder(), Some(2));
    }

    #[test]
    fn a_dead_holder_loses_it_on_an_idle_console_too() {
        let mut input = Input::new();
        input.take(1, 0);
        input.heard(1, 5 * SECOND);
        input.tick((DEAD_AFTER + 4) * SECOND);
        assert_eq!(input.holder(), Some(1));
        input.tick((DEAD_AFTER + 5) * SECOND);
        assert_eq!(input.holder(), None);
    }

    #[test]
    fn to_take_what_one_holds_changes_nothing() {
        let mut input = Input::new();
        input.take(1, 0);
        let before = input.changes();
        input.take(1, 20 * SECOND);
        input.tick(35 * SECOND);
        assert_eq!((input.holder(), input.changes()), (Some(1), before));
    }
}
