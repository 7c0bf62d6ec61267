// SPDX-License-Identifier: Apache-2.0
//! A vCPU's thread: runs the guest, serves what it reaches for, and ends only with the process.

use std::sync::{Arc, Barrier, Mutex, MutexGuard};
use std::thread;

use kvm_ioctls::{VcpuExit, VcpuFd};
use seccompiler::BpfProgram;

use crate::bus::Bus;
use crate::confine::seccomp;
use crate::kick::Thread;
use crate::lifecycle::Event;
use crate::lock::lock;

/// Deep enough for every path below; a fault beyond it hits the guard page.
const STACK: usize = 256 * 1024;

/// Starts the thread. It waits at the barrier, confined, before the guest's first instruction.
pub(crate) fn spawn(
    number: u8,
    vcpu: Arc<Mutex<VcpuFd>>,
    bus: Arc<Bus>,
    filter: BpfProgram,
    start: Arc<Barrier>,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new()
        .name(format!("vcpu{number}"))
        .stack_size(STACK)
        .spawn(move || {
            let ready = Thread::of_vcpu(&mut lock(&vcpu)).map(|thread| bus.gate.join(thread));
            let confined = seccomp::apply(&filter);
            drop(filter);
            start.wait();
            match (ready, confined) {
                (Ok(()), Ok(())) => bus.end(run(&vcpu, &bus)),
                (Err(e), _) => bus.end(Event::VcpuFailed(format!(
                    "vCPU {number} cannot be interrupted: {e}"
                ))),
                (_, Err(e)) => bus.end(Event::VcpuFailed(format!(
                    "vCPU {number} cannot be confined: {e}"
                ))),
            }
            // The event loop ends the process. Until then `vcpu` stays: closing it is no call this thread may make.
            loop {
                thread::park();
            }
        })
}

/// `KVM_INTERNAL_ERROR_EMULATION`, `_SIMUL_EX` and `_DELIVERY_EV` (linux/kvm.h) are where a guest put its processor: it executes what
/// is no memory, or its interrupts lead there. What comes after them is KVM's own.
fn internal(vcpu: &mut VcpuFd) -> Event {
    // SAFETY: this follows KVM_EXIT_INTERNAL_ERROR, for which KVM has filled this member of the union; any bits are a number.
    let kind = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.internal.suberror };
    match kind {
        1..=3 => Event::Lost(format!(
            "the guest went where no processor can go on (KVM internal error {kind})"
        )),
        _ => Event::VcpuFailed(format!("KVM failed at a guest instruction ({kind})")),
    }
}

/// Interrupted: stands still where it has to. Whoever closes the gate while this is on its way has asked for another exit by then,
/// and asks for it behind closing: the flag is cleared before the gate is looked at. What the guest's last exit was about is done by
/// then: KVM completes it before it looks at the flag.
///
/// Its lock is free while it stands, for who saves it.
fn stand<'a>(
    vcpu: &'a Mutex<VcpuFd>,
    mut held: MutexGuard<'a, VcpuFd>,
    bus: &Bus,
) -> MutexGuard<'a, VcpuFd> {
    held.set_kvm_immediate_exit(0);
    drop(held);
    bus.gate.pass();
    lock(vcpu)
}

fn run(shared: &Mutex<VcpuFd>, bus: &Bus) -> Event {
    let mut vcpu = lock(shared);
    bus.entered.set();
    loop {
        let exit = vcpu.run();
        bus.exits().count(&exit);
        match exit {
            Ok(VcpuExit::MmioWrite(address, data)) => bus.write(address, data),
            Ok(VcpuExit::MmioRead(address, data)) => bus.read(address, data),
            Ok(VcpuExit::Shutdown) => return Event::TripleFault,
            Ok(VcpuExit::FailEntry(reason, cpu)) => {
                return Event::VcpuFailed(format!(
                    "the processor refused the guest's state ({reason:#x} on {cpu})"
                ));
            }
            Ok(VcpuExit::InternalError) => return internal(&mut vcpu),
            // Nothing to do for these: interrupts and halts are served in the kernel.
            Ok(VcpuExit::Hlt | VcpuExit::IrqWindowOpen) => {}
            Ok(VcpuExit::Intr) => vcpu = stand(shared, vcpu, bus),
            Ok(other) => {
                if let Some(end) = bus.parts.serve(other) {
                    return end;
                }
            }
            Err(e) if matches!(e.errno(), libc::EINTR | libc::EAGAIN) => {
                vcpu = stand(shared, vcpu, bus);
            }
            Err(e) => return Event::VcpuFailed(format!("the guest cannot be run: {e}")),
        }
    }
}
