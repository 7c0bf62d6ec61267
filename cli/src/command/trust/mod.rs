// SPDX-License-Identifier: Apache-2.0
//! `racklet trust` and `racklet key`: who may change what, shown and replaced by its next version.

pub(crate) mod key;
pub(crate) mod role;
mod rotate;
mod show;

use anyhow::Context;
use clap::Subcommand;

use crate::output::Output;
use crate::rack::RackArgument;
use rotate::{Changes, Rotate, Signing, change, sign};

/// The rack's trust root: who may change what.
#[derive(Subcommand)]
pub(crate) enum Trust {
    /// Show roles, keys and thresholds, and a version that is being prepared
    Show {
        #[command(flatten)]
        rack: RackArgument,
    },
    /// Make, sign and commit the next version
    ///
    /// Version N+1 counts when enough root keys of version N and enough of its own have signed it. If your keys do not
    /// suffice, send the folder trust/<N+1> to the others, before it is committed, and have them run `racklet trust sign`.
    Rotate(Rotate),
    /// Sign the version that is being prepared
    Sign {
        #[command(flatten)]
        signing: Signing,
        #[command(flatten)]
        rack: RackArgument,
    },
}

impl Trust {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        match self {
            Trust::Show { rack } => show::show(&rack.open()?, output),
            Trust::Rotate(rotate) => {
                let changes = Changes {
                    add: rotate.add,
                    remove: rotate.remove,
                    threshold: rotate.threshold,
                    yes: rotate.yes,
                };
                change(&rotate.rack.open()?, &changes, &rotate.signing, output)
            }
            Trust::Sign { signing, rack } => {
                let rack = rack.open()?;
                let root = rack.head()?.root.clone();
                let pending = rack.pending(&root)?;
                let (files, _) = pending.context("no version of the trust root is being prepared; make one with `racklet trust rotate`")?;
                sign(&rack, &root, files, &signing, output)
            }
        }
    }
}
