// SPDX-License-Identifier: Apache-2.0
//! Jobs side by side: a few at a time, the first of the queue next.

use std::{
    collections::VecDeque,
    num::NonZero,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

/// Does `work` for each job in as many lanes as are said; gives what came of each, in the order in which they ended.
pub(super) fn each<J: Send, R: Send>(
    jobs: impl IntoIterator<Item = J>,
    lanes: NonZero<usize>,
    work: impl Fn(&J) -> R + Sync,
) -> Vec<(J, R)> {
    let queue: Mutex<VecDeque<J>> = Mutex::new(jobs.into_iter().collect());
    let done = Mutex::new(Vec::new());
    // In a function of its own, so that the queue is free again before the work begins.
    let next = || locked(&queue).pop_front();
    thread::scope(|scope| {
        for _ in 0..lanes.get() {
            scope.spawn(|| {
                while let Some(job) = next() {
                    let result = work(&job);
                    locked(&done).push((job, result));
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    const TWO: NonZero<usize> = NonZero::new(2).unwrap();

    #[test]
    fn each_job_is_done_once_and_no_more_at_a_time_than_there_are_lanes() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let done = each(0..50, TWO, |job| {
            most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            thread::yield_now();
            now.fetch_sub(1, SeqCst);
            job * 2
        });
        let mut jobs: Vec<_> = done.iter().map(|(job, _)| *job).collect();
        jobs.sort_unstable();
        assert_eq!(jobs, (0..50).collect::<Vec<_>>());
        assert!(done.iter().all(|(job, result)| *result == job * 2));
        assert!(most.into_inner() <= 2);
    }

    #[test]
    fn two_jobs_really_run_at_once() {
        // Neither gets past it without the other.
        let both = Barrier::new(2);
        assert_eq!(each(0..2, TWO, |_| both.wait().is_leader()).len(), 2);
        assert!(each(0..0, TWO, |job: &i32| *job).is_empty());
    }
}
