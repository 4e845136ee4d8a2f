//! Writes a capture of a given size for measuring: HTTP-like connections, some at a time, in pcap with microseconds.
//!
//!     cargo run --release -p tcpcopy-inspect --example generate -- OUT MEGABYTES
#![allow(missing_docs)]

use std::io::{BufWriter, Write};
use tcpcopy_engine::batch::PacketBatch;
use tcpcopy_engine::flow::{Endpoint, FlowKey};
use tcpcopy_engine::seq::SeqNumber;
use tcpcopy_engine::wire::packet::{OutgoingSegment, write};
use tcpcopy_engine::wire::tcp::{TcpFlags, TcpOptions, Timestamps};

/// Connections open at a time.
const OPEN: u32 = 2000;
/// Request and response in each connection.
const EXCHANGES: u32 = 20;

struct Writer<W> {
    out: W,
    written: u64,
    micros: u64,
    id: u16,
}

impl<W: Write> Writer<W> {
    fn packet(
        &mut self,
        flow: FlowKey,
        (seq, ack): (u32, u32),
        flags: TcpFlags,
        payload: &[u8],
    ) -> std::io::Result<()> {
        self.micros += 7;
        self.id = self.id.wrapping_add(1);
        let mut batch = PacketBatch::new();
        let segment = OutgoingSegment {
            flow,
            seq: SeqNumber(seq),
            ack: flags.contains(TcpFlags::ACK).then_some(SeqNumber(ack)),
            flags,
            window: 500,
            options: TcpOptions {
                timestamps: Some(Timestamps { value: self.micros as u32, echo: 1 }),
                ..TcpOptions::default()
            },
            hop_limit: 64,
            traffic_class: 0,
            identification: self.id,
        };
        batch.push(flow.target, 0, 0, |out| write(out, &segment, [payload, &[]]));
        let packet = batch.packet(0);
        let len = packet.len() as u32 + 14;
        for word in
            [1_700_000_000 + (self.micros / 1_000_000) as u32, (self.micros % 1_000_000) as u32, len, len]
        {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.out.write_all(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0])?;
        self.out.write_all(packet)?;
        self.written += 16 + u64::from(len);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(megabytes)) = (arguments.next(), arguments.next()) else {
        return Err("generate OUT MEGABYTES".into());
    };
    let limit = megabytes.parse::<u64>()? * 1_000_000;
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 262_144, 1] {
        out.write_all(&word.to_le_bytes())?;
    }
    let mut writer = Writer { out, written: 24, micros: 0, id: 0 };
    let request =
        b"GET /index.html HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: generator\r\nAccept: */*\r\n\r\n";
    let mut response = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n".to_vec();
    response.resize(2042, b'x');
    let mut first = 0u32;
    while writer.written < limit {
        // A generation of connections, one step of each after the other.
        for step in 0..EXCHANGES + 2 {
            for n in first..first + OPEN {
                let [_, a, b, c] = (n / 60_000).to_be_bytes();
                let client = Endpoint::new([10, a, b, c].into(), (1024 + n % 60_000) as u16);
                let online = Endpoint::new([192, 0, 2, 1].into(), 80);
                let there = FlowKey { client, target: online };
                let back = FlowKey { client: online, target: client };
                let exchange = step.saturating_sub(1);
                let seq = n.wrapping_mul(2_654_435_761).wrapping_add(1 + exchange * request.len() as u32);
                let ack = seq.wrapping_mul(3).wrapping_add(7);
                let ack = ack
                    .wrapping_sub(exchange * request.len() as u32 * 3)
                    .wrapping_add(exchange * response.len() as u32);
                let (ack_flag, syn, fin) = (TcpFlags::ACK, TcpFlags::SYN, TcpFlags::FIN);
                if step == 0 {
                    writer.packet(there, (seq.wrapping_sub(1), 0), syn, &[])?;
                    writer.packet(back, (ack.wrapping_sub(1), seq), syn | ack_flag, &[])?;
                    writer.packet(there, (seq, ack), ack_flag, &[])?;
                } else if step <= EXCHANGES {
                    writer.packet(there, (seq, ack), ack_flag | TcpFlags::PSH, request)?;
                    let seq = seq.wrapping_add(request.len() as u32);
                    writer.packet(back, (ack, seq), ack_flag, &response[..1448])?;
                    writer.packet(
                        back,
                        (ack.wrapping_add(1448), seq),
                        ack_flag | TcpFlags::PSH,
                        &response[1448..],
                    )?;
                    writer.packet(there, (seq, ack.wrapping_add(response.len() as u32)), ack_flag, &[])?;
                } else {
                    writer.packet(there, (seq, ack), ack_flag | fin, &[])?;
                    writer.packet(back, (ack, seq.wrapping_add(1)), ack_flag | fin, &[])?;
                    writer.packet(there, (seq.wrapping_add(1), ack.wrapping_add(1)), ack_flag, &[])?;
                }
            }
        }
        first += OPEN;
    }
    writer.out.flush()?;
    Ok(())
}
