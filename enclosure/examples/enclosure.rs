// SPDX-License-Identifier: Apache-2.0
//! Makes the enclosure in the folder given: STL files and pictures, after all checks. A second folder gets the documents' pictures.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut folders = std::env::args().skip(1).map(PathBuf::from);
    let out = folders.next().ok_or("which folder?")?;
    racklet_enclosure::generate(&out, folders.next().as_deref())?;
    Ok(())
}
