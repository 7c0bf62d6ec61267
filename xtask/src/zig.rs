// SPDX-License-Identifier: Apache-2.0
//! zig as C compiler and linker of a tray's static programs.

use crate::python::Environment;

/// Its folder of programs has `cargo-zigbuild`, and goes in front of PATH.
pub(crate) const ZIG: Environment = Environment {
    name: "zig",
    title: "zig, the linker of a tray's programs,",
    requirements: include_str!("../zig-requirements.txt"),
    python: "python3",
    options: &[],
    guess: 40,
};
