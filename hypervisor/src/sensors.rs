// SPDX-License-Identifier: Apache-2.0
//! What the board's own sensors say, as far as its kernel has drivers for them: temperatures, and supplies that fell too low. A tray
//! that is slow or forgets its card is most often hot or badly fed, and nothing else shows it.
//!
//! Source: Linux, Documentation/ABI/testing/sysfs-class-thermal and sysfs-class-hwmon (`in[0-*]_lcrit_alarm`). On a Raspberry Pi that
//! alarm is the firmware's under-voltage flag, of which drivers/hwmon/raspberrypi-hwmon.c asks every two seconds whether it was raised since.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::console::say;

const CLASS: &str = "/sys/class";
/// More of a kind than any board has are not looked at.
const MOST: usize = 32;
/// A supply that falls for moments does so again and again.
const LOOK: Duration = Duration::from_secs(10);

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sensors {
    /// Thousandths of a degree Celsius.
    pub(crate) temperatures: Vec<Reading>,
    /// Other than 0 where the supply fell below what the board needs.
    pub(crate) supplies: Vec<Reading>,
}

/// One number of one sensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Its folder: `thermal_zone0`, `hwmon1`. No other sensor has it.
    pub(crate) place: String,
    /// What its driver calls it: `cpu-thermal`, `rpi_volt`. Others may be called so, too.
    pub(crate) name: String,
    pub(crate) value: i64,
}

/// What the kernel says now. A sensor that cannot be read is missing.
pub(crate) fn of_tray() -> Sensors {
    read(Path::new(CLASS))
}

fn read(class: &Path) -> Sensors {
    let each = |kind: &str, name: &str, value: &str| -> Vec<Reading> {
        let folders = fs::read_dir(class.join(kind)).into_iter().flatten();
        let mut folders: Vec<_> = folders.flatten().map(|entry| entry.path()).collect();
        // In the kernel's order, which `read_dir` does not keep.
        folders.sort();
        let text = |path: &Path| Some(fs::read_to_string(path).ok()?.trim().to_owned());
        folders
            .iter()
            .filter_map(|folder| {
                Some(Reading {
                    place: folder.file_name()?.to_str()?.to_owned(),
                    name: text(&folder.join(name))?,
                    value: text(&folder.join(value))?.parse().ok()?,
                })
            })
            .take(MOST)
            .collect()
    };
    Sensors {
        temperatures: each("thermal", "type", "temp"),
        supplies: each("hwmon", "name", "in0_lcrit_alarm"),
    }
}

impl Sensors {
    /// The first supply that is too low.
    fn low(&self) -> Option<&str> {
        let low = self.supplies.iter().find(|supply| supply.value != 0);
        low.map(|supply| supply.name.as_str())
    }
}

/// Tells the temperatures once, and once that a supply is too low, whenever that comes. A tray without such sensors has no thread for them.
pub(crate) fn watch() -> std::io::Result<()> {
    let first = of_tray();
    for zone in &first.temperatures {
        say(&format!("{}: {}", zone.name, degrees(zone.value)));
    }
    if first.supplies.is_empty() {
        return Ok(());
    }
    let until_low = move || {
        let mut now = first;
        loop {
            if let Some(supply) = now.low() {
                say(&format!(
                    "{supply}: the supply voltage fell too low; use the board's own supply and a short cable, or the card may be damaged"
                ));
                return;
            }
            thread::sleep(LOOK);
            now = of_tray();
        }
    };
    thread::Builder::new()
        .name("sensors".into())
        .spawn(until_low)
        .map(|_| ())
}

fn degrees(thousandths: i64) -> String {
    let tenths = thousandths / 100;
    let sign = if tenths < 0 { "-" } else { "" };
    let tenths = tenths.unsigned_abs();
    format!("{sign}{}.{} degrees Celsius", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sysfs with these files.
    fn class(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
            fs::write(path, text).expect("writes");
        }
        folder
    }

    #[test]
    fn a_raspberry_pis_temperature_and_its_low_supply_are_read() {
        let files = [
            ("thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("thermal/thermal_zone0/temp", "48312\n"),
            ("thermal/cooling_device0/type", "cpufreq-cpu0\n"),
            ("hwmon/hwmon1/name", "rpi_volt\n"),
            ("hwmon/hwmon1/in0_lcrit_alarm", "1\n"),
            ("hwmon/hwmon0/name", "cpu_thermal\n"),
            ("hwmon/hwmon0/temp1_input", "48312\n"),
        ];
        let sensors = read(class(&files).path());
        let reading = |place: &str, name: &str, value| Reading {
            place: place.into(),
            name: name.into(),
            value,
        };
        let (zone, supply) = ("thermal_zone0", "hwmon1");
        assert_eq!(sensors.temperatures, [reading(zone, "cpu-thermal", 48_312)]);
        assert_eq!(sensors.supplies, [reading(supply, "rpi_volt", 1)]);
        assert_eq!(sensors.low(), Some("rpi_volt"));
    }

    #[test]
    fn a_supply_that_is_high_enough_is_none_that_is_low() {
        let files = [
            ("hwmon/hwmon0/name", "rpi_volt\n"),
            ("hwmon/hwmon0/in0_lcrit_alarm", "0\n"),
        ];
        let sensors = read(class(&files).path());
        assert_eq!((sensors.supplies.len(), sensors.low()), (1, None));
    }

    #[test]
    fn a_machine_without_sensors_and_sensors_that_say_nothing_are_no_error() {
        assert_eq!(read(Path::new("/nowhere")), Sensors::default());
        let odd = [
            ("thermal/thermal_zone0/type", "a"),
            ("thermal/thermal_zone0/temp", "hot"),
            ("thermal/thermal_zone1/temp", "5"),
            ("hwmon/hwmon0/in0_lcrit_alarm", "1"),
        ];
        assert_eq!(read(class(&odd).path()), Sensors::default());
    }

    #[test]
    fn temperatures_are_said_in_degrees() {
        for (thousandths, text) in [
            (48_312, "48.3 degrees Celsius"),
            (-5_250, "-5.2 degrees Celsius"),
            (90, "0.0 degrees Celsius"),
        ] {
            assert_eq!(degrees(thousandths), text);
        }
    }
}
