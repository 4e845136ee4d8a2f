//! What handlers are called with, and what becomes of what they do.

use plugin_sdk::testing::{
    Decision, Harness, Transcript, assert_split_invariant, discard, forward, replay, send,
};
use plugin_sdk::{
    Actions, ClientEnd, ConfigError, Descriptor, Inputs, Level, Loss, Needs, Opening, Origin, Plugin,
    PluginOption, Reply, Settings, Side, Value,
};
use std::time::Duration;

/// Commands of a line each. The first letter says what to do; the session holds back what starts with `H` until a response
/// line comes.
struct Lines {
    secret: String,
}

#[derive(Default)]
struct Session {
    held: bool,
    outstanding: u32,
}

impl Plugin for Lines {
    type Session = Session;

    fn descriptor() -> Descriptor {
        Descriptor::new("lines", "1.2.3")
            .about("For tests.")
            .ports(&[7007])
            .speaks_first(Side::Client)
            .inputs(Inputs::RESPONSES | Inputs::REFERENCES | Inputs::CONNECTIONS | Inputs::CLOSES)
            .option(PluginOption::text("secret").default("\"s3cret\""))
            .option(PluginOption::boolean("refuse"))
    }

    fn configure(settings: &Settings) -> Result<Self, ConfigError> {
        if settings.boolean("refuse") {
            return Err("refused as told".into());
        }
        Ok(Self { secret: settings.text("secret").unwrap_or_default().to_owned() })
    }

    fn needs(&self) -> Needs {
        Needs::new(Inputs::RESPONSES | Inputs::REFERENCES | Inputs::CONNECTIONS | Inputs::CLOSES)
    }

    fn open(&mut self, opening: &Opening, actions: &mut Actions<'_>) -> Session {
        if opening.origin == Origin::Rejoined {
            actions.give_up("rejoined");
        }
        Session::default()
    }

    fn on_request(&mut self, session: &mut Session, bytes: &[u8], actions: &mut Actions<'_>) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = rest.split_at(end + 1);
            match line[0] {
                b'H' if session.held => return,
                b'H' if session.outstanding > 0 => {
                    session.held = true;
                    return;
                }
                b'D' => actions.discard(line.len()),
                b'A' => {
                    actions.replace(line.len(), self.secret.as_bytes());
                    actions.send(b"\n");
                }
                b'Q' => {
                    actions.forward(line.len());
                    actions.close();
                }
                b'G' => actions.give_up("asked for"),
                b'P' => actions.pass_through(),
                b'T' => {
                    actions.discard(line.len());
                    actions.set_timer(Duration::from_millis(5));
                }
                b'W' => {
                    actions.discard(line.len());
                    actions.want(Inputs::CONNECTIONS);
                }
                b'R' => {
                    // One line a call, and again for the next.
                    actions.discard(line.len());
                    actions.count("again", 1);
                    actions.resume();
                    return;
                }
                b'!' => actions.forward(line.len() + behind.len() + 1),
                _ => actions.forward(line.len()),
            }
            if !matches!(line[0], b'D' | b'T' | b'W') {
                actions.end_request(Reply::Expected);
                session.outstanding += 1;
            }
            rest = behind;
        }
    }

    fn on_response(&mut self, session: &mut Session, bytes: &[u8], actions: &mut Actions<'_>) -> usize {
        let mut consumed = 0;
        while let Some(end) = bytes[consumed..].iter().position(|byte| *byte == b'\n') {
            actions.observe(&String::from_utf8_lossy(&bytes[consumed..consumed + end]));
            consumed += end + 1;
            session.outstanding = session.outstanding.saturating_sub(1);
            actions.reply_complete();
            if session.held {
                session.held = false;
                actions.resume();
            }
        }
        consumed
    }

    fn on_response_end(&mut self, _: &mut Session, actions: &mut Actions<'_>) {
        actions.reconnect();
    }

    fn on_reference(&mut self, _: &mut Session, bytes: &[u8], actions: &mut Actions<'_>) -> usize {
        let whole = bytes.len() / 4 * 4;
        actions.count("reference", whole as u64);
        whole
    }

    fn on_reference_gap(&mut self, _: &mut Session, actions: &mut Actions<'_>) {
        actions.count("reference gap", 1);
    }

    fn on_connected(&mut self, _: &mut Session, actions: &mut Actions<'_>) {
        actions.send(b"LOGIN\n");
        actions.ready();
    }

    fn on_connection_lost(&mut self, session: &mut Session, loss: Loss, actions: &mut Actions<'_>) {
        session.outstanding -= loss.unanswered;
        actions.log(Level::Info, &format!("{loss:?}"));
    }

    fn on_gap(&mut self, _: &mut Session, actions: &mut Actions<'_>) {
        assert_eq!(actions.undecided(), 0);
        actions.count("gap", 1);
    }

    fn on_close(&mut self, _: &mut Session, end: ClientEnd, actions: &mut Actions<'_>) {
        actions.observe(&format!("{end:?}"));
    }

    fn on_timer(&mut self, _: &mut Session, actions: &mut Actions<'_>) {
        actions.observe(&format!("timer at {}", actions.now().nanos() % 1_000_000_000));
    }
}

fn opened() -> (Harness<Lines>, u64) {
    let mut harness = Harness::new(&[]);
    let session = harness.open();
    (harness, session)
}

#[test]
fn what_is_not_decided_comes_again_with_more() {
    let (mut harness, session) = opened();
    assert_eq!(harness.request(session, "GE"), []);
    assert_eq!(harness.undecided(session), b"GE");
    assert_eq!(harness.request(session, "x"), []);
    let decided = harness.request(session, "\nrest");
    assert_eq!(decided[0], Decision::GiveUp("asked for".to_owned()));
    assert!(harness.is_over(session));
}

#[test]
fn several_requests_in_one_call_are_all_decided() {
    let (mut harness, session) = opened();
    assert_eq!(
        harness.request(session, "one\nDrop\nAuth\ntw"),
        [
            forward("one\n"),
            Decision::EndRequest(Reply::Expected),
            discard("Drop\nAuth\n"),
            send("s3cret\n"),
            Decision::EndRequest(Reply::Expected),
        ]
    );
    assert_eq!(harness.sent(session), b"one\ns3cret\n");
    assert_eq!(harness.undecided(session), b"tw");
    let requests = harness.requests(session);
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].bytes, b"s3cret\n"[..].into());
}

#[test]
fn a_handler_of_responses_can_resume_requests() {
    let (mut harness, session) = opened();
    harness.request(session, "one\nHeld\ntwo\n");
    assert_eq!(harness.undecided(session), b"Held\ntwo\n");
    assert_eq!(
        harness.response(session, "ok\nmo"),
        [
            Decision::Observe("ok".to_owned()),
            Decision::ReplyComplete,
            forward("Held\n"),
            Decision::EndRequest(Reply::Expected),
            forward("two\n"),
            Decision::EndRequest(Reply::Expected),
        ]
    );
    assert_eq!(harness.undecided(session), b"");
}

#[test]
fn resuming_in_on_request_ends_when_nothing_is_decided() {
    let (mut harness, session) = opened();
    assert_eq!(harness.request(session, "R1\nR2\nR3\nR"), [discard("R1\nR2\nR3\n")]);
    assert_eq!(harness.count("again"), 3);
    assert_eq!(harness.request(session, "\n"), [discard("R\n")]);
}

#[test]
fn nothing_is_heard_of_a_session_that_the_plugin_ended() {
    for (last, decision) in [("Q\n", Decision::Close), ("P\n", Decision::PassThrough)] {
        let (mut harness, session) = opened();
        let decided = harness.request(session, last);
        assert_eq!(decided.last(), Some(&decision), "no end of a request behind it");
        assert_eq!(harness.request(session, "more\n"), []);
        assert_eq!(harness.gap(session), []);
    }
}

#[test]
fn a_session_may_be_given_up_as_it_opens() {
    let mut harness = Harness::<Lines>::new(&[]);
    let session = harness.open_as(Origin::Rejoined);
    assert_eq!(harness.decisions(session), [Decision::GiveUp("rejoined".to_owned())]);
    assert_eq!(harness.request(session, "one\n"), []);
}

#[test]
fn response_bytes_that_were_kept_go_with_their_connection() {
    let (mut harness, session) = opened();
    harness.request(session, "one\n");
    assert_eq!(harness.connected(session), [send("LOGIN\n"), Decision::Ready]);
    assert_eq!(harness.response(session, "hal"), []);
    assert_eq!(harness.connection_lost(session, Loss { unanswered: 1, ..Loss::default() }), []);
    assert_eq!(
        harness.logs(),
        [(Level::Info, "Loss { unanswered: 1, kept: 0, interrupted: false }".to_owned())]
    );
    harness.connected(session);
    assert_eq!(harness.response(session, "f\n")[0], Decision::Observe("f".to_owned()));
}

#[test]
fn a_gap_drops_what_was_not_decided() {
    let (mut harness, session) = opened();
    harness.request(session, "on");
    assert_eq!(harness.gap(session), [discard("on")]);
    assert_eq!(harness.count("gap"), 1);
    assert_eq!(harness.request(session, "e\n")[0], forward("e\n"));
}

#[test]
fn inputs_that_are_not_wanted_any_more_do_not_come() {
    let (mut harness, session) = opened();
    harness.response(session, "kept");
    assert_eq!(harness.request(session, "W\n"), [discard("W\n"), Decision::Want(Inputs::CONNECTIONS)]);
    assert_eq!(harness.response(session, "ok\n"), []);
    assert_eq!(harness.client_closed(session, ClientEnd::Finished), []);
    assert_eq!(harness.connected(session).len(), 2);
}

#[test]
fn references_are_kept_until_consumed_and_dropped_at_a_gap() {
    let (mut harness, session) = opened();
    harness.reference(session, "abcde");
    assert_eq!(harness.count("reference"), 4);
    harness.reference_gap(session);
    harness.reference(session, "fgh");
    assert_eq!((harness.count("reference"), harness.count("reference gap")), (4, 1));
    harness.reference(session, "i");
    assert_eq!(harness.count("reference"), 8);
}

#[test]
fn a_timer_fires_once_at_its_time() {
    let (mut harness, session) = opened();
    harness.request(session, "T\n");
    assert_eq!(harness.advance(Duration::from_millis(4)), []);
    let fired = harness.advance(Duration::from_millis(4));
    assert_eq!(fired, [(session, Decision::Observe("timer at 5000000".to_owned()))]);
    assert_eq!(harness.advance(Duration::from_secs(1)), []);
}

#[test]
fn ends_of_both_sides_are_told() {
    let (mut harness, session) = opened();
    assert_eq!(harness.response_end(session), [Decision::Reconnect]);
    assert_eq!(harness.client_closed(session, ClientEnd::Reset), [Decision::Observe("Reset".to_owned())]);
    harness.end(session);
    assert!(harness.is_over(session));
}

#[test]
fn sessions_do_not_mix() {
    let (mut harness, first) = opened();
    let second = harness.open();
    harness.request(first, "on");
    harness.request(second, "tw");
    assert_eq!(harness.request(first, "e\n")[0], forward("one\n"));
    assert_eq!(harness.request(second, "o\n")[0], forward("two\n"));
}

#[test]
#[should_panic(expected = "plugin defect: forward(3) with 2 undecided request bytes")]
fn taking_more_than_is_there_is_a_defect() {
    let (mut harness, session) = opened();
    harness.request(session, "!\n");
}

#[test]
fn settings_are_refused_with_the_plugins_own_words() {
    let refused = Harness::<Lines>::try_new(&[("refuse", true.into())]);
    assert_eq!(refused.err(), Some(ConfigError::new("refused as told")));
}

#[test]
#[should_panic(expected = "there is no option \"unknown\"")]
fn an_unknown_setting_is_a_defect_of_the_test() {
    let _ = Harness::<Lines>::new(&[("unknown", true.into())]);
}

#[test]
fn a_transcript_leads_to_the_same_in_every_split() {
    let settings: [(&str, Value); 1] = [("secret", "other".into())];
    let transcript = Transcript::new()
        .connected()
        .request("one\nAuth x\nDrop\nHeld\n")
        .response("yes\nno\n")
        .reference("abcdefgh")
        .request("T\nW\nthree\nlast without an end")
        .response("not wanted")
        .advance(Duration::from_secs(1))
        .gap()
        .client_closed(ClientEnd::Finished);
    let record = assert_split_invariant::<Lines>(&settings, &transcript);
    assert_eq!(record.sent(), b"LOGIN\none\nother\nHeld\nthree\n");
    assert_eq!(record.counts.get("reference"), Some(&8));
}

/// Takes the pieces for messages, as one must not.
struct Naive;

impl Plugin for Naive {
    type Session = ();

    fn descriptor() -> Descriptor {
        Descriptor::new("naive", "0")
    }

    fn configure(_: &Settings) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn open(&mut self, _: &Opening, _: &mut Actions<'_>) {}

    fn on_request(&mut self, (): &mut (), bytes: &[u8], actions: &mut Actions<'_>) {
        actions.forward(bytes.len());
        actions.end_request(Reply::Expected);
    }

    fn on_gap(&mut self, (): &mut (), _: &mut Actions<'_>) {}
}

#[test]
fn a_plugin_that_takes_pieces_for_messages_is_caught() {
    let transcript = Transcript::new().request("one message");
    let caught = std::panic::catch_unwind(|| assert_split_invariant::<Naive>(&[], &transcript));
    let text = caught.expect_err("the splits differ").downcast::<String>().expect("a formatted text");
    assert_eq!(
        *text,
        "the plugin decides otherwise when the bytes are split (Bytes)\n  \
         whole: decision 0: Forward(b\"one message\")\n  \
         split: decision 0: Forward(b\"o\")\n"
    );
    let whole = replay::<Naive>(&[], &transcript, plugin_sdk::testing::Split::Whole);
    assert_eq!(whole.decisions, [forward("one message"), Decision::EndRequest(Reply::Expected)]);
}
