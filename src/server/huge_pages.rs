//! The program's code on huge pages, where the kernel has them to give.
//!
//! A gateway sleeps between requests, and wakes with caches that others have used meanwhile. The code that a request goes through
//! lies on some hundred pages, and where each of them is has to be found out anew, twice over in a virtual machine. On huge pages
//! there are a handful.
//!
//! The code is copied into a sealed file in memory, which the kernel is asked to put on huge pages (`MADV_COLLAPSE`, Linux 6.1), and
//! moved to where the original was. Nothing is writable and executable at any time. Where the kernel has none of it to give, all
//! stays as it was. What looks for code by its file (`perf`, probes on the binary) sees a file in memory from then on; backtraces are
//! as they were.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd};

use libc::{c_int, c_void};

/// `MADV_COLLAPSE`, which not every C library names.
const COLLAPSE: c_int = 25;
/// More code than a release has takes longer to copy than a start should.
pub(super) const MOST: usize = 32 << 20;

/// Moves the code of this program to huge pages; how many bytes were moved. Must be called while the process has one thread: code
/// that runs meanwhile would not be there.
pub(super) fn take_code(most: usize) -> io::Result<usize> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(unsupported("other threads run already"));
    }
    let size = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")?;
    let size = size.trim().parse().map_err(io::Error::other)?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    let inside = take_code as fn(usize) -> io::Result<usize> as usize;
    let code = mapped_at(&maps, inside).and_then(|code| whole_pages(code, size));
    let code = code.ok_or_else(|| unsupported("there is less code than a huge page holds"))?;
    if code.len() > most {
        return Err(unsupported("there is too much code"));
    }
    replace(code, size)
}

fn unsupported(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}

/// The executable mapping that an address is in, of those in the form of `/proc/self/maps` (proc_pid_maps(5)).
fn mapped_at(maps: &str, address: usize) -> Option<Range<usize>> {
    let mapping = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        rest.starts_with("r-xp").then_some(number(start)?..number(end)?)
    };
    maps.lines().filter_map(mapping).find(|range| range.contains(&address))
}

/// The part of a range that whole pages of that size fill.
fn whole_pages(range: Range<usize>, size: usize) -> Option<Range<usize>> {
    let start = range.start.checked_next_multiple_of(size)?;
    let end = range.end.checked_div(size)? * size;
    (start < end).then_some(start..end)
}

fn replace(code: Range<usize>, size: usize) -> io::Result<usize> {
    let length = code.len();
    // SAFETY: the range is of one mapping of this process that may be read and that nothing writes to.
    let bytes = unsafe { std::slice::from_raw_parts(code.start as *const u8, length) };
    let (_room, place) = collapsed(bytes, size)?;
    let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: puts the same bytes, as executable as before, in place of the code: whoever reads or runs them cannot tell, and there
    // is no other thread that could in between.
    match unsafe { libc::mremap(place, length, length, how, code.start as *mut c_void) } == libc::MAP_FAILED {
        true => Err(io::Error::last_os_error()),
        false => Ok(length),
    }
}

/// Maps a copy of the bytes, which fill whole pages of that size, on such pages, executable; where, and the room that it stands in.
fn collapsed(bytes: &[u8], size: usize) -> io::Result<(Room, *mut c_void)> {
    let (file, length) = (sealed(bytes)?, bytes.len());
    // A place of the right alignment: somewhere in one that is a page longer.
    let room = Room::of(length + size)?;
    let place = (room.start as usize).next_multiple_of(size) as *mut c_void;
    let may = libc::PROT_READ | libc::PROT_EXEC;
    let how = libc::MAP_PRIVATE | libc::MAP_FIXED;
    // SAFETY: the place is within `room`, which nothing else uses.
    let is_there = unsafe {
        libc::mmap(place, length, may, how, file.as_raw_fd(), 0) != libc::MAP_FAILED
            && libc::madvise(place, length, COLLAPSE) == 0
    };
    match is_there {
        true => Ok((room, place)),
        false => Err(io::Error::last_os_error()),
    }
}

/// A file in memory that holds these bytes and can never be changed.
fn sealed(bytes: &[u8]) -> io::Result<File> {
    if !may_write(bytes.len()) {
        // The kernel would end the process for trying.
        return Err(unsupported("files may not be as large (`ulimit -f`)"));
    }
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: the name ends in a zero; the descriptor is new and owned by nobody else.
    let mut file = unsafe {
        let descriptor = libc::memfd_create(c"gwanmun-code".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(descriptor)
    };
    file.write_all(bytes)?;
    // SAFETY: the descriptor is open for as long as `file` is.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
        0 => Ok(file),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a file may have so many bytes.
fn may_write(bytes: usize) -> bool {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a whole `rlimit` that lives until the call returns.
    let is_known = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) } == 0;
    is_known && u64::try_from(bytes).is_ok_and(|bytes| bytes <= limit.rlim_cur)
}

/// Addresses that nothing else is given meanwhile.
struct Room {
    start: *mut c_void,
    length: usize,
}

impl Room {
    fn of(length: usize) -> io::Result<Self> {
        let how = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: the kernel chooses an address that is free.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_NONE, how, -1, 0) };
        match start == libc::MAP_FAILED {
            true => Err(io::Error::last_os_error()),
            false => Ok(Self { start, length }),
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: what is mapped there was mapped by us; what was moved away is not there any more, and no other thread runs that
        // could have been given its place.
        unsafe {
            libc::munmap(self.start, self.length);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_code_and_its_whole_pages() {
        let maps = "5563c0000000-5563c0100000 r--p 00000000 fe:00 1 /bin/x\n\
                    5563c0100000-5563c0d30000 r-xp 00100000 fe:00 1 /bin/x\n\
                    7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0 [vdso]\n";
        assert_eq!(mapped_at(maps, 0x5563_c000_0000), None, "not executable");
        let code = mapped_at(maps, 0x5563_c0d2_ffff).unwrap();
        assert_eq!(code, 0x5563_c010_0000..0x5563_c0d3_0000);
        assert_eq!(
            whole_pages(code.clone(), 2 << 20),
            Some(0x5563_c020_0000..0x5563_c0c0_0000)
        );
        assert_eq!(whole_pages(code.clone(), 1 << 30), None);
        assert_eq!(whole_pages(code, 0), None);
        assert_eq!(mapped_at("", 1), None);
        assert_eq!(mapped_at("x r-xp\n1-2\n", 1), None);
    }

    #[test]
    fn leaves_the_code_where_it_is_while_others_run() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || ended.recv());
        assert_eq!(take_code(usize::MAX).unwrap_err().kind(), io::ErrorKind::Unsupported);
        drop(end);
        assert!(other.join().unwrap().is_err());
    }

    /// In a process of its own, which has one thread and can be told by how it ends whether its code is still there.
    #[test]
    fn code_runs_on_from_huge_pages() {
        const MOVED: i32 = 0;
        const STAYED: i32 = 1;
        const SHORT: i32 = 2;
        let size = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");
        let size = size.ok().and_then(|size| size.trim().parse::<usize>().ok());
        let can_be = size.is_some_and(|size| collapsed(&vec![0; size], size).is_ok());
        // SAFETY: the child has one thread; it allocates, which the C library's allocator allows after a fork, and ends without
        // running what the parent would run at its end.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let taken = take_code(usize::MAX);
            let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
            let inside = take_code as fn(usize) -> io::Result<usize> as usize;
            let is_code = |line: &str| line.contains("r-xp") && line.contains("memfd:gwanmun-code");
            let is_there = mapped_at(&maps, inside).is_some();
            let code = match (&taken, maps.lines().any(is_code)) {
                (Ok(1..), true) if is_there => MOVED,
                (Err(error), false) if is_there => match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::ENOMEM) => SHORT,
                    _ => STAYED,
                },
                _ => 3,
            };
            // SAFETY: ends this process.
            unsafe { libc::_exit(code) }
        }
        assert!(child > 0);
        let mut status = 0;
        // SAFETY: the child is ours, and `status` outlives the call.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status), "{status:#x}");
        // The kernel may have a huge page to give and not as many as this needs.
        let expected = if can_be { [MOVED, SHORT] } else { [STAYED, SHORT] };
        let became = libc::WEXITSTATUS(status);
        assert!(expected.contains(&became), "{became}");
    }
}
