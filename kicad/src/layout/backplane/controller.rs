// SPDX-License-Identifier: Apache-2.0
//! The controller, with USB at its left to the edge, flash below, the crystal right of it.

use crate::layout::rp2350::{self, Frame};
use crate::pcb::build::Draft;

/// The controller, with USB towards the left edge.
const CHIP: Frame = Frame::new((24.5, 61.4), 1);

pub(super) fn all(on: &mut Draft<'_>) {
    CHIP.put_all(
        on,
        &[
            ("U1", 0.0, 0.0, 0.0),
            ("C4", -6.9, -2.8, 180.0),
            ("C13", -6.9, -0.8, 180.0),
            ("C5", -6.9, 1.2, 180.0),
            ("C6", -2.4, 5.7, 270.0),
            ("C15", 0.2, 6.1, 270.0),
            ("C7", 5.4, 4.4, 0.0),
            ("C8", 6.1, 0.0, 0.0),
            ("C14", 6.1, -1.1, 0.0),
            ("C10", 6.1, -2.3, 0.0),
            ("C9", 6.1, -3.35, 0.0),
            ("C3", 5.1, -5.0, 0.0),
            ("R1", 7.6, -6.6, 180.0),
            ("L1", 3.4, -7.0, 90.0),
            ("C1", 1.5, -5.7, 90.0),
            ("C2", 5.7, -8.4, 0.0),
            ("C11", -0.55, -5.3, 90.0),
            ("C12", -0.55, -7.3, 90.0),
            ("R4", 1.4, -10.25, 270.0),
            ("R3", -0.2, -10.25, 270.0),
            ("U3", 0.6, -13.9, 90.0),
            ("Y1", -0.6, 9.6, 270.0),
            ("C17", -3.6, 8.5, 180.0),
            ("C18", 2.2, 10.7, 0.0),
            ("R2", 2.0, 8.3, 270.0),
            ("U2", -9.4, -8.6, 180.0),
            ("C16", -13.2, -4.6, 180.0),
            ("J2", 0.6, -20.825, 180.0),
            ("R5", 4.0, -14.9, 180.0),
            ("R6", -2.9, -14.9, 0.0),
        ],
    );
    on.put_all(&[
        ("R8", 16.2, 77.4, 0.0),
        ("R7", 12.6, 77.4, 0.0),
        ("SW1", 7.0, 77.6, 0.0),
        ("SW2", 7.0, 72.8, 0.0),
        ("J3", 41.0, 55.7, 0.0),
        ("R9", 33.2, 54.8, 0.0),
        ("TP9", 13.4, 53.4, 0.0),
    ]);
    rp2350::usb(on, CHIP);
    rp2350::crystal(on, CHIP);
    rp2350::supplies(on, CHIP, &["20", "23", "54"]);
    rp2350::below(on, CHIP, "39", (-1.1, 0.1));
    // Two pads beside each other.
    let (one, two) = (CHIP.pad(on, "U1", "53"), CHIP.pad(on, "U1", "54"));
    CHIP.run(on, "3V3", 0.2, &[one, (one.0, -4.05), (two.0, -4.05)]);
    rp2350::regulator(on, CHIP);
    ways_out(on);
    on.first(&[
        "1V1",
        "QSPI_SD1",
        "QSPI_SD2",
        "QSPI_SD0",
        "QSPI_SCLK",
        "QSPI_SD3",
        "QSPI_SS_N",
    ]);
}

/// What is near the chip would close the ways out of its middle pads: these go down at once, by turns inside and outside its rows.
fn ways_out(on: &mut Draft<'_>) {
    // Pad, its net, and the via; inside, the track leaves the row of pads before it turns.
    for (number, net, dx, dy) in [
        ("2", "FAN1_PWM", -4.6, -2.25),
        ("3", "FAN1_TACH", -2.35, -2.3),
        ("4", "FAN2_PWM", -2.35, -1.55),
        ("5", "FAN2_TACH", -4.6, -1.35),
        ("7", "EFUSE_OFF", -4.6, -0.25),
        ("8", "EFUSE_FAULT_N", -2.35, -0.05),
        ("9", "LED_STATUS", -2.35, 0.7),
        ("10", "LED_FAULT", -4.6, 0.65),
        ("12", "RS485_TX", -4.6, 1.75),
        ("13", "RS485_RX", -2.35, 1.5),
        ("14", "RS485_DE", -2.35, 2.35),
        ("15", "BUTTON_N", -4.6, 2.65),
        ("40", "ADC_EFUSE_CURRENT", 4.35, -0.96),
        ("41", "ADC_PD", 2.35, -1.4),
        ("42", "ADC_BARREL", 4.65, -1.7),
    ] {
        let from = CHIP.pad(on, "U1", number);
        let inside = f64::abs(dx) < 3.0;
        let knee = f64::signum(dx) * if inside { -0.65 } else { 0.75 };
        CHIP.run(on, net, 0.15, &[from, (from.0 + knee, from.1), (dx, dy)]);
        CHIP.via(on, net, (dx, dy));
    }
    for (number, net, ways) in [
        (
            "18",
            "DISPLAY_SDA",
            [(-2.0, 2.85), (-1.75, 2.5), (-1.55, 2.22)],
        ),
        (
            "19",
            "DISPLAY_SCL",
            [(-1.6, 2.85), (-1.3, 2.75), (-0.75, 2.3)],
        ),
    ] {
        let from = CHIP.pad(on, "U1", number);
        let [first, second, via] = ways;
        CHIP.run(on, net, 0.15, &[from, first, second, via]);
        CHIP.via(on, net, via);
    }
    // Side by side until there is room.
    for (number, net) in [
        ("31", "ETH_MOSI"),
        ("32", "ETH_INT_N"),
        ("33", "ETH_RST_N"),
        ("34", "SENSE_ALERT_N"),
        ("35", "TEMP_ALERT_N"),
        ("36", "SLOTS_INT_N"),
    ] {
        let from = CHIP.pad(on, "U1", number);
        CHIP.run(on, net, 0.15, &[from, (6.8, from.1)]);
    }
    for (number, net, turn) in [
        ("29", "ETH_SCK", 4.8),
        ("28", "ETH_CS_N", 4.95),
        ("27", "ETH_MISO", 5.1),
    ] {
        let from = CHIP.pad(on, "U1", number);
        let further = 4.6 - from.0;
        CHIP.run(
            on,
            net,
            0.15,
            &[from, (from.0, turn), (4.6, turn + further)],
        );
    }
    let from = CHIP.pad(on, "U1", "26");
    CHIP.run(on, "RUN", 0.15, &[from, (1.2, 2.35)]);
    CHIP.via(on, "RUN", (1.2, 2.35));
}
