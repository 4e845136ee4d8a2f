//! What is written is read again, here and by Wireshark's tools.

mod common;

use common::{Order, Owned, SECOND, START, drain, frame, frames};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tcpcopy_capture_file::{
    AtEnd, CaptureWriter, Captures, Compression, Format, Frame, Input, LinkType, MAX_RECORD, RecordError,
    RotateOptions, RotatingWriter, WriteError, by_name,
};

const LINKS: [LinkType; 6] = [
    LinkType::Ethernet,
    LinkType::Raw,
    LinkType::Null,
    LinkType::LinuxCooked,
    LinkType::LinuxCooked2,
    LinkType::Nflog,
];

fn borrowed(frame: &Owned) -> Frame<'_> {
    Frame {
        data: &frame.data,
        wire_len: frame.wire_len,
        link_type: frame.link,
        captured_at_nanos: frame.time,
    }
}

fn written(frames: &[Owned], format: Format) -> Vec<u8> {
    let mut writer = CaptureWriter::new(Vec::new(), format, 65_535).expect("memory");
    for frame in frames {
        writer.write(&borrowed(frame)).expect("memory");
    }
    let bytes = writer.bytes();
    let file = writer.finish().expect("memory");
    assert!(frames.is_empty() || file.len() as u64 == bytes);
    file
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("capture-writing-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder");
    path
}

fn read_files(files: &[PathBuf]) -> Vec<Owned> {
    let inputs: Vec<Input> = files.iter().cloned().map(Input::File).collect();
    let mut captures = Captures::open(&inputs, AtEnd::Stop).expect("captures");
    let found = drain(&mut captures);
    assert_eq!(captures.flaws(), []);
    found
}

fn record(options: RotateOptions, frames: &[Owned]) -> Vec<PathBuf> {
    let mut writer = RotatingWriter::new(options).expect("a file");
    for frame in frames {
        writer.write(&borrowed(frame)).expect("to write");
    }
    writer.finish().expect("to finish")
}

fn names(files: &[PathBuf]) -> Vec<String> {
    files.iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn names_say_format_and_compression() {
    let expected = [
        ("a.pcap", Format::Pcap, Compression::None),
        ("a.PCAP.GZ", Format::Pcap, Compression::Gzip),
        ("a.b.pcap.zst", Format::Pcap, Compression::Zstd),
        ("a.pcapng", Format::Pcapng, Compression::None),
        ("a.zst", Format::Pcapng, Compression::Zstd),
        ("recording", Format::Pcapng, Compression::None),
    ];
    for (name, format, compression) in expected {
        assert_eq!(by_name(Path::new(name)), (format, compression), "{name}");
    }
}

#[test]
fn a_pcap_file_has_one_link_type() {
    for link in LINKS {
        let all: Vec<Owned> = frames(3).into_iter().map(|frame| Owned { link, ..frame }).collect();
        assert_eq!(common::read_whole(&written(&all, Format::Pcap)), all);
    }
    let mut writer = CaptureWriter::new(Vec::new(), Format::Pcap, 0).unwrap();
    writer.write(&borrowed(&frame(0))).unwrap();
    let other = Owned { link: LinkType::Raw, ..frame(1) };
    let error = writer.write(&borrowed(&other)).unwrap_err();
    assert!(
        matches!(error, WriteError::LinkType { file: LinkType::Ethernet, frame: LinkType::Raw }),
        "{error}"
    );
    // The file is none the worse for it.
    assert_eq!(common::read_whole(&writer.finish().unwrap()), [frame(0)]);
    let too_long = Owned { data: vec![0; MAX_RECORD + 1], ..frame(0) };
    let mut writer = CaptureWriter::new(Vec::new(), Format::Pcapng, 0).unwrap();
    assert!(matches!(writer.write(&borrowed(&too_long)), Err(WriteError::TooLong { .. })));
}

#[test]
fn a_file_without_frames_is_a_capture() {
    for format in [Format::Pcap, Format::Pcapng] {
        assert_eq!(common::read_whole(&written(&[], format)), []);
    }
}

#[test]
fn one_file_keeps_its_name() {
    let folder = folder("one");
    let all = frames(500);
    for name in ["a.pcap", "a.pcapng", "a.pcap.gz", "a.pcapng.zst", "a"] {
        let path = folder.join(name);
        let files = record(RotateOptions::new(&path), &all);
        assert_eq!(files, std::slice::from_ref(&path));
        assert_eq!(read_files(&files), all, "{name}");
        let mut captures = Captures::open(&[Input::File(path.clone())], AtEnd::Stop).unwrap();
        drain(&mut captures);
        assert_eq!(captures.sources()[0].compression, by_name(&path).1, "{name}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn files_change_by_size_and_keep_every_frame() {
    let folder = folder("size");
    let all = frames(400);
    for name in ["web.pcap", "web.pcapng", "web.pcapng.gz", "web.pcap.zst"] {
        let options = RotateOptions { max_bytes: Some(10_000), ..RotateOptions::new(folder.join(name)) };
        let files = record(options, &all);
        assert!(files.len() > 5, "{files:?}");
        assert_eq!(names(&files)[4], name.replace("web", "web-00005"));
        for file in &files {
            let bytes = std::fs::metadata(file).unwrap().len();
            assert!((1..=10_000).contains(&bytes), "{bytes} bytes in {}", file.display());
            assert!(!read_files(std::slice::from_ref(file)).is_empty());
        }
        assert_eq!(read_files(&files), all, "{name}");
    }
    // A frame that no file has room for still gets one.
    let options = RotateOptions { max_bytes: Some(1), ..RotateOptions::new(folder.join("tiny.pcap")) };
    assert_eq!(record(options, &all[..3]).len(), 3);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn files_change_by_age_and_the_oldest_go() {
    let folder = folder("age");
    let all: Vec<Owned> =
        (0..100).map(|number| Owned { time: START + number as u64 * SECOND, ..frame(number) }).collect();
    let options = RotateOptions {
        max_age: Some(Duration::from_secs(10)),
        max_files: Some(3),
        ..RotateOptions::new(folder.join("web.pcapng"))
    };
    let files = record(options.clone(), &all);
    assert_eq!(names(&files), ["web-00008.pcapng", "web-00009.pcapng", "web-00010.pcapng"]);
    assert_eq!(read_files(&files), all[70..]);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
    // A limit on files alone changes nothing: there is one.
    let one = RotateOptions { max_age: None, ..options };
    assert_eq!(names(&record(one, &all)), ["web.pcapng"]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_was_flushed_can_be_read_while_it_is_written() {
    let folder = folder("flush");
    let all = frames(100);
    for name in ["a.pcap", "a.pcapng.gz", "a.pcapng.zst"] {
        let path = folder.join(name);
        let mut writer = RotatingWriter::new(RotateOptions::new(&path)).unwrap();
        writer.flush().unwrap();
        let mut captures = Captures::open(&[Input::File(path)], AtEnd::Follow).unwrap();
        for part in all.chunks(30) {
            for frame in part {
                writer.write(&borrowed(frame)).unwrap();
            }
            writer.flush().unwrap();
            assert_eq!(drain(&mut captures), part, "{name}");
        }
        assert_eq!(captures.flaws(), []);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_can_not_be_created_is_named() {
    let error = RotatingWriter::new(RotateOptions::new("/nowhere/at/all.pcap")).err().unwrap();
    assert!(matches!(error, RecordError::Create { .. }));
    assert!(error.to_string().contains("/nowhere/at/all.pcap") && !error.hint().is_empty());
}

/// Runs a tool of Wireshark; `None` when it is not installed.
fn tool(program: &str, arguments: &[&str], file: &Path) -> Option<String> {
    let Ok(output) = Command::new(program).args(arguments).arg(file).output() else {
        assert!(std::env::var_os("TCPCOPY_REQUIRE_LAB").is_none(), "{program} is not installed");
        println!("skipped: {program} is not installed");
        return None;
    };
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}

#[test]
fn wireshark_reads_what_was_written() {
    let folder = folder("wireshark");
    let mut all = frames(50);
    all[7].wire_len = 90_000;
    let fields =
        ["-n", "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.cap_len", "-e", "frame.len", "-r"];
    for name in ["a.pcap", "a.pcapng", "a.pcap.gz", "a.pcapng.zst"] {
        // One of each link type, where that can be.
        let mut all = all.clone();
        if by_name(Path::new(name)).0 == Format::Pcapng {
            for (frame, link) in all.iter_mut().zip(LINKS) {
                frame.link = link;
            }
        }
        let path = folder.join(name);
        record(RotateOptions::new(&path), &all);
        let Some(facts) = tool("capinfos", &["-M", "-c", "-E", "-T", "-r", "-m"], &path) else { return };
        assert!(facts.contains(",50"), "{facts}");
        let Some(read) = tool("tshark", &fields, &path) else { return };
        let expected: String = all
            .iter()
            .map(|f| {
                let (seconds, nanos) = (f.time / SECOND, f.time % SECOND);
                format!("{seconds}.{nanos:09}\t{}\t{}\n", f.data.len(), f.wire_len)
            })
            .collect();
        assert_eq!(read, expected, "{name}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_capture_made_elsewhere_is_written_again_as_it_is() {
    let all = frames(100);
    for (bytes, _) in [common::pcap(Order::Big, &all), common::pcapng(Order::Big, &all)] {
        let found = common::read_whole(&bytes);
        for format in [Format::Pcap, Format::Pcapng] {
            assert_eq!(common::read_whole(&written(&found, format)), all);
        }
    }
}

proptest! {
    #[test]
    fn any_frames_are_read_as_they_were_written(
        parts in prop::collection::vec((0_usize..6, 0_usize..3000, 0_usize..100_000, 0_u64..10 * SECOND), 0..60),
    ) {
        let mut time = START;
        let all: Vec<Owned> = parts
            .into_iter()
            .map(|(link, len, cut, pause)| {
                time += pause;
                Owned { time, data: vec![len as u8; len], wire_len: len + cut, link: LINKS[link] }
            })
            .collect();
        prop_assert_eq!(common::read_whole(&written(&all, Format::Pcapng)), all.clone());
        let same: Vec<Owned> = all.into_iter().map(|frame| Owned { link: LinkType::Raw, ..frame }).collect();
        prop_assert_eq!(common::read_whole(&written(&same, Format::Pcap)), same);
    }
}
