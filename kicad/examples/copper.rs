// SPDX-License-Identifier: Apache-2.0
//! Prints what the copper of a folder of Gerbers does otherwise than an IPC-D-356 file says: `copper FOLDER NETS`.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(nets)) = (arguments.next(), arguments.next()) else {
        return Err("copper FOLDER NETS".into());
    };
    let fabrication = racklet_kicad::gerber::Fabrication::read(folder.as_ref(), nets.as_ref())?;
    let findings = fabrication.findings(None);
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => Err(format!("{count} findings").into()),
    }
}
