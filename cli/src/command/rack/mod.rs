// SPDX-License-Identifier: Apache-2.0
//! `racklet rack`: a rack repository, its trays, and clones of it.

mod init;
pub(crate) mod refs;
mod setup;
pub(crate) mod signing;

use clap::Subcommand;

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

impl Rack {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        match self {
            Rack::Init(init) => init.run(output),
            Rack::AddTray(add) => add.run(output),
            Rack::Setup(setup) => setup.run(output),
        }
    }
}
