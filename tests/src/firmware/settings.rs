// SPDX-License-Identifier: Apache-2.0
//! autoboot.txt and config.txt: a setting on each line, and filters that say for whom the lines after them are.

use std::collections::BTreeMap;

use super::Machine;

/// What a line has beyond this is ignored (what_is_config_txt.adoc).
const LINE: usize = 98;

/// Who reads a file of settings.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// The board, where the file may filter by it: autoboot.txt may not.
    pub machine: Option<&'a Machine>,
    /// Whether the one-shot flag is set; `None` for an EEPROM that knows no such filter.
    pub tryboot: Option<bool>,
}

/// The settings that apply, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    /// What applies of `text`.
    #[must_use]
    pub fn read(text: &[u8], reader: Reader<'_>) -> Self {
        let text = String::from_utf8_lossy(text);
        let mut filters: BTreeMap<Kind, bool> = BTreeMap::new();
        let mut settings = Vec::new();
        for line in text.lines() {
            let cut = line
                .char_indices()
                .nth(LINE)
                .map_or(line.len(), |(at, _)| at);
            let line = line[..cut].trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
            {
                match name {
                    "all" => filters.clear(),
                    name => {
                        let (kind, passes) = reader.filter(name);
                        filters.insert(kind, passes);
                    }
                }
            } else if filters.values().all(|passes| *passes) {
                // One setting is written in another way than all others: `initramfs NAMES ADDRESS`.
                let (key, value) = match line.split_once('=') {
                    Some((key, value)) => (key, value),
                    None => line.split_once(' ').unwrap_or((line, "")),
                };
                settings.push((key.trim().to_owned(), value.trim().to_owned()));
            }
        }
        Self(settings)
    }

    /// The setting called `name`: a later one replaces an earlier one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A number; 0 where it is none, as the firmware reads it.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        self.get(name).map(|text| text.parse().unwrap_or(0))
    }
}

/// Filters of one kind replace each other, and those of several kinds have to pass all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Model,
    Serial,
    Tryboot,
    /// `none`, and what this reader does not know: nothing passes until `[all]`.
    Never(String),
}

impl Reader<'_> {
    fn filter(&self, name: &str) -> (Kind, bool) {
        let never = || (Kind::Never(name.to_owned()), false);
        if name == "tryboot" {
            return self.tryboot.map_or_else(never, |set| (Kind::Tryboot, set));
        }
        let Some(machine) = self.machine else {
            return never();
        };
        let number = |text: &str| {
            let hex = text.strip_prefix("0x")?;
            u32::from_str_radix(hex, 16).ok()
        };
        if let Some(kind) = name.strip_prefix("board-type=") {
            return (
                Kind::Model,
                number(kind) == Some(machine.model.board_type()),
            );
        }
        if let Some(serial) = number(name) {
            return (Kind::Serial, serial == machine.serial);
        }
        // pi1, pi3+, pi400, cm4s, ...
        if name.starts_with("pi") || name.starts_with("cm") {
            return (Kind::Model, machine.model.filters().contains(&name));
        }
        never()
    }
}
