// SPDX-License-Identifier: Apache-2.0
//! What differs between processor architectures. Another architecture is another folder with the names below, chosen at the end of
//! this file; nothing outside of `arch` asks which one it is. What kernels have in common on their way into memory is in `kernel`.
//!
//! # The contract, in the order of a start
//!
//! | name | what it does |
//! | --- | --- |
//! | `missing` | says what this host's KVM lacks, or nothing |
//! | `ram`, `device_place`, `device_at`, `CONSOLE_IRQ`, `MOST_DEVICES` | the map: ranges of memory, how many virtio devices have a line, registers and line of the n-th virtio device, and back |
//! | `set_up` | makes interrupt controllers, timers **and** all vCPUs, in the order that this architecture needs: a PC's controllers come before the first vCPU, a GIC after the last. No line is connected before it has returned. Gives `Hardware` as well, what a kernel has to be told of it, and `Controller`, by which the interrupt controller is saved |
//! | `Parts` | what the machine has beside virtio devices (console, clock, reset): `new` with the console's line, `write_at` and `read_at` for accesses to what is neither memory nor a virtio device's, `serve` for the exits of a vCPU that are no access to memory, `input` when something was typed on the console |
//! | `load_kernel`, `initramfs_place` | put the kernel into memory and say where the archive goes |
//! | `prepare` | writes what a kernel finds when it is entered. It comes after the devices have their places and gets their number: a device tree, or a PC's command line, lists each with its registers and line. `SEED_BYTES` is how many random bytes it takes |
//! | `Cpus` | what vCPUs show and how they begin; the first at the kernel's entry |
//!
//! # State
//!
//! A snapshot (`snapshot`) is taken and put back part by part, each with a type of the file apart from the one that works: a virtio
//! device's registers and queues (`virtio`), what a device holds for its driver (`devices`), and behind this contract vCPUs,
//! interrupt controllers, clocks and the registers of the `Parts`:
//!
//! | name | what it does |
//! | --- | --- |
//! | `State`, `Saver`, `save` | what there is of a machine whose vCPUs stand still; `Saver::new` asks the host what that is before the confinement, and gets what `set_up` gave for it (`Controller`) |
//! | `restore`, `Parts::restore` | makes a new machine the saved one before anything raises an interrupt, then its parts, which may |

// Its layout, tree, loader and state are tested on every host.
#[cfg(any(target_arch = "aarch64", test, fuzzing))]
mod aarch64;
#[cfg(test)]
mod every;
mod kernel;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(fuzzing)]
pub use aarch64::fuzz as arm64_fuzz;
#[cfg(target_arch = "aarch64")]
pub use aarch64::*;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;
