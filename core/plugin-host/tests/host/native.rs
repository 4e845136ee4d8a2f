//! Native libraries: what is checked before one is used, and its failures.

use crate::guest::{load_bytes, loader, native, quick, requests};
use std::fs;
use tcpcopy_engine::plugin::{AfterFault, Fault, Inputs, Outcome, Output};
use tcpcopy_plugin_host::{ConfigureError, FaultKind, Kind, LoadError, Module, Setting, SettingValue};

fn refused(deviation: &str) -> LoadError {
    let (_directory, path) = native(&[deviation], false);
    Module::load(&path, &loader(quick())).expect_err("is refused")
}

#[test]
fn a_good_library_loads_and_runs() {
    let (_directory, path) = native(&[], false);
    let module = Module::load(&path, &loader(quick())).expect("loads");
    assert_eq!((module.kind(), module.abi()), (Kind::Native, "native 1.0"));
    let descriptor = module.descriptor();
    assert_eq!((&descriptor.name[..], &descriptor.ports[..]), ("guest", &[7, 4242][..]));
    assert_eq!(descriptor.options[0].name, "mode");
    let mode = |text: &str| vec![Setting { name: "mode".into(), value: SettingValue::Text(text.into()) }];
    let error = module.configure(mode("bad")).err().expect("is refused");
    assert!(matches!(&error, ConfigureError::Refused { reason, .. } if reason == "no such mode"), "{error}");
    let plugin = module.configure(mode("good")).expect("configures");
    assert_eq!(plugin.needs().inputs, Inputs::RESPONSES);
    let mut runner = plugin.runner(0);
    let group = runner.join().expect("joins");
    let mut outcome = Outcome::default();
    runner.run(group, &requests(&[(1, b"abc")]), 1, &mut outcome).expect("runs");
    assert_eq!(outcome.actions[0].output, Output::Forward(3));
}

#[test]
fn its_failures_are_faults() {
    let (_directory, path) = native(&[], false);
    let module = Module::load(&path, &loader(quick())).expect("loads");
    for (what, kind, text) in [
        (b"T", FaultKind::Trap, "a panic"),
        (b"S", FaultKind::InvalidOutput, "status 77"),
        (b"K", FaultKind::InvalidOutput, "kind 99"),
        (b"E", FaultKind::InvalidOutput, "expectation 2"),
        (b"F", FaultKind::InvalidOutput, "4294967296 bytes"),
        (b"O", FaultKind::InvalidOutput, "2 bytes from byte 2 on, but it returned 3 bytes"),
    ] {
        let plugin = module.configure(Vec::new()).expect("configures");
        let mut runner = plugin.runner(0);
        let group = runner.join().expect("joins");
        let mut outcome = Outcome::default();
        let fault = runner.run(group, &requests(&[(1, b"x"), (2, what)]), 1, &mut outcome);
        assert_eq!(fault, Err(Fault { session: Some(2), others: AfterFault::Rejoin }));
        assert!(outcome.actions.is_empty() && outcome.bytes.is_empty());
        let faults = plugin.report().faults;
        assert_eq!(faults[0].kind, kind);
        assert!(faults[0].last.contains(text), "{}", faults[0].last);
        runner.run(group, &requests(&[(1, b"x")]), 1, &mut outcome).expect("a new instance");
    }
}

#[test]
fn libraries_that_do_not_fit_are_refused() {
    for deviation in ["wrong_major", "wrong_minor"] {
        let error = refused(deviation);
        assert!(matches!(&error, LoadError::Version { offered: "native 1.0", .. }), "{error}");
    }
    for (deviation, text) in [
        ("wrong_magic", "magic"),
        ("small_table", "its table has 40 bytes"),
        ("small_action", "its actions have 16 bytes"),
        ("large_host", "4096 bytes of host functions"),
        ("null_table", "no valid address"),
        ("null_descriptor", "null"),
    ] {
        let error = refused(deviation);
        assert!(matches!(&error, LoadError::Invalid { .. }), "{deviation}: {error}");
        assert!(error.to_string().contains(text), "{deviation}: {error}");
    }
    let error = refused("no_symbol");
    assert!(error.to_string().contains("exports no tcpcopy_plugin_v0"), "{error}");
    let error = refused("bad_name");
    assert!(matches!(&error, LoadError::Descriptor { .. }), "{error}");
}

#[test]
fn needs_beyond_the_description_are_refused() {
    let (_directory, path) = native(&["more_inputs"], false);
    let module = Module::load(&path, &loader(quick())).expect("loads");
    let error = module.configure(Vec::new()).err().expect("is refused");
    assert!(matches!(error, ConfigureError::Inputs { .. }), "{error}");
}

#[test]
fn a_library_that_is_cut_off_is_refused() {
    let (_directory, path) = native(&[], false);
    let bytes = fs::read(&path).expect("a file");
    for cut in [4, 20, 64, 200, 1000, bytes.len() / 2] {
        let error = load_bytes(&bytes[..cut], quick()).expect_err("is refused");
        assert!(matches!(&error, LoadError::Invalid { .. } | LoadError::NotAPlugin { .. }), "{cut}: {error}");
    }
}

#[test]
fn another_library_is_refused() {
    let error = load_bytes(b"\x7fELF\x02\x01\x01\0 and more that is no library", quick());
    assert!(matches!(error, Err(LoadError::Invalid { .. })));
}
