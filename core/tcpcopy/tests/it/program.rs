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
