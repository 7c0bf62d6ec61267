// SPDX-License-Identifier: Apache-2.0
//! The tray's configuration, as baked into the image.
#![no_main]

use racklet_api::tray::TrayConfig;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = TrayConfig::parse(bytes) {
        assert!(TrayConfig::parse(&config.to_json()).is_ok());
    }
});
