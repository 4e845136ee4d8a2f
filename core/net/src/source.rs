//! Where packets come from: the trait that capture ring, libpcap, files, TUN devices and tests implement.
//!
//! How a worker uses a source:
//!
//! ```text
//! loop {
//!     source.drain(limit, &mut |frame| engine.handle(frame))?;
//!     … timers, sending …
//!     if source.prepare_wait() == Readiness::Idle { poller.wait(next deadline, &mut events)?; }
//! }
//! ```

use std::io;
use std::os::fd::RawFd;
pub use tcpcopy_engine::wire::link::LinkType;

/// One captured frame; its bytes are borrowed from the source.
#[derive(Clone, Copy, Debug)]
pub struct CapturedFrame<'a> {
    /// The bytes that were stored, starting with the header that [`Self::link_type`] names.
    pub data: &'a [u8],
    /// Length of the frame when it was captured; above `data.len()` when the snapshot length has cut it.
    pub wire_len: usize,
    /// What `data` starts with.
    pub link_type: LinkType,
    /// When it was captured, in nanoseconds of the Unix epoch.
    pub captured_at_nanos: u64,
}

/// Whether the caller may go to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Nothing is there; one of [`PacketSource::wait_fds`] becomes readable as soon as something is.
    Idle,
    /// Frames are there: call [`PacketSource::drain`] and don't sleep.
    DataPending,
    /// No frame will ever come again (end of a file, the other end of a pair is gone).
    Ended,
}

/// What a source counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureStatistics {
    /// Frames that passed the filter and were stored for this process.
    pub received: u64,
    /// Frames that passed the filter and were lost because the ring or buffer was full.
    pub dropped: u64,
}

impl CaptureStatistics {
    /// Adds the numbers of another source.
    pub fn merge(&mut self, other: Self) {
        self.received += other.received;
        self.dropped += other.dropped;
    }
}

/// Why capturing could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A system call failed while the source was opened.
    #[error("cannot {action} on {device}")]
    Open {
        /// What was tried.
        action: &'static str,
        /// The interface, or "every interface".
        device: String,
        /// The system's answer.
        source: io::Error,
    },
    /// There is no such interface.
    #[error(transparent)]
    Interface(#[from] crate::interface::InterfaceError),
    /// The filter could not be compiled.
    #[error(transparent)]
    Filter(#[from] crate::filter::FilterError),
    /// A number among the options makes no sense.
    #[error("{what} of {value} is not possible: {why}")]
    Option {
        /// Which option.
        what: &'static str,
        /// Its value.
        value: usize,
        /// What is allowed.
        why: &'static str,
    },
    /// libpcap reported an error.
    #[error("libpcap cannot {action} on {device}")]
    Pcap {
        /// What was tried.
        action: &'static str,
        /// The interface.
        device: String,
        /// libpcap's answer.
        source: pcap::Error,
    },
    /// libpcap reports a link type that isn't supported.
    #[error("{device} has link type {link_type}, which is not supported")]
    LinkType {
        /// The interface.
        device: String,
        /// libpcap's name of the link type.
        link_type: String,
    },
    /// Reading failed in a way that trying again will not mend.
    #[error("capture on {device} failed")]
    Read {
        /// The interface.
        device: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl CaptureError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let errno = match self {
            Self::Open { source, .. } | Self::Read { source, .. } => source.raw_os_error(),
            Self::Pcap { source: pcap::Error::PcapError(text), .. } if text.contains("ermission") => {
                Some(libc::EPERM)
            }
            Self::Interface(error) => return error.hint(),
            Self::Filter(error) => return Some(error.hint().to_owned()),
            _ => None,
        };
        match errno {
            Some(libc::EPERM | libc::EACCES) => Some(crate::process::CAPABILITY_HINT.to_owned()),
            Some(libc::ENOMEM | libc::ENOBUFS) => Some(
                "the kernel has no memory for a ring of this size; ask for a smaller one with -B".to_owned(),
            ),
            Some(libc::ENETDOWN) => Some("bring the interface up: ip link set dev <name> up".to_owned()),
            _ => match self {
                Self::LinkType { .. } => {
                    Some("capture on an Ethernet, loopback, tunnel or \"any\" interface".to_owned())
                }
                _ => None,
            },
        }
    }
}

/// Something that frames are captured from.
pub trait PacketSource: Send {
    /// Calls `each` with up to `limit` frames that are there now, in the order of their capture, and returns their number.
    /// Never blocks.
    ///
    /// # Errors
    /// When the source will not deliver any more. An interface that goes down is no error: it may come up again.
    fn drain(&mut self, limit: usize, each: &mut dyn FnMut(CapturedFrame<'_>))
    -> Result<usize, CaptureError>;

    /// Descriptors to wait on (readable) when [`Self::prepare_wait`] has said [`Readiness::Idle`]. They stay the same.
    fn wait_fds(&self) -> Vec<RawFd>;

    /// To be called right before sleeping: makes sure that a frame which arrives from now on wakes the sleeper.
    fn prepare_wait(&mut self) -> Readiness;

    /// Totals since the source was opened.
    fn statistics(&mut self) -> CaptureStatistics;

    /// How full the buffer between kernel and process is, from 0.0 to 1.0. Cheap enough for every loop.
    fn fill_ratio(&self) -> f32;
}
