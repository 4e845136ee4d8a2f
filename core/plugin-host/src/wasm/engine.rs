//! The one Wasm engine of the process, its clock tick, and what bounds an instance.

use crate::limits::FaultKind;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, ResourceLimiter, Store, Trap, UpdateDeadline};

use super::State;
use super::bindings;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(10);
/// Most entries of one table: functions that a plugin calls through pointers.
const MAX_TABLE: usize = 100_000;
/// Most of a trap's description that is kept, in bytes.
const MAX_MESSAGE: usize = 600;

/// The engine and what is linked into every component.
#[derive(Clone)]
pub(super) struct Machine {
    pub(super) engine: Engine,
    pub(super) linker: std::sync::Arc<Linker<State>>,
}

/// The process's engine; the first call makes it, and starts the thread that ticks.
pub(super) fn machine() -> Result<Machine, wasmtime::Error> {
    static MACHINE: Mutex<Option<Machine>> = Mutex::new(None);
    let mut machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(machine) = &*machine {
        return Ok(machine.clone());
    }
    let engine = Engine::new(&config())?;
    let mut linker = Linker::new(&engine);
    bindings::Protocol::add_to_linker::<_, wasmtime::component::HasSelf<_>>(&mut linker, |state| state)?;
    let ticked = engine.clone();
    std::thread::Builder::new()
        .name("plugin-tick".to_owned())
        .spawn(move || {
            loop {
                std::thread::sleep(TICK);
                ticked.increment_epoch();
            }
        })
        .map_err(wasmtime::Error::from)?;
    Ok(machine.insert(Machine { engine, linker: std::sync::Arc::new(linker) }).clone())
}

fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    // Costs three times the price of a call, and nothing in the interface is asynchronous.
    config.concurrency_support(false);
    config.epoch_interruption(true);
    config
}

/// Deadlines in ticks. The first tick may come at once, so there is one more.
pub(super) fn ticks(deadline: Duration) -> u64 {
    // Half of it: the other half is measured in the thread's own time, see `set_deadline`.
    (deadline.as_millis() / 2).div_ceil(TICK.as_millis()) as u64 + 1
}

/// Ends calls that take longer than `deadline`.
///
/// The engine's clock is that on the wall, which runs on while the machine does something else. So when it says that half of the
/// deadline is over, the thread's own time is read, and the call goes on until it has used the other half.
pub(super) fn set_deadline(store: &mut Store<State>, deadline: Duration) {
    let half = deadline / 2;
    store.epoch_deadline_callback(move |mut store| {
        let used = thread_time();
        let meter = &mut store.data_mut().meter;
        match meter.overtime_since {
            Some(since) if used.saturating_sub(since) >= half => Ok(UpdateDeadline::Interrupt),
            Some(_) => Ok(UpdateDeadline::Continue(1)),
            None => {
                meter.overtime_since = Some(used);
                Ok(UpdateDeadline::Continue(1))
            }
        }
    });
}

fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Counts what an instance uses.
pub(super) struct Meter {
    limit: usize,
    used: usize,
    /// The thread's time when half of the deadline was over, in the call under way.
    pub(super) overtime_since: Option<Duration>,
}

impl Meter {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: 0, overtime_since: None }
    }
}

/// Why memory was refused.
#[derive(Debug, thiserror::Error)]
#[error("{wanted} bytes of memory wanted, {limit} allowed")]
struct TooMuch {
    wanted: usize,
    limit: usize,
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let wanted = self.used.saturating_add(desired.saturating_sub(current));
        if wanted > self.limit {
            return Err(TooMuch { wanted, limit: self.limit }.into());
        }
        self.used = wanted;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > MAX_TABLE {
            return Err(TooMuch { wanted: desired, limit: MAX_TABLE }.into());
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        16
    }

    fn tables(&self) -> usize {
        16
    }

    fn memories(&self) -> usize {
        16
    }
}

/// What kind of failure an error is, and a line about it: its causes, and the innermost frames of the plugin's stack.
pub(super) fn classify(error: &wasmtime::Error) -> (FaultKind, String) {
    let kind = if error.downcast_ref::<TooMuch>().is_some() {
        FaultKind::Memory
    } else {
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => FaultKind::Deadline,
            Some(_) => FaultKind::Trap,
            // Anything else that comes out of a call is a value that could not be read.
            None => FaultKind::InvalidOutput,
        }
    };
    let mut message = error.root_cause().to_string();
    if let Some(backtrace) = error.downcast_ref::<wasmtime::WasmBacktrace>() {
        let names: Vec<_> =
            backtrace.frames().iter().filter_map(|frame| frame.func_name()).take(5).map(plain_name).collect();
        if !names.is_empty() {
            message = format!("{message}, in {}", names.join(" < "));
        }
    }
    (kind, crate::calls::shortened(&message, MAX_MESSAGE).to_owned())
}

/// A function's name without the hash that compilers append.
fn plain_name(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((plain, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => plain,
        _ => name,
    }
}
