//! Files that are no plugins for this host.

use crate::guest::{WAT, component, file, load_bytes, loader, module, quick};
use std::path::Path;
use tcpcopy_engine::plugin::Inputs;
use tcpcopy_plugin_host::{FaultKind, Kind, LoadError, Module, OptionKind, Side};

#[test]
fn a_component_and_a_core_module_load_alike() {
    for bytes in [component(WAT, "0.1.0"), module(WAT, "0.1.0")] {
        let module = load_bytes(&bytes, quick()).expect("loads");
        assert_eq!(module.kind(), Kind::Wasm);
        assert_eq!(module.abi(), "wit 0.1.0");
        let descriptor = module.descriptor();
        assert_eq!((&descriptor.name[..], &descriptor.version[..]), ("guest", "1.2.3"));
        assert_eq!(descriptor.about, "does as it is told");
        assert_eq!(descriptor.ports, [7, 4242]);
        assert_eq!(descriptor.speaks_first, Side::Client);
        assert_eq!(descriptor.inputs, Inputs::RESPONSES);
        assert_eq!(descriptor.options.len(), 1);
        let option = &descriptor.options[0];
        assert_eq!((&option.name[..], option.kind, &option.default), ("mode", OptionKind::Text, &None));
        assert_eq!(option.help, "what it does");
    }
}

#[test]
fn a_later_patch_version_loads() {
    let module = load_bytes(&component(WAT, "0.1.7"), quick()).expect("loads");
    assert_eq!(module.abi(), "wit 0.1.7");
    module.configure(Vec::new()).expect("configures");
}

#[test]
fn another_minor_version_is_refused() {
    for bytes in [component(WAT, "0.2.0"), module(WAT, "0.2.0")] {
        let error = load_bytes(&bytes, quick()).expect_err("is refused");
        assert!(matches!(&error, LoadError::Version { found, .. } if found == "0.2.0"), "{error}");
        assert!(
            error
                .to_string()
                .ends_with("was made for version 0.2.0 of the plugin interface; this tcpcopy offers 0.1.0")
        );
    }
}

#[test]
fn wasi_is_refused_by_name() {
    let component = wat::parse_str(r#"(component (import "wasi:cli/environment@0.2.6" (instance)))"#);
    let error = load_bytes(&component.expect("valid text"), quick()).expect_err("is refused");
    assert!(matches!(&error, LoadError::Import { import, .. } if import == "wasi:cli/environment@0.2.6"));
    assert!(error.to_string().contains("wasm32-unknown-unknown"));

    let wat = WAT.replacen(
        "(module",
        r#"(module (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))"#,
        1,
    );
    let error = load_bytes(&module(&wat, "0.1.0"), quick()).expect_err("is refused");
    assert!(
        matches!(&error, LoadError::Import { import, .. } if import == "wasi_snapshot_preview1/random_get"),
        "{error}"
    );
}

#[test]
fn what_is_no_plugin_is_refused() {
    let cases: [(&[u8], &str); 5] = [
        (b"", "is empty"),
        (b"#!/bin/sh\nexit 0\n", "neither a Wasm component nor a native library"),
        (b"\0asm", "neither"),
        (b"\0asm\x01\0\0\0", "exports no tcpcopy:plugin/plugin"),
        (b"\0asm\x0d\0\x01\0", "exports no tcpcopy:plugin/plugin"),
    ];
    for (bytes, expected) in cases {
        let error = load_bytes(bytes, quick()).expect_err("is refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = Module::load(Path::new("/nonexistent/x.wasm"), &loader(quick())).expect_err("is refused");
    assert!(matches!(error, LoadError::Read { .. }));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for bytes in [component(WAT, "0.1.0"), module(WAT, "0.1.0")] {
        for cut in (0..bytes.len()).step_by(97) {
            let error = load_bytes(&bytes[..cut], quick()).expect_err("is refused");
            assert!(
                matches!(error, LoadError::NotAPlugin { .. } | LoadError::Invalid { .. }),
                "cut at {cut}: {error}"
            );
        }
    }
}

#[test]
fn a_damaged_description_of_the_interface_is_refused() {
    let good = module(WAT, "0.1.0");
    let at = good.windows(14).rposition(|bytes| bytes == b"component-type").expect("a section") + 14;
    // Whatever is changed in it: an error or a plugin, never a panic.
    let mut refused = 0;
    for index in (at..good.len()).step_by(29) {
        let mut bad = good.clone();
        bad[index] ^= 0xff;
        refused += u32::from(load_bytes(&bad, quick()).is_err());
    }
    assert!(refused > 0);
}

#[test]
fn a_plugin_that_fails_to_describe_itself_is_refused() {
    for (code, kind) in [
        ("(unreachable)", FaultKind::Trap),
        ("(loop $ever (br $ever))", FaultKind::Deadline),
        ("(loop $ever (drop (memory.grow (i32.const 16))) (br $ever))", FaultKind::Memory),
        ("(i32.store (i32.const 196) (i32.const -1))", FaultKind::InvalidOutput),
    ] {
        let wat = WAT.replace(";;DESCRIBE", code);
        let error = load_bytes(&component(&wat, "0.1.0"), quick()).expect_err("is refused");
        assert!(matches!(&error, LoadError::Failed { kind: found, .. } if *found == kind), "{code}: {error}");
    }
}

#[test]
fn a_name_that_can_not_be_printed_is_refused() {
    let wat = WAT.replace(r#""guest""#, r#""g\1b[2J""#);
    let error = load_bytes(&component(&wat, "0.1.0"), quick()).expect_err("is refused");
    assert!(matches!(error, LoadError::Descriptor { .. }), "{error}");
}

#[test]
fn more_memory_than_allowed_is_refused_at_the_start() {
    let wat = WAT.replace(r#"(memory (export "memory") 40)"#, r#"(memory (export "memory") 2000)"#);
    let error = load_bytes(&component(&wat, "0.1.0"), quick()).expect_err("is refused");
    assert!(matches!(&error, LoadError::Failed { kind: FaultKind::Memory, .. }), "{error}");
}

#[test]
fn a_file_name_says_nothing() {
    let (_directory, path) = file("guest.so", &component(WAT, "0.1.0"));
    assert_eq!(Module::load(&path, &loader(quick())).expect("loads").kind(), Kind::Wasm);
}
