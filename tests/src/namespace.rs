//! One network namespace and the thread that lives in it.
//!
//! The namespace has no name and no mount: it lives as long as a thread or process is in it, so nothing is left behind however
//! the owner ends, and no two labs can collide. Work is sent to the namespace's thread; processes and threads that it starts,
//! and sockets that it opens, belong to the namespace. Processes are started so that they die with that thread.

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace that ends with this value.
pub struct Namespace {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    handle: File,
}

impl Namespace {
    /// Makes an empty namespace whose loopback link is down.
    ///
    /// # Errors
    /// When the process may not make namespaces.
    pub fn create(name: &str) -> Result<Self> {
        let (jobs, inbox) = channel::<Job>();
        let (opened, is_open) = channel();
        let thread = std::thread::Builder::new().name(format!("lab-{name}")).spawn(move || {
            let handle = unshare(CloneFlags::CLONE_NEWNET)
                .map_err(std::io::Error::from)
                .and_then(|()| File::open("/proc/thread-self/ns/net"));
            let failed = handle.is_err();
            if opened.send(handle).is_err() || failed {
                return;
            }
            for job in inbox {
                job();
            }
        })?;
        let handle = is_open.recv()?.context("making a network namespace")?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), handle })
    }

    /// Runs `work` on the namespace's thread and waits for its result.
    ///
    /// # Panics
    /// When `work` panics.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job: Job = Box::new(move || {
            // The receiver is gone only if the waiting thread died; nobody needs the result then.
            let _ = done.send(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)));
        });
        self.jobs.as_ref().expect("open until dropped").send(job).expect("the thread ends in drop only");
        match result.recv().expect("every job sends a result") {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// A path by which other processes of the same user can enter the namespace while it exists.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.handle.as_raw_fd()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A job's panic went to its caller; the thread itself ends normally.
            let _ = thread.join();
        }
    }
}
