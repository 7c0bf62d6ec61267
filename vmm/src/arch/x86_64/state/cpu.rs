// SPDX-License-Identifier: Apache-2.0
//! A vCPU, out of KVM and back. The order of both is KVM's: reading the run state first makes it take what is on its way, and the
//! pending events are last; a local APIC counts by the deadline that is set behind it.

use kvm_bindings::{
    Msrs, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_xcr, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Kvm, VcpuFd};
use racklet_api::vmm::console::Bytes;

use super::super::Controller;
use super::wire::{Cpu, LAPIC, MOST_MSRS, XSAVE};
use super::{RestoreError, SaveError, put, saved};

/// Memory types (Intel SDM 4): KVM keeps them, and its list of registers does not name them.
const MTRRS: [u32; 28] = [
    0x2ff, 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x200,
    0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207, 0x208, 0x209, 0x20a, 0x20b, 0x20c, 0x20d,
    0x20e, 0x20f,
];
/// The time-stamp counter.
const TSC: u32 = 0x10;
/// When the local APIC's timer is to come, by the time-stamp counter.
const TSC_DEADLINE: u32 = 0x6e0;

/// What there is to save of vCPUs on this host: asked for while that is still possible.
pub struct Saver {
    msrs: Vec<u32>,
}

impl Saver {
    /// For any machine here.
    pub fn new(kvm: &Kvm, _: Controller) -> Result<Saver, kvm_ioctls::Error> {
        let mut msrs: Vec<u32> = kvm.get_msr_index_list()?.as_slice().to_vec();
        msrs.extend(MTRRS);
        msrs.sort_unstable();
        msrs.dedup();
        Ok(Saver { msrs })
    }

    /// A vCPU that stands outside of the guest.
    pub(super) fn save(&self, vcpu: &VcpuFd) -> Result<Cpu, SaveError> {
        let mp_state = saved("a vCPU's state", vcpu.get_mp_state())?.mp_state;
        let regs = saved("a vCPU's registers", vcpu.get_regs())?;
        let sregs = saved("a vCPU's special registers", vcpu.get_sregs())?;
        let xsave = saved("a vCPU's vector registers", vcpu.get_xsave())?;
        let xcrs = saved("a vCPU's control registers", vcpu.get_xcrs())?;
        let debug = saved("a vCPU's debug registers", vcpu.get_debug_regs())?;
        let lapic = saved("a local APIC", vcpu.get_lapic())?;
        let msrs = saved("model-specific registers", self.msrs(vcpu))?;
        let events = saved("what is on its way", vcpu.get_vcpu_events())?;
        let count = usize::try_from(xcrs.nr_xcrs).unwrap_or(0);
        Ok(Cpu {
            mp_state,
            regs: (&regs).into(),
            sregs: (&sregs).into(),
            xsave: Bytes(xsave.region.iter().flat_map(|w| w.to_le_bytes()).collect()),
            xcrs: xcrs
                .xcrs
                .iter()
                .take(count)
                .map(|x| (x.xcr, x.value))
                .collect(),
            debug: (&debug).into(),
            lapic: Bytes(lapic.regs.iter().map(|b| b.cast_unsigned()).collect()),
            msrs,
            events: (&events).into(),
        })
    }

    /// Those that can be read: KVM stops at the first that cannot, and says how far it came.
    fn msrs(&self, vcpu: &VcpuFd) -> Result<Vec<(u32, u64)>, kvm_ioctls::Error> {
        let mut read = Vec::new();
        let mut rest = &self.msrs[..];
        while !rest.is_empty() {
            let entries: Vec<_> = rest.iter().map(|index| entry(*index, 0)).collect();
            let mut msrs = list(&entries)?;
            let count = vcpu.get_msrs(&mut msrs)?;
            read.extend(
                msrs.as_slice()
                    .iter()
                    .take(count)
                    .map(|e| (e.index, e.data)),
            );
            rest = rest.get(count + 1..).unwrap_or(&[]);
        }
        Ok(read)
    }
}

fn entry(index: u32, data: u64) -> kvm_msr_entry {
    kvm_msr_entry {
        index,
        data,
        ..Default::default()
    }
}

fn list(entries: &[kvm_msr_entry]) -> Result<Msrs, kvm_ioctls::Error> {
    Msrs::from_entries(entries).map_err(|_| kvm_ioctls::Error::new(libc::E2BIG))
}

/// Whether a vCPU out of a file has the form of one.
pub(super) fn check(cpu: &Cpu) -> Result<(), RestoreError> {
    for (good, what) in [
        (
            cpu.xsave.0.len() == XSAVE,
            "vector registers of another length",
        ),
        (
            cpu.xcrs.len() <= 16,
            "more control registers than there are",
        ),
        (cpu.lapic.0.len() == LAPIC, "a local APIC of another length"),
        (
            cpu.msrs.len() <= MOST_MSRS,
            "more model-specific registers than there are",
        ),
    ] {
        if !good {
            return Err(RestoreError::Wrong(what));
        }
    }
    Ok(())
}

/// Puts a checked vCPU back, which shows already what it is to show. `ticks` is what the time-stamp counter went on by meanwhile.
pub(super) fn restore(
    number: usize,
    vcpu: &VcpuFd,
    cpu: &Cpu,
    ticks: u64,
) -> Result<(), RestoreError> {
    put(
        "run state",
        vcpu.set_mp_state(kvm_mp_state {
            mp_state: cpu.mp_state,
        }),
    )?;
    put("registers", vcpu.set_regs(&(&cpu.regs).into()))?;
    put("special registers", vcpu.set_sregs(&(&cpu.sregs).into()))?;
    let mut xsave = kvm_xsave::default();
    for (to, from) in xsave.region.iter_mut().zip(cpu.xsave.0.chunks_exact(4)) {
        *to = u32::from_le_bytes(from.try_into().expect("four bytes"));
    }
    // SAFETY: KVM reads more than `region` only where userspace has asked for registers that need it (AMX, by `arch_prctl`), which
    // this program never does.
    put("vector registers", unsafe { vcpu.set_xsave(&xsave) })?;
    let mut xcrs = kvm_xcrs {
        nr_xcrs: u32::try_from(cpu.xcrs.len()).expect("checked: at most 16"),
        ..Default::default()
    };
    for (to, (xcr, value)) in xcrs.xcrs.iter_mut().zip(&cpu.xcrs) {
        *to = kvm_xcr {
            xcr: *xcr,
            reserved: 0,
            value: *value,
        };
    }
    put("control registers", vcpu.set_xcrs(&xcrs))?;
    put("debug registers", vcpu.set_debug_regs(&(&cpu.debug).into()))?;
    let mut lapic = kvm_lapic_state::default();
    for (to, from) in lapic.regs.iter_mut().zip(&cpu.lapic.0) {
        *to = from.cast_signed();
    }
    put("local APIC", vcpu.set_lapic(&lapic))?;
    registers(number, vcpu, cpu, ticks)?;
    put(
        "pending events",
        vcpu.set_vcpu_events(&(&cpu.events).into()),
    )?;
    // Tells a guest with kvm-clock that it stood still, so that its own watchdogs do not bark; others have no place for it.
    let _ = vcpu.kvmclock_ctrl();
    Ok(())
}

/// Model-specific registers, one by one where KVM does not take them together. One that it refuses has to have its value already.
fn registers(number: usize, vcpu: &VcpuFd, cpu: &Cpu, ticks: u64) -> Result<(), RestoreError> {
    // The deadline last: it arms the timer, by the counter.
    let late = |index: u32| index == TSC_DEADLINE;
    let early = cpu.msrs.iter().filter(|(index, _)| !late(*index));
    let all = early.chain(cpu.msrs.iter().filter(|(index, _)| late(*index)));
    let entries: Vec<kvm_msr_entry> = all
        .map(|(index, value)| match *index {
            TSC => entry(TSC, value.wrapping_add(ticks)),
            index => entry(index, *value),
        })
        .collect();
    let mut rest = &entries[..];
    while !rest.is_empty() {
        let what = "model-specific registers";
        let done = put(what, vcpu.set_msrs(&put(what, list(rest))?))?;
        if let Some(refused) = rest.get(done) {
            let mut now = put(what, list(&[entry(refused.index, 0)]))?;
            let read = put(what, vcpu.get_msrs(&mut now))?;
            if read != 1 || now.as_slice()[0].data != refused.data {
                return Err(RestoreError::Register {
                    cpu: number,
                    index: refused.index,
                });
            }
        }
        rest = rest.get(done + 1..).unwrap_or(&[]);
    }
    Ok(())
}
