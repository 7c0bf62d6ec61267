// SPDX-License-Identifier: Apache-2.0
//! Every check refuses the mistake it is there for: the circuits and copies of the committed projects are spoilt one way each, and the
//! link of the chain that `cargo xtask hardware --check` runs has to refuse them and say why. Runs where KiCad is installed.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod board;
mod circuit;
mod mechanics;
mod project;
mod sheets;
mod spoilt;

use racklet_kicad::check::project::Link;

/// Otherwise a refusal would prove nothing. KiCad's rules of boards, minutes on the larger one, are asked about what is spoilt for them;
/// `cargo xtask hardware --check` asks about all.
#[test]
fn the_committed_projects_pass_every_link() {
    for copy in spoilt::Spoilt::all() {
        for link in Link::ALL {
            let looks = match link {
                Link::Drc => copy.is_for_drc() && copy.has_board(),
                _ => !link.is_of_the_board() || copy.has_board(),
            };
            if looks {
                assert_eq!(copy.findings(link), [""; 0], "{link:?}");
            }
        }
    }
}
