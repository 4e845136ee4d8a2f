//! What a plugin's author uses: `tcpcopy plugin new`, and `tcpcopy plugin check` on captures.

use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tcpcopy_lab::host::RunningHost;
use tcpcopy_lab::plugin::{Kind, are_built, find};
use tcpcopy_lab::programs::{Program, target_folder, workspace};
use tcpcopy_lab::scenario::{check_same, with_report};
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Family, Host, LabOptions, Replay, ReplayOptions, lab_test};

/// The port of the new plugin's protocol.
const LINES: u16 = 7007;

/// Runs a command to its end; its output is in the error if it fails.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed ({}):\n{said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn tcpcopy(words: &[&str]) -> Result<String> {
    run(Command::new(Program::Tcpcopy.find()?).args(words))
}

/// A new project, which ends with this value; what cargo built for it stays, for the next time.
struct Project {
    folder: PathBuf,
    built: PathBuf,
}

impl Project {
    fn create(name: &str) -> Result<Self> {
        let base = target_folder().join("new-plugin");
        let folder = base.join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&base)?;
        let sdk = workspace().join("plugin-sdk").display().to_string();
        tcpcopy(&["plugin", "new", name, "--path", &folder.display().to_string(), "--sdk", &sdk])?;
        // The versions of this workspace: no other need be fetched.
        std::fs::copy(workspace().join("Cargo.lock"), folder.join("Cargo.lock"))?;
        Ok(Self { folder, built: base.join("target") })
    }

    fn cargo(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.folder).args(words).env("CARGO_TARGET_DIR", &self.built);
        // Those of the test's own build would concern the project's.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_MANIFEST_DIR"] {
            command.env_remove(name);
        }
        run(&mut command)
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        // A folder that stays is a nuisance, not a failure.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A server of lines, which answers each with its length and notes it down.
#[derive(Clone, Default)]
struct LineServer(Arc<Mutex<Vec<String>>>);

impl LineServer {
    fn start(host: &RunningHost) -> Result<Self> {
        let server = Self::default();
        let state = server.clone();
        host.run(move || -> Result<()> {
            let listener = TcpListener::bind(("0.0.0.0", LINES))?;
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = state.clone();
                    std::thread::spawn(move || state.serve(stream));
                }
            });
            Ok(())
        })?;
        Ok(server)
    }

    fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        // Ends with the connection, however that ends.
        while stream.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            let answer = format!("{}\n", line.len());
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut line));
            if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                break;
            }
        }
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Ten clients, each with lines of its own: single ones, and several at once. Some are of a command that is to be left out.
fn send_lines() -> Result<usize> {
    let mut sent = 0;
    for client in 0..10 {
        let stream = TcpStream::connect(Host::Online.socket(Family::V4, LINES))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut stream = BufReader::new(stream);
        for round in 0..20 {
            let lines = ["say", "Skip", "say"]
                .map(|word| format!("{word} {client} {round} {}\n", "x".repeat(round * 50)));
            let count = if round % 2 == 0 { 3 } else { 1 };
            stream.get_mut().write_all(lines[..count].concat().as_bytes())?;
            for line in &lines[..count] {
                let mut answer = String::new();
                stream.read_line(&mut answer)?;
                ensure!(answer == format!("{}\n", line.len()), "the server answered {answer:?}");
            }
            sent += count;
        }
    }
    Ok(sent)
}

/// Replays lines through the plugin in `file`, which leaves out what it is told to.
fn replay_lines(file: &Path) {
    lab_test(LabOptions::default(), |lab| {
        let online = LineServer::start(lab.host(Host::Online))?;
        let target = LineServer::start(lab.host(Host::Target))?;
        let words = format!("--module {} --module-opt skip=skip", file.display());
        let replay = Replay::start(lab, &ReplayOptions::new(LINES).tcpcopy(&words))?;
        let sent = lab.host(Host::Client).run(send_lines)?;
        let finished = replay.finish()?;
        ensure!(online.lines().len() == sent, "online got {} of {sent}", online.lines().len());
        let expected: Vec<String> =
            online.lines().into_iter().filter(|line| line.starts_with("say ")).collect();
        // A timeout shows as a difference.
        let _ =
            wait_until("the lines", Duration::from_secs(5), || Ok(target.lines().len() >= expected.len()));
        with_report(check_same(&expected, &target.lines()), &finished)?;
        finished.report().module("my-lines").map(drop)
    });
}

/// A new project builds in both ways, passes its own tests, and what comes out works as it is: the module as the compiler wrote
/// it, the component made of it, and the library.
#[test]
fn a_new_project_works_in_the_lab() {
    let build = || -> Result<(Project, Vec<PathBuf>)> {
        let project = Project::create("my-lines")?;
        project.cargo(&["test", "--quiet"])?;
        project.cargo(&["build", "--release", "--quiet"])?;
        project.cargo(&["build", "--release", "--quiet", "--target", "wasm32-unknown-unknown"])?;
        let module = project.built.join("wasm32-unknown-unknown/release/my_lines.wasm");
        let component = project.folder.join("my-lines.wasm");
        let (from, to) = (module.display().to_string(), component.display().to_string());
        tcpcopy(&["plugin", "componentize", &from, "-o", &to])?;
        let library = project.built.join("release/libmy_lines.so");
        Ok((project, vec![module, component, library]))
    };
    let (_project, files) = build().unwrap_or_else(|error| panic!("{error:#}"));
    for file in files {
        replay_lines(&file);
    }
}

/// A project is not written over another.
#[test]
fn a_new_project_replaces_nothing() {
    let check = || -> Result<()> {
        let project = Project::create("my-other")?;
        let before = std::fs::read_to_string(project.folder.join("src/lib.rs"))?;
        ensure!(before.contains("my-other"));
        let folder = project.folder.display().to_string();
        ensure!(tcpcopy(&["plugin", "new", "my-other", "--path", &folder]).is_err(), "written over");
        ensure!(std::fs::read_to_string(project.folder.join("src/lib.rs"))? == before);
        Ok(())
    };
    check().unwrap_or_else(|error| panic!("{error:#}"));
}

/// Captures of the corpus parse without a byte that is left, as Wasm and as native, with the same result.
#[test]
fn captures_are_checked_without_a_problem() {
    let Some(corpus) = std::env::var_os("TCPCOPY_CORPUS").map(PathBuf::from) else {
        eprintln!("skipped: TCPCOPY_CORPUS is not set");
        return;
    };
    if !are_built(&["http", "redis"]) {
        return;
    }
    let check = |name: &str, file: &str, ports: &str| -> Result<()> {
        let capture = corpus.join(file).display().to_string();
        let mut results = Vec::new();
        for kind in Kind::ALL {
            let module = find(name, kind)?.display().to_string();
            let words = ["plugin", "check", &module, "--pcap", &capture, "--port", ports, "--format", "json"];
            let mut result: serde_json::Value = serde_json::from_str(&tcpcopy(&words)?)?;
            ensure!(result["problems"].as_array().is_some_and(Vec::is_empty), "{}", result["problems"]);
            ensure!(result["sessions"].as_array().is_some_and(|all| !all.is_empty()), "no sessions");
            // What the plugin is made of, and where, differs.
            result["module"].take();
            results.push(result["sessions"].take());
        }
        ensure!(results[0] == results[1], "as Wasm and as native it decides differently");
        Ok(())
    };
    for (name, file, ports) in [
        ("http", "http_pipelined_browser.pcap", "80"),
        ("http", "http_100continue_post.pcap", "80"),
        ("http", "http_49_methods.pcap", "80"),
        ("http", "http_websocket.pcap", "80"),
        ("http", "http_upgrade_docker_attach.pcap", "2375"),
        ("http", "local_http_websocket.pcap", "38090"),
        ("http", "local_http_pipelining10.pcap", "38080"),
        ("redis", "redis_benchmark_sll.pcap", "6379"),
        ("redis", "redis_inline_sll.pcap", "6379"),
        ("redis", "redis_pubsub_resp3.pcap", "6379"),
        ("redis", "redis_bulk_loading_pipe.pcap", "6379"),
        ("redis", "redis_reply_off_on.pcap", "6379"),
        ("redis", "redis_resp_jumbo.pcap", "6379"),
    ] {
        check(name, file, ports).unwrap_or_else(|error| panic!("{name} {file}: {error:#}"));
    }
}
