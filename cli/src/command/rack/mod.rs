// SPDX-License-Identifier: Apache-2.0
//! `racklet rack`: a rack repository, its trays, and clones of it.

mod init;
pub(crate) mod refs;
mod setup;
pub(crate) mod signing;

use clap::Subcommand;
use racklet_boards::Board;

use crate::output::Output;
use init::Init;
use setup::{AddTray, Setup};

/// Rack repositories.
#[derive(Subcommand)]
pub(crate) enum Rack {
    /// Make a rack repository with its trust root and a first signed commit
    ///
    /// The result is an ordinary Git repository: host it anywhere that speaks Git over HTTPS, edit it with anything,
    /// commit with `git commit` (signing is set up) and push. Private keys never go into it.
    Init(Box<Init>),
    /// Add a tray: its file in the repository and its identity key outside of it
    AddTray(AddTray),
    /// Have Git sign commits in a clone of a rack repository with your key
    Setup(Setup),
}

/// Says in time that a tray of this board cannot be booted yet.
fn warn(board: &Board, output: Output) {
    if let Some(missing) = &board.no_images {
        output.note(&format!(
            "no image is built for {} yet: {missing}",
            board.name
        ));
    }
}

impl Rack {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        match self {
            Rack::Init(init) => init.run(output),
            Rack::AddTray(add) => add.run(output),
            Rack::Setup(setup) => setup.run(output),
        }
    }
}
