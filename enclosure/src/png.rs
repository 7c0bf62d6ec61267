// SPDX-License-Identifier: Apache-2.0
//! Writes pictures as PNG (ISO/IEC 15948): eight bits each of red, green and blue. Nothing in them says when or by what they were made.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// A picture as a file.
///
/// # Errors
/// Those of a full memory.
pub fn encode(size: [usize; 2], rows: &[u8]) -> io::Result<Vec<u8>> {
    let line = size[0] * 3;
    let mut data = ZlibEncoder::new(Vec::new(), Compression::best());
    let mut above = vec![0; line];
    for row in rows.chunks_exact(line) {
        data.write_all(&filtered(row, &above))?;
        above.copy_from_slice(row);
    }
    let side = |side: usize| {
        let side = u32::try_from(side).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
        side.map(u32::to_be_bytes)
    };
    let mut head = [side(size[0])?, side(size[1])?].concat();
    // Eight bits, red, green and blue, not interlaced.
    head.extend([8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, content) in [
        (b"IHDR", head),
        (b"IDAT", data.finish()?),
        (b"IEND", Vec::new()),
    ] {
        file.extend(side(content.len())?);
        let chunk = [&name[..], &content].concat();
        file.extend(&chunk);
        file.extend(crc32fast::hash(&chunk).to_be_bytes());
    }
    Ok(file)
}

/// A row as differences to what is left and above, of the kind that leaves the least (the standard's own advice).
fn filtered(row: &[u8], above: &[u8]) -> Vec<u8> {
    let left = |at: usize| if at < 3 { 0 } else { row[at - 3] };
    let corner = |at: usize| if at < 3 { 0 } else { above[at - 3] };
    let kinds = (0..=4u8).map(|kind| {
        let mut line = vec![kind];
        line.extend((0..row.len()).map(|at| {
            let guess = match kind {
                0 => 0,
                1 => left(at),
                2 => above[at],
                3 => left(at).midpoint(above[at]),
                _ => paeth(left(at), above[at], corner(at)),
            };
            row[at].wrapping_sub(guess)
        }));
        line
    });
    let cost = |line: &Vec<u8>| {
        let bytes = line[1..].iter();
        bytes
            .map(|&byte| u32::from(byte.min(byte.wrapping_neg())))
            .sum::<u32>()
    };
    kinds.min_by_key(cost).unwrap_or_default()
}

fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let guess = i16::from(left) + i16::from(above) - i16::from(corner);
    let near = |value: u8| (guess - i16::from(value)).abs();
    if near(left) <= near(above) && near(left) <= near(corner) {
        left
    } else if near(above) <= near(corner) {
        above
    } else {
        corner
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn a_picture_comes_back_from_its_file() {
        let size = [5, 4];
        let rows: Vec<u8> = (0..60u8).map(|at| at.wrapping_mul(37) ^ at).collect();
        let file = encode(size, &rows).expect("memory suffices");
        let length = usize::try_from(u32::from_be_bytes(file[33..37].try_into().unwrap())).unwrap();
        assert_eq!(&file[37..41], b"IDAT");
        let mut data = Vec::new();
        flate2::read::ZlibDecoder::new(&file[41..41 + length])
            .read_to_end(&mut data)
            .expect("it is zlib");
        let mut back: Vec<u8> = Vec::new();
        for line in data.chunks_exact(16) {
            let start = back.len();
            for at in 0..15 {
                let left = if at < 3 { 0 } else { back[start + at - 3] };
                let up = if start == 0 { 0 } else { back[start + at - 15] };
                let corner = if at < 3 || start == 0 {
                    0
                } else {
                    back[start + at - 18]
                };
                let guess = match line[0] {
                    0 => 0,
                    1 => left,
                    2 => up,
                    3 => left.midpoint(up),
                    _ => paeth(left, up, corner),
                };
                back.push(line[1 + at].wrapping_add(guess));
            }
        }
        assert_eq!(back, rows);
    }
}
