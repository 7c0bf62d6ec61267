// SPDX-License-Identifier: Apache-2.0
//! From the card edge to the 5.1 V supply's input: surge, reverse polarity, inrush, short, energy.
//!
//! U5's numbers (TPS2663x datasheet, SLVSE94): thresholds of UVLO and OVP 1.2 V rising (UVLO 1.12 V falling), current
//! limit 18 V / R(ILIM), output ramp 1 / (20.8 kohm * C(dVdT)), current monitor 27.9 uA/A. For the first milliseconds of an
//! overload this variant passes twice the limit (8.3.7.1.2).

use super::{BUSBAR, VIN_BUCK, VIN_FUSED};
use crate::circuits::build::{GND, Kind, OnSheet, V3V3};
use crate::circuits::efuse::{self, Efuse, ONE_WAY};
use crate::circuits::sensors::{self, Sensor};
use crate::circuits::slot::{CONTACTS, Signal, pad_name};
use crate::design::OPEN;

pub(super) fn input(on: &mut OnSheet<'_>) {
    edge(on);
    efuse(on);
    switches(on);
    sensor(on);
    for (reference, net, note) in [
        ("TP1", BUSBAR, "9 to 20 V as soon as the tray is in"),
        (
            "TP2",
            VIN_FUSED,
            "the busbar's voltage, once the eFuse is closed",
        ),
        ("TP3", GND, "the probe's ground, at the input"),
    ] {
        on.test_point(reference, net, note);
    }
}

fn net_of(signal: Signal) -> &'static str {
    match signal {
        Signal::Open => OPEN,
        Signal::Ground | Signal::Present => GND,
        Signal::Busbar => BUSBAR,
        Signal::Rs485A => "RS485_A",
        Signal::Rs485B => "RS485_B",
        Signal::SlotId0 => "SLOT_ID0",
        Signal::SlotId1 => "SLOT_ID1",
        Signal::SlotId2 => "SLOT_ID2",
        Signal::Seated => "SEATED_N",
    }
}

fn edge(on: &mut OnSheet<'_>) {
    let kind = Kind {
        symbol: "Connector_Generic:Conn_02x18_Row_Letter_First",
        footprint: "racklet:Slot_Edge",
        value: "Slot",
        bom: None,
    };
    let pads: Vec<_> = CONTACTS
        .iter()
        .map(|it| (it.number, pad_name(it.number), net_of(it.signal)))
        .collect();
    on.part(
        "J1",
        &kind,
        "card edge in the form of PCI Express x1; ground first, busbar, signals, presence last",
        &pads,
    );
    let surge = Kind {
        symbol: "Diode:SMAJ24CA",
        footprint: "Diode_SMD:D_SMA",
        value: "SMAJ24CA",
        bom: Some("smaj24ca"),
    };
    on.part(
        "D3",
        &surge,
        "clamps the cable's inductance at hot-plug: 38.9 V at 10 A, below U4's 40 V and U5's 67 V; both ways: Q1 blocks a reversed busbar",
        &[("1", "A1", BUSBAR), ("2", "A2", GND)],
    );
}

fn efuse(on: &mut OnSheet<'_>) {
    let place = Efuse {
        part: "U5",
        note: "eFuse: 8 V to 22.8 V, 3 A, 1 V/ms, tries again by itself",
        system: BUSBAR,
        input: "EFUSE_IN",
        output: VIN_FUSED,
        gate: "EFUSE_BGATE",
        drive: "EFUSE_DRV",
    };
    efuse::efuse(on, &place);
    on.part(
        "Q1",
        &ONE_WAY,
        "blocks reverse polarity and current back into the busbar; 8.1 mohm, 0.09 W at 3.3 A",
        &[
            ("1", "S", BUSBAR),
            ("2", "S", BUSBAR),
            ("3", "S", BUSBAR),
            ("4", "G", "EFUSE_BGATE"),
            ("5", "D", "EFUSE_IN"),
        ],
    );
    on.small_nmos(
        "Q2",
        "EFUSE_DRV",
        BUSBAR,
        "EFUSE_BGATE",
        "opens Q1 at once when current turns round",
    );
    on.c_of(
        "C24",
        "1u",
        "Capacitor_SMD:C_1206_3216Metric",
        "c-1u-50v-1206",
        ("EFUSE_IN", GND),
        "at U5, pad 1; catches the slot's inductance when a short is cut off: 45 V, with 100 nF it were 79 V",
    );
    on.r(
        "R10",
        "422k",
        (BUSBAR, "EFUSE_UVLO"),
        "UVLO 1.2 V * 496.8k / 74.8k = 7.97 V",
    );
    on.r(
        "R11",
        "48k7",
        ("EFUSE_UVLO", "EFUSE_OVP"),
        "middle of the divider",
    );
    on.r(
        "R12",
        "26k1",
        ("EFUSE_OVP", GND),
        "OVP 1.2 V * 496.8k / 26.1k = 22.8 V; a 20 V source may reach 21 V",
    );
    on.r(
        "R13",
        "6k04",
        ("EFUSE_ILIM", GND),
        "limit 18 / 6.04 = 2.98 A, twice that for milliseconds; 20.4 W at 9 V and 91 % are 2.5 A",
    );
    on.c(
        "C25",
        "47n",
        ("EFUSE_DVDT", GND),
        "ramp 1 / (20.8 kohm * 47 nF) = 1.02 V/ms: 23 mA into 22 uF",
    );
    on.r(
        "R14",
        "16k",
        ("EFUSE_IMON", GND),
        "27.9 uA/A * 16k = 0.45 V/A; at twice the limit, 6.5 A, at most 3.2 V",
    );
    on.r(
        "R15",
        "1k",
        ("EFUSE_IMON", "ADC_EFUSE_CURRENT"),
        "filter and protection of the controller's input",
    );
    on.decoupling("C26", "ADC_EFUSE_CURRENT", "filter, 1.6 kHz");
    on.schottky(
        "D4",
        GND,
        VIN_FUSED,
        "holds the output above -0.3 V when the eFuse opens under load",
    );
    on.r(
        "R19",
        "10k",
        (V3V3, "EFUSE_FAULT_N"),
        "open drain: high is good",
    );
}

fn switches(on: &mut OnSheet<'_>) {
    on.r(
        "R16",
        "150k",
        (BUSBAR, "SEATED_N"),
        "holds Q3 on, and so the eFuse open, until the last finger meets",
    );
    on.r(
        "R17",
        "100k",
        ("SEATED_N", GND),
        "9 V to 21 V give Q3's gate 3.6 V to 8.4 V",
    );
    on.small_nmos(
        "Q3",
        "SEATED_N",
        GND,
        "EFUSE_SHDN_N",
        "eFuse open unless seated: no arc at the busbar's fingers",
    );
    on.solder_jumper(
        "JP1",
        "BENCH",
        ("SEATED_N", GND),
        "closed on the bench only, where no slot pulls SEATED_N",
    );
    on.small_nmos(
        "Q4",
        "EFUSE_OFF",
        GND,
        "EFUSE_SHDN_N",
        "lets the controller open the eFuse and clear its fault",
    );
    on.r(
        "R18",
        "4k7",
        ("EFUSE_OFF", GND),
        "off in reset; below 8.2k because of erratum RP2350-E9",
    );
    on.r(
        "R20",
        "100k",
        (BUSBAR, "ADC_BUSBAR"),
        "20 V are 1.82 V at the controller",
    );
    on.r(
        "R21",
        "10k",
        ("ADC_BUSBAR", GND),
        "with R20 a divider by 11",
    );
    on.decoupling("C28", "ADC_BUSBAR", "filter, 175 Hz");
}

fn sensor(on: &mut OnSheet<'_>) {
    let shunt = Kind {
        symbol: "Device:R_Shunt",
        footprint: "Resistor_SMD:R_Shunt_Vishay_WSK2512_6332Metric_T1.19mm",
        value: "10m 1%",
        bom: Some("shunt-10m"),
    };
    on.part(
        "R22",
        &shunt,
        "33 mV and 0.11 W at 3.3 A; the sensor's range of 82 mV is 8.2 A",
        &[
            ("1", "~", VIN_FUSED),
            ("2", "~", "SHUNT_P"),
            ("3", "~", "SHUNT_N"),
            ("4", "~", VIN_BUCK),
        ],
    );
    on.r("R23", "10R", ("SHUNT_P", "ISENSE_P"), "filter with C29");
    on.r("R24", "10R", ("SHUNT_N", "ISENSE_N"), "filter with C29");
    on.c(
        "C29",
        "100n",
        ("ISENSE_P", "ISENSE_N"),
        "filter, 80 kHz: the 400 kHz ripple stays out",
    );
    sensors::energy(
        on,
        &Sensor {
            part: "U6",
            note: "the tray's voltage, current and energy; I2C address 0x40",
            decoupling: ("C30", "at U6, pad 6"),
            pull_up: "R41",
        },
        VIN_BUCK,
    );
}
