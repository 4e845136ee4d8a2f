//! Several files, files that grow, pipes, and files read again.

mod common;

use common::{Order, Owned, SECOND, START, drain, frame, frames};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use tcpcopy_capture_file::{AtEnd, Captures, FlawKind, Input, OpenError, ReadError, Step};

/// A folder that goes away with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("capture-file-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Input {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a file");
        Input::File(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pcap(frames: &[Owned]) -> Vec<u8> {
    common::pcap(Order::Little, frames).0
}

#[test]
fn files_are_merged_by_time_whatever_their_format() {
    let folder = Folder::new("merge");
    let all = frames(900);
    // Every third frame to each file; the third file begins late and is named first.
    let part = |which: usize| -> Vec<Owned> {
        let from = if which == 2 { 300 } else { 0 };
        all.iter()
            .enumerate()
            .filter(|(at, _)| at % 3 == which && *at >= from)
            .map(|(_, f)| f.clone())
            .collect()
    };
    let inputs = [
        folder.file("c.pcap.zst", &common::zstd(&pcap(&part(2)))),
        folder.file("a.pcapng", &common::pcapng(Order::Big, &part(0)).0),
        folder.file("b.pcap.gz", &common::gzip(&pcap(&part(1)))),
    ];
    let expected: Vec<Owned> =
        all.iter().enumerate().filter(|(at, _)| at % 3 != 2 || *at >= 300).map(|(_, f)| f.clone()).collect();
    let mut captures = Captures::open(&inputs, AtEnd::Stop).unwrap();
    assert_eq!(captures.position().bytes_read, 0);
    for pass in 0..3 {
        assert_eq!(drain(&mut captures), expected, "pass {pass}");
        let position = captures.position();
        assert_eq!(Some(position.bytes_read), position.bytes_total);
        let frames: Vec<u64> = captures.sources().iter().map(|facts| facts.frames).collect();
        assert_eq!(frames, [200, 300, 300]);
        captures.rewind().unwrap();
        assert_eq!(captures.sources()[1].frames, 0);
    }
    // Back in the middle of a pass, too.
    for _ in 0..500 {
        captures.next().unwrap();
    }
    captures.rewind().unwrap();
    assert_eq!(drain(&mut captures), expected);
    assert_eq!(captures.flaw_count(), 0);
}

#[test]
fn frames_of_the_same_time_come_in_the_order_of_their_files() {
    let folder = Folder::new("same-time");
    let of_time = |number: usize, time: u64| Owned { time: START + time, ..frame(number) };
    let first = [of_time(1, 5), of_time(2, 5), of_time(3, 7)];
    let second = [of_time(4, 5), of_time(5, 6)];
    let inputs = [folder.file("1", &pcap(&first)), folder.file("2", &pcap(&second))];
    let found = drain(&mut Captures::open(&inputs, AtEnd::Stop).unwrap());
    let [a, b, c] = first;
    let [d, e] = second;
    assert_eq!(found, [a, b, d, e, c]);
}

#[test]
fn a_file_that_goes_back_in_time_keeps_its_order() {
    let folder = Folder::new("back");
    let mut late = frames(6);
    late[2].time = START + 100 * SECOND;
    let other = [Owned { time: START + 50 * SECOND, ..frame(9) }];
    let inputs = [folder.file("1", &pcap(&late)), folder.file("2", &pcap(&other))];
    let found = drain(&mut Captures::open(&inputs, AtEnd::Stop).unwrap());
    let data: Vec<_> = found.iter().map(|frame| &frame.data).collect();
    let expected = [&late[0], &late[1], &other[0], &late[2], &late[3], &late[4], &late[5]].map(|f| &f.data);
    assert_eq!(data, expected);
    assert!(found.is_sorted_by_key(|frame| frame.time));
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("proc").count()
}

#[test]
fn thousands_of_rotated_files_are_open_one_at_a_time() {
    let folder = Folder::new("rotated");
    let all = frames(3000);
    // Named in the wrong order.
    let mut inputs: Vec<Input> = all
        .chunks(2)
        .enumerate()
        .map(|(number, frames)| folder.file(&format!("{number}.pcap"), &pcap(frames)))
        .collect();
    inputs.reverse();
    let before = open_files();
    let mut captures = Captures::open(&inputs, AtEnd::Stop).unwrap();
    let mut found = 0;
    while let Step::Frame(frame) = captures.next().unwrap() {
        assert_eq!(frame.captured_at_nanos, all[found].time);
        found += 1;
        if found % 100 == 0 {
            // Other tests of this process, if any run beside this one, have a few of their own.
            assert!(open_files() <= before + 20, "{} files are open", open_files());
        }
    }
    assert_eq!(found, all.len());
}

#[test]
fn flaws_name_their_file_and_are_noted_once() {
    let folder = Folder::new("flaws");
    let all = frames(10);
    let bytes = pcap(&all);
    let inputs = [
        folder.file("whole.pcap", &bytes),
        folder.file("cut.pcap", &bytes[..bytes.len() - 1]),
        folder.file("header.pcap", &bytes[..30]),
    ];
    let mut captures = Captures::open(&inputs, AtEnd::Stop).unwrap();
    assert_eq!(captures.flaw_count(), 0);
    for _ in 0..2 {
        assert_eq!(drain(&mut captures).len(), 19);
        let mut names: Vec<_> = captures.flaws().iter().map(|flaw| flaw.input.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, [inputs[1].to_string(), inputs[2].to_string()]);
        assert!(captures.flaws().iter().all(|flaw| flaw.kind == FlawKind::Truncated));
        captures.rewind().unwrap();
    }
}

#[test]
fn what_can_not_be_opened_is_named() {
    let folder = Folder::new("open");
    let whole = folder.file("whole.pcap", &pcap(&frames(1)));
    let missing = Input::File(folder.0.join("missing.pcap"));
    let error = Captures::open(&[whole.clone(), missing.clone()], AtEnd::Stop).err().unwrap();
    assert!(matches!(error, OpenError::Open { .. }) && error.to_string().contains("missing.pcap"), "{error}");
    let error = Captures::open(&[Input::File(folder.0.clone())], AtEnd::Stop).err().unwrap();
    assert!(matches!(error, OpenError::Open { .. }), "{error}");
    assert!(matches!(Captures::open(&[], AtEnd::Stop).err(), Some(OpenError::NoInput)));
    let twice = [Input::from("-"), Input::Stdin];
    assert!(matches!(Captures::open(&twice, AtEnd::Stop).err(), Some(OpenError::StdinTwice)));
    let empty = folder.file("empty.pcap", b"");
    assert!(matches!(Captures::open(&[empty], AtEnd::Stop).err(), Some(OpenError::Empty { .. })));

    // A file that is gone when its time comes: the others are read on.
    let later = [Owned { time: START + SECOND, ..frame(3) }];
    let gone = folder.file("gone.pcap", &pcap(&later));
    let last = folder.file("last.pcap", &pcap(&[Owned { time: START + 2 * SECOND, ..frame(4) }]));
    let mut captures = Captures::open(&[whole, gone.clone(), last], AtEnd::Stop).unwrap();
    fs::remove_file(gone.to_string()).unwrap();
    assert!(matches!(captures.next(), Ok(Step::Frame(_))));
    assert!(matches!(captures.next(), Err(ReadError::Open(OpenError::Open { .. }))));
    assert_eq!(drain(&mut captures).len(), 1);
    assert!(matches!(captures.next(), Ok(Step::End)));
}

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).expect("a file").write_all(bytes).expect("to write");
}

#[test]
fn a_file_that_grows_is_followed_from_its_first_byte() {
    let all = frames(40);
    let plain = [common::pcap(Order::Little, &all).0, common::pcapng(Order::Big, &all).0];
    for (name, pack) in
        [("plain", None), ("gz", Some(common::gzip as fn(&[u8]) -> Vec<u8>)), ("zst", Some(common::zstd))]
    {
        for bytes in &plain {
            let folder = Folder::new(&format!("follow-{name}"));
            let input = folder.file("growing", b"");
            let path = folder.0.join("growing");
            let bytes = pack.map_or_else(|| bytes.clone(), |pack| pack(bytes));
            let mut captures = Captures::open(std::slice::from_ref(&input), AtEnd::Follow).unwrap();
            let mut found = Vec::new();
            for piece in bytes.chunks(97) {
                append(&path, piece);
                found.extend(drain(&mut captures));
                assert!(matches!(captures.next(), Ok(Step::Idle)));
                assert_eq!(found, all[..found.len()]);
            }
            assert_eq!(found.len(), all.len(), "{name}");
            assert_eq!(captures.flaw_count(), 0, "{:?}", captures.flaws());
            assert_eq!(captures.position().bytes_total, None);
        }
    }
}

#[test]
fn a_followed_file_does_not_wait_for_another() {
    let folder = Folder::new("follow-two");
    let all = frames(4);
    let (first, begins) = common::pcap(Order::Little, &all);
    let inputs = [folder.file("1", &first[..begins[2]]), folder.file("2", b"")];
    let mut captures = Captures::open(&inputs, AtEnd::Follow).unwrap();
    assert_eq!(drain(&mut captures).len(), 2);
    let other = [Owned { time: START, ..frame(7) }];
    append(&folder.0.join("2"), &pcap(&other));
    // It comes late, and gets the time that it is.
    let found = drain(&mut captures);
    assert_eq!(found, [Owned { time: all[1].time, ..other[0].clone() }]);
    append(&folder.0.join("1"), &first[begins[2]..]);
    assert_eq!(drain(&mut captures), all[2..]);
    // What turns out to be no capture is given up.
    let third = folder.file("3", b"");
    let mut captures = Captures::open(&[third], AtEnd::Follow).unwrap();
    assert!(matches!(captures.next(), Ok(Step::Idle)));
    append(&folder.0.join("3"), b"this is no capture file");
    assert!(matches!(captures.next(), Err(ReadError::Open(OpenError::NotACapture { .. }))));
    assert!(matches!(captures.next(), Ok(Step::End)));
}

#[test]
fn a_pipe_delivers_each_frame_when_it_is_there() {
    let all = frames(5);
    let (bytes, begins) = common::pcap(Order::Little, &all);
    let (reader, mut writer) = std::io::pipe().unwrap();
    // Opening waits for the header alone, and a frame for nothing behind it.
    writer.write_all(&bytes[..begins[0]]).unwrap();
    let mut captures = Captures::from_reader("pipe", Box::new(reader), AtEnd::Stop).unwrap();
    for (number, expected) in all.iter().enumerate() {
        writer.write_all(&bytes[begins[number]..begins[number + 1]]).unwrap();
        let Ok(Step::Frame(frame)) = captures.next() else { panic!("no frame {number}") };
        assert_eq!(frame.data, expected.data);
    }
    drop(writer);
    assert!(matches!(captures.next(), Ok(Step::End)));
    assert!(matches!(captures.rewind(), Err(OpenError::NotRewindable { .. })));
    assert_eq!(captures.position().bytes_total, None);
    assert_eq!(captures.position().bytes_read, bytes.len() as u64);
}

#[test]
fn a_named_pipe_is_a_pipe() {
    let folder = Folder::new("fifo");
    let path = folder.0.join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    let all = frames(300);
    let bytes = pcap(&all);
    let writer = {
        let path = path.clone();
        std::thread::spawn(move || File::create(path).and_then(|mut pipe| pipe.write_all(&bytes)))
    };
    let mut captures = Captures::open(&[Input::File(path)], AtEnd::Stop).unwrap();
    assert_eq!(drain(&mut captures), all);
    assert!(matches!(captures.rewind(), Err(OpenError::NotRewindable { .. })));
    writer.join().unwrap().unwrap();
}

#[test]
fn inputs_read_as_they_are_typed() {
    assert_eq!(Input::from("-"), Input::Stdin);
    for name in ["-", "a/b.pcap", "./-"] {
        assert_eq!(Input::from(name).to_string(), name);
    }
}
