// SPDX-License-Identifier: Apache-2.0
//! Makes the enclosure in the folder given: STL files and pictures, after all checks.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(std::env::args().nth(1).ok_or("which folder?")?);
    racklet_enclosure::generate(&out)?;
    Ok(())
}
