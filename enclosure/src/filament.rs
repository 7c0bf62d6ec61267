// SPDX-License-Identifier: Apache-2.0
//! What a part weighs when it is printed: a slicer's shell is solid, the rest is filled in part. Counted in cubes; paths of the nozzle,
//! brims and failures are not in it.

use racklet_boards::dimensions::Print;

use crate::layout::Layout;
use crate::mesh::Mesh;
use crate::solids::Part;

/// The side of the cubes, in millimetres: a third of the usual shell.
const CUBE: f64 = 0.4;
/// How far the stated weight may be from the solids', as a part of it.
const CLOSE: f64 = 0.01;

/// Grams of a part as it is printed.
#[must_use]
pub fn grams(print: &Print, mesh: &Mesh) -> f64 {
    let filled = mesh.volume() - (1.0 - print.infill) * inside(mesh, print.shell);
    filled / 1000.0 * print.density
}

/// Grams of all parts of a rack, with as many trays as there are slots, of the heaviest kind.
#[must_use]
pub fn of_rack(layout: &Layout, parts: &[Part]) -> f64 {
    let weight = |part: &Part| grams(&layout.rack.print, &part.printed);
    let (trays, case): (Vec<_>, Vec<_>) = parts.iter().partition(|part| part.count > 1);
    let trays = trays
        .into_iter()
        .map(|part| weight(part) * f64::from(part.count));
    trays.fold(0.0, f64::max) + case.into_iter().map(weight).sum::<f64>()
}

/// What `rack.toml` says of the weight, and the bill of materials after it, is what the solids weigh.
#[must_use]
pub fn check(layout: &Layout, parts: &[Part]) -> Option<String> {
    let (is, stated) = (of_rack(layout, parts), layout.rack.print.grams);
    ((is - stated).abs() > CLOSE * stated)
        .then(|| format!("all parts weigh {is:.0} g, boards/rack.toml says {stated} g"))
}

/// Cubic millimetres further than `shell` from every face, along each axis.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "some hundred cubes along each side"
)]
fn inside(mesh: &Mesh, shell: f64) -> f64 {
    let bounds = mesh.bounds();
    let size =
        [0, 1, 2].map(|axis| ((bounds.high[axis] - bounds.low[axis]) / CUBE).ceil() as usize);
    let [nx, ny, nz] = size;
    let middle = |axis: usize, index: usize| bounds.low[axis] + (index as f64 + 0.5) * CUBE;
    let mut solid = vec![false; nx * ny * nz];
    for x in 0..nx {
        let section = mesh.section(middle(0, x));
        for z in 0..nz {
            for [from, to] in Mesh::spans(&section, middle(2, z)) {
                for y in 0..ny {
                    if (from..to).contains(&middle(1, y)) {
                        solid[(x * ny + y) * nz + z] = true;
                    }
                }
            }
        }
    }
    // A cube stays if as many before and behind it as the shell is thick are solid too, along one axis after the other.
    let thick = (shell / CUBE).round() as usize;
    for (axis, stride) in [(0, ny * nz), (1, nz), (2, 1)] {
        let before = solid.clone();
        for (index, stays) in solid.iter_mut().enumerate() {
            let at = index / stride % size[axis];
            *stays = at >= thick
                && at + thick < size[axis]
                && (0..=2 * thick).all(|step| before[index + step * stride - thick * stride]);
        }
    }
    solid.iter().filter(|&&stays| stays).count() as f64 * CUBE.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout;
    use crate::mesh::{Aabb, block};

    fn plate(thick: f64) -> Mesh {
        block(&Aabb {
            low: [0.0; 3],
            high: [60.0, 40.0, thick],
        })
    }

    #[test]
    fn a_wall_of_two_shells_is_solid_and_a_thicker_plate_is_filled_in_part() {
        let print = layout().rack.print;
        assert!((print.shell - 1.2).abs() < 1e-9 && (print.infill - 0.2).abs() < 1e-9);
        let gram = print.density / 1000.0;
        let thin = grams(&print, &plate(2.4));
        assert!((thin - 60.0 * 40.0 * 2.4 * gram).abs() < 0.01, "{thin}");
        // 57.6 x 37.6 x 2.4 mm are inside.
        let thick = grams(&print, &plate(4.8));
        let expected = (60.0 * 40.0 * 4.8 - 0.8 * 57.6 * 37.6 * 2.4) * gram;
        assert!(
            (thick / expected - 1.0).abs() < 0.02,
            "{thick}, not {expected}"
        );
    }
}
