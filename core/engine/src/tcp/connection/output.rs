//! What a connection sends: the SYN, data and FIN, acknowledgements, resets.

use super::{Connection, Emitted, Limited, Phase, SYN_TIMEOUT};
use crate::seq::SeqNumber;
use crate::tcp::receiver::AckState;
use crate::time::Instant;
use crate::wire::packet::OutgoingSegment;
use crate::wire::tcp::{SackBlocks, TcpFlags, TcpOptions, Timestamps};

impl Connection {
    /// Emits everything that may be sent now, `limit` segments at most. Returns whether the limit stopped it.
    pub fn transmit(
        &mut self,
        now: Instant,
        limit: usize,
        mut emit: impl FnMut(&OutgoingSegment, [&[u8]; 2], Emitted),
    ) -> Limited {
        if let Some(seq) = self.stray_reset.take() {
            let segment = self.segment(seq, TcpFlags::RST, None, now);
            emit(&segment, [&[], &[]], Emitted::Reset);
        }
        match self.phase {
            Phase::Handshake { .. } => {
                if self.syn_due {
                    self.emit_syn(now, &mut emit);
                }
                Limited::No
            }
            Phase::Open => self.transmit_open(now, limit, &mut emit),
            Phase::Lingering { .. } => {
                if self.abort_due {
                    self.abort_due = false;
                    let seq = self.options.iss + 1 + self.sender.sent() as u32;
                    // A SYN that was not answered has no acknowledgement to give.
                    let ack = self.established_at.map(|_| self.acknowledgement());
                    let segment = self.segment(seq, TcpFlags::RST, ack, now);
                    emit(&segment, [&[], &[]], Emitted::Reset);
                } else if self.receiver.ack_state() == AckState::Now {
                    self.emit_ack(now, &mut emit);
                }
                Limited::No
            }
            Phase::Closed => Limited::No,
        }
    }

    fn transmit_open(
        &mut self,
        now: Instant,
        limit: usize,
        emit: &mut impl FnMut(&OutgoingSegment, [&[u8]; 2], Emitted),
    ) -> Limited {
        for _ in 0..limit {
            let Some(plan) = self.sender.poll(now) else {
                self.sender.settle_timer(now);
                let due = match self.receiver.ack_state() {
                    AckState::Now => true,
                    AckState::Delayed(at) => at <= now,
                    AckState::None => false,
                };
                if due {
                    self.emit_ack(now, emit);
                }
                return Limited::No;
            };
            let mut flags = TcpFlags::ACK;
            if plan.push {
                flags = flags.with(TcpFlags::PSH);
            }
            if plan.fin {
                flags = flags.with(TcpFlags::FIN);
            }
            let start = if plan.probe { plan.offset.wrapping_sub(1) } else { plan.offset };
            let seq = self.options.iss + 1 + start as u32;
            let ack = self.acknowledgement();
            let segment = self.segment(seq, flags, Some(ack), now);
            let kind = match () {
                () if plan.probe => Emitted::Probe,
                () if plan.again => Emitted::Again,
                () => Emitted::Fresh,
            };
            emit(&segment, self.sender.payload(&plan), kind);
            self.receiver.acknowledgement_sent();
        }
        Limited::Yes
    }

    fn emit_syn(&mut self, now: Instant, emit: &mut impl FnMut(&OutgoingSegment, [&[u8]; 2], Emitted)) {
        self.syn_due = false;
        let Phase::Handshake { tries, .. } = self.phase else { return };
        self.phase = Phase::Handshake { tries: tries + 1, again: now + SYN_TIMEOUT * (1 << tries.min(6)) };
        let mut segment = self.segment(self.options.iss, TcpFlags::SYN, None, now);
        segment.window = self.options.window.min(0xffff) as u16;
        segment.options = TcpOptions {
            mss: Some(self.options.mss),
            window_scale: self.options.window_scale,
            sack_permitted: self.options.sack_permitted,
            timestamps: self.options.timestamps.then(|| Timestamps { value: self.timestamp(now), echo: 0 }),
            ..TcpOptions::default()
        };
        emit(&segment, [&[], &[]], Emitted::Syn);
    }

    fn emit_ack(&mut self, now: Instant, emit: &mut impl FnMut(&OutgoingSegment, [&[u8]; 2], Emitted)) {
        let seq = self.options.iss + 1 + self.sender.sent() as u32;
        let ack = self.acknowledgement();
        let mut segment = self.segment(seq, TcpFlags::ACK, Some(ack), now);
        if self.sack {
            let mut blocks = SackBlocks::new();
            let room = if self.timestamps { 3 } else { 4 };
            for (start, end) in self.receiver.early_ranges().take(room) {
                blocks.push(self.irs + 1 + start as u32, self.irs + 1 + end as u32);
            }
            segment.options.sack = blocks;
        }
        emit(&segment, [&[], &[]], Emitted::Ack);
        self.receiver.acknowledgement_sent();
    }

    fn acknowledgement(&self) -> SeqNumber {
        self.irs + 1 + self.receiver.next() as u32
    }

    fn segment(
        &mut self,
        seq: SeqNumber,
        flags: TcpFlags,
        ack: Option<SeqNumber>,
        now: Instant,
    ) -> OutgoingSegment {
        self.identification = self.identification.wrapping_add(1);
        let scale = if self.scaled { self.options.window_scale.unwrap_or(0) } else { 0 };
        let timestamps = (self.timestamps && !flags.contains(TcpFlags::RST))
            .then(|| Timestamps { value: self.timestamp(now), echo: self.recent_timestamp });
        OutgoingSegment {
            flow: self.options.flow,
            seq,
            ack,
            flags: if ack.is_some() { flags.with(TcpFlags::ACK) } else { flags },
            window: (self.options.window >> scale).min(0xffff) as u16,
            options: TcpOptions { timestamps, ..TcpOptions::default() },
            hop_limit: self.options.hop_limit,
            traffic_class: self.options.traffic_class,
            identification: self.identification,
        }
    }
}
