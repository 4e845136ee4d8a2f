//! The native arm: a table of functions for `tcpcopy` to call.
//!
//! Nothing unwinds across: every function catches what the plugin's own code throws. What the host passes is trusted to be as
//! `tcpcopy-plugin-abi` says, since a native plugin lives in the host's own process.

use super::describe_panic;
use crate::actions::HostCalls;
use crate::descriptor::{Descriptor, OptionKind, PluginOption, Side};
use crate::dispatch::Dispatcher;
use crate::{ConfigError, Level, Plugin, Settings, Value};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::mem::size_of;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Once, OnceLock};
use tcpcopy_plugin_abi as abi;

pub use abi::Table;

/// The table of one plugin, made when it is asked for.
#[derive(Debug)]
pub struct Lazy(OnceLock<Option<&'static Table>>);

impl Default for Lazy {
    fn default() -> Self {
        Self::new()
    }
}

impl Lazy {
    /// Not made yet.
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The table; null if the plugin can't say what it is.
    pub fn get<P: Plugin>(&self) -> *const Table {
        let table = self.0.get_or_init(|| {
            install_hook();
            catch_unwind(|| table::<P>(&P::descriptor())).ok()
        });
        table.map_or(ptr::null(), ptr::from_ref)
    }
}

fn table<P: Plugin>(descriptor: &Descriptor) -> &'static Table {
    // Sizes of a handful of small structures.
    #[allow(clippy::cast_possible_truncation)]
    const fn size<T>() -> u32 {
        size_of::<T>() as u32
    }
    Box::leak(Box::new(Table {
        magic: abi::MAGIC,
        major: abi::MAJOR,
        minor: abi::MINOR,
        struct_size: size::<Table>(),
        event_size: size::<abi::Event>(),
        action_size: size::<abi::Action>(),
        opening_size: size::<abi::Opening>(),
        setting_size: size::<abi::Setting>(),
        option_size: size::<abi::PluginOption>(),
        descriptor_size: size::<abi::Descriptor>(),
        host_size: size::<abi::Host>(),
        reserved: 0,
        descriptor: Box::leak(Box::new(leaked_descriptor(descriptor))),
        create: create::<P>,
        run: run::<P>,
        destroy: destroy::<P>,
    }))
}

/// What lives as long as the library, which is never unloaded.
fn leaked_descriptor(descriptor: &Descriptor) -> abi::Descriptor {
    fn text(text: &str) -> abi::Text {
        let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
        abi::Text { data: text.as_ptr(), length: text.len() }
    }
    fn slice<T: 'static>(items: Vec<T>) -> abi::Slice<T> {
        let items: &'static [T] = Box::leak(items.into_boxed_slice());
        abi::Slice { data: items.as_ptr(), length: items.len() }
    }
    fn option(option: &PluginOption) -> abi::PluginOption {
        let choices: &[Cow<'_, str>] = match &option.kind {
            OptionKind::Choice(choices) => choices,
            _ => &[],
        };
        abi::PluginOption {
            name: text(&option.name),
            kind: option.kind.code(),
            has_default: u32::from(option.default.is_some()),
            default: text(option.default.as_deref().unwrap_or_default()),
            choices: slice(choices.iter().map(|choice| text(choice)).collect()),
            help: text(&option.help),
        }
    }
    abi::Descriptor {
        name: text(&descriptor.name),
        version: text(&descriptor.version),
        about: text(&descriptor.about),
        speaks_first: u32::from(descriptor.speaks_first == Side::Server),
        inputs: descriptor.inputs.bits(),
        ports: slice(descriptor.ports.clone()),
        options: slice(descriptor.options.iter().map(option).collect()),
    }
}

/// The host of an instance.
#[derive(Clone, Copy)]
struct Host(*const abi::Host);

impl Host {
    fn table(&self) -> &abi::Host {
        // SAFETY: the host keeps its table until the instance is destroyed (`abi::Create`), and no longer is this used.
        unsafe { &*self.0 }
    }
}

fn text(text: &str) -> abi::Text {
    abi::Text { data: text.as_ptr(), length: text.len() }
}

impl HostCalls for Host {
    fn log(&self, level: Level, message: &str) {
        let host = self.table();
        let level = match level {
            Level::Error => 0,
            Level::Warn => 1,
            Level::Info => 2,
            Level::Debug => 3,
            Level::Trace => 4,
        };
        // SAFETY: the host's own function and context; the text lives during the call.
        unsafe { (host.log)(host.context, level, text(message)) }
    }

    fn count(&self, name: &str, amount: u64) {
        let host = self.table();
        // SAFETY: as above.
        unsafe { (host.count)(host.context, text(name), amount) }
    }

    fn random(&self, into: &mut [u8]) {
        let host = self.table();
        // SAFETY: the host's own function and context; it writes `length` bytes to memory that is ours alone.
        unsafe { (host.random)(host.context, into.as_mut_ptr(), into.len()) }
    }

    fn enter(&self, session: u64) {
        let host = self.table();
        // SAFETY: the host's own function and context.
        unsafe { (host.enter)(host.context, session) }
    }
}

struct Instance<P: Plugin> {
    dispatcher: Dispatcher<P>,
    host: Host,
}

thread_local! {
    /// The host whose call is under way on this thread.
    static CALLER: Cell<Option<Host>> = const { Cell::new(None) };
    /// What the last panic of a call said.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics of the plugin's handlers go to the host's log; others (of tests, of a plugin's own threads) where they went before.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match CALLER.get() {
            Some(host) => {
                let text = describe_panic(info);
                host.log(Level::Error, &text);
                PANIC.set(text);
            }
            None => before(info),
        }));
    });
}

/// Runs code of the plugin for a host; a panic gives its text.
fn guarded<T>(host: Host, work: impl FnOnce() -> T) -> Result<T, String> {
    CALLER.set(Some(host));
    // Nothing that a panic has left half done is looked at again: the host destroys the instance.
    let result = catch_unwind(AssertUnwindSafe(work));
    CALLER.set(None);
    result.map_err(|payload| {
        // Dropping it may run code of the plugin again.
        std::mem::forget(payload);
        PANIC.take()
    })
}

/// Gives the sink a text and no actions.
fn complain(sink: abi::Sink, context: *mut c_void, text: &str) {
    let actions = abi::Slice { data: ptr::dangling(), length: 0 };
    // SAFETY: the host's own function and context; the bytes live during the call.
    unsafe { sink(context, actions, abi::Slice { data: text.as_ptr(), length: text.len() }) }
}

/// What the host passed.
///
/// # Safety
/// It is as `abi::Slice` says, for as long as `'a`.
unsafe fn slice<'a, T>(slice: abi::Slice<T>) -> &'a [T] {
    // SAFETY: not null, aligned, and of that length, as the caller promises.
    unsafe { std::slice::from_raw_parts(slice.data, slice.length) }
}

/// # Safety
/// `host` and `settings` are as `abi::Create` says.
unsafe fn settings<P: Plugin>(settings: abi::Slice<abi::Setting>) -> Settings {
    // SAFETY: the caller's promise, here and for the texts within.
    let string = |text: abi::Text| unsafe {
        let bytes = std::slice::from_raw_parts(text.data, text.length);
        String::from_utf8_lossy(bytes).into_owned()
    };
    // SAFETY: the caller's promise.
    let values = unsafe { slice(settings) }.iter().map(|setting| {
        // SAFETY: the caller's promise.
        let mut texts = unsafe { slice(setting.texts) }.iter().map(|text| string(*text));
        let value = match setting.kind {
            abi::kind::BOOLEAN => Value::Boolean(setting.integer != 0),
            abi::kind::INTEGER => Value::Integer(setting.integer),
            abi::kind::NUMBER => Value::Number(setting.number),
            abi::kind::TEXTS => Value::Texts(texts.collect()),
            abi::kind::TABLE => {
                let mut entries = Vec::new();
                while let (Some(name), Some(text)) = (texts.next(), texts.next()) {
                    entries.push((name, text));
                }
                Value::Table(entries)
            }
            _ => Value::Text(texts.next().unwrap_or_default()),
        };
        (string(setting.name), value)
    });
    Settings::new(&P::descriptor(), values.collect())
}

/// See [`abi::Create`].
unsafe extern "C" fn create<P: Plugin>(
    host: *const abi::Host,
    given: abi::Slice<abi::Setting>,
    instance: *mut *mut c_void,
    needs: *mut abi::Needs,
    sink: abi::Sink,
    sink_context: *mut c_void,
) -> u32 {
    let host = Host(host);
    let made = guarded(host, || {
        // SAFETY: the host passes what `abi::Create` says.
        let settings = unsafe { settings::<P>(given) };
        let dispatcher = Dispatcher::<P>::new(&settings)?;
        let needs = dispatcher.needs();
        Ok::<_, ConfigError>((Box::new(Instance { dispatcher, host }), needs))
    });
    match made {
        Ok(Ok((made, made_needs))) => {
            // SAFETY: the host passes places to write to.
            unsafe {
                instance.write(Box::into_raw(made).cast());
                needs.write(abi::Needs {
                    inputs: made_needs.inputs().bits(),
                    sharing: u32::from(made_needs.is_together()),
                });
            }
            abi::status::OK
        }
        Ok(Err(error)) => {
            complain(sink, sink_context, &error.to_string());
            abi::status::REFUSED
        }
        Err(panic) => {
            complain(sink, sink_context, &panic);
            abi::status::FAULT
        }
    }
}

/// See [`abi::Run`].
unsafe extern "C" fn run<P: Plugin>(
    instance: *mut c_void,
    events: abi::Slice<abi::Event>,
    openings: abi::Slice<abi::Opening>,
    bytes: abi::Slice<u8>,
    sink: abi::Sink,
    sink_context: *mut c_void,
) -> u32 {
    // SAFETY: the host passes what `create` wrote, to one call at a time.
    let Instance { dispatcher, host } = unsafe { &mut *instance.cast::<Instance<P>>() };
    // SAFETY: the host passes what `abi::Run` says.
    let (events, openings, bytes) = unsafe { (slice(events), slice(openings), slice(bytes)) };
    match guarded(*host, || dispatcher.run(host, events.iter().copied(), openings, bytes)) {
        Ok(()) => {
            let outcome = &dispatcher.outcome;
            let actions = abi::Slice { data: outcome.actions.as_ptr(), length: outcome.actions.len() };
            let bytes = abi::Slice { data: outcome.bytes.as_ptr(), length: outcome.bytes.len() };
            // SAFETY: the host's own function and context; both arrays live during the call.
            unsafe { sink(sink_context, actions, bytes) };
            abi::status::OK
        }
        Err(panic) => {
            complain(sink, sink_context, &panic);
            abi::status::FAULT
        }
    }
}

/// See [`abi::Destroy`].
unsafe extern "C" fn destroy<P: Plugin>(instance: *mut c_void) {
    // SAFETY: the host passes what `create` wrote, once, and uses it no more.
    let instance = unsafe { Box::from_raw(instance.cast::<Instance<P>>()) };
    let host = instance.host;
    // A destructor that panics has been logged by the hook.
    drop(guarded(host, || drop(instance)));
}
