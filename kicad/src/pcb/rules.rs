// SPDX-License-Identifier: Apache-2.0
//! The project's `.kicad_dru`: what the fab can make, and how wide the tracks of each class must be.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::design::Design;

/// The group of tracks that may be narrower than their class: each feeds one part that draws little (sense lines, gates,
/// supplies of small parts), and the layout's checks bound what that is.
pub const TAPS: &str = "Taps";

/// Narrowest tap, in millimetres.
const TAP: f64 = 0.15;

/// The rules' file.
#[must_use]
pub fn rules(design: &Design) -> String {
    let mut out = String::from(
        "(version 1)\n\
         # SPDX-License-Identifier: CERN-OHL-P-2.0\n\
         # Written by the generator in kicad/src/pcb/rules.rs; edit there.\n\n\
         # What two common houses make without surcharge: 4 layers, 1 oz outside, 0.5 oz inside.\n\
         (rule \"width of any track\"\n\t(constraint track_width (min 0.15mm)))\n\
         (rule \"ring about a hole\"\n\t(condition \"A.Type == 'Via' || A.Pad_Type == 'Through-hole'\")\n\t(constraint annular_width (min 0.13mm)))\n\
         (rule \"size of holes\"\n\t(constraint hole_size (min 0.2mm) (max 6.3mm)))\n\
         (rule \"holes of vias\"\n\t(condition \"A.Type == 'Via'\")\n\t(constraint hole_size (min 0.3mm)))\n\
         (rule \"hole to hole\"\n\t(constraint hole_to_hole (min 0.25mm)))\n\
         (rule \"hole to copper\"\n\t(constraint hole_clearance (min 0.2mm)))\n\
         (rule \"copper to the edge\"\n\t(constraint edge_clearance (min 0.3mm)))\n",
    );
    let mut classes = BTreeMap::new();
    for net in design.nets.values() {
        classes.insert(net.class.name, net.class);
    }
    out.push_str("\n# Width from current (IPC-2221, 10 K, 1 oz). Ground is a plane.\n");
    for class in classes.values().filter(|class| class.name != "Default") {
        let _ = writeln!(
            out,
            "(rule \"width of {0}\"\n\t(condition \"A.NetClass == '{0}' && A.NetName != 'GND' && !A.memberOfGroup('{TAPS}')\")\n\t(constraint track_width (min {1}mm)))\n\
             (rule \"taps of {0}\"\n\t(condition \"A.NetClass == '{0}' && A.memberOfGroup('{TAPS}')\")\n\t(constraint track_width (min {TAP}mm)))",
            class.name, class.width,
        );
    }
    out.push_str(
        "\n# The input is up to 24 V (40 V in a surge): clearance and creepage by voltage.\n",
    );
    for class in classes.values().filter(|class| class.clearance > 0.15) {
        let _ = writeln!(
            out,
            "(rule \"clearance of {0}\"\n\t(condition \"A.NetClass == '{0}'\")\n\t(constraint clearance (min {1}mm)))",
            class.name, class.clearance,
        );
    }
    // Among themselves the input's nets differ by a gate's drive or a shunt's drop.
    let creepage = classes
        .values()
        .map(|class| class.clearance)
        .fold(0.15, f64::max);
    let _ = writeln!(
        out,
        "(rule \"creepage at the input\"\n\t(condition \"A.NetClass == 'Input*' && B.NetClass != 'Input*'\")\n\t(constraint creepage (min {creepage}mm)))",
    );
    out.push_str(
        "\n# Between the pads of a part the package decides: a 0.65 mm SON leaves 0.14 mm.\n\
         (rule \"pads of parts\"\n\t(condition \"A.Type == 'Pad' && B.Type == 'Pad' && A.Parent == B.Parent\")\n\t(constraint clearance (min 0.13mm)))\n",
    );
    out
}
