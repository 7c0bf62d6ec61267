// SPDX-License-Identifier: Apache-2.0
//! The boards of the rack as code: what a circuit is (the intent), the KiCad projects made from it, the checks that hold
//! them together and what a fab receives.
//!
//! The intent ([`design::Design`]) is the one thing that everything is compared with: the drawn schematic (its exported
//! netlist), the routed board, the firmware's pins and, read back from Gerbers, the copper itself.
#![forbid(unsafe_code)]

pub mod boards;
pub mod bom;
pub mod bring_up;
pub mod check;
pub mod circuits;
pub mod cli;
pub mod design;
pub mod drawing;
pub mod footprints;
pub mod generate;
pub mod gerber;
pub mod hat;
pub mod layout;
pub mod outputs;
pub mod pcb;
pub mod project;
pub mod route;
pub mod schematic;
pub mod sexpr;
pub mod spice;
pub mod symbols;
pub mod uuid;
