// SPDX-License-Identifier: Apache-2.0
//! The sensors that both boards have, on the I2C bus of their controller.

use super::build::{GND, Kind, OnSheet, V3V3};

/// A sensor and the passive parts it brings.
pub(super) struct Sensor {
    /// Its reference designator.
    pub(super) part: &'static str,
    /// What it measures, with its address.
    pub(super) note: &'static str,
    /// Its decoupling capacitor and where that stands.
    pub(super) decoupling: (&'static str, &'static str),
    /// The pull-up of its alert.
    pub(super) pull_up: &'static str,
}

/// Energy: a current by its shunt's filtered drop, and the voltage of `supply`. Address 0x40.
pub(super) fn energy(on: &mut OnSheet<'_>, sensor: &Sensor, supply: &'static str) {
    let kind = Kind {
        symbol: "Sensor_Energy:INA226",
        footprint: "Package_SO:VSSOP-10_3x3mm_P0.5mm",
        value: "INA226",
        bom: Some("ina226"),
    };
    let pads = [
        ("1", "A1", GND),
        ("2", "A0", GND),
        ("3", "~{Alert}", "SENSE_ALERT_N"),
        ("4", "SDA", "I2C_SDA"),
        ("5", "SCL", "I2C_SCL"),
        ("6", "VS", V3V3),
        ("7", "GND", GND),
        ("8", "Vbus", supply),
        ("9", "Vin-", "ISENSE_N"),
        ("10", "Vin+", "ISENSE_P"),
    ];
    on_bus(on, sensor, &kind, &pads, "SENSE_ALERT_N");
}

/// Temperature. Address 0x48.
pub(super) fn temperature(on: &mut OnSheet<'_>, sensor: &Sensor) {
    let kind = Kind {
        symbol: "Sensor_Temperature:TMP1075D",
        footprint: "Package_SO:SO-8_3.9x4.9mm_P1.27mm",
        value: "TMP1075D",
        bom: Some("tmp1075"),
    };
    let pads = [
        ("1", "SDA", "I2C_SDA"),
        ("2", "SCL", "I2C_SCL"),
        ("3", "ALERT", "TEMP_ALERT_N"),
        ("4", "GND", GND),
        ("5", "A2", GND),
        ("6", "A1", GND),
        ("7", "A0", GND),
        ("8", "V+", V3V3),
    ];
    on_bus(on, sensor, &kind, &pads, "TEMP_ALERT_N");
}

fn on_bus(
    on: &mut OnSheet<'_>,
    sensor: &Sensor,
    kind: &Kind,
    pads: &[(&'static str, &'static str, &'static str)],
    alert: &'static str,
) {
    on.part(sensor.part, kind, sensor.note, pads);
    let (capacitor, place) = sensor.decoupling;
    on.decoupling(capacitor, V3V3, place);
    on.r(
        sensor.pull_up,
        "10k",
        (V3V3, alert),
        "open drain: low is an alert",
    );
}
