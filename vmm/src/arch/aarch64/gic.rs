// SPDX-License-Identifier: Apache-2.0
//! The interrupt controller: KVM's own, of whichever version this host can give its guests. Neither has an ITS: no device here sends
//! message-signalled interrupts.

#[cfg(target_arch = "aarch64")]
pub(super) use kvm::make;

/// Versions of the Generic Interrupt Controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gic {
    /// At most eight processors. A Raspberry Pi 4 and 5 have nothing else.
    V2,
    /// Servers have it; some of them can show version 2 to guests as well.
    V3,
}

#[cfg(target_arch = "aarch64")]
mod kvm {
    use kvm_bindings::{
        KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CTRL,
        KVM_VGIC_V2_ADDR_TYPE_CPU, KVM_VGIC_V2_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_DIST,
        KVM_VGIC_V3_ADDR_TYPE_REDIST, kvm_create_device, kvm_device_attr,
        kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
    };
    use kvm_ioctls::{DeviceFd, Error, VmFd};

    use super::super::layout::{CPU_INTERFACE, DISTRIBUTOR, REDISTRIBUTORS};
    use super::Gic;

    fn create(vm: &VmFd, kind: u32) -> Result<DeviceFd, Error> {
        vm.create_device(&mut kvm_create_device {
            type_: kind,
            fd: 0,
            flags: 0,
        })
    }

    /// Makes the controller of all vCPUs that there are, the newest version first. The controller is the VM's; by its descriptor the
    /// registers are saved.
    pub(in super::super) fn make(vm: &VmFd) -> Result<(Gic, DeviceFd), Error> {
        let (device, gic, places) = match create(vm, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3) {
            Ok(device) => (
                device,
                Gic::V3,
                [
                    (KVM_VGIC_V3_ADDR_TYPE_DIST, DISTRIBUTOR),
                    (KVM_VGIC_V3_ADDR_TYPE_REDIST, REDISTRIBUTORS),
                ],
            ),
            Err(_) => (
                create(vm, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2)?,
                Gic::V2,
                [
                    (KVM_VGIC_V2_ADDR_TYPE_DIST, DISTRIBUTOR),
                    (KVM_VGIC_V2_ADDR_TYPE_CPU, CPU_INTERFACE),
                ],
            ),
        };
        for (kind, address) in places {
            device.set_device_attr(&kvm_device_attr {
                group: KVM_DEV_ARM_VGIC_GRP_ADDR,
                attr: kind.into(),
                addr: &raw const address as u64,
                flags: 0,
            })?;
        }
        // From here on event descriptors can be connected to its lines.
        device.set_device_attr(&kvm_device_attr {
            group: KVM_DEV_ARM_VGIC_GRP_CTRL,
            attr: KVM_DEV_ARM_VGIC_CTRL_INIT.into(),
            addr: 0,
            flags: 0,
        })?;
        Ok((gic, device))
    }
}
