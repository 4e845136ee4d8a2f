//! Frames on their way from the thread that reads files to the worker that plays them.
//!
//! Bounded by bytes. A bell wakes the worker when it has found the queue empty; a condition variable wakes the reader when
//! there is room again. Batches are used again, so that nothing is allocated once all are warm.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tcpcopy_capture_file::{Frame, LinkType};

/// A batch is handed over when it has this many bytes.
pub(super) const BATCH_BYTES: usize = 256 << 10;
/// Or this many frames.
const BATCH_FRAMES: usize = 4096;
/// Batches waiting at most.
const MAX_BATCHES: usize = 6;

/// Frames, one after another.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Place>,
    /// How far the files were read when the last of them was found.
    pub(super) bytes_read: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    start: usize,
    len: usize,
    wire_len: usize,
    link_type: LinkType,
    captured_at_nanos: u64,
}

impl Batch {
    pub(super) fn push(&mut self, frame: &Frame<'_>) {
        self.frames.push(Place {
            start: self.bytes.len(),
            len: frame.data.len(),
            wire_len: frame.wire_len,
            link_type: frame.link_type,
            captured_at_nanos: frame.captured_at_nanos,
        });
        self.bytes.extend_from_slice(frame.data);
    }

    pub(super) fn frame(&self, index: usize) -> Option<Frame<'_>> {
        let place = self.frames.get(index)?;
        Some(Frame {
            data: &self.bytes[place.start..place.start + place.len],
            wire_len: place.wire_len,
            link_type: place.link_type,
            captured_at_nanos: place.captured_at_nanos,
        })
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) const fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES || self.frames.len() >= BATCH_FRAMES
    }

    fn append(&mut self, other: &mut Self) {
        let base = self.bytes.len();
        self.bytes.append(&mut other.bytes);
        self.frames.extend(other.frames.drain(..).map(|place| Place { start: place.start + base, ..place }));
        self.bytes_read = other.bytes_read;
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }
}

/// What the reader hands over.
#[derive(Debug)]
pub(super) enum Item {
    /// Frames.
    Frames(Batch),
    /// The files end, and are about to be read once more.
    PassEnds,
    /// The files end.
    Ends,
    /// Reading failed: what is wrong, and what to do.
    Failed(String, String),
}

#[derive(Default)]
struct Inner {
    items: VecDeque<Item>,
    spare: Vec<Batch>,
    /// The worker found nothing and wants to be woken.
    is_awaited: bool,
    /// The worker is gone.
    is_closed: bool,
    /// The pass whose rest is not wanted.
    skipped_pass: Option<u32>,
}

#[derive(Default)]
struct Queue {
    inner: Mutex<Inner>,
    room: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both ends of a queue.
///
/// # Errors
/// The process has no descriptors left.
pub(super) fn queue() -> io::Result<(Inlet, Outlet)> {
    let (reader, writer) = UnixDatagram::pair()?;
    reader.set_nonblocking(true)?;
    writer.set_nonblocking(true)?;
    let queue = Arc::new(Queue::default());
    Ok((Inlet { queue: Arc::clone(&queue), bell: writer }, Outlet { queue, bell: reader }))
}

/// The reader's end.
pub(super) struct Inlet {
    queue: Arc<Queue>,
    bell: UnixDatagram,
}

/// The other end is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl Inlet {
    /// Hands frames over and gives an empty batch back. Waits while there is no room; a small batch joins the one before.
    pub(super) fn push_frames(&self, mut batch: Batch) -> Result<Batch, Closed> {
        let mut inner = self.queue.lock();
        if let Some(Item::Frames(last)) = inner.items.back_mut()
            && !last.is_full()
        {
            last.append(&mut batch);
            self.ring(&mut inner);
            return if inner.is_closed { Err(Closed) } else { Ok(batch) };
        }
        inner = self.wait_for_room(inner)?;
        inner.items.push_back(Item::Frames(batch));
        self.ring(&mut inner);
        Ok(inner.spare.pop().unwrap_or_default())
    }

    /// Hands over something else than frames.
    pub(super) fn push(&self, item: Item) -> Result<(), Closed> {
        let mut inner = self.wait_for_room(self.queue.lock())?;
        inner.items.push_back(item);
        self.ring(&mut inner);
        Ok(())
    }

    /// Whether the rest of pass number `pass` is wanted.
    pub(super) fn wants(&self, pass: u32) -> bool {
        self.queue.lock().skipped_pass != Some(pass)
    }

    /// Whether the worker is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().is_closed
    }

    fn wait_for_room<'q>(&'q self, inner: MutexGuard<'q, Inner>) -> Result<MutexGuard<'q, Inner>, Closed> {
        let is_full = |inner: &mut Inner| inner.items.len() >= MAX_BATCHES && !inner.is_closed;
        let inner = self.queue.room.wait_while(inner, is_full).unwrap_or_else(PoisonError::into_inner);
        if inner.is_closed { Err(Closed) } else { Ok(inner) }
    }

    fn ring(&self, inner: &mut Inner) {
        if std::mem::take(&mut inner.is_awaited) {
            // A full channel is readable already.
            let _ = self.bell.send(&[0]);
        }
    }
}

/// The worker's end.
pub(super) struct Outlet {
    queue: Arc<Queue>,
    bell: UnixDatagram,
}

impl Outlet {
    /// What comes next, if it is there; else the bell will ring. `used` is a batch that is not needed any more.
    pub(super) fn take(&self, used: Option<Batch>) -> Option<Item> {
        let mut inner = self.queue.lock();
        if let Some(mut used) = used {
            used.clear();
            inner.spare.push(used);
        }
        let item = inner.items.pop_front();
        inner.is_awaited = item.is_none();
        drop(inner);
        self.queue.room.notify_one();
        item
    }

    /// Tells the reader that the rest of pass number `pass` is not wanted.
    pub(super) fn skip_pass(&self, pass: u32) {
        self.queue.lock().skipped_pass = Some(pass);
    }

    /// Readable once there is something again.
    pub(super) fn bell(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// Takes note of the bell. To be called before looking into the queue.
    pub(super) fn quieten(&self) {
        let mut byte = [0];
        while self.bell.recv(&mut byte).is_ok() {}
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut inner = self.queue.lock();
        inner.is_closed = true;
        inner.items.clear();
        drop(inner);
        self.queue.room.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8) -> Batch {
        let mut batch = Batch::default();
        batch.push(&Frame {
            data: &[byte],
            wire_len: 1,
            link_type: LinkType::Raw,
            captured_at_nanos: u64::from(byte),
        });
        batch
    }

    #[test]
    fn small_batches_join_and_the_bell_rings_for_who_waits() {
        let (inlet, outlet) = queue().unwrap();
        assert!(outlet.take(None).is_none());
        inlet.push_frames(frame(1)).unwrap();
        inlet.push_frames(frame(2)).unwrap();
        let mut byte = [0];
        assert!(outlet.bell.recv(&mut byte).is_ok(), "the bell was not rung");
        assert!(outlet.bell.recv(&mut byte).is_err(), "the bell was rung twice");
        let Some(Item::Frames(batch)) = outlet.take(None) else { panic!("no frames") };
        let seen: Vec<u8> = (0..).map_while(|n| batch.frame(n)).map(|frame| frame.data[0]).collect();
        assert_eq!(seen, [1, 2]);
    }

    #[test]
    fn a_reader_without_room_waits_until_the_worker_takes_or_leaves() {
        let (inlet, outlet) = queue().unwrap();
        for _ in 0..MAX_BATCHES {
            inlet.push(Item::PassEnds).unwrap();
        }
        let reader = std::thread::spawn(move || (inlet.push(Item::Ends), inlet.push(Item::Ends)));
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!reader.is_finished());
        assert!(outlet.take(None).is_some());
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!reader.is_finished(), "there was room for one");
        drop(outlet);
        assert_eq!(reader.join().unwrap(), (Ok(()), Err(Closed)));
    }
}
