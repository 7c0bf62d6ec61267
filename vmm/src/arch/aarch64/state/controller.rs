// SPDX-License-Identifier: Apache-2.0
//! Which registers make up the state of a GIC, in the order in which they go back.
//!
//! The order is not free. KVM looks whether an interrupt can be delivered when it becomes pending or enabled, and not when the
//! controller is switched on: so the controller is on first. Where an interrupt goes and how it is triggered come before that it is
//! enabled, pending or active. The revision is the very first: by it KVM decides whether groups can be written (GICv2).
//!
//! Sources: Arm IHI 0048B (GICv2) and IHI 0069 (GICv3) for the registers; Linux, Documentation/virt/kvm/devices/arm-vgic.rst and
//! arm-vgic-v3.rst, for how KVM calls them.

use super::super::gic::Gic;

/// `KVM_DEV_ARM_VGIC_GRP_*` (linux/kvm.h): the distributor, GICv2's processor interface, GICv3's redistributors, its processor
/// interface, and the levels of its lines.
const DISTRIBUTOR: u32 = 1;
const INTERFACE: u32 = 2;
const REDISTRIBUTOR: u32 = 5;
pub(super) const SYSTEM_REGISTERS: u32 = 6;
const LEVELS: u32 = 7;

/// Interrupts of a controller, and those of them that each processor has for itself. The first is KVM's number where nobody asks for
/// another (`VGIC_NR_IRQS_LEGACY`): 224 lines and these.
const ALL: u64 = 256;
const OWN: u64 = 32;

/// Registers of a distributor, and of a redistributor from [`SGI_FRAME`] on.
const CONTROL: u64 = 0;
const REVISION: u64 = 8;
const GROUPS: Bank = Bank(0x80, 1);
const ENABLED: Bank = Bank(0x100, 1);
const PENDING: Bank = Bank(0x200, 1);
const ACTIVE: Bank = Bank(0x300, 1);
const PRIORITIES: Bank = Bank(0x400, 8);
const TARGETS: Bank = Bank(0x800, 8);
const TRIGGERS: Bank = Bank(0xc00, 2);
/// Which processors have sent a software interrupt (`GICD_SPENDSGIRn`): a byte for each of 16.
const SENT: [u64; 4] = [0xf20, 0xf24, 0xf28, 0xf2c];
/// GICv3: which processor an interrupt goes to, 64 bits for each.
const ROUTES: u64 = 0x6000;
/// GICv3: where a redistributor has its own interrupts' registers.
const SGI_FRAME: u64 = 0x1_0000;

/// Software interrupts, in the lowest bits of a first register of [`PENDING`].
const SOFTWARE: u64 = 0xffff;

/// Registers with so many bits for each interrupt: offset of the first, bits.
#[derive(Clone, Copy)]
struct Bank(u64, u64);

impl Bank {
    /// Offsets of the registers of these interrupts, 32 bits each.
    fn registers(self, from: u64, to: u64) -> impl Iterator<Item = u64> {
        let Bank(first, bits) = self;
        let each = 32 / bits;
        (from / each..to / each).map(move |n| first + 4 * n)
    }
}

/// What KVM calls a register: group and number.
pub(super) type Name = (u32, u64);

/// How a GICv3 calls a processor: the affinity of MPIDR_EL1, whose fourth byte is apart from the other three, in 32 bits.
fn packed(mpidr: u64) -> u64 {
    (mpidr >> 8 & 0xff00_0000) | (mpidr & 0x00ff_ffff)
}

/// A system register, without the processor's name.
const fn system(crn: u64, crm: u64, op2: u64) -> u64 {
    3 << 14 | crn << 7 | crm << 3 | op2
}

/// `ICC_CTLR_EL1`, which says how many bits a priority has.
const ICC_CONTROL: u64 = system(12, 12, 4);

/// The register that says how many bits a priority has, of the processor with this MPIDR_EL1.
pub(super) fn icc_control(mpidr: u64) -> Name {
    (SYSTEM_REGISTERS, packed(mpidr) << 32 | ICC_CONTROL)
}

/// The bits of a priority, from that register (`PRIbits`, one less).
pub(super) fn priority_bits(icc_control: u64) -> u64 {
    (icc_control >> 8 & 7) + 1
}

/// All registers of the controller of processors that are called so (MPIDR_EL1), in the order in which they go back. `bits` are those
/// of a priority, for a GICv3.
pub(super) fn registers(gic: Gic, processors: &[u64], bits: u64) -> Vec<Name> {
    match gic {
        Gic::V2 => second(processors.len() as u64),
        Gic::V3 => third(processors, bits),
    }
}

fn second(processors: u64) -> Vec<Name> {
    let all = |offset| (DISTRIBUTOR, offset);
    let mut names = vec![all(REVISION), all(CONTROL)];
    let own = |names: &mut Vec<Name>, bank: Bank| {
        for cpu in 0..processors {
            names.extend(
                bank.registers(0, OWN)
                    .map(|at| (DISTRIBUTOR, cpu << 32 | at)),
            );
        }
    };
    for bank in [GROUPS, TARGETS, TRIGGERS, PRIORITIES, ENABLED, PENDING] {
        // Each processor's own interrupts go to itself: nothing can be written there.
        if bank.0 != TARGETS.0 {
            own(&mut names, bank);
        }
        names.extend(bank.registers(OWN, ALL).map(all));
    }
    for cpu in 0..processors {
        names.extend(SENT.map(|at| (DISTRIBUTOR, cpu << 32 | at)));
    }
    own(&mut names, ACTIVE);
    names.extend(ACTIVE.registers(OWN, ALL).map(all));
    for cpu in 0..processors {
        // Control, mask of priorities, binary points, and the priorities that are being served (GICC_APRn).
        let interface = [0, 4, 8, 0x1c, 0xd0, 0xd4, 0xd8, 0xdc];
        names.extend(interface.map(|at| (INTERFACE, cpu << 32 | at)));
    }
    names
}

fn third(processors: &[u64], bits: u64) -> Vec<Name> {
    let all = |offset| (DISTRIBUTOR, offset);
    let first = processors.first().map_or(0, |mpidr| packed(*mpidr));
    let mut names = vec![all(REVISION), all(CONTROL)];
    let both = |names: &mut Vec<Name>, bank: Bank| {
        for mpidr in processors {
            let place = packed(*mpidr) << 32 | SGI_FRAME;
            names.extend(bank.registers(0, OWN).map(|at| (REDISTRIBUTOR, place + at)));
        }
        names.extend(bank.registers(OWN, ALL).map(all));
    };
    both(&mut names, GROUPS);
    for interrupt in OWN..ALL {
        let at = ROUTES + 8 * interrupt;
        names.extend([all(at), all(at + 4)]);
    }
    both(&mut names, TRIGGERS);
    both(&mut names, PRIORITIES);
    // By the number of the first of 32 interrupts; those of all processors by any of them.
    for mpidr in processors {
        names.push((LEVELS, packed(*mpidr) << 32));
    }
    for interrupt in (OWN..ALL).step_by(32) {
        names.push((LEVELS, first << 32 | interrupt));
    }
    for bank in [ENABLED, PENDING, ACTIVE] {
        both(&mut names, bank);
    }
    // Which of the registers of active priorities there are depends on how many priorities there are (IHI 0069, 12.2).
    let active = match bits {
        ..=5 => 1,
        6 => 2,
        _ => 4,
    };
    for mpidr in processors {
        let cpu = packed(*mpidr) << 32;
        let mut system = |register| names.push((SYSTEM_REGISTERS, cpu | register));
        system(self::system(12, 12, 5)); // ICC_SRE_EL1
        system(ICC_CONTROL);
        system(self::system(12, 12, 6)); // ICC_IGRPEN0_EL1
        system(self::system(12, 12, 7)); // ICC_IGRPEN1_EL1
        system(self::system(4, 6, 0)); // ICC_PMR_EL1
        system(self::system(12, 8, 3)); // ICC_BPR0_EL1
        system(self::system(12, 12, 3)); // ICC_BPR1_EL1
        for n in 0..active {
            system(self::system(12, 8, 4 + n)); // ICC_AP0Rn_EL1
            system(self::system(12, 9, n)); // ICC_AP1Rn_EL1
        }
    }
    names
}

/// What is kept of a value. Of a GICv2's pending software interrupts KVM would take the receiver for the sender where it is given them
/// here; they go back with their senders ([`SENT`]).
pub(super) fn kept(gic: Gic, (group, attribute): Name, value: u64) -> u64 {
    let offset = attribute & u64::from(u32::MAX);
    if gic == Gic::V2 && group == DISTRIBUTOR && offset == PENDING.0 {
        return value & !SOFTWARE;
    }
    value
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const TWO: [u64; 2] = [0x8000_0000, 0x12_8000_0102];

    fn both() -> [Vec<Name>; 2] {
        [registers(Gic::V2, &TWO, 0), registers(Gic::V3, &TWO, 5)]
    }

    /// Whether this is a register of that bank, anybody's.
    fn of((group, attribute): Name, bank: Bank) -> bool {
        let offset = (attribute & 0xffff_ffff) & !SGI_FRAME;
        let length = 4 * (ALL * bank.1 / 32);
        [DISTRIBUTOR, REDISTRIBUTOR].contains(&group) && (bank.0..bank.0 + length).contains(&offset)
    }

    #[test]
    fn no_register_goes_back_twice_and_every_interrupt_has_its_own() {
        for names in both() {
            let unique: BTreeSet<_> = names.iter().collect();
            assert_eq!(unique.len(), names.len());
            for (bank, count) in [
                (GROUPS, 7 + 2),
                (ENABLED, 7 + 2),
                (PENDING, 7 + 2),
                (ACTIVE, 7 + 2),
                (PRIORITIES, 56 + 2 * 8),
                (TRIGGERS, 14 + 2 * 2),
            ] {
                let found = names.iter().filter(|name| of(**name, bank)).count();
                assert_eq!(found, count, "{:#x}", bank.0);
            }
        }
        let [second, third] = both();
        assert_eq!(second.iter().filter(|name| of(**name, TARGETS)).count(), 56);
        assert!(third.contains(&(DISTRIBUTOR, 0x6000 + 8 * 255 + 4)));
        // Aff3 0x12, Aff1 1, Aff0 2: the words of the second processor (arm-vgic-v3.rst).
        assert!(third.contains(&(REDISTRIBUTOR, 0x1200_0102_0001_0080)));
        assert!(third.contains(&(SYSTEM_REGISTERS, 0x1200_0102_0000_c230)));
        assert!(second.contains(&(DISTRIBUTOR, 1 << 32 | 0x80)));
    }

    #[test]
    fn the_controller_is_on_and_interrupts_have_their_target_before_they_are_pending() {
        for names in both() {
            let first = |test: &dyn Fn(Name) -> bool| names.iter().position(|name| test(*name));
            let last = |test: &dyn Fn(Name) -> bool| names.iter().rposition(|name| test(*name));
            assert_eq!(first(&|name| name == (DISTRIBUTOR, REVISION)), Some(0));
            assert_eq!(first(&|name| name == (DISTRIBUTOR, CONTROL)), Some(1));
            let routes = |name: Name| {
                of(name, TARGETS)
                    || (name.0 == DISTRIBUTOR && name.1 >= ROUTES && name.1 >> 32 == 0)
            };
            let enabled = first(&|name| of(name, ENABLED)).expect("there are some");
            for early in [
                last(&routes),
                last(&|name| of(name, TRIGGERS)),
                last(&|name| of(name, PRIORITIES)),
            ] {
                assert!(early.expect("there are some") < enabled);
            }
            let pending = first(&|name| of(name, PENDING)).expect("there are some");
            assert!(last(&|name| of(name, ENABLED)).expect("there are some") < pending);
        }
    }

    #[test]
    fn a_gicv3_has_as_many_registers_of_active_priorities_as_its_priorities_need() {
        let count = |bits| registers(Gic::V3, &TWO, bits).len();
        assert_eq!(count(6) - count(5), 4);
        assert_eq!(count(7) - count(5), 12);
        assert_eq!(priority_bits(0x400), 5);
        assert_eq!(
            icc_control(TWO[0]),
            (SYSTEM_REGISTERS, 0xc664),
            "op0 3, CRn 12, CRm 12, op2 4"
        );
    }

    #[test]
    fn software_interrupts_of_a_gicv2_are_kept_with_their_senders_alone() {
        let own = (DISTRIBUTOR, 1 << 32 | 0x200);
        assert_eq!(kept(Gic::V2, own, 0x0800_0003), 0x0800_0000);
        assert_eq!(kept(Gic::V2, (DISTRIBUTOR, 0x204), 3), 3);
        assert_eq!(kept(Gic::V3, own, 3), 3);
    }
}
