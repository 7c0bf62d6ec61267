// SPDX-License-Identifier: Apache-2.0
//! Locks whose holders do not panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the lock. A panic aborts the process (`panic = "abort"`), so that a poisoned lock is seen in tests only.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
