//! The program itself, as far as it ends before any capture: exit codes, and what goes to which stream.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_tcpcopy"))
        .args(arguments)
        .env_remove("TCPCOPY_TOKEN")
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn the_version_and_the_help_go_to_standard_output() {
    let version = format!("tcpcopy {}\n", env!("CARGO_PKG_VERSION"));
    for option in ["-v", "--version"] {
        assert_eq!(run(&[option]), (Some(0), version.clone(), String::new()));
    }
    for option in ["-h", "--help"] {
        let (code, out, err) = run(&[option]);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.contains("--transfer"));
    }
}

#[test]
fn a_mistake_is_two_lines_and_exit_code_2() {
    for arguments in
        [&[][..], &["-x80-10.0.0.2"], &["--nonsense"], &["-x80-10.0.0.2:80", "-s10.0.0.3", "-n0"]]
    {
        let (code, out, err) = run(arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}");
        let lines: Vec<&str> = err.lines().collect();
        assert_eq!(lines.len(), 2, "{err}");
        assert!(lines[0].starts_with("error: ") && lines[1].starts_with("hint: "), "{err}");
    }
}

#[test]
fn a_dry_run_of_this_host_ends_well() {
    let (code, out, err) = run(&["-x80-127.0.0.1:8080", "-s127.0.0.1", "--dry-run"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for part in ["capture\n", "send\n", "replies\n", "run on the assistant\n"] {
        assert!(out.contains(part), "{out}");
    }
}

#[test]
fn a_failed_run_tells_all_causes_and_the_hint() {
    use tcpcopy::failure::{HintExt, failure, run_failure_lines};
    let missing: Result<(), _> = Err(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
    let error = missing.hint("can't open the capture", "run it as root").unwrap_err().context("worker 1");
    assert_eq!(
        run_failure_lines(&error),
        "error: worker 1: can't open the capture: permission denied\nhint: run it as root\n"
    );
    assert_eq!(
        run_failure_lines(&failure("no relay", "start intercept")),
        "error: no relay\nhint: start intercept\n"
    );
    let plain = anyhow::anyhow!("two\nlines");
    assert!(run_failure_lines(&plain).starts_with("error: two lines\nhint: "));
}

#[test]
fn commands_about_plugins_stand_apart_from_options() {
    let folder = std::env::temp_dir().join(format!("tcpcopy-commands-{}", std::process::id()));
    let path = folder.join("new");
    let path = path.to_str().unwrap();
    let sdk = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugin-sdk");
    let (code, out, err) = run(&["plugin", "new", "my-lines", "--path", path, "--sdk", sdk]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("cargo test"), "{out}");
    let manifest = std::fs::read_to_string(format!("{path}/Cargo.toml")).unwrap();
    assert!(manifest.contains("my-lines") && manifest.contains("path = \""), "{manifest}");
    // Nothing that is there is replaced.
    let (code, _, err) = run(&["plugin", "new", "my-lines", "--path", path]);
    assert!(code == Some(2) && err.contains("exists"), "{err}");
    for arguments in [
        &["plugin"][..],
        &["plugin", "new", "My Lines"],
        &["plugin", "new", "x", "--sdk", "/nonexistent"],
        &["plugin", "check", "nobody-has-this", "--pcap", "x"],
        &["plugins", "-x80-10.0.0.2:80"],
        &["--module-help"],
        &["--module", "nobody-has-this", "--module-help"],
        &["-x80-10.0.0.2:80", "-s10.0.0.3", "--module", "nobody-has-this", "--dry-run"],
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.starts_with("error: ") && err.contains("\nhint: ") && err.lines().count() == 2, "{err}");
    }
    let core = folder.join("core.wasm");
    std::fs::write(&core, b"\0asm\x01\0\0\0").unwrap();
    let component = folder.join("component.wasm");
    let (core, component) = (core.to_str().unwrap(), component.to_str().unwrap());
    let (code, _, err) = run(&["plugin", "componentize", core, "-o", component]);
    assert_eq!((code, err.lines().count()), (Some(1), 2), "{err}");
    assert!(!std::path::Path::new(component).exists(), "nothing that is no plugin may be left there");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_list_names_what_can_not_be_used() {
    let folder = std::env::temp_dir().join(format!("tcpcopy-list-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("broken.wasm"), b"no plugin").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tcpcopy"))
        .arg("plugins")
        .env("TCPCOPY_PLUGIN_PATH", &folder)
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(out.contains("broken.wasm\n  can't be used: "), "{out}");
    std::fs::remove_dir_all(folder).unwrap();
}
