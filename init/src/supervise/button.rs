// SPDX-License-Identifier: Apache-2.0
//! The machine's power button: pressed once, the tray goes down in order and switches off.

use std::thread;

use racklet_linux::acpi::PowerButton;
use racklet_tell::error::Chain;

use crate::console::Topic;

const BUTTON: Topic = Topic("button");

/// Calls `pressed` whenever the button is. A machine without one, or whose button cannot be listened to, goes on without:
/// held for some seconds it switches off by itself, and nothing that is on the card minds that.
pub(super) fn watch(pressed: impl Fn() + Send + 'static) {
    let mut button = match PowerButton::listen() {
        Ok(Some(button)) => button,
        Ok(None) => return,
        Err(error) => return BUTTON.failed(Chain(&error), "go on without it"),
    };
    let listen = move || {
        loop {
            match button.pressed() {
                Ok(()) => {
                    BUTTON.say("the power button was pressed");
                    pressed();
                }
                Err(error) => return BUTTON.failed(Chain(&error), "go on without it"),
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("button".into()).spawn(listen) {
        BUTTON.failed(
            format_args!("start a thread: {error}"),
            "go on without the power button",
        );
    }
}
