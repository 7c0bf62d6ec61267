// SPDX-License-Identifier: Apache-2.0
//! The drivers against the parts' registers, at the addresses that the boards have.

use proptest::prelude::*;
use racklet_boards::pins::{rp2350_bmc, rp2350_rmc};
use racklet_firmware_core::parts::{
    NoAnswer, Unusable, find, ina226::Ina226, tca9555::Tca9555, tmp1075::Tmp1075,
};
use racklet_firmware_model::i2c::{self, Bus, Part};

fn tray() -> Bus {
    Bus::of(&rp2350_bmc::CONTROLLER, 0, Ina226::TRAY_SHUNT)
}

fn address(kind: &str) -> u8 {
    let (bus, address) = find(&rp2350_rmc::CONTROLLER, kind).expect("the backplane has one");
    assert_eq!(bus, 0);
    address
}

#[test]
fn every_part_of_every_board_has_a_driver_that_finds_it() {
    for controller in racklet_boards::pins::ALL {
        let mut bus = Bus::of(controller, 0, Ina226::RACK_SHUNT);
        for device in controller.i2c.iter().flat_map(|bus| bus.devices) {
            let found = match device.kind {
                "INA226" => Ina226::new(device.address, Ina226::RACK_SHUNT).set_up(&mut bus),
                "TMP1075" => Tmp1075::new(device.address).set_up(&mut bus),
                "TCA9555" => Tca9555::new(device.address)
                    .lights(&mut bus, 0)
                    .map_err(Unusable::from),
                kind => panic!("no driver of a {kind}"),
            };
            assert_eq!(found, Ok(()), "{}", device.purpose);
        }
    }
}

#[test]
fn a_part_that_is_not_there_or_another_one_is_refused() {
    let mut bus = tray();
    let sensor = Ina226::new(0x40, Ina226::TRAY_SHUNT);
    assert_eq!(
        Ina226::new(0x48, 1).set_up(&mut bus),
        Err(Unusable::Other(0))
    );
    assert_eq!(Tmp1075::new(0x40).set_up(&mut bus), Err(Unusable::Other(0)));
    bus.remove(0x40);
    assert_eq!(sensor.set_up(&mut bus), Err(Unusable::NoAnswer));
    assert_eq!(sensor.read(&mut bus), Err(NoAnswer));
}

#[test]
fn a_sensor_that_was_reset_under_us_is_set_up_again_and_not_believed_before() {
    let mut bus = tray();
    let sensor = Ina226::new(0x40, Ina226::TRAY_SHUNT);
    sensor.set_up(&mut bus).unwrap();
    assert!(sensor.read(&mut bus).unwrap().is_some());
    *bus.part(0x40).unwrap() = Part::Ina226(i2c::Ina226::new(Ina226::TRAY_SHUNT));
    assert_eq!(sensor.read(&mut bus), Ok(None));
    assert!(sensor.read(&mut bus).unwrap().is_some());
}

#[test]
fn lights_and_presence_are_at_their_pins() {
    let mut bus = Bus::of(&rp2350_rmc::CONTROLLER, 0, Ina226::RACK_SHUNT);
    let at = address("TCA9555");
    let expander = Tca9555::new(at);
    let set = |bus: &mut Bus, presence: u8| match bus.part(at) {
        Some(Part::Tca9555(part)) => part.outside[0] = presence,
        other => panic!("{other:?}"),
    };
    for slot in 0..5 {
        expander.lights(&mut bus, 1 << slot).unwrap();
        // A tray pulls its contact low.
        set(&mut bus, !(1 << slot));
        assert_eq!(expander.present(&mut bus), Ok(1 << slot));
        match bus.part(at) {
            // Low is lit; what has no light is an input, pulled up.
            Some(Part::Tca9555(part)) => assert_eq!(part.pins(1), !(1 << slot)),
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn volts_amperes_and_degrees_come_out_as_they_went_in(millivolts in 0..36_000_u32, milliamperes in -8_000..8_000_i32, thousandths in -40_000..125_000_i32) {
        let mut bus = tray();
        let sensor = Ina226::new(0x40, Ina226::TRAY_SHUNT);
        sensor.set_up(&mut bus).unwrap();
        if let Some(Part::Ina226(part)) = bus.part(0x40) {
            (part.millivolts, part.milliamperes) = (millivolts, milliamperes);
        }
        if let Some(Part::Tmp1075(part)) = bus.part(0x48) {
            part.thousandths = thousandths;
        }
        let reading = sensor.read(&mut bus).unwrap().unwrap();
        prop_assert!(reading.bus.abs_diff(millivolts * 1000) <= 1250);
        prop_assert!(reading.current.abs_diff(milliamperes * 1000) <= 250);
        let power = i64::from(millivolts) * i64::from(milliamperes);
        prop_assert!(reading.power.abs_diff(power) <= 20_000 + power.unsigned_abs() / 100);
        prop_assert!(Tmp1075::new(0x48).read(&mut bus).unwrap().abs_diff(thousandths) <= 63);
    }
}
