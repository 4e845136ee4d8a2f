//! What a reply does to a connection, by the phase that it is in (RFC 9293, section 3.10.7).

use super::{
    Connection, DEFAULT_MSS_V4, DEFAULT_MSS_V6, FIN_WAIT, LINGER, LastWord, Phase, Progress, ReplyHeader,
    Reset, SYN_TIMEOUT, TIMESTAMPS_LEN,
};
use crate::tcp::receiver::{Fin, Receiver};
use crate::tcp::rtt::RttEstimator;
use crate::tcp::sender::Purity;
use crate::time::Instant;
use crate::wire::tcp::TcpFlags;
use smallvec::SmallVec;

impl Connection {
    /// Where the payload of `reply` lies in the response: the offset of its first byte, negative for what is long past.
    pub fn response_offset(&self, reply: &ReplyHeader) -> i64 {
        let expected = self.irs + 1 + self.receiver.next() as u32;
        self.receiver.next() as i64 + i64::from(reply.seq.distance_from(expected))
    }

    /// Takes a reply.
    pub fn on_reply(&mut self, reply: &ReplyHeader, now: Instant) -> Progress {
        match self.phase {
            Phase::Handshake { tries, .. } if tries > 0 => self.on_handshake_reply(reply, now),
            Phase::Handshake { .. } | Phase::Closed => Progress::default(),
            Phase::Open => self.on_open_reply(reply, now),
            Phase::Lingering { aborted, .. } => {
                self.on_late_reply(reply, aborted, now);
                Progress::default()
            }
        }
    }

    fn on_handshake_reply(&mut self, reply: &ReplyHeader, now: Instant) -> Progress {
        let flags = reply.flags;
        let answers_us = flags.contains(TcpFlags::ACK) && reply.ack == self.options.iss + 1;
        match () {
            // The target refuses (RFC 9293, section 3.10.7.3).
            () if flags.contains(TcpFlags::RST) => {
                if !answers_us {
                    return Progress::default();
                }
                self.phase = Phase::Closed;
                Progress { reset: Some(Reset::Refused), ..Progress::default() }
            }
            // The target still has an older connection of this address and port: end it, and ask again (RFC 9293,
            // section 3.10.7.3, and figure 9 of section 3.5.1).
            () if flags.contains(TcpFlags::ACK) && !answers_us => {
                self.stray_reset = Some(reply.ack);
                self.syn_due = true;
                Progress::default()
            }
            () if answers_us && flags.contains(TcpFlags::SYN) => {
                self.establish(reply, now);
                Progress { connected: true, ..Progress::default() }
            }
            () => Progress::default(),
        }
    }

    fn establish(&mut self, reply: &ReplyHeader, now: Instant) {
        self.irs = reply.seq;
        self.window_seq = reply.seq;
        self.timestamps = self.options.timestamps && reply.options.timestamps.is_some();
        self.recent_timestamp = reply.options.timestamps.map_or(0, |t| t.value);
        self.sack = self.options.sack_permitted && reply.options.sack_permitted;
        // Scaling is in force only if both sides offered it (RFC 7323, section 2.2).
        self.scaled = self.options.window_scale.is_some() && reply.options.window_scale.is_some();
        self.peer_scale = if self.scaled { reply.options.window_scale.unwrap_or(0) } else { 0 };
        let default_mss =
            if self.options.flow.client.addr.is_ipv4() { DEFAULT_MSS_V4 } else { DEFAULT_MSS_V6 };
        let announced = reply.options.mss.filter(|mss| *mss > 0).map_or(default_mss, u64::from);
        let options = if self.timestamps { TIMESTAMPS_LEN } else { 0 };
        // RFC 6691: the announced MSS counts no options.
        let segment = announced.saturating_sub(options).min(self.payload_room()).max(1);
        let mut rtt = RttEstimator::default();
        if let Phase::Handshake { tries: 1, again } = self.phase {
            rtt.sent(0, again - SYN_TIMEOUT);
            rtt.acknowledged(0, now);
        }
        self.sender.establish(segment, u64::from(reply.window), rtt);
        self.receiver = Receiver::new(u64::from(self.options.mss));
        self.receiver.acknowledge_now();
        self.established_at = Some(now);
        self.phase = Phase::Open;
    }

    fn on_open_reply(&mut self, reply: &ReplyHeader, now: Instant) -> Progress {
        let expected = self.irs + 1 + self.receiver.next() as u32;
        let ahead = reply.seq.distance_from(expected);
        if reply.flags.contains(TcpFlags::RST) {
            return self.on_reset(reply, ahead, now);
        }
        if reply.flags.contains(TcpFlags::SYN) {
            // Our acknowledgement of the SYN-ACK was lost, or a SYN out of nowhere (RFC 5961, section 4).
            self.receiver.acknowledge_now();
            return Progress::default();
        }
        if let Some(stamp) = reply.options.timestamps.filter(|_| self.timestamps) {
            if (stamp.value.wrapping_sub(self.recent_timestamp) as i32) < 0 {
                // From before a wrap of the sequence numbers (RFC 7323, section 5.3).
                self.receiver.acknowledge_now();
                return Progress::default();
            }
            if ahead <= 0 {
                self.recent_timestamp = stamp.value;
            }
        }
        if !reply.flags.contains(TcpFlags::ACK) {
            return Progress::default();
        }
        let mut progress = Progress::default();
        if !self.take_acknowledgement(reply, now, &mut progress) {
            return progress;
        }
        self.take_payload(reply, ahead, now, &mut progress);
        self.settle_ending(now);
        progress
    }

    fn on_reset(&mut self, reply: &ReplyHeader, ahead: i32, now: Instant) -> Progress {
        if ahead == 0 {
            let mut progress = Progress { reset: Some(Reset::Established), ..Progress::default() };
            // A kernel whose program goes away says how far it had come; one that knows nothing of the connection does not.
            if reply.flags.contains(TcpFlags::ACK) && self.take_acknowledgement(reply, now, &mut progress) {
                self.last_word = LastWord::Acknowledged;
            }
            self.phase = Phase::Closed;
            return progress;
        }
        if ahead > 0 && ahead as u64 <= u64::from(self.options.window) {
            // In the window but not the next number: ask (RFC 5961, section 3.2).
            self.receiver.acknowledge_now();
        }
        Progress::default()
    }

    /// Returns whether the segment may be looked at further.
    fn take_acknowledgement(&mut self, reply: &ReplyHeader, now: Instant, progress: &mut Progress) -> bool {
        let una = self.sender.acknowledged() + u64::from(self.sender.is_closed());
        let base = self.options.iss + 1 + una as u32;
        let offset = reply.ack.unwrap(base, una);
        if offset < 0 {
            return true;
        }
        // A segment overtaken by a newer one tells an old window (RFC 9293, section 3.10.7.4).
        let is_newest = offset as u64 > una || !reply.seq.is_before(self.window_seq);
        if is_newest {
            self.window_seq = reply.seq;
        }
        let window =
            if is_newest { u64::from(reply.window) << self.peer_scale } else { self.sender.window() };
        let pure = reply.payload_len == 0 && !reply.flags.contains(TcpFlags::FIN);
        let mut sack: SmallVec<[(u64, u64); 4]> = SmallVec::new();
        if self.sack {
            for &(start, end) in reply.options.sack.as_slice() {
                let (start, end) = (start.unwrap(base, una), end.unwrap(base, una));
                if 0 <= start && start < end {
                    sack.push((start as u64, end as u64));
                }
            }
        }
        let purity = if pure { Purity::Pure } else { Purity::Loaded };
        let outcome = self.sender.on_acknowledgement(offset as u64, window, &sack, purity, now);
        if outcome.beyond {
            // Acknowledges what was never sent (RFC 9293, section 3.10.7.4): say where we are, and drop it.
            self.receiver.acknowledge_now();
            return false;
        }
        progress.acknowledged = outcome.bytes;
        if outcome.fin {
            self.fin_wait_until = Some(now + FIN_WAIT);
        }
        true
    }

    fn take_payload(&mut self, reply: &ReplyHeader, ahead: i32, now: Instant, progress: &mut Progress) {
        let finished_before = self.receiver.is_finished();
        let offset = self.receiver.next() as i64 + i64::from(ahead);
        let fin = if reply.flags.contains(TcpFlags::FIN) { Fin::Yes } else { Fin::No };
        let window = u64::from(self.options.window);
        let received = self.receiver.on_segment(offset, u64::from(reply.payload_len), fin, window, now);
        progress.response = received.bytes;
        progress.pushed = received.bytes > 0 && reply.flags.contains(TcpFlags::PSH);
        progress.target_closed = received.fin && !finished_before;
    }

    fn settle_ending(&mut self, now: Instant) {
        if self.sender.is_closed() && self.receiver.is_finished() {
            self.phase = Phase::Lingering { until: now + LINGER, aborted: false };
        }
    }

    fn on_late_reply(&mut self, reply: &ReplyHeader, aborted: bool, now: Instant) {
        if reply.flags.contains(TcpFlags::RST) {
            self.phase = Phase::Closed;
        } else if aborted {
            // The reset did not fit the target's window: send one that does (RFC 9293, section 3.10.7.1).
            self.stray_reset = Some(reply.ack);
        } else if reply.payload_len > 0 || reply.flags.intersects(TcpFlags::FIN.with(TcpFlags::SYN)) {
            // Our last acknowledgement was lost (RFC 9293, section 3.10.7.8).
            self.receiver.acknowledge_now();
            self.phase = Phase::Lingering { until: now + LINGER, aborted: false };
        }
    }
}
