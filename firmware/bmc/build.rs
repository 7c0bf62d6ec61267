// SPDX-License-Identifier: Apache-2.0
//! Where things lie in the memory of the board: the linker script that cortex-m-rt asks for.

use std::{env, fs, path::PathBuf};

fn main() {
    const SCRIPT: &str = "src/board/mps2_an505/memory.x";
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::copy(SCRIPT, out.join("memory.x")).expect("copy the linker script");
    println!("cargo:rerun-if-changed={SCRIPT}");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    // The linker sorts sections by alignment; no padding between them.
    println!("cargo:rustc-link-arg-bins=--nmagic");
}
