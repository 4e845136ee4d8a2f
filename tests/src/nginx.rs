//! A real nginx with a configuration of its own and an access log that can be compared.

use crate::host::RunningHost;
use crate::process::Process;
use crate::tools;
use crate::wait::wait_until;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A running nginx.
pub struct Nginx {
    access_log: PathBuf,
    _process: Process,
}

impl Nginx {
    /// Path of a file of a few bytes.
    pub const SMALL: &'static str = "/small.txt";
    /// Path of a file of 100 kB.
    pub const LARGE: &'static str = "/large.bin";

    /// Starts one and waits until it listens.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(host: &RunningHost, port: u16) -> Result<Self> {
        Self::closing_after(host, port, 100_000_000)
    }

    /// As [`Nginx::start`], one that closes each connection after so many requests. Started again at the same place, it goes
    /// on with the access log of the one before.
    ///
    /// # Errors
    /// As [`Nginx::start`].
    pub fn closing_after(host: &RunningHost, port: u16, requests: u32) -> Result<Self> {
        let folder = host.folder().join(format!("nginx-{}-{port}", host.role().name()));
        let files = folder.join("files");
        fs::create_dir_all(&files)?;
        fs::write(files.join("small.txt"), "a small answer\n")?;
        fs::write(files.join("large.bin"), vec![b'l'; 100_000])?;
        let access_log = folder.join("access.log");
        let config = folder.join("nginx.conf");
        fs::write(&config, configuration(&folder.display().to_string(), port, requests))?;
        let mut command = Command::new(tools::NGINX.require()?);
        command.arg("-p").arg(&folder).arg("-c").arg(&config);
        // Before it reads its configuration it would write to a log in /var.
        command.arg("-e").arg(folder.join("error.log"));
        let mut process = host.spawn("nginx", command)?;
        let started = host.wait_for_listener(port, Duration::from_secs(20));
        process.check_running()?;
        started?;
        Ok(Self { access_log, _process: process })
    }

    /// One line for each request so far: request line, its length, the status.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn requests(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(&self.access_log)
            .with_context(|| format!("reading {}", self.access_log.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Forgets the requests so far.
    ///
    /// # Errors
    /// When the log can't be cut.
    pub fn reset(&self) -> Result<()> {
        // nginx appends: its next line goes to the beginning again.
        let log = fs::OpenOptions::new().write(true).open(&self.access_log);
        log.and_then(|log| log.set_len(0)).with_context(|| format!("cutting {}", self.access_log.display()))
    }

    /// Waits until at least `count` requests are logged; nginx writes its log after the answer.
    ///
    /// # Errors
    /// When they don't come within `limit`.
    pub fn wait_for(&self, count: usize, limit: Duration) -> Result<Vec<String>> {
        wait_until(&format!("{count} requests in nginx's log"), limit, || {
            Ok(self.requests()?.len() >= count)
        })?;
        self.requests()
    }
}

fn configuration(folder: &str, port: u16, requests: u32) -> String {
    // One process in the foreground, which our guard can end; `user root` because a user namespace may have no other user.
    format!(
        "daemon off; master_process off; worker_processes 1; user root;
pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  log_format lab '$request $request_length $status';
  access_log {folder}/access.log lab;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests {requests}; keepalive_timeout 600; sendfile on; tcp_nodelay on;
  server {{ listen {port} backlog=4096; listen [::]:{port} backlog=4096; root {folder}/files; }}
}}
"
    )
}
