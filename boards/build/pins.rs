// SPDX-License-Identifier: Apache-2.0
//! `pins.toml` as Rust constants. What the chip can do is judged by the compiler, in `src/pins.rs`.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Controller {
    controller: String,
    part: String,
    pin: Vec<Pin>,
    #[serde(default)]
    i2c: Vec<I2c>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    gpio: u8,
    net: String,
    function: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct I2c {
    controller: u8,
    #[serde(default)]
    device: Vec<Device>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Device {
    part: String,
    kind: String,
    address: u8,
    purpose: String,
}

/// One module per controller, and the list of them all.
pub(crate) fn constants(found: &[(String, PathBuf)]) -> String {
    let mut code = String::new();
    let mut all = String::new();
    for (folder, path) in found {
        let text = fs::read_to_string(path).expect("it was just found");
        let controller: Controller = toml::from_str(&text)
            .unwrap_or_else(|error| panic!("boards/controllers/{folder}/pins.toml: {error}"));
        let module = folder.replace('-', "_");
        module_of(&mut code, folder, &module, &controller);
        write!(all, "{module}::CONTROLLER, ").expect("strings grow");
    }
    write!(
        code,
        "/// Every controller, by folder.\npub const ALL: &[Controller] = &[{all}];\n"
    )
    .expect("strings grow");
    code
}

fn module_of(code: &mut String, folder: &str, module: &str, controller: &Controller) {
    let mut line = |text: String| {
        code.push_str(&text);
        code.push('\n');
    };
    line(format!("/// The pins of `boards/controllers/{folder}`."));
    line(format!("pub mod {module} {{"));
    line("    use super::{Controller, Device, Function, I2c, Pin};".to_owned());
    for pin in &controller.pin {
        assert!(
            pin.net
                .chars()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
                && pin.net.starts_with(|c: char| c.is_ascii_uppercase()),
            "boards/controllers/{folder}/pins.toml: {:?} is no name of a net and a constant",
            pin.net
        );
        line(format!("    /// The GPIO of the net `{}`.", pin.net));
        line(format!("    pub const {}: u8 = {};", pin.net, pin.gpio));
    }
    line("    /// All of it.".to_owned());
    line("    pub const CONTROLLER: Controller = Controller {".to_owned());
    line(format!("        board: {folder:?},"));
    line(format!("        chip: {:?},", controller.controller));
    line(format!("        part: {:?},", controller.part));
    line("        pins: &[".to_owned());
    for pin in &controller.pin {
        line(format!(
            "            Pin {{ gpio: {}, net: {:?}, function: {} }},",
            pin.gpio,
            pin.net,
            function(&pin.function).unwrap_or_else(|| panic!(
                "boards/controllers/{folder}/pins.toml: no function {:?}",
                pin.function
            ))
        ));
    }
    line("        ],".to_owned());
    line("        i2c: &[".to_owned());
    for bus in &controller.i2c {
        line(format!(
            "            I2c {{ controller: {}, devices: &[",
            bus.controller
        ));
        for device in &bus.device {
            line(format!(
                "                Device {{ part: {:?}, kind: {:?}, address: {:#04x}, purpose: {:?} }},",
                device.part, device.kind, device.address, device.purpose
            ));
        }
        line("            ] },".to_owned());
    }
    line("        ],".to_owned());
    line("    }.checked();".to_owned());
    line("}".to_owned());
}

/// `uart1-tx` as `Function::UartTx(1)`.
fn function(name: &str) -> Option<String> {
    let plain = match name {
        "input" => "Input",
        "output" => "Output",
        "pio" => "Pio",
        "adc" => "Adc",
        "pwm" => "Pwm",
        _ => "",
    };
    if !plain.is_empty() {
        return Some(format!("Function::{plain}"));
    }
    let (peripheral, signal) = name.split_once('-')?;
    let (kind, instance) = peripheral.split_at_checked(peripheral.len().checked_sub(1)?)?;
    let variant = match (kind, signal) {
        ("uart", "tx") => "UartTx",
        ("uart", "rx") => "UartRx",
        ("i2c", "sda") => "I2cSda",
        ("i2c", "scl") => "I2cScl",
        ("spi", "rx") => "SpiRx",
        ("spi", "cs") => "SpiCs",
        ("spi", "sck") => "SpiSck",
        ("spi", "tx") => "SpiTx",
        _ => return None,
    };
    let instance: u8 = instance.parse().ok()?;
    Some(format!("Function::{variant}({instance})"))
}
