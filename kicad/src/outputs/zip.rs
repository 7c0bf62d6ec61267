// SPDX-License-Identifier: Apache-2.0
//! Writes zip archives without times (APPNOTE 6.3.3): the same files give the same bytes. Small ones: no zip64.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use flate2::{Compression, write::DeflateEncoder};

/// 1 January 1980, midnight: the first that the format can say.
const DATE: u16 = 0x21;

/// The files of a folder, in the order of their names.
pub(super) fn folder(folder: &Path) -> io::Result<Vec<u8>> {
    let mut paths = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        files.push((name.into_owned(), fs::read(&path)?));
    }
    archive(&files)
}

fn archive(files: &[(String, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let size = |length: usize| u32::try_from(length).map_err(io::Error::other);
    let count = u16::try_from(files.len()).map_err(io::Error::other)?;
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(9));
        encoder.write_all(content)?;
        let packed = encoder.finish()?;
        let offset = size(out.len())?;
        let length = u16::try_from(name.len()).map_err(io::Error::other)?;
        // Version needed, flags, method, time, date: the same in both headers.
        let mut head: Vec<u8> = [20, 0, 8, 0, DATE]
            .iter()
            .flat_map(|it: &u16| it.to_le_bytes())
            .collect();
        for value in [
            crc32fast::hash(content),
            size(packed.len())?,
            size(content.len())?,
        ] {
            head.extend(value.to_le_bytes());
        }
        head.extend(length.to_le_bytes());
        head.extend(0u16.to_le_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&head);
        out.extend(name.as_bytes());
        out.extend(packed);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&head);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = size(out.len())?;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(size(directory.len())?.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0; 2]);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn pythons_reader_finds_the_archive_whole() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("a.gtl".to_owned(), b"copper ".repeat(100)),
            ("b.drl".to_owned(), b"holes".to_vec()),
        ];
        let path = folder.path().join("x.zip");
        fs::write(&path, archive(&files).unwrap()).unwrap();
        let script = "import sys,zipfile; z=zipfile.ZipFile(sys.argv[1]); print(z.testzip(), z.namelist(), z.read('a.gtl')[:7])";
        let output = Command::new("python3")
            .args(["-c", script])
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            said.trim(),
            "None ['a.gtl', 'b.drl'] b'copper '",
            "{output:?}"
        );
        assert_eq!(archive(&files).unwrap(), archive(&files).unwrap());
    }
}
