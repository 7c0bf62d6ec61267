// SPDX-License-Identifier: Apache-2.0
//! What a vCPU shows (CPUID) and how it begins (registers, local APIC).

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2, kvm_fpu, kvm_regs, kvm_segment,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd};

use super::layout::{GDT, PML4, STACK, ZERO_PAGE};

/// Nothing, 64-bit code, data, task: selectors 0x08, 0x10, 0x18.
pub(super) const GDT_ENTRIES: [u64; 4] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x008f_8b00_0000_ffff,
];

const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
const LONG_MODE: u32 = 1 << 29;

/// CPUID 1, ECX (Intel SDM 2A; AMD APM 3, E.3): what would let a guest run virtual machines, wait on memory, or reach what counts and
/// traces the host's processor: DTES64, MONITOR, DS-CPL, VMX, SMX, PDCM.
const NO_ECX: u32 = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 15;
/// CPUID 1, EDX: debug store.
const NO_EDX: u32 = 1 << 21;
/// CPUID 7.0, EBX and ECX: SGX and its launch control.
const NO_SGX: (u32, u32) = (1 << 2, 1 << 30);
/// CPUID 8000_0001, ECX: SVM, IBS, SKINIT, the counters of core, north bridge and cache, MONITORX.
const NO_AMD_ECX: u32 = 1 << 2 | 1 << 10 | 1 << 12 | 1 << 23 | 1 << 24 | 1 << 28 | 1 << 29;

const APIC_LINT0: usize = 0x350;
const APIC_LINT1: usize = 0x360;

/// What the processor itself lacks.
pub(super) fn missing(kvm: &Kvm) -> Option<String> {
    let cpuid = match kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES) {
        Ok(cpuid) => cpuid,
        Err(e) => return Some(format!("KVM does not say what this processor can do: {e}")),
    };
    let long = cpuid
        .as_slice()
        .iter()
        .any(|e| e.function == 0x8000_0001 && e.edx & LONG_MODE != 0);
    if long {
        None
    } else {
        Some("this processor has no 64-bit mode".to_owned())
    }
}

/// Makes vCPUs ready: what they show is worked out once for all of them.
pub struct Cpus(Vec<kvm_cpuid_entry2>);

impl Cpus {
    /// For a VM with `count` processors.
    pub fn new(kvm: &Kvm, count: u8) -> Result<Cpus, kvm_ioctls::Error> {
        let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
        let deadline = kvm.check_extension(Cap::TscDeadlineTimer);
        Ok(Cpus(shown(supported.as_slice(), count, deadline)))
    }

    /// What all of them show, apart from their numbers.
    pub(super) fn entries(&self) -> &[kvm_cpuid_entry2] {
        &self.0
    }

    /// Lets the vCPU with this number show what it is to show.
    pub(super) fn show(&self, vcpu: &VcpuFd, index: u8) -> Result<(), kvm_ioctls::Error> {
        let entries: Vec<_> = self.0.iter().map(|e| numbered(*e, index)).collect();
        let cpuid =
            CpuId::from_entries(&entries).map_err(|_| kvm_ioctls::Error::new(libc::E2BIG))?;
        // 0 is "as this processor". Without it KVM uses what was measured when it was initialised; if the host has since
        // measured again and differs by more than 250 ppm, the guest's timers stand still.
        vcpu.set_tsc_khz(0)?;
        vcpu.set_cpuid2(&cpuid)
    }

    /// Gives a vCPU its first state; the first one begins at `entry`, the others wait for it.
    pub fn set_up(&self, vcpu: &VcpuFd, index: u8, entry: u64) -> Result<(), kvm_ioctls::Error> {
        self.show(vcpu, index)?;
        vcpu.set_fpu(&kvm_fpu {
            fcw: 0x37f,
            mxcsr: 0x1f80,
            ..Default::default()
        })?;
        if index == 0 {
            vcpu.set_regs(&kvm_regs {
                rflags: 2,
                rip: entry,
                rsp: STACK,
                rbp: STACK,
                rsi: ZERO_PAGE,
                ..Default::default()
            })?;
            long_mode(vcpu)?;
        }
        let mut apic = vcpu.get_lapic()?;
        for (register, mode) in [(APIC_LINT0, 7), (APIC_LINT1, 4)] {
            // External interrupts of the 8259, and NMIs: as firmware leaves them.
            apic.regs[register + 1] = mode;
            apic.regs[register] = 0;
        }
        vcpu.set_lapic(&apic)
    }
}

fn long_mode(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let segment = |selector: u16, kind: u8, long: u8| kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_: kind,
        present: 1,
        dpl: 0,
        db: 1 - long,
        s: 1,
        l: long,
        g: 1,
        avl: 0,
        unusable: 0,
        padding: 0,
    };
    let mut sregs = vcpu.get_sregs()?;
    sregs.cs = segment(0x08, 0xb, 1);
    let data = segment(0x10, 0x3, 0);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment {
        s: 0,
        db: 0,
        ..segment(0x18, 0xb, 0)
    };
    sregs.gdt.base = GDT;
    sregs.gdt.limit = 8 * 4 - 1;
    sregs.idt.base = 0;
    sregs.idt.limit = 0; // any exception before the kernel's own table is a triple fault
    sregs.cr3 = PML4;
    sregs.cr4 |= 1 << 5; // PAE
    sregs.cr0 |= 1 | 1 << 31; // protection, paging
    sregs.efer |= 1 << 8 | 1 << 10; // long mode, active
    vcpu.set_sregs(&sregs)
}

/// Bits that hold `count` different numbers.
fn bits(count: u8) -> u32 {
    u32::from(count).next_power_of_two().trailing_zeros()
}

/// What every vCPU shows, apart from its own number.
fn shown(supported: &[kvm_cpuid_entry2], count: u8, deadline: bool) -> Vec<kvm_cpuid_entry2> {
    let count32 = u32::from(count);
    let topology = |index, eax, ebx, ecx| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax,
        ebx,
        ecx,
        ..Default::default()
    };
    let mut entries: Vec<kvm_cpuid_entry2> = Vec::with_capacity(supported.len() + 3);
    for entry in supported {
        let mut e = *entry;
        match e.function {
            1 => {
                e.ecx = e.ecx & !NO_ECX | HYPERVISOR | X2APIC;
                e.edx &= !NO_EDX;
                e.ecx = e.ecx & !TSC_DEADLINE | if deadline { TSC_DEADLINE } else { 0 };
                e.ebx = e.ebx & 0x0000_ffff | count32 << 16;
                // Hyper-threading bit: the count above is valid.
                e.edx = e.edx & !(1 << 28) | u32::from(count > 1) << 28;
            }
            // Caches on Intel: one thread per core; the last level is shared by all.
            4 => {
                let shared = if (e.eax >> 5) & 7 >= 3 {
                    count32 - 1
                } else {
                    0
                };
                e.eax = e.eax & 0x3fff | shared << 14 | (count32 - 1).min(63) << 26;
            }
            7 if e.index == 0 => {
                e.ebx &= !NO_SGX.0;
                e.ecx &= !NO_SGX.1;
            }
            0x8000_0001 => e.ecx &= !NO_AMD_ECX,
            // How to wait on memory, performance counters, SGX; virtual machines, IBS, memory encryption and counters on AMD: things
            // less for a guest to reach.
            5 | 0xa | 0x12 | 0x8000_000a | 0x8000_001b | 0x8000_001f | 0x8000_0022 => {
                (e.eax, e.ebx, e.ecx, e.edx) = (0, 0, 0, 0);
            }
            // Topology: written anew below.
            0xb | 0x1f => continue,
            0x8000_0008 => e.ecx = bits(count) << 12 | (count32 - 1),
            _ => {}
        }
        entries.push(e);
    }
    // One thread per core, one package (level types: 1 thread, 2 core, 0 end).
    entries.push(topology(0, 0, 1, 1 << 8));
    entries.push(topology(1, bits(count), count32, 2 << 8 | 1));
    entries.push(topology(2, 0, 0, 2));
    entries
}

/// The same for the vCPU with this number.
fn numbered(mut e: kvm_cpuid_entry2, index: u8) -> kvm_cpuid_entry2 {
    let id = u32::from(index);
    match e.function {
        1 => e.ebx |= id << 24,
        0xb => e.edx = id,
        0x8000_001e => (e.eax, e.ebx, e.ecx) = (id, id, 0),
        _ => {}
    }
    e
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, index: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            index,
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
            ..Default::default()
        }
    }

    #[test]
    fn every_vcpu_shows_its_number_and_the_same_topology() {
        let supported = [
            entry(1, 0),
            entry(4, 3),
            entry(0xa, 0),
            entry(0xb, 0),
            entry(0x1f, 0),
            entry(0x8000_0008, 0),
        ];
        let all = shown(&supported, 3, false);
        assert!(all.iter().all(|e| e.function != 0x1f));
        assert_eq!(all.iter().filter(|e| e.function == 0xb).count(), 3);
        let find = |function| {
            all.iter()
                .find(|e| e.function == function)
                .copied()
                .unwrap()
        };
        assert_eq!(find(1).ecx & TSC_DEADLINE, 0);
        assert_eq!(find(0xa).eax, 0);
        assert_eq!(find(0x8000_0008).ecx, 2 << 12 | 2);
        assert_eq!(numbered(find(1), 2).ebx, 2 << 24 | 3 << 16 | 0xffff);
        assert_eq!(numbered(find(0xb), 2).edx, 2);
    }

    #[test]
    fn a_guest_sees_nothing_with_which_to_run_virtual_machines_or_to_count() {
        let leaves = [
            1,
            5,
            7,
            0xa,
            0x12,
            0x8000_0001,
            0x8000_000a,
            0x8000_001b,
            0x8000_001f,
            0x8000_0022,
        ];
        let supported = leaves.map(|leaf| entry(leaf, 0));
        let all = shown(&supported, 1, true);
        let of = |function| {
            let found = all.iter().find(|e| e.function == function);
            found.map_or([0; 4], |e| [e.eax, e.ebx, e.ecx, e.edx])
        };
        for (name, register, bit) in [
            ("MONITOR", of(1)[2], 3),
            ("VMX", of(1)[2], 5),
            ("SMX", of(1)[2], 6),
            ("PDCM", of(1)[2], 15),
            ("DS", of(1)[3], 21),
            ("SGX", of(7)[1], 2),
            ("SGX_LC", of(7)[2], 30),
            ("SVM", of(0x8000_0001)[2], 2),
            ("IBS", of(0x8000_0001)[2], 10),
            ("PerfCtrExtCore", of(0x8000_0001)[2], 23),
            ("PerfCtrExtNB", of(0x8000_0001)[2], 24),
            ("PerfCtrExtLLC", of(0x8000_0001)[2], 28),
            ("MONITORX", of(0x8000_0001)[2], 29),
        ] {
            assert_eq!(register & 1 << bit, 0, "{name}");
        }
        for leaf in [
            5,
            0xa,
            0x12,
            0x8000_000a,
            0x8000_001b,
            0x8000_001f,
            0x8000_0022,
        ] {
            assert_eq!(of(leaf), [0; 4], "{leaf:#x}");
        }
        assert_ne!(of(1)[2] & HYPERVISOR, 0);
    }

    #[test]
    fn numbers_take_as_many_bits_as_they_need() {
        assert_eq!([1, 2, 3, 4, 5, 32].map(bits), [0, 1, 2, 2, 3, 5]);
    }
}
