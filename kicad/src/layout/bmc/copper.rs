// SPDX-License-Identifier: Apache-2.0
//! The BMC board's planes, and what carries amperes.

use super::Tab;
use crate::layout::{B, F, IN1, IN2};
use crate::pcb::build::Draft;

/// The board within its clearance to the edge; the inner planes end before the fingers' bevel.
fn inset(tab: Tab) -> Vec<(f64, f64)> {
    let (top, bottom) = (tab.top + 0.4, tab.bottom - 0.4);
    let (key_top, key_bottom) = (tab.key - 1.4, tab.key + 1.4);
    vec![
        (1.5, 0.5),
        (63.5, 0.5),
        (64.5, 1.5),
        (64.5, 55.0),
        (63.5, 56.0),
        (1.5, 56.0),
        (0.5, 55.0),
        (0.5, bottom),
        (-1.9, bottom),
        (-1.9, key_bottom),
        (0.2, key_bottom),
        (0.2, key_top),
        (-1.9, key_top),
        (-1.9, top),
        (0.5, top),
        (0.5, 1.5),
    ]
}

pub(super) fn planes(on: &mut Draft<'_>, tab: Tab) {
    let whole = inset(tab);
    on.plane("Ground", "GND", IN1, &whole, 0);
    // The lower inner layer is ground where amperes flow and 3.3 V elsewhere.
    let (left, upper, right, lower) = (34.0, 6.4, 64.0, 32.0);
    on.plane(
        "Ground",
        "GND",
        IN2,
        &[
            (1.5, 0.5),
            (63.5, 0.5),
            (64.5, 1.5),
            (64.5, upper - 0.4),
            (left - 0.4, upper - 0.4),
            (left - 0.4, lower - 0.4),
            (0.5, lower - 0.4),
            (0.5, 1.5),
        ],
        0,
    );
    on.plane(
        "3V3",
        "3V3",
        IN2,
        &[
            (left, upper),
            (right, upper),
            (right, 55.0),
            (right - 1.0, 55.5),
            (2.0, 55.5),
            (1.0, 54.5),
            (1.0, lower),
            (left, lower),
        ],
        5,
    );
    // Outside, ground ends below the header, whose pins must be solderable, and begins at the roots of its fingers; elsewhere it
    // joins without spokes.
    let mut below: Vec<_> = whole;
    for point in &mut below {
        point.1 = point.1.max(6.4);
        if point.0 < 0.0 {
            point.0 = tab.tip + 5.2;
        }
    }
    on.pour("Ground", "GND", F, &below);
    on.pour("Ground", "GND", B, &below);
}

/// What carries amperes.
pub(super) fn power(on: &mut Draft<'_>) {
    let busbar = [
        (-2.8, 21.35),
        (1.2, 21.35),
        (1.2, 19.2),
        (3.6, 19.2),
        (3.6, 21.35),
        (7.6, 21.35),
        (7.55, 23.95),
        (6.2, 23.95),
        (5.4, 25.3),
        (3.2, 25.3),
        (3.2, 28.6),
        (0.8, 28.6),
        (0.8, 25.15),
        (-2.8, 25.15),
    ];
    on.area("Busbar", "BUSBAR", F, &busbar);
    on.area(
        "Busbar",
        "BUSBAR",
        B,
        &[(-2.8, 21.35), (6.4, 21.35), (6.4, 25.15), (-2.8, 25.15)],
    );
    let mut vias = Vec::new();
    for x in [-1.4, -0.2, 1.0, 2.2, 3.4, 4.6] {
        for y in [22.3, 23.3, 24.3] {
            vias.push((x, y));
        }
    }
    on.vias("BUSBAR", &vias);
    on.area(
        "eFuse in",
        "EFUSE_IN",
        F,
        &[
            (8.6, 19.3),
            (11.3, 19.3),
            (11.3, 20.4),
            (13.95, 20.4),
            (13.95, 23.15),
            (12.1, 23.15),
            (11.4, 23.3),
            (11.4, 24.6),
            (10.6, 25.0),
            (8.0, 25.0),
            (8.0, 21.5),
            (8.6, 21.5),
        ],
    );
    on.area(
        "Fused",
        "VIN_FUSED",
        F,
        &[
            (17.2, 17.4),
            (19.9, 17.4),
            (19.9, 20.2),
            (22.6, 20.2),
            (22.6, 22.4),
            (23.8, 22.4),
            (23.8, 26.6),
            (24.9, 26.6),
            (24.9, 29.2),
            (20.8, 29.2),
            (20.8, 24.8),
            (20.0, 23.7),
            (20.0, 23.15),
            (17.2, 23.15),
        ],
    );
    on.area(
        "Converter in",
        "VIN_BUCK",
        F,
        &[
            (24.1, 20.4),
            (26.8, 18.4),
            (26.8, 14.8),
            (27.95, 14.8),
            (27.95, 17.9),
            (30.0, 17.9),
            (30.0, 24.4),
            (26.8, 24.4),
            (26.8, 23.4),
            (24.1, 23.4),
        ],
    );
    on.area(
        "Switch node",
        "BUCK_SW",
        F,
        &[
            (21.8, 7.8),
            (23.5, 7.8),
            (24.6, 7.4),
            (26.5, 7.4),
            (26.5, 10.4),
            (25.4, 10.6),
            (23.5, 13.4),
            (21.8, 13.4),
        ],
    );
    on.area(
        "5 V",
        "PI_5V",
        F,
        &[
            (6.3, 1.0),
            (11.9, 1.0),
            (14.0, 5.9),
            (17.6, 6.9),
            (19.5, 7.6),
            (19.5, 13.6),
            (16.95, 16.9),
            (13.3, 16.9),
            (13.3, 15.1),
            (17.5, 13.0),
            (17.5, 9.25),
            (4.8, 9.25),
            (4.8, 7.6),
            (6.3, 6.6),
        ],
    );
    // The header's pins 2 and 4 are behind pins 1 to 5: three layers share the gaps between those. Below, pin 1 gets out.
    let right = [
        (12.0, 1.0),
        (14.0, 5.9),
        (19.4, 6.6),
        (19.4, 13.4),
        (17.7, 13.4),
        (17.7, 9.2),
    ];
    let mut inner = vec![(6.6, 9.2), (6.6, 4.0), (6.9, 1.0)];
    inner.extend(right);
    on.area("5 V", "PI_5V", IN2, &inner);
    let mut below = vec![
        (9.0, 9.2),
        (9.0, 6.3),
        (9.55, 5.6),
        (9.55, 3.8),
        (7.3, 3.4),
        (7.3, 1.0),
    ];
    below.extend(right);
    on.area("5 V", "PI_5V", B, &below);
    let mut vias = vec![(16.9, 7.2), (18.2, 7.3), (19.0, 7.3)];
    for x in [6.9, 9.4, 11.85, 14.35] {
        for y in [6.7, 8.1] {
            if x > 9.0 || y > 7.0 {
                vias.push((x, y));
            }
        }
    }
    on.vias("PI_5V", &vias);
    on.area(
        "3V3 out",
        "3V3",
        F,
        &[
            (20.3, 43.2),
            (28.4, 43.2),
            (28.4, 44.7),
            (21.5, 44.6),
            (21.5, 47.0),
            (20.3, 47.0),
        ],
    );
    on.vias(
        "3V3",
        &[(25.0, 43.6), (25.0, 44.3), (27.9, 43.6), (27.9, 44.3)],
    );
    on.area(
        "Always-on switch node",
        "AON_SW",
        F,
        &[
            (14.5, 43.1),
            (17.2, 43.1),
            (17.9, 41.0),
            (18.9, 41.0),
            (19.0, 46.8),
            (17.9, 46.8),
            (17.9, 43.9),
            (14.5, 43.9),
        ],
    );
}
