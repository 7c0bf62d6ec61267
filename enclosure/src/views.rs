// SPDX-License-Identifier: Apache-2.0
//! Pictures of the rack: closed, and taken apart. What is bought stands in them as boxes.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::layout::Layout;
use crate::mesh::Aabb;
use crate::solids::{CASE, Failed, hosts, run, write};

const SIZE: &str = "--imgsize=1400,1200";

/// Renders `rack.png`, `rack-exploded.png` and `tray.png` into `out`; the solids have been made there.
///
/// # Errors
/// [`Failed`].
pub fn render(layout: &Layout, out: &Path) -> Result<(), Failed> {
    let apart = |part: &str| -> [f64; 3] {
        match part {
            "base" => [0.0, 0.0, -45.0],
            "left-wall" => [-70.0, 0.0, 0.0],
            "right-wall" => [70.0, 0.0, 0.0],
            "rear-wall" => [0.0, 95.0, 0.0],
            "top" => [0.0, 0.0, 75.0],
            "front" => [-25.0, -95.0, 25.0],
            "divider" => [-25.0, 0.0, 25.0],
            _ => [0.0; 3],
        }
    };
    picture(out, "rack", &scene(layout, |_| [0.0; 3], 0.0), "62,0,-32")?;
    picture(
        out,
        "rack-exploded",
        &scene(layout, apart, 110.0),
        "64,0,-36",
    )?;
    picture(
        out,
        "rack-rear",
        &scene(layout, |_| [0.0; 3], 0.0),
        "66,0,140",
    )?;
    picture(out, "tray", &one_tray(layout), "52,0,-32")
}

fn picture(out: &Path, name: &str, scene: &str, turn: &str) -> Result<(), Failed> {
    let source = out.join("scad").join(format!("{name}.scad"));
    write(&source, scene)?;
    let mut command = Command::new("xvfb-run");
    command.args([
        "-a",
        "openscad",
        SIZE,
        "--colorscheme=Tomorrow",
        "--projection=p",
        "--autocenter",
        "--viewall",
    ]);
    command.arg(format!("--camera=0,0,0,{turn},500"));
    run(
        name,
        command
            .arg("-o")
            .arg(out.join(format!("{name}.png")))
            .arg(&source),
    )
}

fn scene(layout: &Layout, apart: impl Fn(&str) -> [f64; 3], trays_out: f64) -> String {
    let mut scene = String::from("// SPDX-License-Identifier: CERN-OHL-P-2.0\n");
    let mut add = |line: String| writeln!(scene, "{line}").expect("strings grow");
    for part in CASE {
        let colour = if ["base", "top", "deck"].contains(&part) {
            "#d9573f"
        } else {
            "#3c4450"
        };
        add(format!(
            "translate({:?}) color(\"{colour}\") import(\"{part}.placed.stl\");",
            apart(part)
        ));
    }
    let hosts = hosts();
    for slot in 1..=layout.rack.slots {
        let host = &hosts[0];
        let (down, forward) = (layout.tray_z(slot) - layout.tray_z(1), -trays_out);
        add(format!(
            "translate([0, {forward}, {down}]) color(\"#eceff1\") import(\"tray-{}.placed.stl\");",
            host.name
        ));
        for (name, shape) in layout.boards(host, slot) {
            add(format!(
                "translate([0, {forward}, 0]) {}",
                solid(&name, &shape)
            ));
        }
    }
    for (name, shape) in layout.backplane(&layout.backplane.sockets) {
        add(format!(
            "translate([0, {}, 0]) {}",
            trays_out * 0.35,
            solid(&name, &shape)
        ));
    }
    let switch = ("switch".to_owned(), layout.switch(&layout.rack.switches[0]));
    for (name, shape) in layout.fan_boxes().into_iter().chain([switch]) {
        let by = match name.as_str() {
            "switch" => [0.0, -trays_out, 0.0],
            _ => [-trays_out * 0.35, 0.0, 0.0],
        };
        add(format!("translate({by:?}) {}", solid(&name, &shape)));
    }
    scene
}

fn one_tray(layout: &Layout) -> String {
    let host = &hosts()[0];
    let mut scene = format!(
        "color(\"#eceff1\") import(\"tray-{}.placed.stl\");\n",
        host.name
    );
    for (name, shape) in layout.boards(host, 1) {
        writeln!(scene, "{}", solid(&name, &shape)).expect("strings grow");
    }
    scene
}

fn solid(name: &str, shape: &Aabb) -> String {
    let colour = match name {
        name if name.starts_with("raspberry") || name.starts_with("rp2350") => "#2e7d4f",
        name if name.starts_with("usb") || name == "ethernet" || name == "network" => "#b0b5ba",
        name if name.starts_with("socket") || name == "header" || name.starts_with("fan") => {
            "#23262b"
        }
        "tab" => "#c9a227",
        "switch" => "#5b7fa6",
        _ => "#8a9097",
    };
    let size = [0, 1, 2].map(|axis| shape.high[axis] - shape.low[axis]);
    format!(
        "translate({:.3?}) color(\"{colour}\") cube({size:.3?});",
        shape.low
    )
}
