//! An in-memory pair: what is put into one end is captured at the other. For tests and for the simulation of a link.

use crate::sink::{PacketSink, SendFailure};
use crate::source::{CaptureError, CaptureStatistics, CapturedFrame, LinkType, PacketSource, Readiness};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tcpcopy_engine::batch::PacketBatch;

struct Frame {
    bytes: Vec<u8>,
    wire_len: usize,
    link_type: LinkType,
    captured_at_nanos: u64,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Frame>,
    statistics: CaptureStatistics,
}

struct Shared {
    queue: Mutex<Queue>,
    capacity: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source and a sink joined by a queue of `capacity` frames; what doesn't fit is dropped and counted.
///
/// # Errors
/// When the system has no descriptors left for the wake-up channel.
pub fn pair(capacity: usize) -> std::io::Result<(MemorySource, MemorySink)> {
    let (reader, writer) = UnixDatagram::pair()?;
    reader.set_nonblocking(true)?;
    writer.set_nonblocking(true)?;
    let shared = Arc::new(Shared { queue: Mutex::default(), capacity });
    let source = MemorySource { shared: Arc::clone(&shared), bell: reader };
    Ok((source, MemorySink { shared, bell: Arc::new(writer) }))
}

/// The end that frames come out of.
pub struct MemorySource {
    shared: Arc<Shared>,
    bell: UnixDatagram,
}

/// The end that frames are put into. As a [`PacketSink`] it delivers outgoing packets as captured frames without a link
/// header.
#[derive(Clone)]
pub struct MemorySink {
    shared: Arc<Shared>,
    bell: Arc<UnixDatagram>,
}

impl MemorySink {
    /// Delivers one frame as if it had been captured.
    pub fn push(&self, frame: CapturedFrame<'_>) {
        let mut queue = self.shared.lock();
        if queue.frames.len() >= self.shared.capacity {
            queue.statistics.dropped += 1;
            return;
        }
        queue.statistics.received += 1;
        queue.frames.push_back(Frame {
            bytes: frame.data.to_vec(),
            wire_len: frame.wire_len,
            link_type: frame.link_type,
            captured_at_nanos: frame.captured_at_nanos,
        });
        drop(queue);
        // A full channel is readable already, and without a reader nobody has to be woken.
        let _ = self.bell.send(&[0]);
    }
}

impl PacketSink for MemorySink {
    fn send(&mut self, batch: &PacketBatch, _failures: &mut Vec<SendFailure>) {
        for index in 0..batch.len() {
            let data = batch.packet(index);
            self.push(CapturedFrame {
                data,
                wire_len: data.len(),
                link_type: LinkType::Raw,
                captured_at_nanos: crate::clock::unix_nanos(),
            });
        }
    }
}

impl PacketSource for MemorySource {
    fn drain(
        &mut self,
        limit: usize,
        each: &mut dyn FnMut(CapturedFrame<'_>),
    ) -> Result<usize, CaptureError> {
        // Taken out first: `each` may put frames into the other end.
        let frames: Vec<Frame> = {
            let mut queue = self.shared.lock();
            let count = queue.frames.len().min(limit);
            queue.frames.drain(..count).collect()
        };
        for frame in &frames {
            each(CapturedFrame {
                data: &frame.bytes,
                wire_len: frame.wire_len,
                link_type: frame.link_type,
                captured_at_nanos: frame.captured_at_nanos,
            });
        }
        Ok(frames.len())
    }

    fn wait_fds(&self) -> Vec<RawFd> {
        vec![self.bell.as_raw_fd()]
    }

    fn prepare_wait(&mut self) -> Readiness {
        let mut byte = [0];
        while self.bell.recv(&mut byte).is_ok() {}
        // Counted before looking: a sink that goes away in between has left its frames behind.
        let ended = Arc::strong_count(&self.shared) == 1;
        match (self.shared.lock().frames.is_empty(), ended) {
            (false, _) => Readiness::DataPending,
            (true, true) => Readiness::Ended,
            (true, false) => Readiness::Idle,
        }
    }

    fn statistics(&mut self) -> CaptureStatistics {
        self.shared.lock().statistics
    }

    fn fill_ratio(&self) -> f32 {
        self.shared.lock().frames.len() as f32 / self.shared.capacity.max(1) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(data: &[u8]) -> CapturedFrame<'_> {
        CapturedFrame { data, wire_len: data.len(), link_type: LinkType::Raw, captured_at_nanos: 1 }
    }

    #[test]
    fn frames_come_out_in_order_and_overflow_is_counted() {
        let (mut source, sink) = pair(2).unwrap();
        assert_eq!(source.prepare_wait(), Readiness::Idle);
        for byte in 1..=3 {
            sink.push(frame(&[byte]));
        }
        assert_eq!(source.prepare_wait(), Readiness::DataPending);
        assert_eq!(source.fill_ratio(), 1.0);
        let mut seen = Vec::new();
        assert_eq!(source.drain(9, &mut |frame| seen.push(frame.data[0])).unwrap(), 2);
        assert_eq!(seen, [1, 2]);
        assert_eq!(source.statistics(), CaptureStatistics { received: 2, dropped: 1 });
        drop(sink);
        assert_eq!(source.prepare_wait(), Readiness::Ended);
    }
}
