// SPDX-License-Identifier: Apache-2.0
//! Runs all simulations of the BMC board, writes their decks to `kicad/spice/` and their plots to `docs/hardware/spice/`.
//!
//! `cargo run -p racklet-kicad --example spice`

use racklet_kicad::circuits::bmc;
use racklet_kicad::spice::simulations;
use std::error::Error;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let decks = root.join("spice");
    let plots = root.join("../docs/hardware/spice");
    fs::create_dir_all(&decks)?;
    fs::create_dir_all(&plots)?;
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
    if good {
        Ok(())
    } else {
        Err("a figure is out of its bounds".into())
    }
}
