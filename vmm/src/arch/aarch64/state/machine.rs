// SPDX-License-Identifier: Apache-2.0
//! A whole machine, out of KVM and back.

use std::arch::asm;
use std::time::{SystemTime, UNIX_EPOCH};

use kvm_bindings::kvm_device_attr;
use kvm_ioctls::{DeviceFd, Error, VcpuFd, VmFd};

use super::super::Gic;
use super::super::cpu::Cpus;
use super::super::parts::Parts;
use super::controller::{Name, icc_control, kept, priority_bits, registers};
use super::wire::{Here, State, check, ticks};
use super::{RestoreError, SaveError, Saver, cpu, put, saved};

/// The interrupt controller, by which its registers are reached.
pub struct Controller {
    gic: Gic,
    device: DeviceFd,
    /// Its registers, in the order in which they go back.
    registers: Vec<Name>,
}

impl Controller {
    /// The one of these processors (MPIDR_EL1).
    pub(in super::super) fn new(
        gic: Gic,
        device: DeviceFd,
        processors: &[u64],
    ) -> Result<Controller, Error> {
        let mut controller = Controller {
            gic,
            device,
            registers: Vec::new(),
        };
        let bits = match (gic, processors.first()) {
            (Gic::V3, Some(first)) => priority_bits(controller.read(icc_control(*first))?),
            _ => 0,
        };
        controller.registers = registers(gic, processors, bits);
        Ok(controller)
    }

    /// Most registers have 32 bits, which KVM writes to the beginning of what it is given: the lower half.
    fn read(&self, (group, attr): Name) -> Result<u64, Error> {
        let mut value: u64 = 0;
        let mut attribute = kvm_device_attr {
            group,
            attr,
            addr: &raw mut value as u64,
            flags: 0,
        };
        // SAFETY: `addr` is the address of `value`, which outlives the call. KVM writes 4 bytes there, and 8 of a system register.
        unsafe { self.device.get_device_attr(&mut attribute) }?;
        Ok(value)
    }

    fn write(&self, (group, attr): Name, value: u64) -> Result<(), Error> {
        self.device.set_device_attr(&kvm_device_attr {
            group,
            attr,
            addr: &raw const value as u64,
            flags: 0,
        })
    }
}

fn wall() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

/// How often the counters count in a second.
fn hertz() -> u64 {
    let hertz: u64;
    // SAFETY: it reads a register and changes nothing. Linux lets every program read CNTFRQ_EL0 with the virtual counter, by which the
    // vDSO tells the time, and serves the read itself where a processor's counter has a fault (arch/arm64/kernel/traps.c).
    unsafe {
        asm!("mrs {}, cntfrq_el0", out(reg) hertz, options(nomem, nostack, preserves_flags));
    }
    hertz
}

/// A machine whose vCPUs stand still, and with them everything that they reach.
pub(crate) fn save(
    saver: &Saver,
    _: &VmFd,
    vcpus: &[&VcpuFd],
    parts: &Parts,
    _: &Cpus,
) -> Result<State, SaveError> {
    let first = vcpus.first().expect("a machine has a vCPU");
    let (names, counters) = saved("the names of registers", cpu::names(first))?;
    // Together: both are what the time since is counted from.
    let counters = saved("the counters", cpu::counters(first, &counters))?;
    let wall = wall();
    let cpus = vcpus.iter().map(|vcpu| cpu::save(vcpu, &names));
    let cpus = cpus.collect::<Result<_, _>>()?;
    let controller = &saver.controller;
    let registers = controller.registers.iter().map(|name| {
        let value = saved("an interrupt controller", controller.read(*name))?;
        Ok((name.0, name.1, kept(controller.gic, *name, value)))
    });
    Ok(State {
        cpus,
        counters,
        hertz: hertz(),
        wall,
        controller: registers.collect::<Result<_, _>>()?,
        parts: parts.save(),
    })
}

/// Makes a new machine the saved one, but for its own [`Parts`] and for what its devices raise: interrupts that were raised before
/// would be overwritten here.
pub(crate) fn restore(
    state: &State,
    _: &VmFd,
    vcpus: &[VcpuFd],
    _: &Cpus,
    saver: &Saver,
) -> Result<(), RestoreError> {
    let first = vcpus.first().expect("a machine has a vCPU");
    let (names, counters) = put("names of registers", cpu::names(first))?;
    let controller = &saver.controller;
    check(
        state,
        &Here {
            cpus: vcpus.len(),
            registers: &names,
            counters: &counters,
            hertz: hertz(),
            controller: &controller.registers,
        },
    )?;
    // A clock of this host that is behind the other's stands still rather than to go back.
    let gone = wall().saturating_sub(state.wall);
    cpu::restore_counters(first, &state.counters, ticks(gone, state.hertz))?;
    for (number, (vcpu, saved)) in vcpus.iter().zip(&state.cpus).enumerate() {
        cpu::restore(number, vcpu, saved)?;
    }
    for (group, attribute, value) in &state.controller {
        let name = (*group, *attribute);
        let written = controller.write(name, kept(controller.gic, name, *value));
        written.map_err(|_| RestoreError::Controller {
            group: *group,
            attribute: *attribute,
        })?;
    }
    Ok(())
}
