// SPDX-License-Identifier: Apache-2.0
//! The types of the file. Their names are KVM's (linux/kvm.h) where the thing is KVM's, so that its documentation is theirs.

use kvm_bindings::{
    kvm_debugregs, kvm_dtable, kvm_pit_channel_state, kvm_regs, kvm_segment, kvm_sregs,
    kvm_vcpu_events, kvm_vcpu_events__bindgen_ty_1, kvm_vcpu_events__bindgen_ty_2,
    kvm_vcpu_events__bindgen_ty_3, kvm_vcpu_events__bindgen_ty_4, kvm_vcpu_events__bindgen_ty_5,
};
use racklet_api::vmm::console::Bytes;
use serde::{Deserialize, Serialize};

/// A type of the file for one of KVM's with the same fields, and the way between both. What KVM reserves is zero.
macro_rules! wire {
    ($(#[$about:meta])* $name:ident = $kvm:ident { $($field:ident: $type:ty),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name { $(pub(super) $field: $type),+ }

        impl From<&$kvm> for $name {
            fn from(kvm: &$kvm) -> $name {
                $name { $($field: kvm.$field.convert()),+ }
            }
        }

        impl From<&$name> for $kvm {
            fn from(wire: &$name) -> $kvm {
                let mut kvm = <$kvm>::default();
                $(kvm.$field = wire.$field.convert();)+
                kvm
            }
        }

        impl<'a> Convert<'a, $name> for $kvm {
            fn convert(&'a self) -> $name { self.into() }
        }

        impl<'a> Convert<'a, $kvm> for $name {
            fn convert(&'a self) -> $kvm { self.into() }
        }
    };
}

/// One way between a field of KVM's and a field of the file.
trait Convert<'a, To> {
    fn convert(&'a self) -> To;
}

macro_rules! same {
    ($($type:ty),+) => {
        $(impl Convert<'_, $type> for $type {
            fn convert(&self) -> $type { *self }
        })+
    };
}

same!(u8, u16, u32, u64, i64, [u64; 4]);

wire!(
    /// General registers.
    Regs = kvm_regs {
        rax: u64, rbx: u64, rcx: u64, rdx: u64, rsi: u64, rdi: u64, rsp: u64, rbp: u64, r8: u64, r9: u64, r10: u64, r11: u64,
        r12: u64, r13: u64, r14: u64, r15: u64, rip: u64, rflags: u64,
    }
);
wire!(
    /// A segment register.
    Segment = kvm_segment {
        base: u64, limit: u32, selector: u16, type_: u8, present: u8, dpl: u8, db: u8, s: u8, l: u8, g: u8, avl: u8, unusable: u8,
    }
);
wire!(
    /// A descriptor table.
    Table = kvm_dtable { base: u64, limit: u16 }
);
wire!(
    /// Special registers.
    Sregs = kvm_sregs {
        cs: Segment, ds: Segment, es: Segment, fs: Segment, gs: Segment, ss: Segment, tr: Segment, ldt: Segment, gdt: Table,
        idt: Table, cr0: u64, cr2: u64, cr3: u64, cr4: u64, cr8: u64, efer: u64, apic_base: u64, interrupt_bitmap: [u64; 4],
    }
);
wire!(
    /// Debug registers.
    Debug = kvm_debugregs { db: [u64; 4], dr6: u64, dr7: u64 }
);
wire!(
    /// An exception on its way into the guest.
    Exception = kvm_vcpu_events__bindgen_ty_1 { injected: u8, nr: u8, has_error_code: u8, pending: u8, error_code: u32 }
);
wire!(
    /// An interrupt on its way into the guest.
    Interrupt = kvm_vcpu_events__bindgen_ty_2 { injected: u8, nr: u8, soft: u8, shadow: u8 }
);
wire!(
    /// Non-maskable interrupts.
    Nmi = kvm_vcpu_events__bindgen_ty_3 { injected: u8, pending: u8, masked: u8 }
);
wire!(
    /// System management interrupts.
    Smi = kvm_vcpu_events__bindgen_ty_4 { smm: u8, pending: u8, smm_inside_nmi: u8, latched_init: u8 }
);
wire!(
    /// A triple fault on its way.
    TripleFault = kvm_vcpu_events__bindgen_ty_5 { pending: u8 }
);
wire!(
    /// What is on its way into a vCPU.
    Events = kvm_vcpu_events {
        exception: Exception, interrupt: Interrupt, nmi: Nmi, sipi_vector: u32, flags: u32, smi: Smi, triple_fault: TripleFault,
        exception_has_payload: u8, exception_payload: u64,
    }
);
wire!(
    /// A channel of the timer.
    PitChannel = kvm_pit_channel_state {
        count: u32, latched_count: u16, count_latched: u8, status_latched: u8, status: u8, read_state: u8, write_state: u8,
        write_latch: u8, rw_mode: u8, mode: u8, bcd: u8, gate: u8, count_load_time: i64,
    }
);

/// What a vCPU shows at a CPUID leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Leaf {
    pub(super) function: u32,
    pub(super) index: u32,
    /// EAX, EBX, ECX, EDX.
    pub(super) shows: [u32; 4],
}

/// A vCPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cpu {
    pub(super) mp_state: u32,
    pub(super) regs: Regs,
    pub(super) sregs: Sregs,
    /// The floating-point and vector registers, as XSAVE lays them out (Intel SDM 1, 13.4): [`XSAVE`] bytes.
    pub(super) xsave: Bytes,
    /// Number and value of each extended control register, at most 16.
    pub(super) xcrs: Vec<(u32, u64)>,
    pub(super) debug: Debug,
    /// The local APIC's page of registers: [`LAPIC`] bytes.
    pub(super) lapic: Bytes,
    /// Number and value of each model-specific register that KVM shows, at most [`MOST_MSRS`].
    pub(super) msrs: Vec<(u32, u64)>,
    pub(super) events: Events,
}

/// Bytes of a [`Cpu`]'s `xsave`.
pub(super) const XSAVE: usize = 4096;
/// Bytes of a [`Cpu`]'s `lapic`.
pub(super) const LAPIC: usize = 1024;
/// KVM knows some 150.
pub(super) const MOST_MSRS: usize = 512;
/// Bytes of an interrupt controller's registers (`kvm_irqchip`).
pub(super) const CHIP: usize = 512;

/// A PC, as one moment has found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What all vCPUs show, apart from their numbers: a machine whose processors show something else is another machine.
    pub(super) cpuid: Vec<Leaf>,
    /// Thousands of ticks of the time-stamp counters a second.
    pub(super) tsc_khz: u32,
    pub(super) cpus: Vec<Cpu>,
    /// Both 8259 and the I/O APIC, [`CHIP`] bytes each.
    pub(super) chips: [Bytes; 3],
    pub(super) pit: [PitChannel; 3],
    pub(super) pit_flags: u32,
    /// `kvm-clock`, in nanoseconds…
    pub(super) clock: u64,
    /// …and the host's at that moment, in nanoseconds since 1970.
    pub(super) wall: u64,
    pub(in super::super) parts: Parts,
}

/// What a PC has beside, and KVM does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parts {
    pub(crate) com1: crate::devices::serial::State,
    pub(crate) i8042: I8042,
    pub(crate) cmos: Cmos,
}

/// The keyboard controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct I8042 {
    pub(crate) output: Option<u8>,
    pub(crate) configuration: u8,
    pub(crate) pending: Option<u8>,
}

/// The clock chip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cmos {
    pub(crate) index: u8,
}

impl State {
    /// How many vCPUs there are.
    #[must_use]
    pub fn cpus(&self) -> usize {
        self.cpus.len()
    }
}
