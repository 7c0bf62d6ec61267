// SPDX-License-Identifier: Apache-2.0
//! InteractiveHtmlBom: the page that an assembler works from.

use crate::python::Environment;

/// Its folder of programs has `generate_interactive_bom`. The system's own Python, with its modules: KiCad's is built for it.
pub(crate) const IBOM: Environment = Environment {
    name: "ibom",
    title: "InteractiveHtmlBom",
    requirements: include_str!("../ibom-requirements.txt"),
    python: "/usr/bin/python3",
    options: &["--system-site-packages"],
    guess: 5,
};
