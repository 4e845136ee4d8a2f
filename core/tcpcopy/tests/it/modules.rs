//! Options of plugins: what is typed, which ports are meant, what is told.

use super::support::{MadeUpHost, settings, try_settings};
use std::path::PathBuf;
use std::time::Duration;
use tcpcopy::modules::Modules;
use tcpcopy::settings::{Carrying, ModuleFacts, Settings, WantedModule, check_together, ports_served};
use tcpcopy_engine::plugin::Inputs;
use tcpcopy_net::filter::Streams;
use tcpcopy_plugin_host::{CacheDir, OnError};

const BASE: &str = "-x 6379-10.0.0.2:6379,6380-10.0.0.2:6380,80-10.0.0.2:8080 -s 10.0.0.3";

fn with(more: &str) -> Settings {
    settings(&format!("{BASE} {more}"))
}

fn redis() -> ModuleFacts {
    ModuleFacts {
        name: "redis".to_owned(),
        version: "1.2.3".to_owned(),
        kind: "wasm, wit 0.1.0".to_owned(),
        path: PathBuf::from("/usr/lib/tcpcopy/plugins/redis.wasm"),
        ports: vec![6379, 6380],
        inputs: Inputs::RESPONSES,
        carrying: Carrying::Nothing,
    }
}

fn mysql() -> ModuleFacts {
    ModuleFacts {
        name: "mysql".to_owned(),
        version: "0.1.0".to_owned(),
        kind: "native, native 1.0".to_owned(),
        path: PathBuf::from("./mysql.so"),
        ports: vec![80],
        inputs: Inputs::RESPONSES.union(Inputs::REFERENCES).union(Inputs::CONNECTIONS).union(Inputs::CLOSES),
        carrying: Carrying::BetweenSessions,
    }
}

#[test]
fn modules_and_limits_are_read() {
    let plugins = with("--module redis --set-protocol-module ./a:b.wasm:80,6380,80 --module http:80").plugins;
    let wanted = |name: &str, ports: &[u16]| WantedModule { name: name.to_owned(), ports: ports.to_vec() };
    assert_eq!(
        plugins.modules,
        [wanted("redis", &[]), wanted("./a:b.wasm", &[80, 6380]), wanted("http", &[80])]
    );
    assert_eq!(
        plugins.limits,
        tcpcopy_plugin_host::Limits::default(),
        "the help tells the defaults of the host"
    );
    assert!(matches!(plugins.cache, CacheDir::Default));
    let plugins = with(
        "--module redis --on-plugin-error exit --plugin-faults 3 --plugin-deadline 20 --plugin-memory 8 --plugin-sessions 1 \
         --plugin-cache off",
    )
    .plugins;
    let limits = plugins.limits;
    assert_eq!(limits.on_error, OnError::Exit);
    assert_eq!((limits.faults_per_minute, limits.deadline), (3, Duration::from_millis(20)));
    assert_eq!((limits.memory_bytes, limits.sessions_per_instance), (8 << 20, 1));
    assert!(matches!(plugins.cache, CacheDir::Off));
    let cache = with("--module redis --plugin-cache /var/cache/tcpcopy").plugins.cache;
    assert!(matches!(cache, CacheDir::At(path) if path.as_os_str() == "/var/cache/tcpcopy"));
}

#[test]
fn ports_come_from_the_option_the_plugin_or_the_transfers() {
    let transfers = with("").transfers;
    let ports = |typed: &[u16], own: &[u16], modules| {
        let wanted = WantedModule { name: "redis".to_owned(), ports: typed.to_vec() };
        ports_served(&wanted, own, &transfers, modules).map_err(|error| error.lines())
    };
    assert_eq!(ports(&[80], &[6379], 1), Ok(vec![80]));
    assert_eq!(ports(&[], &[6380, 6379, 7000], 2), Ok(vec![6379, 6380]));
    assert_eq!(ports(&[], &[7000], 1), Ok(vec![80, 6379, 6380]));
    insta::assert_snapshot!(
        [ports(&[7000], &[], 1).unwrap_err(), ports(&[], &[7000], 2).unwrap_err()].join("\n")
    );
}

#[test]
fn error_lines() {
    let mut told = String::new();
    for line in [
        "--module",
        "--module :80",
        "--module redis:",
        "--module redis:0",
        "--module redis:80,,90",
        "--module redis:65536",
        "--module-config redis.toml",
        "--module-opt read-only=true",
        "--module redis --on-plugin-error panic",
        "--module redis --plugin-deadline 0",
        "--module redis --plugin-memory many",
    ] {
        let error = try_settings(&format!("{BASE} {line}")).unwrap_err();
        told.push_str(&format!("$ tcpcopy … {line}\n{}\n", error.lines()));
    }
    let twice = [redis(), ModuleFacts { path: "./redis.so".into(), ports: vec![80], ..redis() }];
    let shared = [redis(), ModuleFacts { ports: vec![80, 6380], ..mysql() }];
    for modules in [&twice[..], &shared] {
        told.push_str(&format!("{}\n", check_together(modules).unwrap_err().lines()));
    }
    insta::assert_snapshot!(told);
}

#[test]
fn what_can_not_be_loaded_is_told() {
    let file = std::env::temp_dir().join(format!("tcpcopy-module-{}", std::process::id()));
    std::fs::write(&file, "no plugin").unwrap();
    let path = file.to_str().unwrap();
    let error = |module: &str| {
        let mut settings = with(&format!("--module {module}"));
        Modules::load(&mut settings).err().unwrap().lines().replace(path, "FILE")
    };
    assert_eq!(
        error(path),
        "error: --module: FILE is no plugin: it is neither a Wasm component nor a native library\n\
         hint: a plugin is a Wasm component of the world tcpcopy:plugin/protocol, or a library with the symbol \
         tcpcopy_plugin_v0; tcpcopy plugin new NAME writes the beginnings of one\n"
    );
    assert!(
        error("/nonexistent/redis.wasm").starts_with("error: --module /nonexistent/redis.wasm: no plugin")
    );
    assert!(error("nobody-has-this").contains("hint: tcpcopy plugins lists"));
    std::fs::remove_file(file).unwrap();
    assert!(Modules::load(&mut with("")).is_ok());
}

fn described(line: &str, modules: Vec<ModuleFacts>) -> String {
    let mut settings = with(line);
    settings.use_modules(modules).unwrap();
    let text = settings.describe(&MadeUpHost { may_use_raw_sockets: true });
    // The rest is another test's business.
    let wanted = ["capture", "modules", "warnings"];
    let mut is_wanted = false;
    text.lines()
        .filter(|line| {
            if !line.starts_with(' ') {
                is_wanted = wanted.contains(line);
            }
            is_wanted
        })
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn a_dry_run_shows_modules_and_what_they_need() {
    insta::assert_snapshot!(described("--module redis", vec![redis()]));
    insta::assert_snapshot!(described(
        "--module redis --module mysql --workers 2 --on-plugin-error pass --plugin-faults 5",
        vec![redis(), mysql()]
    ));
    insta::assert_snapshot!(described("--module mysql --pcap-capture", vec![mysql()]));
    insta::assert_snapshot!(described("--module mysql -F tcp", vec![mysql()]));
}

#[test]
fn both_directions_are_captured_only_for_who_needs_them() {
    use tcpcopy_net::filter::{Filter, FilterLink};
    let filter = |line: &str, module| {
        let mut settings = with(line);
        settings.use_modules(vec![module]).unwrap();
        (settings.capture.streams, settings.capture.filter.expression().to_owned())
    };
    assert_eq!(filter("", redis()), (Streams::Requests, with("").capture.filter.expression().to_owned()));
    let (streams, expression) = filter("", mysql());
    assert_eq!(streams, Streams::RequestsAndReferences);
    assert!(expression.contains("inbound") && expression.contains("src port 80"), "{expression}");
    Filter::compile(&expression, FilterLink::Ethernet, 100).unwrap();
    Filter::compile(&expression, FilterLink::Raw, 100).unwrap();
    let (_, expression) = filter("--pcap-capture", mysql());
    assert!(!expression.contains("inbound"), "{expression}");
    assert_eq!(filter("-F tcp", mysql()).1, "tcp");
}
