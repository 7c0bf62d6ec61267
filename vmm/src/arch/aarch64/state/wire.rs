// SPDX-License-Identifier: Apache-2.0
//! The types of the file, and what can be judged of them without KVM.

use racklet_api::vmm::console::Bytes;
use serde::{Deserialize, Serialize};

use super::RestoreError;
use super::controller::Name;

/// Most bytes of a register: the largest that KVM has a name for, of SVE, is 2,048 bits (linux/kvm.h, `KVM_REG_SIZE_U2048`).
pub(super) const MOST_BYTES: usize = 256;

/// Bytes of a register that KVM calls so.
pub(super) fn width(id: u64) -> usize {
    1 << (id >> 52 & 0xf)
}

/// An error on its way into a vCPU (SError).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SystemError {
    pub(super) pending: bool,
    /// Its syndrome, where it has one.
    pub(super) syndrome: Option<u64>,
}

/// A vCPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cpu {
    /// Whether it runs or is off (`KVM_MP_STATE_*`): PSCI's state.
    pub(super) mp_state: u32,
    /// KVM's name of each register but the counters, in order, and its bytes.
    pub(super) registers: Vec<(u64, Bytes)>,
    pub(super) system_error: SystemError,
}

/// An arm64 machine, as one moment has found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    pub(super) cpus: Vec<Cpu>,
    /// The counters, which all vCPUs share: KVM's name of each, and its value…
    pub(super) counters: Vec<(u64, u64)>,
    /// …their ticks a second…
    pub(super) hertz: u64,
    /// …and the host's clock at that moment, in nanoseconds since 1970.
    pub(super) wall: u64,
    /// Group, register and value, in the order of [`super::controller::registers`].
    pub(super) controller: Vec<(u32, u64, u64)>,
    pub(in super::super) parts: Parts,
}

/// What a machine has beside, and KVM does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Parts {
    pub(in super::super) uart: crate::devices::serial::State,
    pub(in super::super) rtc: Rtc,
}

/// The clock (PL031): its registers, and the seconds by which the guest has set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Rtc {
    pub(in super::super) load: u32,
    pub(in super::super) offset: i64,
    pub(in super::super) alarm: u32,
    pub(in super::super) mask: u32,
    pub(in super::super) raised: u32,
}

impl State {
    /// How many vCPUs there are.
    #[must_use]
    pub fn cpus(&self) -> usize {
        self.cpus.len()
    }
}

/// What a new machine on this host has.
pub(super) struct Here<'a> {
    pub(super) cpus: usize,
    /// Registers of each vCPU but the counters, in order.
    pub(super) registers: &'a [u64],
    pub(super) counters: &'a [u64],
    pub(super) hertz: u64,
    pub(super) controller: &'a [Name],
}

/// Looks at everything that can be judged without KVM: whether the machine has just what this one has.
// untrusted: snapshot_arm64
pub(super) fn check(state: &State, here: &Here<'_>) -> Result<(), RestoreError> {
    if state.cpus.len() != here.cpus {
        return Err(RestoreError::Wrong("another number of vCPUs"));
    }
    for (cpu, saved) in state.cpus.iter().enumerate() {
        let mut expected = here.registers.iter();
        for (id, value) in &saved.registers {
            match expected.next() {
                Some(here) if here == id => {}
                Some(here) if here < id => return Err(RestoreError::Missing { cpu, id: *here }),
                _ => return Err(RestoreError::Unknown { cpu, id: *id }),
            }
            if width(*id) > MOST_BYTES || value.0.len() != width(*id) {
                return Err(RestoreError::Wrong("a register of another length"));
            }
        }
        if let Some(id) = expected.next() {
            return Err(RestoreError::Missing { cpu, id: *id });
        }
    }
    if !state.counters.iter().map(|(id, _)| id).eq(here.counters) {
        return Err(RestoreError::Wrong("other counters than there are here"));
    }
    if state.hertz != here.hertz {
        let (saved, here) = (state.hertz, here.hertz);
        return Err(RestoreError::Speed { saved, here });
    }
    let mut expected = here.controller.iter();
    for (group, attribute, _) in &state.controller {
        if expected.next() != Some(&(*group, *attribute)) {
            let (group, attribute) = (*group, *attribute);
            return Err(RestoreError::Controller { group, attribute });
        }
    }
    match expected.next() {
        Some((group, attribute)) => Err(RestoreError::Controller {
            group: *group,
            attribute: *attribute,
        }),
        None => Ok(()),
    }
}

/// The same where the host has just what the state names, and where it has one vCPU less: what was taken has whole registers, and the
/// same ones in each vCPU.
#[cfg(fuzzing)]
pub(in super::super) fn judged_alone(state: &State, gic: super::super::gic::Gic) {
    let first = state.cpus.first();
    let registers: Vec<u64> = first.map_or(Vec::new(), |cpu| {
        cpu.registers.iter().map(|(id, _)| *id).collect()
    });
    let counters: Vec<u64> = state.counters.iter().map(|(id, _)| *id).collect();
    let controller: Vec<Name> = state.controller.iter().map(|(g, a, _)| (*g, *a)).collect();
    let mut here = Here {
        cpus: state.cpus.len(),
        registers: &registers,
        counters: &counters,
        hertz: state.hertz,
        controller: &controller,
    };
    if check(state, &here).is_ok() {
        for (id, value) in state.cpus.iter().flat_map(|cpu| &cpu.registers) {
            assert!(value.0.len() == width(*id) && value.0.len() <= MOST_BYTES);
        }
        let same = |cpu: &Cpu| cpu.registers.iter().map(|(id, _)| id).eq(&registers);
        assert!(state.cpus.iter().all(same));
    }
    here.cpus = here.cpus.wrapping_sub(1);
    assert!(check(state, &here).is_err());
    for (group, attribute, value) in &state.controller {
        let kept = super::controller::kept(gic, (*group, *attribute), *value);
        assert_eq!(kept & !value, 0);
    }
    let _ = ticks(state.wall, state.hertz);
}

/// Ticks of the counters in so many nanoseconds.
pub(super) fn ticks(nanoseconds: u64, hertz: u64) -> u64 {
    let ticks = u128::from(nanoseconds) * u128::from(hertz) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(0)
}
