// SPDX-License-Identifier: Apache-2.0
//! As many threads as a guest can have processors allocate and free under their filter: the C library must not look into files for
//! it, which would end the monitor. A program of its own: what it does about its heap counts from its first thread on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use racklet_vmm::confine::one_heap;
use racklet_vmm::confine::seccomp::{self, Kind};

const THREADS: usize = 32;

fn main() {
    one_heap();
    let filter = seccomp::filter(Kind::Vcpu).expect("the filter is made");
    let done = Arc::new(AtomicUsize::new(0));
    let together = Arc::new(Barrier::new(THREADS));
    for _ in 0..THREADS {
        let (filter, done, together) = (filter.clone(), done.clone(), together.clone());
        thread::spawn(move || {
            seccomp::apply(&filter).expect("the thread is confined");
            together.wait();
            for size in [16, 1000, 100_000, 1 << 20] {
                // Together more than what an allocator keeps when it is free again.
                let blocks: Vec<_> = (0..8).map(|_| vec![1_u8; size]).collect();
                let ones = blocks.iter().flatten().filter(|byte| **byte == 1);
                assert_eq!(ones.count(), 8 * size);
            }
            done.fetch_add(1, Ordering::SeqCst);
            loop {
                thread::park(); // a thread's end is not among what it may do
            }
        });
    }
    while done.load(Ordering::SeqCst) < THREADS {
        thread::yield_now();
    }
    // Said as other test programs say it, for who counts them.
    println!("test {THREADS} threads allocate under the filter of a vCPU ... ok\n");
    println!("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}
