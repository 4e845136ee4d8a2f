//! Plugins as such: what becomes of the others when one fails, several at once, and how they are told about.

use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;
use tcpcopy_lab::http::{HttpLoad, HttpRequest, curl};
use tcpcopy_lab::httpd::Seen;
use tcpcopy_lab::load::{Connections, RedisLoad, Verb};
use tcpcopy_lab::plugin::{Kind, Module, are_built, plugin_folder};
use tcpcopy_lab::programs::Program;
use tcpcopy_lab::scenario::{HTTP, HttpPair, REDIS, RedisPair, Requests, check_same, with_report};
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Family, Host, Lab, LabOptions, Replay, ReplayOptions, lab_test, plugin_tests};

const SOON: Duration = Duration::from_secs(20);

fn with_faulty(kind: Kind, words: &str, body: impl FnOnce(&Lab, &ReplayOptions) -> Result<()>) {
    if are_built(&["faulty"]) {
        let options = ReplayOptions::new(HTTP).module(Module::new("faulty", kind)).tcpcopy(words);
        lab_test(LabOptions::default(), |lab| body(lab, &options));
    }
}

fn good(path: &'static str, connections: usize, requests: usize) -> HttpLoad {
    HttpLoad {
        server: Host::Online.socket(Family::V4, HTTP),
        connections,
        requests,
        reuse: Connections::Kept,
        request: HttpRequest::Get { path },
    }
}

/// One connection that asks for a good thing, for what its plugin fails at, and goes on.
fn misbehave(lab: &Lab, marker: &str, number: usize) -> Result<()> {
    let server: SocketAddr = Host::Online.socket(Family::V4, HTTP);
    let paths = [format!("/before/{number}"), format!("/{marker}/{number}"), format!("/behind/{number}")];
    let urls = paths.map(|path| format!("http://{server}{path}"));
    let words: Vec<&str> = urls.iter().flat_map(|url| ["-o", "/dev/null", url]).collect();
    curl(lab.host(Host::Client), &words).map(drop)
}

/// The requests of `seen` whose path begins so.
fn with_path(seen: &[Seen], path: &str) -> Vec<Seen> {
    let prefix = format!("GET {path}");
    seen.iter().filter(|seen| seen.line.starts_with(&prefix)).cloned().collect()
}

/// Five sessions in the midst of others whose plugin fails at `marker`: those end, and the others never notice.
fn others_never_notice(kind: Kind, marker: &'static str, fault: Option<&'static str>) {
    with_faulty(kind, "--plugin-faults 100", |lab, options| {
        let servers = HttpPair::start(lab)?;
        let requests = servers.replay(lab, options, || {
            std::thread::scope(|scope| {
                let load = scope.spawn(|| good("/good", 20, 20_000).run(lab.host(Host::Client)));
                for number in 0..5 {
                    std::thread::sleep(Duration::from_millis(100));
                    misbehave(lab, marker, number)?;
                }
                load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })?;
            // Those that begin afterwards know nothing of it.
            good("/later", 20, 2_000).run(lab.host(Host::Client))
        })?;
        with_report(check_isolated(&requests, marker, fault), &requests.finished)
    });
}

fn check_isolated(requests: &Requests, marker: &str, fault: Option<&str>) -> Result<()> {
    let (online, target) = (&requests.online, &requests.target);
    for path in ["/good", "/later", "/before"] {
        check_same(&with_path(online, path), &with_path(target, path)).with_context(|| path.to_owned())?;
    }
    let asked = format!("/{marker}/");
    for (path, on_target) in [(asked.as_str(), 0), ("/behind", 0)] {
        ensure!(with_path(online, path).len() == 5, "online got {}", with_path(online, path).len());
        let got = with_path(target, path).len();
        ensure!(got == on_target, "the target got {got} of {path}");
    }
    let report = requests.finished.report();
    let module = report.module("faulty")?;
    if let Some(fault) = fault {
        let faults = &module["faults"][fault];
        ensure!(faults["count"] == 5, "faults: {}", module["faults"]);
        ensure!(faults["last"].as_str().is_some_and(|last| !last.is_empty()), "no reason: {faults}");
    }
    ensure!(module["disabled"].is_null(), "{module}");
    report.check_sums()
}

fn a_session_that_panics(kind: Kind) {
    others_never_notice(kind, "panic", Some("trap"));
}

/// What the plugin gives up is no fault of its: the reason it gave is counted.
fn a_session_that_is_given_up(kind: Kind) {
    with_faulty(kind, "", |lab, options| {
        let servers = HttpPair::start(lab)?;
        let requests = servers.replay(lab, options, || {
            (0..5).try_for_each(|number| misbehave(lab, "give-up", number))?;
            good("/good", 5, 500).run(lab.host(Host::Client))
        })?;
        let check = || -> Result<()> {
            let module = requests.finished.report().module("faulty")?;
            ensure!(module["gave_up"]["a request asked for it"] == 5, "{module}");
            ensure!(module["faults"].as_object().is_some_and(serde_json::Map::is_empty), "{module}");
            ensure!(module["counts"]["requests"].as_u64() >= Some(505), "{module}");
            check_same(&with_path(&requests.online, "/good"), &with_path(&requests.target, "/good"))?;
            ensure!(with_path(&requests.target, "/behind").is_empty(), "given up, and gone on all the same");
            requests.finished.report().check_sums()
        };
        with_report(check(), &requests.finished)
    });
}

fn a_session_that_forwards_more_than_there_is(kind: Kind) {
    others_never_notice(kind, "greedy", None);
}

/// A native plugin can be neither interrupted nor limited.
#[test]
fn a_session_that_loops() {
    others_never_notice(Kind::Wasm, "loop", Some("deadline"));
}

#[test]
fn a_session_that_eats_memory() {
    others_never_notice(Kind::Wasm, "eat", Some("memory"));
}

/// Lets a plugin fail more often than it may, sends good requests, and gives what arrived.
fn beyond_the_limit(lab: &Lab, options: &ReplayOptions) -> Result<Requests> {
    HttpPair::start(lab)?.replay(lab, options, || {
        for number in 0..6 {
            misbehave(lab, "panic", number)?;
            std::thread::sleep(Duration::from_millis(50));
        }
        good("/after", 10, 1_000).run(lab.host(Host::Client))
    })
}

fn policy_drop(kind: Kind) {
    with_faulty(kind, "--plugin-faults 2 --on-plugin-error drop", |lab, options| {
        let requests = beyond_the_limit(lab, options)?;
        let check = || {
            check_same(&with_path(&requests.online, "/after"), &with_path(&requests.target, "/after"))?;
            let module = requests.finished.report().module("faulty")?;
            ensure!(module["disabled"].is_null() && module["faults"]["trap"]["count"] == 6, "{module}");
            requests.finished.report().check_sums()
        };
        with_report(check(), &requests.finished)
    });
}

fn policy_pass(kind: Kind) {
    with_faulty(kind, "--plugin-faults 2 --on-plugin-error pass", |lab, options| {
        let requests = beyond_the_limit(lab, options)?;
        let check = || {
            check_same(&with_path(&requests.online, "/after"), &with_path(&requests.target, "/after"))?;
            ensure!(!with_path(&requests.target, "/panic/5").is_empty(), "the plugin was used all the same");
            let module = requests.finished.report().module("faulty")?;
            ensure!(module["disabled"].is_string() && module["faults"]["trap"]["count"] == 3, "{module}");
            requests.finished.report().check_sums()
        };
        with_report(check(), &requests.finished)
    });
}

fn policy_disable(kind: Kind) {
    with_faulty(kind, "--plugin-faults 2 --on-plugin-error disable", |lab, options| {
        let requests = beyond_the_limit(lab, options)?;
        let check = || {
            let got = with_path(&requests.target, "/after").len();
            ensure!(got == 0, "the target got {got} requests of sessions that were to be given up");
            let module = requests.finished.report().module("faulty")?;
            ensure!(module["disabled"].is_string(), "{module}");
            ensure!(requests.finished.report().given_up()? >= 1_000, "{}", requests.finished.report().json());
            requests.finished.report().check_sums()
        };
        with_report(check(), &requests.finished)
    });
}

fn policy_exit(kind: Kind) {
    with_faulty(kind, "--plugin-faults 2 --on-plugin-error exit", |lab, options| {
        let _servers = HttpPair::start(lab)?;
        let mut replay = Replay::start(lab, options)?;
        for number in 0..4 {
            misbehave(lab, "panic", number)?;
        }
        let status = replay.tcpcopy.process.wait(SOON)?;
        let output = replay.tcpcopy.process.output();
        ensure!(status.code() == Some(1), "{status}:\n{output}");
        let error = output.lines().find(|line| line.starts_with("error: "));
        ensure!(
            error.is_some_and(|line| line.contains("faulty")),
            "no error line names the plugin:\n{output}"
        );
        ensure!(output.lines().any(|line| line.starts_with("hint: ")), "no hint line:\n{output}");
        Ok(())
    });
}

/// HTTP and Redis at once, each through its plugin.
fn two_at_once(kind: Kind) {
    if !are_built(&["http", "redis"]) {
        return;
    }
    lab_test(LabOptions::default(), |lab| {
        let (redis, http) = (RedisPair::start(lab)?, HttpPair::start(lab)?);
        let options = ReplayOptions::new(REDIS)
            .and_port(HTTP)
            .module(Module::http(kind).port(HTTP))
            .module(Module::redis(kind).port(REDIS).option("read-only=false"));
        let load = RedisLoad {
            verb: Verb::Mixed,
            ..RedisLoad::new(Host::Online.socket(Family::V4, REDIS), 20, 20_000)
        };
        let requests = http.replay(lab, &options, || {
            std::thread::scope(|scope| {
                let commands = scope.spawn(|| load.run(lab.host(Host::Client)));
                good("/good", 20, 10_000).run(lab.host(Host::Client))?;
                commands.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
        requests.check_same()?;
        with_report(redis.check_equal(1), &requests.finished)?;
        for (name, port) in [("http", HTTP), ("redis", REDIS)] {
            let module = requests.finished.report().module(name)?;
            ensure!(module["kind"].as_str() == Some(kind.name()), "{module}");
            ensure!(module["sessions"].as_u64() == Some(20) && module["ports"][0] == port, "{module}");
        }
        Ok(())
    });
}

plugin_tests!([
    a_session_that_panics,
    a_session_that_is_given_up,
    a_session_that_forwards_more_than_there_is,
    policy_drop,
    policy_pass,
    policy_disable,
    policy_exit,
    two_at_once,
    help_and_refusals,
]);

/// `tcpcopy` with these words, where nothing is replayed.
fn tcpcopy(words: &[&str]) -> Result<Output> {
    let mut command = Command::new(Program::Tcpcopy.find()?);
    command.args(words).env("TCPCOPY_PLUGIN_PATH", plugin_folder());
    command.output().context("starting tcpcopy")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs `tcpcopy` with words that it must refuse as wrong usage, and returns what it said.
fn refused(words: &[&str]) -> Result<String> {
    let output = tcpcopy(words)?;
    let said = text(&output.stderr);
    ensure!(output.status.code() == Some(2), "{words:?}: {}:\n{said}", output.status);
    ensure!(said.lines().any(|line| line.starts_with("error: ")), "no error line:\n{said}");
    Ok(said)
}

/// `--module-help` names a plugin's options with types; unknown and ill-typed ones are refused with what is known.
fn help_and_refusals(kind: Kind) {
    if !are_built(&["http", "redis"]) {
        return;
    }
    let check = || -> Result<()> {
        let redis = Module::redis(kind).file()?.display().to_string();
        let help = tcpcopy(&["--module", &redis, "--module-help"])?;
        let shown = text(&help.stdout);
        ensure!(help.status.success() && shown.contains("read-only"), "{shown}{}", text(&help.stderr));
        let common = ["-x", "6379-127.0.0.1:6380", "-s", "127.0.0.1", "--module", &redis, "--module-opt"];
        let refused = |option: &str| refused(&[common.as_slice(), &[option]].concat());
        let said = refused("no-such-option=1")?;
        ensure!(said.contains("no-such-option") && said.contains("read-only"), "{said}");
        let said = refused("read-only=perhaps")?;
        ensure!(said.contains("read-only") && said.contains("boolean"), "{said}");
        Ok(())
    };
    if let Err(error) = check() {
        panic!("{error:#}");
    }
}

#[test]
fn what_is_no_plugin_is_refused() {
    let folder = std::env::temp_dir().join(format!("tcpcopy-lab-no-plugin-{}", std::process::id()));
    let check = || -> Result<()> {
        std::fs::create_dir_all(&folder)?;
        for (name, content) in [
            ("text.wasm", b"nothing like it".as_slice()),
            ("truncated.wasm", b"\0asm\x0d\0\x01\0\x07"),
            ("empty.so", b""),
            ("elf.so", b"\x7fELF\x02\x01\x01\0"),
        ] {
            let file = folder.join(name);
            std::fs::File::create(&file)?.write_all(content)?;
            let file = file.display().to_string();
            let said = refused(&["-x", "80-127.0.0.1:81", "-s", "127.0.0.1", "--module", &file])?;
            ensure!(said.contains(name), "the file is not named:\n{said}");
        }
        Ok(())
    };
    let checked = check();
    // A folder that stays is a nuisance, not a failure.
    let _ = std::fs::remove_dir_all(&folder);
    if let Err(error) = checked {
        panic!("{error:#}");
    }
}

#[test]
fn plugins_are_listed() {
    if !are_built(&["http", "redis"]) {
        return;
    }
    let output = tcpcopy(&["plugins"]).expect("tcpcopy is built");
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}{}", text(&output.stderr));
    for name in ["http.wasm", "http.so", "redis.wasm", "redis.so"] {
        let file = plugin_folder().join(name).display().to_string();
        assert!(shown.contains(&file), "{file} is not in the list:\n{shown}");
    }
}

/// A session of a plugin that fails is told of in words, not only counted.
#[test]
fn faults_are_told_in_the_log() {
    with_faulty(Kind::Wasm, "", |lab, options| {
        let _servers = HttpPair::start(lab)?;
        let replay = Replay::start(lab, options)?;
        misbehave(lab, "panic", 0)?;
        let log = replay.tcpcopy.process.log_file().to_owned();
        wait_until("the fault in the log", SOON, || {
            Ok(std::fs::read_to_string(&log)?.contains("a request asked for it"))
        })?;
        let output = replay.stop()?.tcpcopy.output;
        // The place in the plugin's source, too.
        ensure!(output.contains("lib.rs:"), "{output}");
        Ok(())
    });
}
