// SPDX-License-Identifier: Apache-2.0
//! What the files of an accepted head want of one tray.

use std::sync::Arc;

use racklet_fetch::rack::{RackTree, TreeError};
use racklet_rack::{Problem, Problems, TrayDesired};

/// Why a head that was accepted is not put in force: its files are at fault. It is part of the history all the same.
#[derive(Debug, thiserror::Error)]
pub enum AtFault {
    /// Links, or too many files.
    #[error(transparent)]
    Tree(Arc<TreeError>),
    /// The objects in them.
    #[error("{}", first(.0))]
    Files(Problems),
    /// Another rack's objects under this rack's keys.
    #[error("rack.yaml: spec.id is {found}, this tray belongs to rack {expected}")]
    OtherRack {
        /// What rack.yaml says.
        found: String,
        /// What the trust root says.
        expected: String,
    },
    /// They know no such tray.
    #[error("the rack has no tray {0}: add trays/{0}.yaml to the rack repository")]
    UnknownTray(String),
}

impl AtFault {
    /// What is wrong with the objects, one by one; nothing where that is not what is at fault.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Files(problems) => problems.list(),
            _ => &[],
        }
    }
}

/// The first problem, and how many more there are.
fn first(problems: &Problems) -> String {
    match problems.list() {
        [] => String::new(),
        [one] => one.to_string(),
        [one, rest @ ..] => format!("{one} (and {} more)", rest.len()),
    }
}

/// What a head wants of a tray.
#[derive(Debug)]
pub struct Desired {
    /// What the tray should boot and run.
    pub tray: TrayDesired,
    /// What is odd, and no fault.
    pub warnings: Vec<Problem>,
}

/// Reads a head's files: all of them, so that a fault anywhere keeps the head from being in force on every tray alike.
///
/// # Errors
/// [`AtFault`] with what to mend.
pub fn desired(tree: &RackTree, tray: &str) -> Result<Desired, AtFault> {
    let files = tree.files().map_err(AtFault::Tree)?;
    let state = racklet_rack::load(files).map_err(AtFault::Files)?;
    let (found, expected) = (state.id.to_string(), tree.head().root.rack().to_string());
    if found != expected {
        return Err(AtFault::OtherRack { found, expected });
    }
    let unknown = || AtFault::UnknownTray(tray.to_owned());
    let name = state.trays.keys().find(|name| name.as_str() == tray);
    let name = name.ok_or_else(unknown)?;
    Ok(Desired {
        tray: racklet_rack::resolve(&state, name).map_err(|_| unknown())?,
        warnings: state.warnings,
    })
}
