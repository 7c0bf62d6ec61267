// SPDX-License-Identifier: Apache-2.0
//! Writes both boards' schematics into the projects and checks them with KiCad: `cargo run --example schematic -- kicad`.

use std::path::PathBuf;

use racklet_kicad::{
    boards::{self, Board},
    schematic::generate::{check, schematics},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kicad = PathBuf::from(
        std::env::args()
            .nth(1)
            .ok_or("the folder of the projects")?,
    );
    for Board { design, .. } in boards::all() {
        let project = kicad.join(design.name);
        schematics(&design, &project)?;
        if let Err(error) = check(&design, &project) {
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(said) = cause {
                eprintln!("{said}");
                cause = said.source();
            }
            return Err(error.into());
        }
    }
    Ok(())
}
