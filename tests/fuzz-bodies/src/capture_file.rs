//! Capture files of any format, compressed or not, whole or damaged.

use std::io::Read;
use tcpcopy_capture_file::{
    AtEnd, CaptureWriter, Captures, Compression, Format, Frame, LinkType, MAX_RECORD, Step,
};

/// Frames after which a reading is over: a few bytes may decompress to millions of empty ones.
const MAX_FRAMES: usize = 5000;

/// A frame as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    data: Vec<u8>,
    wire_len: usize,
    link_type: LinkType,
    captured_at_nanos: u64,
}

/// Gives bytes in pieces of one size.
struct Pieces(std::io::Cursor<Vec<u8>>, usize);

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let size = into.len().min(self.1);
        self.0.read(&mut into[..size])
    }
}

/// Reads a file. Input: how many bytes (less one) a pipe delivers at once (u8), the file.
///
/// # Panics
/// When a frame, a time or a flaw can't be, or the pieces that bytes come in matter.
pub fn capture_file(data: &[u8]) {
    let Some((&piece, file)) = data.split_first() else { return };
    let Ok(mut captures) = Captures::from_bytes("whole", file.to_vec()) else { return };
    let whole = frames(&mut captures);
    let compression = captures.sources().first().map(|facts| facts.compression);
    if compression == Some(Compression::None) {
        let bytes: usize = whole.iter().map(|frame| frame.data.len()).sum();
        assert!(bytes <= file.len(), "{bytes} bytes of frames in a file of {}", file.len());
        for flaw in captures.flaws() {
            assert!(flaw.offset + flaw.skipped <= file.len() as u64, "{flaw} ends behind the file");
        }
    }
    assert!(captures.flaws().len() as u64 <= captures.flaw_count());

    let pipe = Box::new(Pieces(std::io::Cursor::new(file.to_vec()), usize::from(piece) + 1));
    let mut piped = Captures::from_reader("pipe", pipe, AtEnd::Stop).expect("what opened as a file");
    let in_pieces = frames(&mut piped);
    if captures.flaw_count() == 0 {
        assert_eq!(piped.flaw_count(), 0, "a pipe has flaws that the file has not: {:?}", piped.flaws());
        assert!(in_pieces == whole, "the pieces that bytes come in matter");
    }
    write(&whole);
}

/// All frames, up to a limit.
fn frames(captures: &mut Captures) -> Vec<Owned> {
    let mut frames: Vec<Owned> = Vec::new();
    while frames.len() < MAX_FRAMES {
        match captures.next().expect("memory can be read") {
            Step::Frame(frame) => frames.push(checked(frame)),
            Step::Idle => panic!("idle, and nothing is followed"),
            Step::End => break,
        }
    }
    assert!(frames.is_sorted_by_key(|frame| frame.captured_at_nanos), "time goes back");
    frames
}

fn checked(frame: Frame<'_>) -> Owned {
    let Frame { data, wire_len, link_type, captured_at_nanos } = frame;
    assert!(data.len() <= wire_len && data.len() <= MAX_RECORD);
    Owned { data: data.to_vec(), wire_len, link_type, captured_at_nanos }
}

/// What is written as pcapng is read as it was.
fn write(frames_before: &[Owned]) {
    let mut writer = CaptureWriter::new(Vec::new(), Format::Pcapng, 0).expect("memory");
    for Owned { data, wire_len, link_type, captured_at_nanos } in frames_before {
        let (wire_len, link_type, captured_at_nanos) = (*wire_len, *link_type, *captured_at_nanos);
        let frame = Frame { data, wire_len, link_type, captured_at_nanos };
        writer.write(&frame).expect("what was read can be written");
    }
    let file = writer.finish().expect("memory");
    let mut captures = Captures::from_bytes("written", file).expect("what was written opens");
    assert!(frames(&mut captures) == frames_before, "what was written reads otherwise");
    assert_eq!(captures.flaw_count(), 0, "{:?}", captures.flaws());
}
