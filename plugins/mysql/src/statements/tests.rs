use super::*;

const NO: Attributes = Attributes::Without;

fn prepared(id: u32, parameters: u16) -> Answer {
    Answer::Prepared { id, parameters }
}

#[test]
fn ids_are_those_that_the_online_server_told() {
    let mut all = Prepared::default();
    let a = all.prepare(b"SELECT ?", Fate::Sent);
    let b = all.prepare(b"SELECT ?, ?", Fate::Sent);
    all.online_answer(a, prepared(7, 1));
    assert_eq!(all.target_id(7), TargetId::Awaited);
    all.target_answer(a, prepared(1, 1));
    all.target_answer(b, prepared(2, 2));
    assert_eq!(all.target_id(7), TargetId::Known(1));
    // Counted from what was told last.
    assert_eq!(all.target_id(8), TargetId::Known(2));
    assert_eq!(all.target_id(1), TargetId::Unknown);
    all.online_answer(b, prepared(9, 2));
    assert_eq!(all.target_id(9), TargetId::Known(2));
    assert_eq!(all.target_id(8), TargetId::Unknown);
    assert_eq!(all.target_id(LAST), TargetId::Known(2));
}

#[test]
fn ids_are_counted_when_nothing_is_told() {
    let mut all = Prepared::default();
    let a = all.prepare(b"SELECT 1", Fate::Sent);
    all.skip_online_id();
    let b = all.prepare(b"INSERT INTO t VALUES (1)", Fate::Dropped);
    let c = all.prepare(b"SELECT", Fate::Sent);
    all.target_answer(a, prepared(5, 0));
    all.target_answer(c, Answer::Refused);
    assert_eq!(all.target_id(1), TargetId::Known(5));
    assert_eq!(all.target_id(2), TargetId::Unknown);
    assert_eq!(all.target_id(3), TargetId::Dropped);
    assert_eq!(all.target_id(4), TargetId::Refused);
    all.online_answer(b, prepared(3, 0));
    assert_eq!(all.target_id(3), TargetId::Dropped);
    assert_eq!(all.close(1), TargetId::Known(5));
    assert_eq!(all.target_id(1), TargetId::Unknown);
}

#[test]
fn what_the_online_server_refused_is_forgotten() {
    let mut all = Prepared::default();
    let a = all.prepare(b"SELEC", Fate::Sent);
    let b = all.prepare(b"SELECT 1", Fate::Sent);
    all.online_answer(a, Answer::Refused);
    all.target_answer(a, Answer::Refused);
    all.target_answer(b, prepared(2, 0));
    assert_eq!(all.target_id(1), TargetId::Unknown);
    assert_eq!(all.target_id(2), TargetId::Known(2));
    assert_eq!(all.len(), 1);
}

/// An execution of statement 1 with one parameter, with types or without.
fn execution(types: &[u8], value: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x17, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, u8::from(!types.is_empty())];
    packet.extend_from_slice(types);
    packet.extend_from_slice(value);
    packet
}

#[test]
fn types_sent_once_are_added_after_a_reconnect() {
    let mut all = Prepared::default();
    let slot = all.prepare(b"SELECT ?", Fate::Sent);
    all.target_answer(slot, prepared(1, 1));
    let send = |id, splice| Execution::Send { id, splice };
    assert_eq!(all.execute(1, &execution(&[3, 0], &[1, 0, 0, 0]), NO), send(1, None));
    assert_eq!(all.execute(1, &execution(&[], &[2, 0, 0, 0]), NO), send(1, None));
    all.connection_lost(0);
    assert_eq!(all.execute(1, &execution(&[], &[3, 0, 0, 0]), NO), Execution::Not(TargetId::Awaited));
    assert_eq!(all.rebuild(), [(slot, &b"SELECT ?"[..])]);
    all.target_answer(slot, prepared(9, 1));
    assert!(all.rebuild().is_empty());
    assert_eq!(all.execute(1, &execution(&[], &[3, 0, 0, 0]), NO), send(9, Some((11..12, vec![1, 3, 0]))));
    assert_eq!(all.execute(1, &execution(&[], &[4, 0, 0, 0]), NO), send(9, None));
    assert_eq!(all.execute(1, &[0x17, 1, 0], NO), Execution::Malformed);
}

#[test]
fn long_data_and_cursors_of_a_lost_connection_are_missed() {
    let mut all = Prepared::default();
    let slot = all.prepare(b"INSERT INTO t VALUES (?)", Fate::Sent);
    all.target_answer(slot, prepared(1, 1));
    assert_eq!(all.long_data(1), TargetId::Known(1));
    all.connection_lost(0);
    all.target_answer(slot, prepared(1, 1));
    assert_eq!(all.long_data(1), TargetId::Lost);
    let packet = execution(&[0xFC, 0], &[]);
    assert_eq!(all.execute(1, &packet, NO), Execution::Not(TargetId::Lost));
    assert_eq!(all.execute(1, &packet, NO), Execution::Send { id: 1, splice: None });
    let mut with_cursor = packet;
    with_cursor[5] = 1;
    all.execute(1, &with_cursor, NO);
    assert_eq!(all.fetch(1), TargetId::Known(1));
    all.connection_lost(0);
    all.target_answer(slot, prepared(1, 1));
    assert_eq!(all.fetch(1), TargetId::Lost);
    assert_eq!(all.reset(1), TargetId::Known(1));
    assert_eq!(all.fetch(1), TargetId::Known(1));
}

#[test]
fn preparations_that_the_host_sends_again_are_not_rebuilt() {
    let mut all = Prepared::default();
    let a = all.prepare(b"SELECT 1", Fate::Sent);
    let b = all.prepare(b"SELECT 2", Fate::Sent);
    let c = all.prepare(b"SELECT 3", Fate::Sent);
    all.target_answer(a, prepared(1, 0));
    all.connection_lost(1);
    assert_eq!(all.rebuild().iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [a, b]);
    all.target_answer(c, prepared(3, 0));
    assert_eq!(all.target_id(3), TargetId::Known(3));
}

#[test]
fn texts_and_statements_are_bounded() {
    let mut all = Prepared::default();
    let text = vec![b'x'; MAX_TEXT];
    let slot = all.prepare(&text, Fate::Sent);
    all.prepare(b"y", Fate::Sent);
    all.target_answer(slot, prepared(1, 0));
    all.connection_lost(0);
    assert_eq!(all.rebuild().len(), 1);
    assert_eq!(all.target_id(2), TargetId::Unknown);
    for _ in 0..MAX_STATEMENTS + 5 {
        all.prepare(b"z", Fate::Dropped);
    }
    assert_eq!(all.len(), MAX_STATEMENTS);
    all.clear();
    assert!(all.is_empty());
    let next = all.prepare(&text, Fate::Sent);
    all.target_answer(next, prepared(1, 0));
    assert_eq!(all.target_id(MAX_STATEMENTS as u32 + 8), TargetId::Known(1));
}
