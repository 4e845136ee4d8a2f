//! Congestion control: slow start, congestion avoidance, and the reductions of RFC 5681.

/// Initial window in segments (RFC 6928).
const INITIAL_SEGMENTS: u64 = 10;

/// The congestion window, in bytes.
#[derive(Debug, Clone)]
pub struct Congestion {
    window: u64,
    threshold: u64,
    segment: u64,
}

impl Congestion {
    /// The initial window for segments of `segment` bytes.
    pub const fn new(segment: u64) -> Self {
        Self { window: INITIAL_SEGMENTS * segment, threshold: u64::MAX, segment }
    }

    /// Bytes that may be in flight.
    pub const fn window(&self) -> u64 {
        self.window
    }

    /// The segment size changed (path MTU).
    pub const fn set_segment(&mut self, segment: u64) {
        self.segment = segment;
    }

    /// `bytes` were acknowledged outside of recovery, while the window was in full use or not.
    pub fn acknowledged(&mut self, bytes: u64, in_flight_before: u64) {
        // A window that was not in use tells nothing about the path (RFC 7661, section 4.2).
        if in_flight_before * 2 < self.window {
            return;
        }
        if self.window < self.threshold {
            // Byte counting (RFC 3465), with no cap of two segments: replies reach us merged, as they do a kernel.
            self.window += bytes;
        } else {
            self.window += (self.segment * bytes / self.window).max(1);
        }
    }

    /// Loss found by duplicate acknowledgements (RFC 5681, section 3.2).
    pub fn on_loss(&mut self, in_flight: u64) {
        self.threshold = (in_flight / 2).max(2 * self.segment);
        self.window = self.threshold;
    }

    /// Loss found by time-out (RFC 5681, section 3.1).
    pub fn on_timeout(&mut self, in_flight: u64) {
        self.threshold = (in_flight / 2).max(2 * self.segment);
        self.window = self.segment;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_by_what_is_acknowledged_then_slowly() {
        let mut c = Congestion::new(1000);
        c.acknowledged(10_000, 10_000);
        assert_eq!(c.window(), 20_000);
        c.acknowledged(1000, 1000);
        assert_eq!(c.window(), 20_000, "an unused window does not grow");
        c.on_loss(20_000);
        assert_eq!(c.window(), 10_000);
        c.acknowledged(10_000, 10_000);
        assert_eq!(c.window(), 11_000);
        c.on_timeout(10_000);
        assert_eq!(c.window(), 1000);
    }
}
