// SPDX-License-Identifier: Apache-2.0
//! Runs the chain of checks over a project: `judge FOLDER`, the folder being named like the circuit.
use racklet_kicad::{
    boards,
    check::project::Link,
    cli::{Kicad, Project},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("judge FOLDER")?;
    let folder = std::path::absolute(folder)?;
    let name = folder
        .file_name()
        .ok_or("a folder")?
        .to_string_lossy()
        .into_owned();
    let board = boards::find(&name).ok_or("no board is called like the folder")?;
    let (kicad, project) = (Kicad::new()?, Project { folder, name });
    for link in Link::ALL {
        let found = link.findings(&kicad, &project, &board)?;
        println!("{}: {} findings", link.title(), found.len());
        for line in found {
            println!("  {line}");
        }
    }
    Ok(())
}
