//! Filters for frames that come from a file: run here, not by the kernel.

use super::{FilterError, MAX_TEXT};
use tcpcopy_engine::wire::link::{self, LinkType};

/// A compiled filter for frames of any link type.
///
/// It looks at the IP packet in the frame, so it may speak of everything but link headers.
pub struct FrameFilter {
    program: pcap::BpfProgram,
}

impl std::fmt::Debug for FrameFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameFilter").finish_non_exhaustive()
    }
}

impl FrameFilter {
    /// Compiles `expression` (empty: everything).
    ///
    /// # Errors
    /// What libpcap says to the expression.
    pub fn compile(expression: &str) -> Result<Self, FilterError> {
        if expression.len() > MAX_TEXT {
            return Err(FilterError::TextTooLong { length: expression.len() });
        }
        let syntax = |error: pcap::Error| FilterError::Syntax {
            expression: expression.to_owned(),
            message: match error {
                pcap::Error::PcapError(text) => text,
                other => other.to_string(),
            },
        };
        // LINKTYPE_RAW is 101 in files, but 12 to libpcap's own functions.
        let handle = pcap::Capture::dead(pcap::Linktype(12)).map_err(syntax)?;
        Ok(Self { program: handle.compile(expression, true).map_err(syntax)? })
    }

    /// Whether the frame carries an IP packet that the filter describes.
    pub fn passes(&mut self, link_type: LinkType, frame: &[u8], wire_len: usize) -> bool {
        link::ip_packet(link_type, frame, wire_len).is_ok_and(|(packet, _)| self.program.filter(packet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_pass_by_their_ip_packet() {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
        let mut frame = vec![0; 12];
        frame.extend([0x81, 0, 0, 7, 8, 0]);
        frame.extend(&packet);
        let mut filter = FrameFilter::compile("tcp dst port 80").unwrap();
        assert!(filter.passes(LinkType::Raw, &packet, packet.len()));
        assert!(filter.passes(LinkType::Ethernet, &frame, frame.len()));
        assert!(!filter.passes(LinkType::Ethernet, &packet, packet.len()));
        let mut other = FrameFilter::compile("tcp dst port 81").unwrap();
        assert!(!other.passes(LinkType::Raw, &packet, packet.len()));
        assert!(FrameFilter::compile("tcp and and").is_err());
    }
}
