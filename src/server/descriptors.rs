//! How many files and sockets the process may have open: as many as the system lets it, since each connection is one.

/// Raises the soft limit to the hard one; how many there may be now.
pub(super) fn raise() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a pointer to a whole `rlimit` that lives until they return.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return 0;
        }
        let wanted = libc::rlimit {
            rlim_cur: limit.rlim_max,
            ..limit
        };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) == 0 {
            return wanted.rlim_cur;
        }
    }
    limit.rlim_cur
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raises_the_limit_as_far_as_it_goes() {
        let most = raise();
        assert!(most >= 256 && most == raise());
    }
}
