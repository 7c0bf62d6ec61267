// SPDX-License-Identifier: Apache-2.0
//! The committed schematics, where KiCad is installed: they are what the generator draws, KiCad finds nothing in them at
//! any severity, and their exported netlist is the design.

use racklet_kicad::boards;
use racklet_kicad::cli::Kicad;
use racklet_kicad::design::Design;
use racklet_kicad::project;
use racklet_kicad::schematic::{
    draw,
    generate::{check, check_netlist},
};
use std::path::{Path, PathBuf};

fn designs() -> Vec<Design> {
    if Kicad::is_installed() {
        return boards::all().into_iter().map(|it| it.design).collect();
    }
    eprintln!("skipped: KiCad is not installed");
    Vec::new()
}

fn kicad() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn the_committed_projects_are_what_the_generator_writes() {
    for design in designs() {
        let own = kicad().join("racklet.kicad_sym");
        let mut files = draw(&design, &own).unwrap();
        files.extend(project::files(&design));
        for (name, text) in files {
            let path = kicad().join(design.name).join(name);
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                committed == text,
                "{}: run `cargo xtask hardware`",
                path.display()
            );
        }
    }
}

/// Whether the project's own footprints are all there.
fn footprints_are_drawn(design: &Design) -> bool {
    let library = kicad().join("racklet.pretty");
    design
        .parts
        .iter()
        .filter_map(|part| part.footprint.strip_prefix("racklet:"))
        .all(|name| library.join(format!("{name}.kicad_mod")).exists())
}

#[test]
fn the_drawn_circuits_are_the_designs_and_pass_kicad_s_rules() {
    for design in designs() {
        let folder = kicad().join(design.name);
        // KiCad also asks whether each footprint exists: not yet for the backplane's sockets.
        let outcome = if footprints_are_drawn(&design) {
            check(&design, &folder)
        } else {
            check_netlist(&design, &folder)
        };
        if let Err(error) = outcome {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            panic!("{error}: {}", cause.unwrap_or_default());
        }
    }
}

#[test]
fn swapped_labels_in_the_file_are_noticed_though_kicad_accepts_them() {
    for design in designs().into_iter().take(1) {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(kicad().join(design.name)).unwrap() {
            let entry = entry.unwrap();
            let to = folder.path().join(entry.file_name());
            if entry.file_name() == "host.kicad_sch" {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                let label = |net: &str| format!("(hierarchical_label \"{net}\"");
                let swapped = text
                    .replace(&label("CONSOLE_RX"), "SWAP")
                    .replace(&label("CONTROL_RX"), &label("CONSOLE_RX"))
                    .replace("SWAP", &label("CONTROL_RX"));
                assert_ne!(swapped, text);
                std::fs::write(to, swapped).unwrap();
            } else if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
        let error = check(&design, folder.path()).unwrap_err().to_string();
        assert!(error.contains("CONSOLE_RX"), "{error}");
    }
}
