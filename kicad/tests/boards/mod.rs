// SPDX-License-Identifier: Apache-2.0
//! A board of two resistors, small enough to read: pads 1 joined on top, pads 2 over two vias and the bottom.

use std::{fs, path::Path};

use racklet_kicad::{
    cli::Project,
    design::{Design, Part, Pin},
};

const PADS: &str = r#"
	(footprint "two:R" (layer "F.Cu") (at AT) (property "Reference" "NAME" (at 0 0 0) (layer "F.SilkS") (effects (font (size 1 1) (thickness 0.15))))
		(property "Value" "1k" (at 0 1 0) (layer "F.Fab") (effects (font (size 1 1) (thickness 0.15)))) (attr smd)
		(pad "1" smd roundrect (at -1 0) (size 1 1) (layers "F.Cu" "F.Mask" "F.Paste") (roundrect_rratio 0.25) (net 1 "A"))
		(pad "2" smd oval (at 1 0) (size 1 1.4) (layers "F.Cu" "F.Mask" "F.Paste") (net 2 "B")))"#;

const BOARD: &str = r#"(kicad_pcb (version 20241229) (generator "racklet") (generator_version "9.0") (general (thickness 1.6)) (paper "A4")
	(layers (0 "F.Cu" signal) (2 "B.Cu" signal) (13 "F.Paste" user) (15 "B.Paste" user) (5 "F.SilkS" user) (7 "B.SilkS" user)
		(1 "F.Mask" user) (3 "B.Mask" user) (25 "Edge.Cuts" user) (35 "F.Fab" user))
	(setup (pad_to_mask_clearance 0)) (net 0 "") (net 1 "A") (net 2 "B")R1R2
	(gr_rect (start 98 88) (end 122 112) (stroke (width 0.1) (type default)) (fill no) (layer "Edge.Cuts"))
	(segment (start 104 100) (end 104 95) (width 0.25) (layer "F.Cu") (net 1))
	(segment (start 104 95) (end 114 95) (width 0.25) (layer "F.Cu") (net 1))
	(arc (start 114 95) (mid 113 97.5) (end 114 100) (width 0.25) (layer "F.Cu") (net 1))
	(segment (start 106 100) (end 106 105) (width 0.25) (layer "F.Cu") (net 2))
	(via (at 106 105) (size 0.6) (drill 0.3) (layers "F.Cu" "B.Cu") (net 2))
	(segment (start 106 105) (end 116 105) (width 0.25) (layer "B.Cu") (net 2))
	(via (at 116 105) (size 0.6) (drill 0.3) (layers "F.Cu" "B.Cu") (net 2))
	(segment (start 116 105) (end 116 100) (width 0.25) (layer "F.Cu") (net 2))
)
"#;

/// Writes the board into `folder/two`, changed by `change`.
pub(crate) fn two_resistors(folder: &Path, change: impl Fn(String) -> String) -> Project {
    let project = Project {
        folder: folder.join("two"),
        name: "two".into(),
    };
    let part = |name, at| PADS.replace("AT", at).replace("NAME", name);
    let board = BOARD.replace("R1R2", &(part("R1", "105 100") + &part("R2", "115 100")));
    fs::create_dir_all(&project.folder).unwrap();
    fs::write(project.file("kicad_pcb"), change(board)).unwrap();
    fs::write(project.file("kicad_pro"), "{}\n").unwrap();
    let rule = "(version 1)\n(rule width (constraint track_width (min 0.15mm)))\n";
    fs::write(project.file("kicad_dru"), rule).unwrap();
    project
}

/// What it is meant to be.
pub(crate) fn intent() -> Design {
    let mut design = Design::new("two", "Two resistors", "A");
    for reference in ["R1", "R2"] {
        let pin = |number, net| Pin {
            number,
            name: "~",
            net,
        };
        design.parts.push(Part {
            reference,
            symbol: "Device:R",
            footprint: "two:R",
            value: "1k".into(),
            bom: None,
            sheet: "one",
            note: "",
            pins: vec![pin("1", "A"), pin("2", "B")],
        });
    }
    design
}
