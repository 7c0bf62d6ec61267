// SPDX-License-Identifier: Apache-2.0
//! What the BMC board's EEPROM tells the Raspberry Pi that it sits on: who it is, which overlay sets up the control link's UART, and
//! how many amperes it gives. What the Pi's firmware makes of that is in docs/hardware/bring-up.md.
//!
//! Source: the structures of `eeptools/eeplib.h` in <https://github.com/raspberrypi/utils> (format 2, HAT+): a head of 12 bytes, then
//! atoms (kind, number, length, data, CRC), all of it little-endian. One image for each board that has another overlay: on both the
//! UART is on GPIO12 and GPIO13, under another number.

use crate::{design::Design, uuid::uuid};

/// The EEPROM's entry in the bill of materials: a board that has one gets images.
const EEPROM: &str = "24lc32";
/// The head, in bytes.
const HEAD: usize = 12;
/// Format 2 is HAT+.
const VERSION: u8 = 2;
/// Kinds of atoms.
const VENDOR: u16 = 1;
const OVERLAY: u16 = 3;
const POWER_SUPPLY: u16 = 6;
/// Numbers of ours: the product, and its revision A.
const PRODUCT: (u16, u16) = (1, 1);
const MAKER_NAME: &str = "Racklet";
const PRODUCT_NAME: &str = "Racklet BMC";
/// What the 5.1 V supply gives, in milliamperes.
const SUPPLIES: u32 = 4000;

/// A Raspberry Pi that needs an image of its own: the word in the file's name, and the overlay of Raspberry Pi's kernel tree that
/// switches the UART on GPIO12 and GPIO13 on.
const IMAGES: [(&str, &str); 2] = [("pi4", "uart5"), ("pi5", "uart4-pi5")];

/// Files for a board's EEPROM: the end of each one's name, and its bytes. None for a board without an EEPROM.
#[must_use]
pub fn files(design: &Design) -> Vec<(String, Vec<u8>)> {
    if !design.parts.iter().any(|part| part.bom == Some(EEPROM)) {
        return Vec::new();
    }
    IMAGES
        .iter()
        .map(|(name, overlay)| (format!("-hat-{name}.eep"), image(overlay)))
        .collect()
}

/// CRC-16 with the polynomial 0x8005, bits reversed, beginning with 0.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc: u16, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xa001 } else { 0 }
        })
    })
}

fn atom(number: u16, kind: u16, data: &[u8]) -> Vec<u8> {
    let mut out = kind.to_le_bytes().to_vec();
    out.extend(number.to_le_bytes());
    // The CRC is counted in.
    let length = u32::try_from(data.len() + 2).expect("an atom is short");
    out.extend(length.to_le_bytes());
    out.extend(data);
    out.extend(crc(&out).to_le_bytes());
    out
}

fn vendor() -> Vec<u8> {
    let digits = uuid(&["bmc", "hat"]).replace('-', "");
    let id = u128::from_str_radix(&digits, 16).expect("a UUID is hexadecimal");
    let mut data = id.to_le_bytes().to_vec();
    data.extend(PRODUCT.0.to_le_bytes());
    data.extend(PRODUCT.1.to_le_bytes());
    for text in [MAKER_NAME, PRODUCT_NAME] {
        data.push(u8::try_from(text.len()).expect("a name is short"));
    }
    data.extend(MAKER_NAME.bytes().chain(PRODUCT_NAME.bytes()));
    data
}

fn image(overlay: &str) -> Vec<u8> {
    let atoms: [(u16, Vec<u8>); 3] = [
        (VENDOR, vendor()),
        (OVERLAY, overlay.as_bytes().to_vec()),
        (POWER_SUPPLY, SUPPLIES.to_le_bytes().to_vec()),
    ];
    let numbered = (0..).zip(&atoms);
    let body: Vec<u8> = numbered
        .flat_map(|(number, (kind, data))| atom(number, *kind, data))
        .collect();
    let mut out = b"R-Pi".to_vec();
    out.extend([VERSION, 0]);
    out.extend(u16::try_from(atoms.len()).expect("three").to_le_bytes());
    let length = u32::try_from(HEAD + body.len()).expect("an image is short");
    out.extend(length.to_le_bytes());
    out.extend(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuits::{backplane, bmc};

    /// The bytes that Raspberry Pi's own `eepmake` (raspberrypi/utils a30e7c7b) made of the same settings.
    const EEPMAKE: [&str; 2] = [
        "522d5069020003005b000000\
         010000002a000000f2f6523eac0c50807a81ad38a40d197601000100070b5261636b6c65745261636b6c657420424d43b560\
         03000100070000007561727435f234\
         0600020006000000a00f00003beb",
        "522d5069020003005f000000\
         010000002a000000f2f6523eac0c50807a81ad38a40d197601000100070b5261636b6c65745261636b6c657420424d43b560\
         030001000b00000075617274342d706935b98a\
         0600020006000000a00f00003beb",
    ];

    #[test]
    fn the_images_are_those_of_raspberry_pi_s_own_tool() {
        let files = files(&bmc::design());
        assert_eq!(
            files.iter().map(|(name, _)| &**name).collect::<Vec<_>>(),
            ["-hat-pi4.eep", "-hat-pi5.eep"]
        );
        for ((name, bytes), meant) in files.iter().zip(EEPMAKE) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, meant, "{name}");
        }
    }

    #[test]
    fn a_board_without_an_eeprom_gets_no_image() {
        assert!(files(&backplane::design()).is_empty());
    }

    /// What lies in the image is what the board has: a chip of 32 kbit at address 0x50 and a supply that gives as much.
    #[test]
    fn the_eeprom_holds_an_image_and_the_supply_gives_what_it_says() {
        let design = bmc::design();
        let eeprom = design.part("U12").unwrap();
        assert_eq!(
            (eeprom.bom, eeprom.value.as_str()),
            (Some(EEPROM), "24LC32")
        );
        let address = ["A0", "A1", "A2"];
        let pins = eeprom.pins.iter().filter(|pin| address.contains(&pin.name));
        assert!(pins.map(|pin| pin.net).eq(["GND"; 3]));
        for (_, bytes) in files(&design) {
            assert!(bytes.len() <= 32 * 1024 / 8);
        }
        let milliamperes = design.net("PI_5V").current * 1000.0;
        assert!(f64::from(SUPPLIES) <= milliamperes);
    }

    /// Each overlay names the port that the description of the Pi calls its control link.
    #[test]
    fn the_overlays_are_of_the_control_links_ports() {
        for (board, (_, overlay)) in ["raspberry-pi-4b", "raspberry-pi-5"].iter().zip(IMAGES) {
            let board = racklet_boards::find(board).unwrap();
            let port = board.control_link.unwrap().to_lowercase();
            assert_eq!(overlay.split('-').next(), Some(&*port));
        }
    }
}
