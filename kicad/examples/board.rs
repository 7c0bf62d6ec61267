// SPDX-License-Identifier: Apache-2.0
//! Lays out and routes a board into its project's folder: `board NAME FOLDER`.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("board NAME FOLDER".into());
    };
    racklet_kicad::generate::boards(&name, folder.as_ref())?;
    Ok(())
}
