// SPDX-License-Identifier: Apache-2.0
//! Connectors pin by pin: the Raspberry Pi's header against its standard, the slots against the trays' edge, and the
//! controllers against the file that the firmware is built from.

use super::Fault;
use crate::design::{Design, OPEN, Part, Pin};
use racklet_boards::pins::Controller;

/// What a pad of the Raspberry Pi's header is, as printed in its documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    V3,
    V5,
    Ground,
    Gpio(u8),
}

/// The 40 pads in order, odd ones on the left.
const STANDARD: [Header; 40] = {
    use Header::{Gpio, Ground, V3, V5};
    [
        V3,
        V5, //
        Gpio(2),
        V5, //
        Gpio(3),
        Ground, //
        Gpio(4),
        Gpio(14), //
        Ground,
        Gpio(15), //
        Gpio(17),
        Gpio(18), //
        Gpio(27),
        Ground, //
        Gpio(22),
        Gpio(23), //
        V3,
        Gpio(24), //
        Gpio(10),
        Ground, //
        Gpio(9),
        Gpio(25), //
        Gpio(11),
        Gpio(8), //
        Ground,
        Gpio(7), //
        Gpio(0),
        Gpio(1), //
        Gpio(5),
        Ground, //
        Gpio(6),
        Gpio(12), //
        Gpio(13),
        Ground, //
        Gpio(19),
        Gpio(16), //
        Gpio(26),
        Gpio(20), //
        Ground,
        Gpio(21),
    ]
};

/// Lines between the Pi and the controller: the Pi's GPIO, whether the Pi drives it, the controller's net. GPIO14 and 15
/// are the console's UART on every Pi; GPIO12 and 13 are UART5 of a Pi 4 and UART4 of a Pi 5.
const LINES: [(u8, bool, &str); 4] = [
    (14, true, "CONSOLE_RX"),
    (15, false, "CONSOLE_TX"),
    (12, true, "CONTROL_RX"),
    (13, false, "CONTROL_TX"),
];

const GATE: &str = "74xGxx:SN74LVC1G125DBV";

fn find<'d>(design: &'d Design, reference: &str) -> Result<&'d Part, Fault> {
    design
        .part(reference)
        .ok_or_else(|| Fault::at(reference, "is not in the design"))
}

fn pin<'p>(part: &'p Part, number: &str) -> Option<&'p Pin> {
    part.pins.iter().find(|pin| pin.number == number)
}

fn net<'p>(part: &'p Part, number: &str) -> &'p str {
    pin(part, number).map_or(OPEN, |pin| pin.net)
}

/// The BMC's header J4 against the 40-pin standard, and its UART lines through their gates to the controller.
#[must_use]
pub fn pi_header(bmc: &Design) -> Vec<Fault> {
    let header = match find(bmc, "J4") {
        Ok(header) => header,
        Err(fault) => return vec![fault],
    };
    let mut faults = Vec::new();
    if header.pins.len() != STANDARD.len() {
        faults.push(Fault::at("J4", "has not 40 pads"));
    }
    for (index, standard) in STANDARD.iter().enumerate() {
        let number = (index + 1).to_string();
        let Some(pin) = pin(header, &number) else {
            faults.push(Fault::at("J4", format!("has no pad {number}")));
            continue;
        };
        let (expected, named) = match standard {
            Header::V3 => (Some("PI_3V3"), pin.name == "3V3"),
            Header::V5 => (Some("PI_5V"), pin.name == "5V"),
            Header::Ground => (Some("GND"), pin.name == "GND"),
            Header::Gpio(gpio) => (None, pin.name.contains(&format!("GPIO{gpio:02}"))),
        };
        if !named {
            let said = pin.name;
            faults.push(Fault::at(
                "J4",
                format!("pad {number} is {standard:?}, not {said}"),
            ));
        }
        let good = match expected {
            Some(net) => pin.net == net,
            // A signal's pad is never on a supply.
            None => !["PI_3V3", "PI_5V", "3V3", "GND", "BUSBAR"].contains(&pin.net),
        };
        if !good {
            let net = pin.net;
            faults.push(Fault::at(
                "J4",
                format!("pad {number} is {standard:?} and on the net {net:?}"),
            ));
        }
    }
    for (gpio, from_pi, ours) in LINES {
        faults.extend(line(bmc, header, gpio, from_pi, ours));
    }
    faults
}

/// One UART line: exactly one gate between the header's pad and the controller, supplied by the side that listens.
fn line(bmc: &Design, header: &Part, gpio: u8, from_pi: bool, ours: &'static str) -> Option<Fault> {
    let place = STANDARD
        .iter()
        .position(|it| *it == Header::Gpio(gpio))
        .expect("the standard has every GPIO from 0 to 27");
    let pis = net(header, &(place + 1).to_string());
    let (input, output, supply) = if from_pi {
        (pis, ours, "3V3")
    } else {
        (ours, pis, "PI_3V3")
    };
    let gates: Vec<_> = bmc
        .parts
        .iter()
        .filter(|part| {
            part.symbol == GATE && part.pins.iter().any(|pin| pin.net == pis && pis != OPEN)
        })
        .collect();
    let [gate] = gates[..] else {
        return Some(Fault::at(
            format!("GPIO{gpio}"),
            format!("has {} gates instead of one", gates.len()),
        ));
    };
    let found = (net(gate, "2"), net(gate, "4"), net(gate, "5"));
    if found != (input, output, supply) || net(gate, "1") != "GND" {
        return Some(Fault::at(
            gate.reference,
            format!(
                "goes {found:?} (in, out, supply) where GPIO{gpio} needs {input}, {output}, {supply}"
            ),
        ));
    }
    None
}

/// Sockets J11 to J15 of the backplane against the BMC's edge J1: contact n meets finger n.
#[must_use]
pub fn slots(bmc: &Design, backplane: &Design) -> Vec<Fault> {
    let edge = match find(bmc, "J1") {
        Ok(edge) => edge,
        Err(fault) => return vec![fault],
    };
    let mut faults = Vec::new();
    for slot in 1..=5u8 {
        let reference = format!("J1{slot}");
        let socket = match find(backplane, &reference) {
            Ok(socket) => socket,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        if socket.pins.len() != edge.pins.len() {
            faults.push(Fault::at(
                &reference,
                "has another number of contacts than the edge",
            ));
        }
        let mut number = 0;
        for finger in &edge.pins {
            let Some(contact) = pin(socket, finger.number) else {
                let place = finger.number;
                faults.push(Fault::at(&reference, format!("has no contact {place}")));
                continue;
            };
            let present = format!("SLOT{slot}_PRESENT_N");
            let good = match (finger.net, contact.net) {
                // The tray's own lines and what the slot does to them.
                ("SEATED_N", theirs) => theirs == "GND",
                ("SLOT_ID0" | "SLOT_ID1" | "SLOT_ID2", theirs) => {
                    if theirs == OPEN {
                        number |= 1 << (finger.net.as_bytes()[7] - b'0');
                    }
                    theirs == OPEN || theirs == "GND"
                }
                ("GND", theirs) => theirs == "GND" || theirs == present,
                (ours, theirs) => ours == theirs,
            };
            if !good {
                let (place, ours, theirs) = (finger.number, finger.net, contact.net);
                faults.push(Fault::at(
                    &reference,
                    format!("contact {place} is on {theirs:?}, its finger on {ours:?}"),
                ));
            }
        }
        if number != slot {
            faults.push(Fault::at(
                &reference,
                format!("tells its tray the number {number}"),
            ));
        }
        let presences = socket
            .pins
            .iter()
            .filter(|it| it.net.ends_with("_PRESENT_N"))
            .count();
        if presences != 1 {
            faults.push(Fault::at(
                &reference,
                "has not exactly one contact for presence",
            ));
        }
    }
    faults
}

/// The controller's pads against the file that the firmware's constants come from.
#[must_use]
pub fn controller(design: &Design, controller: &Controller) -> Vec<Fault> {
    let chip = match find(design, controller.part) {
        Ok(chip) => chip,
        Err(fault) => return vec![fault],
    };
    chip.pins
        .iter()
        .filter_map(|pin| {
            let name = pin.name.split('/').next()?;
            let gpio: u8 = name.strip_prefix("GPIO")?.parse().ok()?;
            let expected = controller.net(gpio).unwrap_or(OPEN);
            (pin.net != expected).then(|| {
                let net = pin.net;
                Fault::at(
                    format!("{} {}", design.name, chip.reference),
                    format!("GPIO{gpio} is on {net:?}, the firmware has it for {expected:?}"),
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::{pad, part};
    use crate::circuits::{backplane, bmc};
    use racklet_boards::pins::rp2350_bmc::CONTROLLER;

    #[test]
    fn a_header_with_5_v_on_a_signal_s_pad_is_refused() {
        let mut design = bmc::design();
        pad(&mut design, "J4", "3").net = "PI_5V";
        assert_eq!(pi_header(&design).len(), 1);
    }

    #[test]
    fn a_header_with_an_unconnected_ground_is_refused() {
        let mut design = bmc::design();
        pad(&mut design, "J4", "39").net = OPEN;
        assert_eq!(pi_header(&design).len(), 1);
    }

    #[test]
    fn transmitter_to_transmitter_is_refused() {
        let mut design = bmc::design();
        pad(&mut design, "J4", "8").net = "PI_CONSOLE_RX";
        pad(&mut design, "J4", "10").net = "PI_CONSOLE_TX";
        assert_eq!(pi_header(&design).len(), 2);
    }

    #[test]
    fn a_gate_that_would_feed_a_tray_that_is_off_is_refused() {
        let mut design = bmc::design();
        pad(&mut design, "U10", "5").net = "3V3";
        assert_eq!(pi_header(&design).len(), 1);
    }

    #[test]
    fn a_socket_with_two_contacts_exchanged_is_refused() {
        let mut design = backplane::design();
        pad(&mut design, "J13", "a14").net = "RS485_B";
        pad(&mut design, "J13", "a15").net = "RS485_A";
        assert_eq!(slots(&bmc::design(), &design).len(), 2);
    }

    #[test]
    fn two_slots_of_the_same_number_are_refused() {
        let mut design = backplane::design();
        pad(&mut design, "J14", "b13").net = OPEN;
        let faults = slots(&bmc::design(), &design);
        assert_eq!(faults[0].to_string(), "J14: tells its tray the number 5");
    }

    #[test]
    fn a_controller_s_pad_on_another_net_than_the_firmware_s_is_refused() {
        let mut design = bmc::design();
        part(&mut design, "U1").pins[1].net = "CONSOLE_TX";
        assert_eq!(controller(&design, &CONTROLLER).len(), 1);
    }
}
