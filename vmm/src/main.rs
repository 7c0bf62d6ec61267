// SPDX-License-Identifier: Apache-2.0
//! `vmm FOLDER`: runs the microVM of that folder in this process until it ends. Exit statuses: `racklet_api::vmm::exit`.

use std::io::Write;
use std::path::PathBuf;
use std::process::exit;

use racklet_vmm::Starter;

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        // The reader of stderr may be gone; that is no reason to stop.
        let _ = writeln!(
            std::io::stderr(),
            "usage: vmm FOLDER   (a folder with config.json, see ARCHITECTURE.md)"
        );
        exit(2);
    };
    exit(racklet_vmm::run(&PathBuf::from(folder), Starter::MayGo));
}
