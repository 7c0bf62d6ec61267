// SPDX-License-Identifier: Apache-2.0
//! Tar archives that become workload images: whatever is accepted can be written, as many whole blocks as announced.
#![no_main]

use std::io::{Seek, Write};

use racklet_image::erofs::{ArchiveOptions, from_archive};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes)
        .and_then(|()| file.rewind())
        .expect("a temporary file takes a few bytes");
    if let Ok((tree, _)) = from_archive(file, ArchiveOptions { devices: true }) {
        let mut image = Vec::new();
        let size = tree
            .write(0, &mut image, &mut |_| {})
            .expect("the archive is still there");
        assert_eq!(size, image.len() as u64);
        assert_eq!(size, tree.image_size().expect("it was written"));
    }
});
