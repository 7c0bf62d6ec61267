// SPDX-License-Identifier: Apache-2.0
//! A vCPU, out of KVM and back.

use kvm_bindings::{RegList, kvm_mp_state, kvm_vcpu_events};
use kvm_ioctls::{Kvm, VcpuFd};
use racklet_api::vmm::console::Bytes;

use super::machine::Controller;
use super::wire::{Cpu, MOST_BYTES, SystemError, width};
use super::{RestoreError, SaveError, put, saved};

/// The virtual and the physical counter, as KVM calls them (arm64's asm/kvm.h: `KVM_REG_ARM_TIMER_CNT`, by historical accident under
/// another register's number, and `KVM_REG_ARM_PTIMER_CNT`). They go on without the guest, and all vCPUs have the same.
const COUNTERS: [u64; 2] = [0x6030_0000_0013_df1a, 0x6030_0000_0013_df01];
/// The most that there is room for; KVM has some 450 at most.
const MOST_REGISTERS: usize = 500;

/// What there is to save of a machine here.
pub struct Saver {
    pub(super) controller: Controller,
}

impl Saver {
    /// For the machine that has this controller.
    pub fn new(_kvm: &Kvm, controller: Controller) -> Result<Saver, kvm_ioctls::Error> {
        Ok(Saver { controller })
    }
}

/// KVM's names of all registers of a vCPU, in order: those that are its own, and the counters.
pub(super) fn names(vcpu: &VcpuFd) -> Result<(Vec<u64>, Vec<u64>), kvm_ioctls::Error> {
    let too_many = |_| kvm_ioctls::Error::new(libc::E2BIG);
    let mut list = RegList::new(MOST_REGISTERS).map_err(too_many)?;
    vcpu.get_reg_list(&mut list)?;
    let mut all = list.as_slice().to_vec();
    all.sort_unstable();
    Ok(all.into_iter().partition(|id| !COUNTERS.contains(id)))
}

/// A register's bytes.
fn read(vcpu: &VcpuFd, id: u64) -> Result<Vec<u8>, kvm_ioctls::Error> {
    if width(id) > MOST_BYTES {
        return Err(kvm_ioctls::Error::new(libc::E2BIG));
    }
    let mut value = vec![0; width(id)];
    vcpu.get_one_reg(id, &mut value)?;
    Ok(value)
}

/// The counters and their values.
pub(super) fn counters(vcpu: &VcpuFd, names: &[u64]) -> Result<Vec<(u64, u64)>, kvm_ioctls::Error> {
    let counter = |id: &u64| {
        let mut value = [0; 8];
        vcpu.get_one_reg(*id, &mut value)?;
        Ok((*id, u64::from_le_bytes(value)))
    };
    names.iter().map(counter).collect()
}

/// A vCPU that stands outside of the guest.
pub(super) fn save(vcpu: &VcpuFd, names: &[u64]) -> Result<Cpu, SaveError> {
    // Registers first: where PSCI has just switched this one on, reading them carries out the reset that goes with it.
    let register = |id: &u64| saved("a register", read(vcpu, *id)).map(|value| (*id, Bytes(value)));
    let registers = names.iter().map(register).collect::<Result<_, _>>()?;
    let mp_state = saved("a vCPU's state", vcpu.get_mp_state())?.mp_state;
    let events = saved("what is on its way", vcpu.get_vcpu_events())?.exception;
    Ok(Cpu {
        mp_state,
        registers,
        system_error: SystemError {
            pending: events.serror_pending != 0,
            syndrome: (events.serror_has_esr != 0).then_some(events.serror_esr),
        },
    })
}

/// Puts the counters back, `ticks` further: on one vCPU, and with it on all.
pub(super) fn restore_counters(
    vcpu: &VcpuFd,
    counters: &[(u64, u64)],
    ticks: u64,
) -> Result<(), RestoreError> {
    for (id, value) in counters {
        let now = value.wrapping_add(ticks).to_le_bytes();
        put("counters", vcpu.set_one_reg(*id, &now))?;
    }
    Ok(())
}

/// Puts a checked vCPU back. A register that KVM does not take has to have its value already: what says which processor this is.
pub(super) fn restore(number: usize, vcpu: &VcpuFd, cpu: &Cpu) -> Result<(), RestoreError> {
    for (id, value) in &cpu.registers {
        if vcpu.set_one_reg(*id, &value.0).is_err() && read(vcpu, *id).ok() != Some(value.0.clone())
        {
            return Err(RestoreError::Register {
                cpu: number,
                id: *id,
            });
        }
    }
    let SystemError { pending, syndrome } = cpu.system_error;
    let mut events = kvm_vcpu_events::default();
    events.exception.serror_pending = pending.into();
    events.exception.serror_has_esr = syndrome.is_some().into();
    events.exception.serror_esr = syndrome.unwrap_or(0);
    put("pending events", vcpu.set_vcpu_events(&events))?;
    let state = kvm_mp_state {
        mp_state: cpu.mp_state,
    };
    put("run state", vcpu.set_mp_state(state))
}
