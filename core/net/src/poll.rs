//! Waiting for descriptors, with nanosecond timeouts.

use crate::sys;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// What a descriptor is watched for. Errors and hang-ups are always reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Until it can be read from.
    Readable,
    /// Until it can be written to.
    Writable,
    /// Either.
    ReadableOrWritable,
}

impl Interest {
    const fn bits(self) -> u32 {
        (match self {
            Self::Readable => libc::EPOLLIN | libc::EPOLLRDHUP,
            Self::Writable => libc::EPOLLOUT,
            Self::ReadableOrWritable => libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLOUT,
        }) as u32
    }
}

/// One descriptor that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The number that the descriptor was added with.
    pub token: u64,
    bits: u32,
}

impl Event {
    /// Whether it can be read from; true as well when the other side has closed, since reading then tells so.
    pub const fn is_readable(&self) -> bool {
        self.bits & (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0
    }

    /// Whether it can be written to; true as well after an error, since writing then tells which.
    pub const fn is_writable(&self) -> bool {
        self.bits & (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0
    }

    /// Whether an error is pending or the connection is gone.
    pub const fn is_error(&self) -> bool {
        self.bits & (libc::EPOLLERR | libc::EPOLLHUP) as u32 != 0
    }
}

/// Room for the events of one [`Poller::wait`], used again and again.
pub struct Events {
    buffer: Vec<sys::epoll::RawEvent>,
    len: usize,
}

impl Events {
    /// Room for `capacity` events; the rest is reported by the next wait.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: vec![sys::epoll::RawEvent { events: 0, u64: 0 }; capacity.max(1)], len: 0 }
    }

    /// The events of the last wait.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.buffer[..self.len].iter().map(|event| Event { token: event.u64, bits: event.events })
    }

    /// Whether the last wait ended without an event.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::with_capacity(64)
    }
}

/// A set of watched descriptors (epoll, level-triggered).
///
/// Descriptors are borrowed: closing one takes it out of the set.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: sys::epoll::create()? })
    }

    /// Watches `fd`; its events carry `token`.
    ///
    /// # Errors
    /// When `fd` is not open, can't be waited for, or is watched already.
    pub fn add(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        sys::epoll::control(&self.epoll, libc::EPOLL_CTL_ADD, fd, interest.bits(), token)
    }

    /// Changes what a watched `fd` is watched for.
    ///
    /// # Errors
    /// When `fd` is not watched.
    pub fn modify(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        sys::epoll::control(&self.epoll, libc::EPOLL_CTL_MOD, fd, interest.bits(), token)
    }

    /// Watches `fd` no longer.
    ///
    /// # Errors
    /// When `fd` is not watched.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        sys::epoll::control(&self.epoll, libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    /// Waits until a descriptor is ready, or for `timeout` (`None`: for ever; zero: not at all). A signal ends the wait early
    /// and without events.
    ///
    /// Before Linux 5.11 timeouts are rounded up to whole milliseconds.
    ///
    /// # Errors
    /// What epoll reports, but never an interruption.
    pub fn wait(&mut self, timeout: Option<Duration>, events: &mut Events) -> io::Result<()> {
        events.len = 0;
        match sys::epoll::wait(&self.epoll, &mut events.buffer, timeout) {
            Ok(len) => events.len = len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl AsRawFd for Poller {
    /// Readable when one of the watched descriptors is ready, so that one set can be watched as part of another.
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

/// Sets how late the kernel may end this thread's sleeps; 50 µs unless changed.
///
/// # Errors
/// When the kernel refuses, which it does for no reason known.
pub fn set_timer_slack(slack: Duration) -> io::Result<()> {
    sys::time::set_timer_slack(slack)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    #[test]
    fn a_sleep_below_a_millisecond_is_one() {
        set_timer_slack(Duration::from_micros(1)).unwrap();
        let (mut poller, mut events) = (Poller::new().unwrap(), Events::default());
        // The machine may be busy: the shortest of several sleeps counts.
        let shortest = (0..50)
            .map(|_| {
                let start = Instant::now();
                poller.wait(Some(Duration::from_micros(200)), &mut events).unwrap();
                assert!(events.is_empty());
                start.elapsed()
            })
            .min()
            .unwrap();
        assert!(shortest >= Duration::from_micros(200), "{shortest:?}");
        assert!(shortest < Duration::from_micros(900), "{shortest:?}");
    }

    #[test]
    fn events_carry_tokens_and_follow_interest() {
        let (mut poller, mut events) = (Poller::new().unwrap(), Events::default());
        let (reader, mut writer) = UnixStream::pair().unwrap();
        poller.add(reader.as_raw_fd(), 7, Interest::Readable).unwrap();
        poller.wait(Some(Duration::ZERO), &mut events).unwrap();
        assert!(events.is_empty());
        writer.write_all(b"x").unwrap();
        poller.wait(None, &mut events).unwrap();
        let event = events.iter().next().unwrap();
        assert!(event.token == 7 && event.is_readable() && !event.is_writable() && !event.is_error());
        poller.modify(reader.as_raw_fd(), 8, Interest::Writable).unwrap();
        poller.wait(None, &mut events).unwrap();
        assert!(events.iter().all(|event| event.token == 8 && event.is_writable()));
        poller.remove(reader.as_raw_fd()).unwrap();
        poller.wait(Some(Duration::ZERO), &mut events).unwrap();
        assert!(events.is_empty());
        assert!(poller.remove(reader.as_raw_fd()).is_err());
    }
}
