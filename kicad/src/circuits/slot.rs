// SPDX-License-Identifier: Apache-2.0
//! The contacts between a tray's card edge and its slot on the backplane, in the form of PCI Express x1: 18 places of
//! 1 mm with a key between 11 and 12, a finger on both sides of the card. Only the form is PCI Express's.
//!
//! Fingers meet in the order of [`Stage`]. An open place on both sides of the busbar keeps 1.3 mm to its neighbours, so
//! that a contact that stands askew while a tray slides in cannot bridge 20 V to a signal.

/// When a finger touches while the tray slides in: the longest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Ground: before anything carries a voltage.
    First,
    /// The busbar.
    Second,
    /// Signals.
    Third,
    /// Presence: everything else has met. The eFuse waits for it, and opens first when a tray is drawn.
    Last,
}

/// One place on one side of the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// The pad's number: the side and the place, `a1` to `b18`. `b` is the side that parts are on.
    pub number: &'static str,
    /// What it carries.
    pub signal: Signal,
}

/// What a contact carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Not connected, for distance.
    Open,
    /// Ground.
    Ground,
    /// The busbar, 9 to 20 V.
    Busbar,
    /// The bus's line that is high when idle.
    Rs485A,
    /// The bus's line that is low when idle.
    Rs485B,
    /// Bit 0 of the slot's number: open for 1, ground for 0.
    SlotId0,
    /// Bit 1.
    SlotId1,
    /// Bit 2.
    SlotId2,
    /// Ground of the backplane to the tray: the tray is in to the last finger at this end.
    Seated,
    /// Ground of the tray to the backplane: a tray is in, to the last finger at the other end.
    Present,
}

impl Signal {
    /// When its fingers touch.
    #[must_use]
    pub const fn stage(self) -> Stage {
        match self {
            Self::Ground | Self::Open => Stage::First,
            Self::Busbar => Stage::Second,
            Self::Rs485A | Self::Rs485B | Self::SlotId0 | Self::SlotId1 | Self::SlotId2 => {
                Stage::Third
            }
            Self::Seated | Self::Present => Stage::Last,
        }
    }
}

/// Current that one contact may carry, in amperes: PCI Express Card Electromechanical specification, 1.1 A per contact.
pub const CONTACT_CURRENT: f64 = 1.1;

/// All contacts, side a then side b.
pub const CONTACTS: [Contact; 36] = {
    use Signal::{
        Busbar, Ground, Open, Present, Rs485A, Rs485B, Seated, SlotId0, SlotId1, SlotId2,
    };
    const fn at(number: &'static str, signal: Signal) -> Contact {
        Contact { number, signal }
    }
    [
        at("a1", Seated),
        at("a2", Ground),
        at("a3", Open),
        at("a4", Busbar),
        at("a5", Busbar),
        at("a6", Busbar),
        at("a7", Busbar),
        at("a8", Open),
        at("a9", Ground),
        at("a10", Ground),
        at("a11", Ground),
        at("a12", Ground),
        at("a13", Ground),
        at("a14", Rs485A),
        at("a15", Rs485B),
        at("a16", Ground),
        at("a17", Ground),
        at("a18", Ground),
        at("b1", Ground),
        at("b2", Ground),
        at("b3", Open),
        at("b4", Busbar),
        at("b5", Busbar),
        at("b6", Busbar),
        at("b7", Busbar),
        at("b8", Open),
        at("b9", Ground),
        at("b10", Ground),
        at("b11", Ground),
        at("b12", Ground),
        at("b13", SlotId0),
        at("b14", SlotId1),
        at("b15", SlotId2),
        at("b16", Ground),
        at("b17", Ground),
        at("b18", Present),
    ]
};

/// The numbers of the busbar's contacts.
pub const BUSBAR: [&str; 8] = {
    let mut found = [""; 8];
    let (mut count, mut index) = (0, 0);
    while index < CONTACTS.len() {
        if matches!(CONTACTS[index].signal, Signal::Busbar) {
            found[count] = CONTACTS[index].number;
            count += 1;
        }
        index += 1;
    }
    assert!(count == found.len(), "the busbar has eight contacts");
    found
};

/// The name that KiCad's `Conn_02x18_Row_Letter_First` gives the pad of that number.
pub(super) fn pad_name(number: &str) -> &'static str {
    NAMES
        .iter()
        .find(|name| &name["Pin_".len()..] == number)
        .expect("every contact has a name")
}

const NAMES: [&str; 36] = [
    "Pin_a1", "Pin_a2", "Pin_a3", "Pin_a4", "Pin_a5", "Pin_a6", "Pin_a7", "Pin_a8", "Pin_a9",
    "Pin_a10", "Pin_a11", "Pin_a12", "Pin_a13", "Pin_a14", "Pin_a15", "Pin_a16", "Pin_a17",
    "Pin_a18", "Pin_b1", "Pin_b2", "Pin_b3", "Pin_b4", "Pin_b5", "Pin_b6", "Pin_b7", "Pin_b8",
    "Pin_b9", "Pin_b10", "Pin_b11", "Pin_b12", "Pin_b13", "Pin_b14", "Pin_b15", "Pin_b16",
    "Pin_b17", "Pin_b18",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn count(signal: Signal) -> usize {
        CONTACTS.iter().filter(|it| it.signal == signal).count()
    }

    fn place(contact: &Contact) -> u8 {
        contact.number[1..].parse().unwrap()
    }

    #[test]
    fn nothing_but_distance_is_beside_the_busbar() {
        for contact in CONTACTS.iter().filter(|it| it.signal == Signal::Busbar) {
            for other in &CONTACTS {
                if place(other).abs_diff(place(contact)) <= 1 {
                    assert!(matches!(other.signal, Signal::Busbar | Signal::Open));
                }
            }
        }
    }

    #[test]
    fn more_ground_than_busbar_and_both_far_below_their_contacts_rating() {
        assert!(count(Signal::Ground) > count(Signal::Busbar));
        // The eFuse's highest limit, 3.3 A, over contacts at half their rating.
        assert!(count(Signal::Busbar) as f64 * CONTACT_CURRENT / 2.0 > 3.3);
    }

    #[test]
    fn presence_is_last_and_at_both_ends() {
        let ends: Vec<_> = CONTACTS
            .iter()
            .filter(|it| it.signal.stage() == Stage::Last)
            .map(place)
            .collect();
        assert_eq!(ends, [1, 18]);
        assert!(Signal::Ground.stage() < Signal::Busbar.stage());
    }
}
