//! What the kernel holds of an answer that its client has not taken: the answer's writer has long been told that it went out.

use std::mem::MaybeUninit;

use libc::{c_int, c_void};
use pingora::protocols::UniqueIDType;

/// More than this does not wait to be sent on a connection; what is under way counts extra.
const UNSENT: c_int = 128 << 10;

/// Has the kernel take no more of an answer than a client can be expected to take soon. By itself it takes megabytes, and holds
/// them for as long as a client likes.
pub(super) fn hold_little(socket: UniqueIDType) {
    set(socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, &UNSENT);
}

/// Bytes that the client has acknowledged since it came, TLS included; 0 where nobody knows.
pub(super) fn acknowledged(socket: UniqueIDType) -> u64 {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = u32::try_from(size_of::<libc::tcp_info>()).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes of `info`, of which any are a value; both outlive the call.
    let done = unsafe {
        libc::getsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast::<c_void>(),
            &raw mut length,
        )
    };
    match done {
        // SAFETY: it was zeroed, and all its fields are numbers.
        0 => unsafe { info.assume_init() }.tcpi_bytes_acked,
        _ => 0,
    }
}

/// Has the kernel drop what the client has not taken when the connection is closed, rather than try on for minutes.
pub(super) fn drop_untaken(socket: UniqueIDType) {
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    set(socket, libc::SOL_SOCKET, libc::SO_LINGER, &at_once);
}

/// Where an option cannot be set, the connection is as it would be without.
fn set<T>(socket: UniqueIDType, level: c_int, option: c_int, value: &T) {
    let length = u32::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: the kernel reads `length` bytes of `value`, which is as long and outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket,
            level,
            option,
            std::ptr::from_ref(value).cast::<c_void>(),
            length,
        )
    };
    if done != 0 {
        log::debug!("a socket option was refused: {}", std::io::Error::last_os_error());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    #[test]
    fn knows_what_was_taken_and_drops_the_rest() {
        let (mut ours, mut client) = pair();
        hold_little(ours.as_raw_fd());
        assert_eq!(acknowledged(ours.as_raw_fd()), 0);
        ours.write_all(&[0; 100]).unwrap();
        client.read_exact(&mut [0; 100]).unwrap();
        while acknowledged(ours.as_raw_fd()) < 100 {
            std::thread::yield_now();
        }
        assert_eq!(acknowledged(ours.as_raw_fd()), 100);
        ours.set_nonblocking(true).unwrap();
        let mut written = 100;
        let full = loop {
            match ours.write(&[0; 64 << 10]) {
                Ok(some) => written += some as u64,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        assert!(acknowledged(ours.as_raw_fd()) < written);
        drop_untaken(ours.as_raw_fd());
        drop(ours);
        let mut taken = Vec::new();
        let broken = client.read_to_end(&mut taken).unwrap_err();
        assert_eq!(broken.kind(), ErrorKind::ConnectionReset);
    }
}
