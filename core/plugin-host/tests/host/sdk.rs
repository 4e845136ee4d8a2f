//! A plugin that is written with the SDK says the same as component and as native library.

use crate::guest::{loader, opening, sdk_plugin};
use std::time::Duration;
use tcpcopy_engine::plugin::{Action, AfterFault, Event, EventBatch, Fault, Input, Inputs, Outcome, Output};
use tcpcopy_engine::plugin::{Reply, Span};
use tcpcopy_plugin_host::{Kind, Limits, Module, settings};

/// Events of one session, each in a batch of its own or all in one.
fn batch(inputs: &[(u64, Input, &[u8])]) -> EventBatch {
    let mut batch = EventBatch::default();
    for (session, input, bytes) in inputs {
        let span = Span { start: batch.bytes.len() as u32, length: bytes.len() as u32 };
        batch.bytes.extend_from_slice(bytes);
        let input = match input {
            Input::Request(_) => Input::Request(span),
            Input::Response(_) => Input::Response(span),
            other => *other,
        };
        if matches!(input, Input::Opened(_)) {
            batch.openings.push(opening());
        }
        batch.events.push(Event { session: *session, at: 1_000, input });
    }
    batch
}

#[test]
fn both_builds_of_one_source_decide_alike() {
    let (wasm, native) = sdk_plugin();
    // A debug build of the host on a busy machine: time is not what is tested.
    let limits = Limits { deadline: Duration::from_secs(10), ..Limits::default() };
    let (request, response) = (Input::Request(Span::default()), Input::Response(Span::default()));
    let script: &[(u64, Input, &[u8])] = &[
        (1, Input::Opened(0), b""),
        (2, Input::Opened(1), b""),
        (1, request, b"get a\nqu"),
        (2, request, b"get b\n"),
        (1, request, b"it\nlast\n"),
        (1, response, b"one\n"),
        (2, Input::Gap, b""),
        (2, request, b"torn\nwhole\n"),
        (1, Input::ConnectionLost { unanswered: 1, kept: 0, interrupted: false }, b""),
        (2, response, b"x\ny\n"),
        (1, Input::Ended, b""),
    ];
    let act = |session, output| Action { session, output };
    let mut reports = Vec::new();
    for (path, kind) in [(&wasm, Kind::Wasm), (&native, Kind::Native)] {
        let module = Module::load(path, &loader(limits)).expect("loads");
        assert_eq!(module.kind(), kind);
        let set =
            settings::resolve(module.descriptor(), None, &["skip=quit".to_owned()]).expect("known options");
        let plugin = module.configure(set).expect("configures");
        assert_eq!(plugin.needs().inputs, Inputs::RESPONSES);
        let mut runner = plugin.runner(0);
        let group = runner.join().expect("joins");
        assert_eq!(runner.join(), Ok(group));
        let mut outcome = Outcome::default();
        runner.run(group, &batch(script), 1, &mut outcome).expect("runs");
        let of = |session| {
            let of_session = outcome.actions.iter().filter(move |action| action.session == session);
            of_session.copied().collect::<Vec<_>>()
        };
        assert_eq!(
            of(1),
            [
                act(1, Output::Forward(6)),
                act(1, Output::EndRequest(Reply::Expected)),
                act(1, Output::Discard(5)),
                act(1, Output::Forward(5)),
                act(1, Output::EndRequest(Reply::Expected)),
                act(1, Output::ReplyComplete),
            ],
            "{kind}"
        );
        assert_eq!(
            of(2),
            [
                act(2, Output::Forward(6)),
                act(2, Output::EndRequest(Reply::Expected)),
                act(2, Output::Discard(5)),
                act(2, Output::Forward(6)),
                act(2, Output::EndRequest(Reply::Expected)),
                act(2, Output::ReplyComplete),
                act(2, Output::ReplyComplete),
            ],
            "{kind}"
        );
        let report = plugin.report();
        assert!(report.faults.is_empty());
        reports.push(report.counts);
    }
    assert_eq!(reports[0], [("requests skipped".to_owned(), 1)]);
    assert_eq!(reports[0], reports[1]);
}

#[test]
fn a_refused_setting_says_why_in_both_builds() {
    let (wasm, native) = sdk_plugin();
    for path in [&wasm, &native] {
        let module = Module::load(path, &loader(Limits::default())).expect("loads");
        let set = settings::resolve(module.descriptor(), None, &["max-line=0".to_owned()]).expect("a number");
        let error = module.configure(set).err().expect("is refused").to_string();
        assert!(error.ends_with("max-line must be above zero"), "{error}");
    }
}

#[test]
fn a_panic_is_a_fault_in_both_builds() {
    let (wasm, native) = sdk_plugin();
    for path in [&wasm, &native] {
        let module = Module::load(path, &loader(Limits::default())).expect("loads");
        let set = settings::resolve(module.descriptor(), None, &["skip=panic".to_owned()]).expect("known");
        let plugin = module.configure(set).expect("configures");
        let mut runner = plugin.runner(0);
        let group = runner.join().expect("joins");
        let request = Input::Request(Span::default());
        let script = batch(&[
            (1, Input::Opened(0), b""),
            (2, Input::Opened(1), b""),
            (1, request, b"get\n"),
            (2, request, b"panic\n"),
        ]);
        let mut outcome = Outcome::default();
        let fault = runner.run(group, &script, 1, &mut outcome);
        assert_eq!(fault, Err(Fault { session: Some(2), others: AfterFault::Rejoin }), "{}", path.display());
        let faults = plugin.report().faults;
        assert!(faults[0].last.contains("as told"), "{}", faults[0].last);
        let script = batch(&[(1, Input::Opened(0), b""), (1, request, b"get\n")]);
        runner.run(group, &script, 1, &mut outcome).expect("a new instance");
    }
}
