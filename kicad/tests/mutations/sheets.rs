// SPDX-License-Identifier: Apache-2.0
//! Mistakes in the schematics, as a hand in KiCad makes them.

use std::fs;

use racklet_kicad::{
    check::project::Link,
    sexpr::{Sexpr, atom, text},
};

use crate::spoilt::{Spoilt, is};

/// Changes one part of the first sheet that has such a part.
fn change(copy: &Spoilt, marker: &str, spoil: impl FnOnce(&mut Vec<Sexpr>)) {
    let path = copy.sheet_with(marker);
    let mut sheet = Sexpr::parse(&fs::read_to_string(&path).unwrap()).unwrap();
    spoil(sheet.items_mut().unwrap());
    fs::write(path, sheet.to_string()).unwrap();
}

/// The symbol of a part on its sheet.
fn symbol(sheet: &[Sexpr], reference: &str) -> usize {
    sheet
        .iter()
        .position(|item| {
            is(item, "symbol") && {
                let mut properties = item.all("property");
                properties.any(|it| it.argument(1) == Some(reference))
            }
        })
        .unwrap()
}

#[test]
fn swapped_labels_are_another_circuit() {
    for copy in Spoilt::all() {
        let (a, b) = ("(label \"USB_DP\"", "(label \"USB_DM\"");
        let path = copy.sheet_with(a);
        let before = fs::read_to_string(&path).unwrap();
        let swapped = before.replace(a, "(label \"-\"").replace(b, a);
        fs::write(path, swapped.replace("(label \"-\"", b)).unwrap();
        copy.refused(Link::Drawing, &["USB_DP: does not reach"]);
    }
}

#[test]
fn a_changed_value_or_footprint_is_another_circuit() {
    for copy in Spoilt::all() {
        change(&copy, "(lib_id \"Sensor_Energy:INA226\")", |sheet| {
            let sensor = sheet
                .iter_mut()
                .find(|it| it.field("lib_id") == Some("Sensor_Energy:INA226"))
                .unwrap();
            let mut properties = sensor.items_mut().unwrap().iter_mut();
            let value = properties.find(|it| it.argument(0) == Some("Value"));
            value.unwrap().items_mut().unwrap()[2] = text("INA219");
        });
        copy.on_a_sheet(
            "\"Crystal:Crystal_SMD_3225-4Pin_3.2x2.5mm\"",
            "\"Crystal:Crystal_SMD_2520-4Pin_2.5x2.0mm\"",
        );
        copy.refused(Link::Drawing, &["is drawn as INA219, not as INA226"]);
        copy.refused(Link::Drawing, &["Y1: has footprint", "2520"]);
    }
}

#[test]
fn a_decoupling_capacitor_that_was_deleted_is_missed() {
    for copy in Spoilt::all() {
        change(&copy, "\"Reference\" \"C13\"", |sheet| {
            sheet.remove(symbol(sheet, "C13"));
        });
        copy.refused(Link::Drawing, &["C13: is not in the schematic"]);
    }
}

#[test]
fn a_part_that_is_not_to_be_populated_is_refused() {
    for copy in Spoilt::all() {
        change(&copy, "\"Reference\" \"C13\"", |sheet| {
            let index = symbol(sheet, "C13");
            let dnp = sheet[index].get_mut("dnp").unwrap().items_mut().unwrap();
            dnp[1] = atom("yes");
        });
        copy.refused(Link::Drawing, &["C13: is marked dnp"]);
    }
}

#[test]
fn a_changed_pin_of_an_embedded_symbol_is_refused() {
    for copy in Spoilt::all() {
        // KiCad would draw it, and only the netlist's pad would be another.
        change(&copy, "(symbol \"Sensor_Energy:INA226\"", |sheet| {
            let library = sheet.iter_mut().find(|it| is(it, "lib_symbols")).unwrap();
            let symbol = library
                .items_mut()
                .unwrap()
                .iter_mut()
                .find(|it| it.argument(0) == Some("Sensor_Energy:INA226"))
                .unwrap();
            let units = symbol.items_mut().unwrap().iter_mut();
            let mut pins = units
                .filter(|it| is(it, "symbol"))
                .flat_map(|it| it.items_mut().unwrap())
                .filter(|it| is(it, "pin"));
            let (one, other) = (pins.next().unwrap(), pins.next().unwrap());
            std::mem::swap(
                one.get_mut("number").unwrap(),
                other.get_mut("number").unwrap(),
            );
        });
        copy.refused(
            Link::Symbols,
            &["symbol Sensor_Energy:INA226: pin ", "is not the library's"],
        );
        copy.refused(Link::Drawing, &["reach"]);
    }
}

#[test]
fn an_edited_drawing_of_an_embedded_symbol_is_refused() {
    for copy in Spoilt::all() {
        copy.on_a_sheet("(pin passive line", "(pin power_out line");
        copy.refused(Link::Symbols, &["pin ", "is not the library's"]);
    }
}

#[test]
fn a_removed_wire_is_refused() {
    for copy in Spoilt::all() {
        change(&copy, "(label \"USB_DP\"", |sheet| {
            let index = sheet.iter().position(|it| is(it, "wire")).unwrap();
            sheet.remove(index);
        });
        assert_ne!(copy.findings(Link::Drawing), [""; 0]);
        assert_ne!(copy.findings(Link::Erc), [""; 0]);
    }
}

#[test]
fn an_open_pin_without_its_mark_and_an_undriven_supply_are_refused() {
    for copy in Spoilt::all() {
        change(&copy, "(no_connect", |sheet| {
            let index = sheet.iter().position(|it| is(it, "no_connect")).unwrap();
            sheet.remove(index);
        });
        change(&copy, "\"power:PWR_FLAG\"", |sheet| {
            sheet.retain(|it| !(is(it, "symbol") && it.field("lib_id") == Some("power:PWR_FLAG")));
        });
        copy.refused(Link::Erc, &["[pin_not_connected]"]);
        copy.refused(Link::Erc, &["[power_pin_not_driven]"]);
    }
}
