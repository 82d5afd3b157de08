//! The allocator of the program: mimalloc, asked for an alignment only where it would not be there by itself.
//!
//! A null from `alloc` leads to `handle_alloc_error`, which may unwind: so the compiler has to make what goes into a block before
//! there is the block, and to copy it, such as a future of Pingora's of 13 KiB for every request. That a small block is always there
//! it can see. Where there is none, the program ends, also for those who would ask (`try_reserve`); growing a block is not
//! concerned.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as mi;

/// mimalloc.
#[derive(Debug, Clone, Copy)]
pub struct Allocator;

/// Blocks of a size are aligned to it up to here.
const NATURAL: usize = 16;

/// Whoever asks for more may be told that there is none.
const SMALL: usize = 64 << 10;

/// The block, of that size; never null where it is small.
#[inline]
fn there<T>(block: *mut T, size: usize) -> *mut u8 {
    if block.is_null() && size <= SMALL {
        end();
    }
    block.cast()
}

#[cold]
#[inline(never)]
fn end() -> ! {
    const TOLD: &[u8] = b"out of memory\n";
    // Standard error has a lock, which somebody may hold who waits for its reader.
    // SAFETY: the text is there, and as long as it says.
    unsafe { libc::write(libc::STDERR_FILENO, TOLD.as_ptr().cast(), TOLD.len()) };
    std::process::abort()
}

#[inline]
fn is_natural(align: usize, size: usize) -> bool {
    align <= NATURAL && align <= size
}

// SAFETY: every call goes to mimalloc as it came, except that an alignment is not mentioned which blocks of that size have.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: any size will do, and an alignment that is a power of two.
        let block = unsafe {
            match is_natural(align, size) {
                true => mi::mi_malloc(size),
                false => mi::mi_malloc_aligned(size, align),
            }
        };
        there(block, size)
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as above.
        let block = unsafe {
            match is_natural(align, size) {
                true => mi::mi_zalloc(size),
                false => mi::mi_zalloc_aligned(size, align),
            }
        };
        there(block, size)
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, _: Layout) {
        // SAFETY: the caller got it from here.
        unsafe { mi::mi_free(pointer.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        // SAFETY: the caller got it from here.
        let block = unsafe {
            match is_natural(align, size) {
                true => mi::mi_realloc(pointer.cast(), size),
                false => mi::mi_realloc_aligned(pointer.cast(), size, align),
            }
        };
        block.cast()
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_more_than_there_is_is_told() {
        let Ok(all) = Layout::from_size_align(isize::MAX as usize & !4095, 16) else {
            panic!("no layout");
        };
        // SAFETY: the layout is not empty.
        let (block, zeroed) = unsafe { (Allocator.alloc(all), Allocator.alloc_zeroed(all)) };
        assert!(block.is_null() && zeroed.is_null());
    }

    #[test]
    fn blocks_are_aligned_as_asked_and_keep_their_bytes() {
        for align in [1, 2, 4, 8, 16, 32, 64, 4096] {
            for size in [1, 3, 8, 15, 16, 17, 24, 40, 100, 250, 1000, 1025, 3000, 70_000, 1 << 20] {
                let layouts = [size, 3 * size].map(|size| Layout::from_size_align(size, align));
                let [Ok(layout), Ok(longer_layout)] = layouts else {
                    panic!("{size} at {align}");
                };
                // SAFETY: the layout is not empty, and every block is freed by the layout it has.
                unsafe {
                    let some: Vec<*mut u8> = (0..9).map(|_| Allocator.alloc(layout)).collect();
                    for block in some {
                        assert!(
                            !block.is_null() && block.addr().is_multiple_of(align),
                            "{size} at {align}"
                        );
                        block.write_bytes(0xa5, size);
                        let longer = Allocator.realloc(block, layout, 3 * size);
                        assert!(
                            !longer.is_null() && longer.addr().is_multiple_of(align),
                            "{size} at {align}"
                        );
                        assert!((0..size).all(|at| longer.add(at).read() == 0xa5));
                        Allocator.dealloc(longer, longer_layout);
                    }
                    let zeroed = Allocator.alloc_zeroed(layout);
                    assert!(zeroed.addr().is_multiple_of(align) && (0..size).all(|at| zeroed.add(at).read() == 0));
                    Allocator.dealloc(zeroed, layout);
                }
            }
        }
    }
}
