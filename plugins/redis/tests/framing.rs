//! Messages begin and end where the `redis-protocol` crate has them, however their bytes are split.

use proptest::prelude::*;
use redis_protocol::resp2;
use redis_protocol::resp3::decode::complete;
use tcpcopy_redis::reply::{self, Reply};
use tcpcopy_redis::request::{self, Body, Head, Progress};

/// Bytes of any element that is no aggregate.
fn scalar() -> impl Strategy<Value = Vec<u8>> {
    let text = || "[ -~]{0,20}".prop_map(String::into_bytes);
    let blob = || prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        text().prop_map(|text| [b"+", text.as_slice(), b"\r\n"].concat()),
        text().prop_map(|text| [b"-ERR ", text.as_slice(), b"\r\n"].concat()),
        any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
        blob().prop_map(|blob| bulk(b'$', &blob)),
        text().prop_map(|blob| bulk(b'!', &blob)),
        blob().prop_map(|blob| bulk(b'=', &[b"txt:", blob.as_slice()].concat())),
        (-1e9..1e9).prop_map(|number: f64| format!(",{number}\r\n").into_bytes()),
        Just(b",inf\r\n".to_vec()),
        Just(b"_\r\n".to_vec()),
        Just(b"#t\r\n".to_vec()),
        Just(b"#f\r\n".to_vec()),
        Just(b"(3492890328409238509324850943850943825024385\r\n".to_vec()),
    ]
}

fn bulk(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(format!("{}\r\n", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
    out
}

fn aggregate(kind: char, count: usize, elements: &[Vec<u8>]) -> Vec<u8> {
    [format!("{kind}{count}\r\n").into_bytes(), elements.concat()].concat()
}

/// Bytes of any element.
fn element() -> impl Strategy<Value = Vec<u8>> {
    scalar().prop_recursive(4, 40, 6, |inner| {
        let several = || prop::collection::vec(inner.clone(), 0..6);
        // What may be a key of a map or a member of a set is a string here: aggregates have no hash there.
        let key = || prop::collection::vec(any::<u8>(), 0..10).prop_map(|blob| bulk(b'$', &blob));
        prop_oneof![
            several().prop_map(|elements| aggregate('*', elements.len(), &elements)),
            prop::collection::vec(key(), 0..6).prop_map(|elements| aggregate('~', elements.len(), &elements)),
            prop::collection::vec((key(), inner.clone()), 0..5).prop_map(|pairs| {
                let elements: Vec<Vec<u8>> =
                    pairs.into_iter().flat_map(|(key, value)| [key, value]).collect();
                aggregate('%', elements.len() / 2, &elements)
            }),
        ]
    })
}

/// Lengths of the replies in `bytes`, which are fed in pieces of these lengths. Bytes that are not taken come again.
fn replies(bytes: &[u8], pieces: &[usize]) -> Vec<usize> {
    let mut reply = Reply::default();
    let (mut taken, mut there, mut length) = (0, 0, 0);
    let mut lengths = Vec::new();
    let mut pieces = pieces.iter().cycle();
    while there < bytes.len() {
        there = bytes.len().min(there + pieces.next().expect("a length"));
        loop {
            let (read, progress) = reply.advance(&bytes[taken..there]);
            taken += read;
            length += read;
            match progress {
                reply::Progress::Done => lengths.push(std::mem::take(&mut length)),
                reply::Progress::More => break,
                reply::Progress::Invalid(error) => panic!("{error} behind {taken} bytes"),
            }
            if taken == there {
                break;
            }
        }
        assert!(there - taken <= 24, "{} bytes are not taken", there - taken);
    }
    assert_eq!(taken, bytes.len());
    lengths
}

/// The same for requests.
fn requests(bytes: &[u8], pieces: &[usize]) -> Vec<usize> {
    let (mut taken, mut there, mut length) = (0, 0, 0);
    let mut lengths = Vec::new();
    let mut body: Option<Body> = None;
    let mut pieces = pieces.iter().cycle();
    while there < bytes.len() {
        there = bytes.len().min(there + pieces.next().expect("a length"));
        while taken < there {
            let Some(rest) = &mut body else {
                match request::head(&bytes[taken..there], 0) {
                    Head::Array { args, first, .. } => {
                        taken += first;
                        length = first;
                        body = Some(Body::new(args));
                        continue;
                    }
                    Head::Incomplete => break,
                    other => panic!("{other:?}"),
                }
            };
            let (read, progress) = rest.advance(&bytes[taken..there]);
            taken += read;
            length += read;
            match progress {
                Progress::Done => {
                    lengths.push(length);
                    body = None;
                }
                Progress::More => break,
                Progress::Invalid(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(taken, bytes.len());
    lengths
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn replies_end_where_the_reference_has_it(
        elements in prop::collection::vec(element(), 1..5),
        pieces in prop::collection::vec(1_usize..40, 1..10),
    ) {
        let bytes = elements.concat();
        let mut wanted = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let (_, length) = complete::decode(&bytes[at..]).expect("valid").expect("complete");
            wanted.push(length);
            at += length;
        }
        prop_assert_eq!(&replies(&bytes, &[bytes.len()]), &wanted);
        prop_assert_eq!(&replies(&bytes, &[1]), &wanted);
        prop_assert_eq!(&replies(&bytes, &pieces), &wanted);
    }

    #[test]
    fn requests_end_where_the_reference_has_it(
        commands in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..8), 1..5),
        pieces in prop::collection::vec(1_usize..40, 1..10),
    ) {
        let command = |args: &Vec<Vec<u8>>| {
            aggregate('*', args.len(), &args.iter().map(|arg| bulk(b'$', arg)).collect::<Vec<_>>())
        };
        let bytes: Vec<u8> = commands.iter().flat_map(command).collect();
        let mut wanted = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let (_, length) = resp2::decode::decode(&bytes[at..]).expect("valid").expect("complete");
            wanted.push(length);
            at += length;
        }
        prop_assert_eq!(&requests(&bytes, &[bytes.len()]), &wanted);
        prop_assert_eq!(&requests(&bytes, &[1]), &wanted);
        prop_assert_eq!(&requests(&bytes, &pieces), &wanted);
    }

    #[test]
    fn any_bytes_are_read_the_same_in_any_pieces(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let read = |step: usize| {
            let mut reply = Reply::default();
            let (mut taken, mut ends, mut there) = (0, Vec::new(), 0);
            while there < bytes.len() {
                there = bytes.len().min(there + step);
                loop {
                    let (read, progress) = reply.advance(&bytes[taken..there]);
                    taken += read;
                    match progress {
                        reply::Progress::Done => ends.push(taken),
                        reply::Progress::More => break,
                        reply::Progress::Invalid(error) => return (ends, Some(error)),
                    }
                }
            }
            (ends, None)
        };
        prop_assert_eq!(read(1), read(bytes.len().max(1)));
    }
}

#[test]
fn streamed_strings_and_aggregates_end() {
    for (bytes, count) in [
        ("$?\r\n;4\r\nHell\r\n;1\r\no\r\n;0\r\n", 1),
        ("*?\r\n:1\r\n:2\r\n.\r\n", 1),
        ("*?\r\n*?\r\n.\r\n*2\r\n+a\r\n$?\r\n;0\r\n.\r\n+OK\r\n", 2),
        ("%?\r\n+a\r\n:1\r\n.\r\n", 1),
        ("~?\r\n.\r\n", 1),
        ("*2\r\n*?\r\n.\r\n+b\r\n", 1),
    ] {
        assert_eq!(replies(bytes.as_bytes(), &[bytes.len()]).len(), count, "{bytes:?}");
        assert_eq!(replies(bytes.as_bytes(), &[1]).len(), count, "{bytes:?}");
    }
}

#[test]
fn attributes_stand_before_what_they_describe() {
    // Before a whole reply one is by itself; within a reply it counts for nothing.
    let before = "|1\r\n+ttl\r\n:3600\r\n*2\r\n:1\r\n:2\r\n";
    assert_eq!(replies(before.as_bytes(), &[1]).len(), 2);
    let within = "*3\r\n:1\r\n:2\r\n|1\r\n+ttl\r\n:3600\r\n:3\r\n";
    assert_eq!(replies(within.as_bytes(), &[1]), [within.len()]);
    let alone = "*1\r\n|1\r\n+a\r\n*1\r\n:1\r\n$-1\r\n";
    assert_eq!(replies(alone.as_bytes(), &[3]), [alone.len()]);
}

#[test]
fn nulls_of_resp2_are_replies() {
    assert_eq!(replies(b"*-1\r\n$-1\r\n*2\r\n$-1\r\n*-1\r\n*0\r\n", &[1]), [5, 5, 14, 4]);
}

#[test]
fn what_is_no_reply_is_refused() {
    for bytes in [
        "x\r\n",
        "$-2\r\n",
        "*-2\r\n",
        "$1a\r\n",
        ":\r\n",
        ".\r\n",
        "*?\r\n*2\r\n.\r\n",
        "$99999999999999999999\r\n",
        "*99999999999999999\r\n",
        "%-1\r\n",
        "*1 \r\n",
        "$?\r\nx",
        "*1\n",
    ] {
        let mut reply = Reply::default();
        let mut taken = 0;
        let failed = loop {
            match reply.advance(&bytes.as_bytes()[taken..]) {
                (_, reply::Progress::Invalid(_)) => break true,
                (read, _) if read > 0 => taken += read,
                _ => break false,
            }
        };
        assert!(failed, "{bytes:?}");
    }
    let deep = "*?\r\n".repeat(1000);
    assert!(matches!(
        Reply::default().advance(deep.as_bytes()),
        (_, reply::Progress::Invalid(reply::ReplyError::TooLarge))
    ));
    let deep = "*1\r\n".repeat(100_000) + ":1\r\n";
    assert_eq!(Reply::default().advance(deep.as_bytes()), (deep.len(), reply::Progress::Done));
}

#[test]
fn what_is_no_request_is_refused() {
    for bytes in [
        "*x\r\n",
        "*1\r\n:1\r\n",
        "*1\r\n$-1\r\n",
        "*2147483648\r\n",
        "*1\rx",
        "*01\r\n",
        "*1\r\n$01\r\n",
        "*+1\r\n",
        "*11111111111111111111111111111",
        "*1\r\n$9999999999999\r\n",
    ] {
        assert!(matches!(request::head(bytes.as_bytes(), 0), Head::Invalid(_)), "{bytes:?}");
    }
    assert_eq!(request::head(b"*0\r\n", 0), Head::Empty(4));
    assert_eq!(request::head(b"*-1\r\n", 0), Head::Empty(5));
    assert_eq!(request::head(b" \r\n", 0), Head::Empty(3));
    assert_eq!(
        request::head(&[b'x'; request::MAX_INLINE], 0),
        Head::Invalid(request::RequestError::InlineTooLong)
    );
}
