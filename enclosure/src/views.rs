// SPDX-License-Identifier: Apache-2.0
//! Pictures of the rack: in use, from behind, taken apart, and a tray.

use std::path::Path;
use std::{fs, io};

use crate::layout::Layout;
use crate::models;
use crate::picture::{self, Colour, Scene, View, colour};
use crate::solids::{Failed, Part, hosts};
use crate::vector::Vec3;

/// Which tray is half out, and how far; the uppermost, before which no cable hangs.
const PULLED: (u32, f64) = (1, 58.0);

/// What pictures are for: how large they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// A release, beside the solids.
    Release,
    /// The documents: small enough to be kept with them.
    Documents,
}

/// Draws `rack.png`, `rack-rear.png`, `rack-exploded.png`, `tray.png` and `parts.png` for a release; for documents some of them, called
/// `case...`.
///
/// # Errors
/// [`Failed::File`].
pub fn render(layout: &Layout, parts: &[Part], out: &Path, reader: For) -> Result<(), Failed> {
    let view = |around, above| View {
        around,
        above,
        size: match reader {
            For::Release => [1600, 1200],
            For::Documents => [960, 720],
        },
        samples: if reader == For::Release { 2 } else { 3 },
        coarse: if reader == For::Release { 1 } else { 4 },
    };
    let whole = in_use(layout, parts);
    let apart = apart(layout, parts);
    let tray = tray(layout, parts);
    let beds = beds(layout, parts);
    let pictures = match reader {
        For::Release => vec![
            ("rack", &whole, view(33.0, 21.0)),
            ("rack-rear", &whole, view(128.0, 24.0)),
            ("rack-exploded", &apart, view(36.0, 24.0)),
            ("tray", &tray, view(38.0, 32.0)),
            ("parts", &beds, view(0.0, 55.0)),
        ],
        For::Documents => vec![
            ("case", &whole, view(33.0, 21.0)),
            ("case-apart", &apart, view(36.0, 24.0)),
            ("case-tray", &tray, view(38.0, 32.0)),
        ],
    };
    for (name, scene, view) in pictures {
        let path = out.join(format!("{name}.png"));
        let rows = picture::draw(scene, &view);
        encode(view.size, &rows)
            .map_err(io::Error::from)
            .and_then(|file| fs::write(&path, file))
            .map_err(|source| Failed::File { path, source })?;
    }
    Ok(())
}

/// A picture of eight bits each of red, green and blue as a PNG, which has no date and no name of a program in it.
fn encode(size: [usize; 2], rows: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let side = |side: usize| u32::try_from(side).map_err(|_| png::EncodingError::LimitsExceeded);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side(size[0])?, side(size[1])?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rows)?;
    writer.finish()?;
    Ok(file)
}

fn colour_of(part: &str) -> Colour {
    match part {
        "base" | "top" | "deck" => colour(0xe0_5a_3c),
        part if part.starts_with("tray") => colour(0xec_e8_e0),
        _ => colour(0x4a_54_62),
    }
}

/// A tray of the first choice of host, with its boards, in a slot and moved.
fn put_tray(scene: &mut Scene, layout: &Layout, parts: &[Part], slot: u32, by: Vec3) {
    let hosts = hosts();
    // The one that the power budget is for.
    let host = hosts.last().expect("there are hosts");
    let name = format!("tray-{}", host.name);
    let down = layout.tray_z(slot) - layout.tray_z(1);
    for part in parts.iter().filter(|part| part.name == name) {
        let mesh = part.placed.moved([by[0], by[1], by[2] + down]);
        scene.add(&mesh, colour_of(&name));
    }
    for (mesh, colour) in models::boards(layout, host, slot) {
        scene.add(&mesh.moved(by), colour);
    }
}

fn in_use(layout: &Layout, parts: &[Part]) -> Scene {
    let mut scene = Scene::default();
    for part in parts.iter().filter(|part| part.count == 1) {
        scene.add(&part.placed, colour_of(&part.name));
    }
    for slot in 1..=layout.rack.slots {
        let out = if slot == PULLED.0 { PULLED.1 } else { 0.0 };
        put_tray(&mut scene, layout, parts, slot, [0.0, -out, 0.0]);
    }
    let switch = models::switch(layout, &layout.rack.switches[0]);
    let hosts = hosts();
    let host = hosts.last().expect("there are hosts");
    let cables = models::cables(layout, host, PULLED.0);
    let bought = models::backplane(layout)
        .into_iter()
        .chain(models::fans(layout));
    for (mesh, colour) in bought.chain(switch).chain(cables) {
        scene.add(&mesh, colour);
    }
    scene
}

fn apart(layout: &Layout, parts: &[Part]) -> Scene {
    let mut scene = Scene::default();
    for part in parts.iter().filter(|part| part.count == 1) {
        let by = match part.name.as_str() {
            "base" => [0.0, 0.0, -50.0],
            "left-wall" => [-95.0, 0.0, 0.0],
            "right-wall" => [110.0, 0.0, 0.0],
            "rear-wall" => [0.0, 120.0, 0.0],
            "top" => [0.0, 0.0, 60.0],
            "front" => [-45.0, -70.0, 0.0],
            _ => [0.0; 3],
        };
        scene.add(&part.placed.moved(by), colour_of(&part.name));
    }
    for slot in 1..=layout.rack.slots {
        put_tray(&mut scene, layout, parts, slot, [0.0, -130.0, 0.0]);
    }
    let mut add = |models: Vec<models::Model>, by: Vec3| {
        for (mesh, colour) in models {
            scene.add(&mesh.moved(by), colour);
        }
    };
    add(models::backplane(layout), [0.0, 45.0, 0.0]);
    add(models::fans(layout), [-50.0, 0.0, 0.0]);
    let switch = &layout.rack.switches[0];
    add(models::switch(layout, switch), [0.0, -130.0, -25.0]);
    scene
}

fn tray(layout: &Layout, parts: &[Part]) -> Scene {
    let mut scene = Scene::default();
    put_tray(&mut scene, layout, parts, 1, [0.0; 3]);
    scene
}

/// Every part as it lies on the printer's bed, four beds in a row.
fn beds(layout: &Layout, parts: &[Part]) -> Scene {
    let mut scene = Scene::default();
    for (part, index) in parts.iter().zip(0u32..) {
        let bounds = part.printed.bounds();
        let bed = layout.rack.print.bed;
        let (column, row) = (f64::from(index % 4), f64::from(index / 4));
        let middle = [0, 1].map(|axis| f64::midpoint(bounds.low[axis], bounds.high[axis]));
        let to = [
            column * bed - middle[0],
            -row * bed - middle[1],
            -bounds.low[2],
        ];
        scene.add(&part.printed.moved(to), colour_of(&part.name));
    }
    scene
}
