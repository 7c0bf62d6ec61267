// SPDX-License-Identifier: Apache-2.0
//! Every line goes to the firmware's console and to a serial port, once: a firmware whose console already is the serial port
//! must not say everything twice.

use alloc::{string::String, vec::Vec};
use core::fmt::{self, Write as _};

use uefi::{
    boot, cstr16,
    proto::console::serial::Serial,
    runtime::{self, VariableVendor},
    system,
};

/// Node type 3 (messaging), subtype 14 (UART): UEFI 2.10, 10.3.4.15.
const UART: [u8; 2] = [3, 14];

pub(crate) struct Console {
    serial: Vec<uefi::Handle>,
}

impl Console {
    pub(crate) fn find() -> Self {
        let console_is_serial =
            runtime::get_variable_boxed(cstr16!("ConOut"), &VariableVendor::GLOBAL_VARIABLE)
                .is_ok_and(|(path, _)| has_uart(&path));
        let serial = match console_is_serial {
            true => Vec::new(),
            false => boot::find_handles::<Serial>().unwrap_or_default(),
        };
        Self { serial }
    }

    /// Writes a line. A console that does not take it does not hold up the boot.
    pub(crate) fn write(&self, line: &impl fmt::Display) {
        let mut text = String::new();
        if write!(text, "{line}").is_err() {
            return;
        }
        let _ = system::with_stdout(|stdout| stdout.write_str(&text));
        for handle in &self.serial {
            if let Ok(mut serial) = super::open::<Serial>(*handle) {
                let _ = serial.write(text.replace('\n', "\r\n").as_bytes());
            }
        }
    }
}

/// Whether any node of a device path (with all its instances) is a UART.
fn has_uart(path: &[u8]) -> bool {
    let mut rest = path;
    while let [kind, subtype, low, high, ..] = *rest {
        if [kind, subtype] == UART {
            return true;
        }
        let length = usize::from(u16::from_le_bytes([low, high]));
        match rest.get(length..) {
            Some(next) if length >= 4 => rest = next,
            _ => return false,
        }
    }
    false
}
