//! The Redis plugin under any bytes of a client and of a target.

use plugin_sdk::testing::{Harness, Split, Transcript, replay};
use plugin_sdk::{Origin, Value};
use tcpcopy_redis::Redis;
use tcpcopy_redis::reply::{Progress, Reply};

/// The connection is joined mid-stream.
pub(crate) const JOINED: u8 = 1;
/// Options that look into requests and change them.
pub(crate) const OPTIONS: u8 = 2;

/// Feeds a session. Input: flags (u8: 1 joined mid-stream, 2 with options that look into requests and change them), seed of the
/// split (u8), how many 256ths of the rest are the client's (u8), the client's bytes, the target's bytes.
///
/// # Panics
/// When the plugin does, or when what it decides depends on the pieces that bytes come in.
pub fn redis(data: &[u8]) {
    let Some((&[flags, seed, share], rest)) = data.split_first_chunk::<3>() else { return };
    let (requests, replies) = rest.split_at(rest.len() * usize::from(share) / 256);
    boundaries(replies, usize::from(seed % 16) + 1);

    let databases = Value::Table(vec![("0".to_owned(), "5".to_owned())]);
    let settings = [
        ("key-prefix", Value::from("t:")),
        ("drop-keys", Value::from(["secret*"])),
        ("databases", databases),
        ("password", Value::from("p")),
    ];
    let settings = if flags & OPTIONS == 0 { &[][..] } else { &settings[..] };
    let origin = if flags & JOINED == 0 { Origin::Start } else { Origin::MidStream };
    let transcript = Transcript::of(origin).connected().request(requests).response(replies);
    let whole = replay::<Redis>(settings, &transcript, Split::Whole);
    let split = replay::<Redis>(settings, &transcript, Split::Random(u64::from(seed)));
    assert_eq!(whole, split, "the pieces matter");

    // A gap anywhere ends in a search, and never in a panic.
    let mut harness = Harness::<Redis>::new(settings);
    let session = harness.open_as(origin);
    let (before, behind) = requests.split_at(requests.len() / 2);
    harness.request(session, before);
    if !harness.is_over(session) {
        harness.gap(session);
        harness.request(session, behind);
    }
}

/// Replies end at the same bytes, whatever pieces they come in.
fn boundaries(bytes: &[u8], piece: usize) {
    let ends = |piece: usize| {
        let (mut reply, mut taken, mut there, mut ends) = (Reply::default(), 0, 0, Vec::new());
        while there < bytes.len() {
            there = bytes.len().min(there + piece);
            loop {
                let (read, progress) = reply.advance(&bytes[taken..there]);
                assert!(read <= there - taken, "more was read than is there");
                taken += read;
                match progress {
                    Progress::Done => ends.push(taken),
                    Progress::More => break,
                    Progress::Invalid(_) => return ends,
                }
            }
        }
        ends
    };
    assert_eq!(ends(piece), ends(bytes.len().max(1)));
}
