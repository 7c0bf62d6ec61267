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

/// Otherwise a refusal would prove nothing.
#[test]
fn the_committed_projects_pass_every_link() {
    for copy in spoilt::Spoilt::all() {
        for link in Link::ALL {
            if !link.is_of_the_board() || copy.has_board() {
                assert_eq!(copy.findings(link), [""; 0], "{link:?}");
            }
        }
    }
}
