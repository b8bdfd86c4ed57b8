//! Sealing and opening take no memory.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use jfe_tls::{HEADER, Opened, Opener, Role, STRIDE, Sealer, Secret, Suite};

struct Counting;

thread_local!(static ALLOCATIONS: Cell<usize> = const { Cell::new(0) });

// Sound: both pass on to the system's allocator what they were given, and counting takes no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_record_is_sealed_and_opened_without_an_allocation() {
    let secret = Secret::new(Suite::Aes128GcmSha256, &[1; 32]).unwrap();
    let (mut sealer, mut opener) = (Sealer::new(secret.clone(), 0), Opener::new(secret, 0, Role::Client));
    let mut record = vec![0; STRIDE];
    let before = ALLOCATIONS.get();
    for length in [1, 1369, 16384] {
        let end = sealer.seal_data(&mut record, length);
        assert_eq!(opener.open(&mut record[..end]), Ok(Opened::Data(HEADER..HEADER + length)));
    }
    assert_eq!(ALLOCATIONS.get(), before);
}
