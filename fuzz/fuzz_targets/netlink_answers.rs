// SPDX-License-Identifier: Apache-2.0
//! Datagrams of netlink: news and lists of links, addresses, routes and routers' options, verdicts, and ACPI's families and
//! events. The kernel writes them, with names and texts of others in them.
#![no_main]

use racklet_linux::acpi;
use racklet_linux::netlink::Message;
use racklet_linux::rtnl::{Address, Link, News, Route};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for message in Message::split(bytes).unwrap_or_default() {
        if let Some(Err(error)) = message.result() {
            let _ = (error.to_string(), error.is_missing());
        }
        if let Some(link) = Link::read(&message) {
            assert!(link.name.len() + link.alias.map_or(0, |alias| alias.len()) <= 3 * bytes.len());
        }
        if let Some(News::RouterOptions { options, .. }) = News::read(&message) {
            assert!(options.len() <= bytes.len());
        }
        let _ = (Address::read(&message), Route::read(&message));
        let _ = (acpi::events(&message), acpi::is_press(&message, 27));
    }
});
