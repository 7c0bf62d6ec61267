// SPDX-License-Identifier: Apache-2.0
//! The five slots with bus and presence; fans, lights, display and temperature.

use super::{BUSBAR, V5};
use crate::circuits::build::{GND, Kind, OnSheet, Screw, V3V3};
use crate::circuits::rs485::{self, Transceiver};
use crate::circuits::sensors::{self, Sensor};
use crate::circuits::slot::{CONTACTS, Signal, pad_name};
use crate::design::OPEN;

/// A slot's socket, its number's bits (low first, 1 is open), its presence net and its capacitor.
struct Slot {
    socket: &'static str,
    value: &'static str,
    bits: [bool; 3],
    present: &'static str,
    capacitor: &'static str,
}

/// Slots 1 to 5.
const SLOTS: [Slot; 5] = [
    Slot {
        socket: "J11",
        value: "Slot 1",
        bits: [true, false, false],
        present: "SLOT1_PRESENT_N",
        capacitor: "C60",
    },
    Slot {
        socket: "J12",
        value: "Slot 2",
        bits: [false, true, false],
        present: "SLOT2_PRESENT_N",
        capacitor: "C61",
    },
    Slot {
        socket: "J13",
        value: "Slot 3",
        bits: [true, true, false],
        present: "SLOT3_PRESENT_N",
        capacitor: "C62",
    },
    Slot {
        socket: "J14",
        value: "Slot 4",
        bits: [false, false, true],
        present: "SLOT4_PRESENT_N",
        capacitor: "C63",
    },
    Slot {
        socket: "J15",
        value: "Slot 5",
        bits: [true, false, true],
        present: "SLOT5_PRESENT_N",
        capacitor: "C64",
    },
];

impl Slot {
    fn net_of(&self, signal: Signal) -> &'static str {
        let strap = |open: bool| if open { OPEN } else { GND };
        match signal {
            Signal::Open => OPEN,
            // Short fingers find ground here: the tray is told that it is in.
            Signal::Ground | Signal::Seated => GND,
            Signal::Busbar => BUSBAR,
            Signal::Rs485A => "RS485_A",
            Signal::Rs485B => "RS485_B",
            Signal::SlotId0 => strap(self.bits[0]),
            Signal::SlotId1 => strap(self.bits[1]),
            Signal::SlotId2 => strap(self.bits[2]),
            Signal::Present => self.present,
        }
    }
}

pub(super) fn slots(on: &mut OnSheet<'_>) {
    let socket = |value| Kind {
        symbol: "Connector_Generic:Conn_02x18_Row_Letter_First",
        footprint: "racklet:Slot_Socket",
        value,
        bom: Some("pcie-x1-socket"),
    };
    for slot in &SLOTS {
        let pads: Vec<_> = CONTACTS
            .iter()
            .map(|it| (it.number, pad_name(it.number), slot.net_of(it.signal)))
            .collect();
        on.part(
            slot.socket,
            &socket(slot.value),
            "socket in the form of PCI Express x1, not its signals; the number is strapped in its pads",
            &pads,
        );
        on.c(slot.capacitor, "100n", (BUSBAR, GND), "at the slot");
    }
    bus(on);
    expander(on);
}

fn bus(on: &mut OnSheet<'_>) {
    let place = Transceiver {
        part: "U14",
        note: "the bus's master",
        capacitor: "C65",
        capacitor_note: "at U14, pad 8",
        listen: "R41",
        idle: "R42",
    };
    rs485::transceiver(on, &place);
    on.r(
        "R43",
        "120R",
        ("RS485_A", "RS485_B"),
        "the bus's only termination, at slot 5",
    );
    on.r(
        "R44",
        "560R",
        (V3V3, "RS485_A"),
        "idle: 3.3 V * 120 / 1240 = 0.32 V, more than the 0.2 V that a receiver asks for",
    );
    on.r(
        "R45",
        "560R",
        ("RS485_B", GND),
        "the other half of the idle bias",
    );
    rs485::surge(on, "D6", "discharge at the sockets");
    on.test_point("TP7", "RS485_A", "0.3 V above B while the bus is idle");
    on.test_point("TP8", "RS485_B", "0.3 V below A while the bus is idle");
    on.test_point("TP9", "1V1", "1.1 V, the controller's core");
}

fn expander(on: &mut OnSheet<'_>) {
    let kind = Kind {
        symbol: "Interface_Expansion:TCA9555PWR",
        footprint: "Package_SO:TSSOP-24_4.4x7.8mm_P0.65mm",
        value: "TCA9555PWR",
        bom: Some("tca9555"),
    };
    on.part(
        "U12",
        &kind,
        "presence (with the chip's own pull-ups) and lights of the slots; I2C address 0x20",
        &[
            ("1", "~{INT}", "SLOTS_INT_N"),
            ("2", "A1", GND),
            ("3", "A2", GND),
            ("4", "P00", SLOTS[0].present),
            ("5", "P01", SLOTS[1].present),
            ("6", "P02", SLOTS[2].present),
            ("7", "P03", SLOTS[3].present),
            ("8", "P04", SLOTS[4].present),
            ("9", "P05", OPEN),
            ("10", "P06", OPEN),
            ("11", "P07", OPEN),
            ("12", "GND", GND),
            ("13", "P10", "LED_SLOT1_N"),
            ("14", "P11", "LED_SLOT2_N"),
            ("15", "P12", "LED_SLOT3_N"),
            ("16", "P13", "LED_SLOT4_N"),
            ("17", "P14", "LED_SLOT5_N"),
            ("18", "P15", OPEN),
            ("19", "P16", OPEN),
            ("20", "P17", OPEN),
            ("21", "A0", GND),
            ("22", "SCL", "I2C_SCL"),
            ("23", "SDA", "I2C_SDA"),
            ("24", "VCC", V3V3),
        ],
    );
    on.decoupling("C66", V3V3, "at U12, pad 24");
    on.r(
        "R46",
        "10k",
        (V3V3, "SLOTS_INT_N"),
        "open drain: low is a change",
    );
    for (light, resistor, cathode, anode) in [
        ("D11", "R47", "LED_SLOT1_N", "LED_SLOT1_A"),
        ("D12", "R48", "LED_SLOT2_N", "LED_SLOT2_A"),
        ("D13", "R49", "LED_SLOT3_N", "LED_SLOT3_A"),
        ("D14", "R50", "LED_SLOT4_N", "LED_SLOT4_A"),
        ("D15", "R51", "LED_SLOT5_N", "LED_SLOT5_A"),
    ] {
        on.led(light, "amber", (anode, cathode), "beside its slot");
        on.r(resistor, "1k", (V3V3, anode), "1.2 mA");
    }
}

pub(super) fn fans(on: &mut OnSheet<'_>) {
    let header = |value| Kind {
        symbol: "Motor:Fan_4pin",
        footprint: "Connector:FanPinHeader_1x04_P2.54mm_Vertical",
        value,
        bom: Some("fan-header"),
    };
    for (connector, value, fet, drive, out, tach_in, tach, resistors) in [
        (
            "J9",
            "Fan 1",
            "Q4",
            "FAN1_PWM",
            "FAN1_PWM_N",
            "FAN1_TACH_IN",
            "FAN1_TACH",
            ["R52", "R53", "R54"],
        ),
        (
            "J10",
            "Fan 2",
            "Q5",
            "FAN2_PWM",
            "FAN2_PWM_N",
            "FAN2_TACH_IN",
            "FAN2_TACH",
            ["R55", "R56", "R57"],
        ),
    ] {
        on.part(
            connector,
            &header(value),
            "5 V fan with PWM and tachometer",
            &[
                ("1", "-", GND),
                ("2", "+", V5),
                ("3", "Tacho", tach_in),
                ("4", "PWM", out),
            ],
        );
        on.logic_nmos(
            fet,
            drive,
            GND,
            out,
            "pulls the fan's PWM input low, up to 5 mA; off, the fan's own pull-up means full speed",
        );
        let [low, pull, series] = resistors;
        on.r(low, "4k7", (drive, GND), "full speed in reset");
        on.r(
            pull,
            "10k",
            (V3V3, tach_in),
            "open collector in the fan, two pulses a turn",
        );
        on.r(
            series,
            "1k",
            (tach_in, tach),
            "protection of the controller's input",
        );
    }
    display(on);
    temperature(on);
    lights(on);
    for reference in ["FID1", "FID2", "FID3"] {
        on.fiducial(reference);
    }
    for reference in ["H1", "H2", "H3", "H4"] {
        on.hole(reference, Screw::M3);
    }
}

fn display(on: &mut OnSheet<'_>) {
    let kind = Kind {
        symbol: "Connector_Generic:Conn_01x04",
        footprint: "Connector_PinHeader_2.54mm:PinHeader_1x04_P2.54mm_Vertical",
        value: "Display",
        bom: Some("header-1x4"),
    };
    on.part(
        "J7",
        &kind,
        "I2C display such as SSD1306 (address 0x3C): GND, 3.3 V, SCL, SDA",
        &[
            ("1", "Pin_1", GND),
            ("2", "Pin_2", V3V3),
            ("3", "Pin_3", "DISPLAY_SCL"),
            ("4", "Pin_4", "DISPLAY_SDA"),
        ],
    );
    on.r(
        "R58",
        "4k7",
        (V3V3, "DISPLAY_SDA"),
        "the display's bus pull-up",
    );
    on.r(
        "R59",
        "4k7",
        (V3V3, "DISPLAY_SCL"),
        "the display's bus pull-up",
    );
}

fn temperature(on: &mut OnSheet<'_>) {
    sensors::temperature(
        on,
        &Sensor {
            part: "U11",
            note: "the air that leaves the trays; I2C address 0x48",
            decoupling: ("C67", "at U11, pad 8"),
            pull_up: "R60",
        },
    );
}

fn lights(on: &mut OnSheet<'_>) {
    for (light, colour, resistor, value, from, anode, note) in [
        (
            "D7",
            "green",
            "R61",
            "1k",
            V3V3,
            "LED_POWER_A",
            "the RMC has power",
        ),
        (
            "D8",
            "blue",
            "R62",
            "470R",
            "LED_STATUS",
            "LED_STATUS_A",
            "the rack's state, and `find me`",
        ),
        (
            "D9",
            "red",
            "R63",
            "1k",
            "LED_FAULT",
            "LED_FAULT_A",
            "something needs a person",
        ),
        (
            "D10",
            "green",
            "R64",
            "10k",
            BUSBAR,
            "LED_BUSBAR_A",
            "the trays may have power",
        ),
    ] {
        on.led(light, colour, (anode, GND), note);
        on.r(resistor, value, (from, anode), "1 to 2 mA");
    }
    on.button("SW3", "IDENTIFY", ("BUTTON_N", GND), "the rack's button");
    on.r("R65", "10k", (V3V3, "BUTTON_N"), "high unless pressed");
    on.decoupling("C68", "BUTTON_N", "with R65: bounces below 1 ms vanish");
}
