// SPDX-License-Identifier: Apache-2.0
//! The class of a net, from what it carries: track width by the ampacity rule, clearance by the voltage.

use crate::design::{Class, SIGNAL};

/// Thickness of the outer copper, 1 oz per square foot, in millimetres.
pub const OUTER_COPPER: f64 = 0.035;

/// How much warmer than its surroundings a track may get, in kelvin.
pub const RISE: f64 = 10.0;

/// Up to this current a net is an ordinary signal: the narrowest track (0.15 mm) carries 0.6 A at [`RISE`].
const SIGNAL_LIMIT: f64 = 0.25;

/// From this voltage on the wider clearance holds.
const INPUT_VOLTAGE: f64 = 15.0;

/// Clearance of nets of the input, in millimetres. IPC-2221B, table 6-1, asks 0.13 mm between uncoated component leads
/// (A6) at 16-30 V; half as much again leaves the fab's tolerance, and it is what the current sensor's package gives.
pub const INPUT_CLEARANCE: f64 = 0.2;

/// Steps of current, in amperes, and the names of their classes for signals' and for input's clearance.
const STEPS: [(f64, &str, &str); 6] = [
    (1.0, "Power_1A", "Input_1A"),
    (2.0, "Power_2A", "Input_2A"),
    (3.0, "Power_3A", "Input_3A"),
    (4.0, "Power_4A", "Input_4A"),
    (5.0, "Power_5A", "Input_5A"),
    (6.0, "Power_6A", "Input_6A"),
];

/// The width of an outer track of 1 oz that carries `current` amperes with a rise of [`RISE`] K, in millimetres.
///
/// IPC-2221B, section 6.2: I = k * dT^0.44 * A^0.725 with k = 0.048 for outer layers and A in square mils.
#[must_use]
pub fn width_for(current: f64) -> f64 {
    const MIL: f64 = 0.0254;
    let square_mils = (current / (0.048 * RISE.powf(0.44))).powf(1.0 / 0.725);
    square_mils * MIL * MIL / OUTER_COPPER
}

/// The class of a net that carries `current` amperes at up to `voltage` volts.
///
/// # Panics
/// Above the last step, 6 A: no net of ours carries more, and one that does needs a thought, not a wider track.
#[must_use]
pub fn class_for(current: f64, voltage: f64) -> Class {
    let input = voltage > INPUT_VOLTAGE;
    if current <= SIGNAL_LIMIT {
        if input {
            return Class {
                name: "Input",
                width: SIGNAL.width,
                clearance: INPUT_CLEARANCE,
            };
        }
        return SIGNAL;
    }
    let (limit, power_name, input_name) = STEPS
        .into_iter()
        .find(|(limit, ..)| current <= *limit)
        .unwrap_or_else(|| panic!("{current} A is more than any class carries"));
    Class {
        name: if input { input_name } else { power_name },
        // Up to a twentieth of a millimetre, as people write widths.
        width: (width_for(limit) * 20.0).ceil() / 20.0,
        clearance: if input {
            INPUT_CLEARANCE
        } else {
            SIGNAL.clearance
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_gives_the_widths_of_published_tables() {
        // Calculators of IPC-2221 outer, 1 oz, 10 K: 1 A 0.30 mm, 2 A 0.78 mm, 5 A 2.8 mm.
        for (current, width) in [(1.0, 0.30), (2.0, 0.78), (5.0, 2.76)] {
            assert!((width_for(current) - width).abs() < 0.03, "{current} A");
        }
    }

    #[test]
    fn a_signal_s_track_carries_what_signals_may() {
        assert!(width_for(2.0 * SIGNAL_LIMIT) <= SIGNAL.width);
        assert_eq!(class_for(0.1, 3.3), SIGNAL);
    }

    #[test]
    fn more_current_is_never_narrower_and_more_voltage_never_closer() {
        let mut earlier = 0.0;
        for step in 1..=60 {
            let current = f64::from(step) / 10.0;
            let class = class_for(current, 5.0);
            assert!(class.width >= earlier && class.width >= width_for(current));
            assert!(class_for(current, 20.0).clearance > class.clearance);
            earlier = class.width;
        }
    }
}
