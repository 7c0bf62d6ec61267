// SPDX-License-Identifier: Apache-2.0
//! Runs all simulations of the BMC board, writes their decks to `kicad/spice/` and their plots to `docs/hardware/spice/`.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use racklet_kicad::{circuits::bmc, spice::simulations};

use crate::folder;

pub(crate) fn run() -> Result<()> {
    let decks = folder().join("spice");
    let plots = folder().join("../docs/hardware/spice");
    fs::create_dir_all(&decks).context("make kicad/spice")?;
    fs::create_dir_all(&plots).context("make docs/hardware/spice")?;
    let mut good = true;
    for simulation in simulations(&bmc::design())? {
        let name = simulation.name;
        fs::write(decks.join(format!("{name}.cir")), simulation.deck())?;
        let outcome = simulation.run()?;
        fs::write(plots.join(format!("{name}.svg")), &outcome.plot)?;
        for it in &outcome.findings {
            let mark = if it.is_good() { "  " } else { "! " };
            println!("{mark}{name}: {}: {:.3e} {}", it.what, it.value, it.unit);
            good &= it.is_good();
        }
    }
    ensure!(good, "a figure is out of its bounds");
    Ok(())
}
