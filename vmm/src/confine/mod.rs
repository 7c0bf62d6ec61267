// SPDX-License-Identifier: Apache-2.0
//! Giving up everything: after this the process is a stranger on its host.
//!
//! In order: own session and cgroup (before memory is taken, so that it is accounted); resource limits; own mount, network, IPC,
//! UTS and cgroup namespaces; a root that is the VM's own folder and nothing else; no capabilities, own user, no new
//! privileges; Landlock; then one seccomp filter per kind of thread.
//!
//! There is no PID namespace: it would need a second process to wait in, and no system call that names another process is allowed
//! afterwards anyway (Landlock also denies signals and abstract sockets).

mod jail;
mod limits;
mod rules;
pub mod seccomp;

pub(crate) use jail::{JailError, close_inherited, enter, join_cgroup, silence};
pub(crate) use limits::limit;
pub use limits::one_heap;
