// SPDX-License-Identifier: Apache-2.0
//! The processors that trays have, and what runs on them is made for.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A processor's architecture, written as the kernel names it (`uname -m`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Architecture {
    /// 64-bit Arm, which others call arm64.
    #[serde(rename = "aarch64")]
    Aarch64,
    /// 64-bit x86, which others call amd64.
    #[serde(rename = "x86_64")]
    X86_64,
}

impl Architecture {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 2] = [Self::Aarch64, Self::X86_64];

    /// What this program was compiled for. A controller, which is neither, has no such constant: it compares with what a tray is.
    #[cfg(target_arch = "aarch64")]
    pub const HERE: Self = Self::Aarch64;
    /// What this program was compiled for. A controller, which is neither, has no such constant: it compares with what a tray is.
    #[cfg(target_arch = "x86_64")]
    pub const HERE: Self = Self::X86_64;

    /// As the kernel names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::X86_64 => "x86_64",
        }
    }

    /// The architecture that the kernel names so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString as _;

    #[test]
    fn an_architecture_is_written_and_read_as_the_kernel_names_it() {
        for architecture in Architecture::ALL {
            let name = architecture.to_string();
            assert_eq!(Architecture::named(&name), Some(architecture));
            let json = serde_json::to_string(&architecture).unwrap();
            assert_eq!(json, std::format!("\"{name}\""));
            assert_eq!(
                serde_json::from_str::<Architecture>(&json).unwrap(),
                architecture
            );
        }
        assert_eq!(Architecture::HERE.name(), std::env::consts::ARCH);
        for other in ["arm64", "amd64", "X86_64", "riscv64", ""] {
            assert_eq!(Architecture::named(other), None);
        }
    }
}
