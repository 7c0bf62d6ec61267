// SPDX-License-Identifier: Apache-2.0
//! The machine's power button, as ACPI tells of it: messages of the generic netlink family `acpi_event`
//! (Linux 6.12, `drivers/acpi/event.c` and `button.c`). It needs no input devices in the kernel.

use std::io;

use crate::netlink::codec::{Attributes, Request};
use crate::netlink::{Message, NetlinkError, Socket};

const NETLINK_GENERIC: u32 = 16;
/// The family that knows the others (linux/genetlink.h).
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const GROUPS: u16 = 7;
const GROUP_NAME: u16 = 1;
const GROUP_ID: u16 = 2;
const EVENT: u16 = 1;
/// `struct acpi_genl_event` begins with `char device_class[20]`.
const CLASS: usize = 20;
const POWER_BUTTON: &[u8] = b"button/power";

/// A subscription to the power button.
#[derive(Debug)]
pub struct PowerButton {
    socket: Socket,
    family: u16,
}

impl PowerButton {
    /// Subscribes; `None` where the kernel has no ACPI events. Works in the machine's own network namespace only.
    pub fn listen() -> Result<Option<Self>, NetlinkError> {
        let mut socket = Socket::open(NETLINK_GENERIC, 0)?;
        let families = socket.dump(&Request::new(CONTROLLER, 0, &[GET_FAMILY, 1, 0, 0]))?;
        let Some((family, group)) = families.iter().find_map(events) else {
            return Ok(None);
        };
        socket.join(group)?;
        Ok(Some(Self { socket, family }))
    }

    /// Waits until it is pressed.
    pub fn pressed(&mut self) -> Result<(), NetlinkError> {
        loop {
            match self.socket.receive() {
                Ok(messages) => {
                    if messages
                        .iter()
                        .any(|message| is_press(message, self.family))
                    {
                        return Ok(());
                    }
                }
                // The socket's own time limit, meant for answers: nothing happened for a while.
                Err(NetlinkError::Io { source, .. })
                    if source.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The family's number and its group's, if this describes the family of ACPI events.
// untrusted: netlink_answers
pub fn events(message: &Message) -> Option<(u16, u32)> {
    let (_, attributes) = message.parts::<4>()?;
    (attributes.text(FAMILY_NAME)? == "acpi_event").then_some(())?;
    let family = u16::from_ne_bytes(attributes.array(FAMILY_ID)?);
    let group = attributes
        .nest(GROUPS)?
        .map(|(_, group)| Attributes(group))
        .find(|group| group.text(GROUP_NAME).as_deref() == Some("acpi_mc_group"))?;
    Some((family, group.u32(GROUP_ID)?))
}

/// Whether the power button was pressed; `family` is that of ACPI events.
// untrusted: netlink_answers
pub fn is_press(message: &Message, family: u16) -> bool {
    message.kind == family
        && message
            .parts::<4>()
            .and_then(|(_, attributes)| attributes.get(EVENT))
            .and_then(|event| event.get(..CLASS))
            .and_then(|class| class.split(|byte| *byte == 0).next())
            == Some(POWER_BUTTON)
}

#[cfg(test)]
mod tests;
