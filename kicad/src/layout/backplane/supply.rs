// SPDX-License-Identifier: Apache-2.0
//! The busbar's eFuse, 5 V for fans and switch, and the 3.3 V that is always on.

use super::{field, rectangle};
use crate::layout::{B, F};
use crate::pcb::build::Draft;

pub(super) fn all(on: &mut Draft<'_>) {
    efuse(on);
    let five = Buck {
        chip: "U10",
        at: (45.4, 150.8),
        small: "C39",
        boot: "C40",
        coil: "L3",
        out: ["C41", "C42"],
        switch: "V5_SW",
        output: "5V",
        // Up to the fuse of the switch's plug, and to where the fans' 5 V goes below.
        further: &[
            (5.8, -1.8),
            (5.8, -8.4),
            (8.2, -8.4),
            (8.2, -5.8),
            (7.6, -5.8),
            (7.6, -0.3),
        ],
    };
    five.put(on);
    on.put_all(&[
        ("C38", 45.4, 156.2, 0.0),
        ("F3", 54.4, 145.9, 0.0),
        ("J8", 60.4, 146.0, 0.0),
        ("F1", 53.0, 158.2, 0.0),
        ("TP4", 56.0, 142.0, 0.0),
        ("TP6", 61.0, 153.0, 0.0),
    ]);
    five_volts(on);
    let always_on = Buck {
        chip: "U4",
        at: (26.4, 117.6),
        small: "C23",
        boot: "C20",
        coil: "L2",
        out: ["C21", "C22"],
        switch: "AON_SW",
        output: "3V3",
        further: &[],
    };
    always_on.put(on);
    on.put_all(&[
        ("C19", 26.4, 122.6, 0.0),
        ("D1", 25.4, 126.0, 180.0),
        ("D2", 33.8, 126.0, 0.0),
        ("TP5", 43.0, 121.5, 0.0),
    ]);
    field(on, "3V3", &[37.4, 40.3], &[117.7, 118.4]);
}

fn efuse(on: &mut Draft<'_>) {
    on.put_all(&[
        ("U8", 30.0, 149.0, 90.0),
        ("C32", 25.0, 149.3, 90.0),
        ("R23", 30.3, 154.8, 90.0),
        ("R24", 31.9, 154.8, 270.0),
        ("R25", 33.5, 154.8, 270.0),
        ("C33", 35.1, 154.8, 270.0),
        ("R26", 36.2, 146.0, 0.0),
        ("R27", 36.2, 147.6, 0.0),
        ("R28", 36.2, 149.2, 0.0),
        ("C34", 39.2, 148.6, 0.0),
        ("R29", 40.2, 147.0, 0.0),
        ("Q3", 38.6, 152.8, 180.0),
        ("R30", 40.2, 150.2, 0.0),
        ("D5", 37.4, 142.7, 0.0),
        ("C36", 44.2, 143.6, 0.0),
        ("C35", 55.6, 126.2, 0.0),
        ("C37", 55.6, 9.2, 0.0),
        ("TP2", 47.6, 145.4, 0.0),
    ]);
    // Out of the eFuse to the trunk on the lower side; D5 and C36 where the current passes.
    on.area(
        "Busbar",
        "BUSBAR",
        F,
        &[
            (24.0, 140.9),
            (36.6, 140.9),
            (36.6, 143.9),
            (28.65, 143.9),
            (28.65, 147.1),
            (24.0, 147.1),
        ],
    );
    field(
        on,
        "BUSBAR",
        &[24.7, 25.6, 26.5, 27.4, 28.3],
        &[141.6, 142.6, 143.6],
    );
    on.area(
        "Busbar, C36",
        "BUSBAR",
        F,
        &rectangle(41.4, 142.0, 44.0, 145.0),
    );
    field(on, "BUSBAR", &[41.75], &[142.4, 143.2, 144.0]);
    on.area(
        "Busbar, C35",
        "BUSBAR",
        F,
        &rectangle(48.0, 124.7, 54.2, 127.7),
    );
    field(on, "BUSBAR", &[48.5], &[125.2, 126.2, 127.2]);
    let sense = on.pad("U8", "6");
    on.run(
        "VIN_RACK",
        F,
        0.15,
        &[
            sense,
            (sense.0, sense.1 + 1.0),
            (sense.0 - 0.3, sense.1 + 1.2),
            (sense.0 - 1.5, sense.1 + 1.4),
        ],
    );
    // Its signals leave between the busbar above and the resistors below.
    for (pad, net, y, x) in [
        ("15", "EFUSE_FAULT_N", 144.25, 38.2),
        ("14", "EFUSE_IMON", 144.6, 33.4),
        ("13", "EFUSE_SHDN_N", 144.95, 33.8),
    ] {
        let from = on.pad("U8", pad);
        on.run(net, F, 0.15, &[from, (from.0, y), (x, y)]);
    }
    let (sensor, below) = (on.pad("U9", "8"), (36.0, 159.35));
    on.run("VIN_RACK", F, 0.15, &[sensor, (36.25, sensor.1), below]);
    on.vias("VIN_RACK", &[below]);
    // What the shunt measured also feeds 5 V and the controller.
    on.area(
        "Rack",
        "VIN_RACK",
        B,
        &[
            (23.8, 151.8),
            (26.6, 151.8),
            (26.6, 156.2),
            (51.6, 156.2),
            (51.6, 157.9),
            (36.5, 157.9),
            (36.5, 159.8),
            (35.5, 159.8),
            (35.5, 157.9),
            (23.8, 157.9),
        ],
    );
    on.area(
        "Rack, U10",
        "VIN_RACK",
        F,
        &rectangle(42.1, 151.0, 44.8, 158.0),
    );
    field(on, "VIN_RACK", &[42.6], &[156.6, 157.5]);
    on.area(
        "Rack, F1",
        "VIN_RACK",
        F,
        &rectangle(48.9, 156.5, 51.4, 158.2),
    );
    field(on, "VIN_RACK", &[49.4], &[156.7, 157.5]);
}

fn five_volts(on: &mut Draft<'_>) {
    // From the coil up to the fuse of the switch's plug, and to the fans on the lower side.
    field(on, "5V", &[51.7, 52.5, 53.3], &[142.9, 143.7]);
    on.area(
        "5 V",
        "5V",
        B,
        &[
            (51.4, 142.4),
            (51.4, 144.2),
            (60.4, 144.2),
            (60.4, 114.3),
            (62.8, 114.3),
            (62.8, 112.9),
            (60.4, 112.9),
            (60.4, 88.0),
            (62.8, 88.0),
            (62.8, 86.6),
            (58.8, 86.6),
            (58.8, 142.4),
        ],
    );
    on.area(
        "Switch",
        "SWITCH_5V",
        F,
        &rectangle(55.9, 144.6, 61.0, 147.3),
    );
}

/// An AP6320x with its parts, output to the right.
struct Buck {
    chip: &'static str,
    at: (f64, f64),
    small: &'static str,
    boot: &'static str,
    coil: &'static str,
    out: [&'static str; 2],
    switch: &'static str,
    output: &'static str,
    /// What its output's area covers besides.
    further: &'static [(f64, f64)],
}

impl Buck {
    fn put(&self, on: &mut Draft<'_>) {
        let (x, y) = self.at;
        on.put_all(&[
            (self.chip, x, y, 0.0),
            (self.small, x, y + 2.8, 0.0),
            (self.boot, x + 3.6, y - 2.0, 0.0),
            (self.coil, x + 5.7, y + 1.6, 0.0),
            (self.out[0], x + 9.7, y + 1.6, 270.0),
            (self.out[1], x + 12.3, y + 1.6, 270.0),
        ]);
        let shifted = |points: &[(f64, f64)]| -> Vec<_> {
            points.iter().map(|(dx, dy)| (x + dx, y + dy)).collect()
        };
        on.area(
            &format!("Switch node, {}", self.chip),
            self.switch,
            F,
            &shifted(&[
                (0.5, -0.4),
                (3.2, -0.4),
                (3.9, -2.5),
                (4.9, -2.5),
                (5.0, 3.3),
                (3.9, 3.3),
                (3.9, 0.4),
                (0.5, 0.4),
            ]),
        );
        let mut output = vec![(6.3, 3.5), (6.3, -0.3)];
        output.extend(self.further);
        output.extend([(14.4, -0.3), (14.4, 1.2), (7.5, 1.1), (7.5, 3.5)]);
        on.area(
            &format!("Output, {}", self.chip),
            self.output,
            F,
            &shifted(&output),
        );
    }
}
