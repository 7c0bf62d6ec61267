// SPDX-License-Identifier: Apache-2.0
//! SHA-256 of files and texts, in hex; and "has this been made from exactly these inputs?".

use std::{fmt::Write as _, fs, io::Read as _, path::Path};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// Of a file's contents.
pub(crate) fn of_file(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).with_context(|| format!("read {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..count]);
    }
}

/// Of several texts, told apart by their lengths.
pub(crate) fn of_parts<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// Whether `product` was made from inputs with this key, going by the stamp beside it.
pub(crate) fn is_fresh(product: &Path, key: &str) -> bool {
    product.exists() && fs::read_to_string(stamp(product)).is_ok_and(|text| text == key)
}

/// Notes that `product` has been made from inputs with this key.
pub(crate) fn set_fresh(product: &Path, key: &str) -> Result<()> {
    fs::write(stamp(product), key).context("write the stamp of a product")
}

fn stamp(product: &Path) -> std::path::PathBuf {
    let mut name = product.as_os_str().to_owned();
    name.push(".made-from");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(of_parts(["ab", "c"]), of_parts(["a", "bc"]));
        assert_eq!(of_parts(["ab", "c"]), of_parts(["ab", "c"]));
    }

    #[test]
    fn a_file_hashes_as_sha256sum_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "abc").unwrap();
        assert_eq!(
            of_file(&path).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_product_is_fresh_only_for_the_inputs_it_was_made_from() {
        let folder = tempfile::tempdir().unwrap();
        let product = folder.path().join("p");
        set_fresh(&product, "one").unwrap();
        assert!(!is_fresh(&product, "one"));
        fs::write(&product, "").unwrap();
        assert!(is_fresh(&product, "one") && !is_fresh(&product, "two"));
    }
}
