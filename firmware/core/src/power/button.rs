// SPDX-License-Identifier: Apache-2.0
//! A button that bounces: short presses when it is let go, a long one while it is still held.

use core::time::Duration;

/// A level has to be there for so long before it counts; contacts bounce for some milliseconds.
const BOUNCE: Duration = Duration::from_millis(30);
/// From here on a press is long: what PCs do, and longer than anybody leans on it by accident.
const LONG: Duration = Duration::from_secs(4);

/// What was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Press {
    /// Pressed and let go within [`LONG`].
    Short,
    /// Held for [`LONG`].
    Long,
}

/// The button. One that is held from the start on, or stuck, was not pressed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Button {
    level: Option<(bool, Duration)>,
    state: State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Not seen loose since the start, or told already.
    #[default]
    Ignored,
    Loose,
    Held(Duration),
}

impl Button {
    /// Takes a sample.
    pub fn sample(&mut self, pressed: bool, now: Duration) -> Option<Press> {
        let since = match self.level {
            Some((level, since)) if level == pressed => since,
            _ => {
                self.level = Some((pressed, now));
                now
            }
        };
        if now < since + BOUNCE {
            return None;
        }
        let (state, press) = match (self.state, pressed) {
            (State::Held(_), false) => (State::Loose, Some(Press::Short)),
            (_, false) => (State::Loose, None),
            (State::Loose, true) => (State::Held(since), None),
            (State::Held(since), true) if now >= since + LONG => {
                (State::Ignored, Some(Press::Long))
            }
            (state, true) => (state, None),
        };
        self.state = state;
        press
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    /// Levels, each for so many milliseconds.
    fn presses(levels: &[(bool, u64)]) -> Vec<Press> {
        let mut button = Button::default();
        let mut now = 0;
        let mut found = Vec::new();
        for &(level, time) in levels {
            for _ in 0..time {
                now += 1;
                found.extend(button.sample(level, Duration::from_millis(now)));
            }
        }
        found
    }

    #[test]
    fn a_press_is_short_when_let_go_and_long_while_held() {
        assert_eq!(
            presses(&[(false, 50), (true, 200), (false, 50)]),
            [Press::Short]
        );
        assert_eq!(presses(&[(false, 50), (true, 4_001)]), [Press::Long]);
        assert_eq!(
            presses(&[(false, 50), (true, 9_000), (false, 50)]),
            [Press::Long]
        );
    }

    #[test]
    fn bounces_and_a_button_that_is_stuck_are_no_presses() {
        assert_eq!(
            presses(&[
                (false, 50),
                (true, 20),
                (false, 20),
                (true, 20),
                (false, 50)
            ]),
            []
        );
        assert_eq!(presses(&[(true, 60_000), (false, 50)]), []);
    }
}
