//! Calls into native libraries.
//!
//! A native plugin is trusted as the program itself: what its table points to is called. What can be checked before is checked,
//! against mistakes. Words are translated in [`crate::native`].

use super::text::{lend, lend_text, slice, text};
use crate::calls::{Calls, Level};
use crate::descriptor::{Setting, SettingValue};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::{MaybeUninit, offset_of};
use std::path::Path;
use std::ptr;
use tcpcopy_plugin_abi as abi;

/// Why a library is no plugin.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The system does not load it.
    Load(String),
    /// It exports no plugin.
    NoSymbol,
    /// It is made for another version.
    Version(String),
    /// It exports something else under that name.
    Table(String),
}

/// A loaded library with a checked table. It is never unloaded.
#[derive(Clone, Copy)]
pub(crate) struct Plugin {
    table: &'static abi::Table,
}

/// An option as it stands in the library.
pub(crate) struct RawOption<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: u32,
    pub(crate) default: Option<&'a str>,
    pub(crate) choices: Vec<&'a str>,
    pub(crate) help: &'a str,
}

/// A descriptor as it stands in the library.
pub(crate) struct RawDescriptor<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) about: &'a str,
    pub(crate) speaks_first: u32,
    pub(crate) inputs: u32,
    pub(crate) ports: &'a [u16],
    pub(crate) options: Vec<RawOption<'a>>,
}

impl Plugin {
    /// Loads a library, which runs its initialisers, and checks its table.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        // SAFETY: the initialisers of the library run, with all rights of the program: the user named it for that.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|error| OpenError::Load(error.to_string()))?;
        let entry = {
            // SAFETY: the name belongs to this interface; a library that exports it as something else can't be told from one
            // that does not.
            let symbol = unsafe { library.get::<abi::EntryPoint>(abi::SYMBOL) };
            symbol.map(|symbol| *symbol).map_err(|_| OpenError::NoSymbol)?
        };
        // Code and data of the library are referred to for good, so it stays; by the system's count, one handle is enough.
        let _ = library.into_raw();
        // SAFETY: as for the symbol. The function takes nothing.
        let table = unsafe { entry() };
        Self::check(table).map(|table| Self { table })
    }

    fn check(table: *const abi::Table) -> Result<&'static abi::Table, OpenError> {
        let wrong = |what: String| OpenError::Table(what);
        if table.is_null() || !table.is_aligned() {
            return Err(wrong("its table is at no valid address".to_owned()));
        }
        // SAFETY: not null and aligned. The magic is read first, then, if it is right, the versions and the size, which are
        // part of the table in all versions.
        let magic = unsafe { ptr::read(table.cast::<u64>()) };
        if magic != abi::MAGIC {
            return Err(wrong("its table does not begin with the magic number".to_owned()));
        }
        let field = |offset: usize| table.cast::<u8>().wrapping_add(offset);
        // SAFETY: as above; all three have their natural alignment in the table.
        let (major, minor, size) = unsafe {
            (
                ptr::read(field(offset_of!(abi::Table, major)).cast::<u16>()),
                ptr::read(field(offset_of!(abi::Table, minor)).cast::<u16>()),
                ptr::read(field(offset_of!(abi::Table, struct_size)).cast::<u32>()),
            )
        };
        if major != abi::MAJOR || minor > abi::MINOR {
            return Err(OpenError::Version(format!("{major}.{minor}")));
        }
        if (size as usize) < size_of::<abi::Table>() {
            return Err(wrong(format!("its table has {size} bytes, {} needed", size_of::<abi::Table>())));
        }
        // SAFETY: magic, version and size say that there is a whole table, which lives as long as the library: for good.
        let table: &'static abi::Table = unsafe { &*table };
        for (what, found, expected) in [
            ("events", table.event_size, size_of::<abi::Event>()),
            ("actions", table.action_size, size_of::<abi::Action>()),
            ("openings", table.opening_size, size_of::<abi::Opening>()),
            ("settings", table.setting_size, size_of::<abi::Setting>()),
            ("options", table.option_size, size_of::<abi::PluginOption>()),
            ("descriptors", table.descriptor_size, size_of::<abi::Descriptor>()),
        ] {
            if found as usize != expected {
                return Err(wrong(format!("its {what} have {found} bytes, {expected} needed")));
            }
        }
        if table.host_size as usize > size_of::<abi::Host>() {
            return Err(wrong(format!(
                "it asks for {} bytes of host functions, there are {}",
                table.host_size,
                size_of::<abi::Host>()
            )));
        }
        // Function pointers can't be null in Rust, and a null one must not become a Rust value; so they are read as numbers.
        for offset in [
            offset_of!(abi::Table, create),
            offset_of!(abi::Table, run),
            offset_of!(abi::Table, destroy),
            offset_of!(abi::Table, descriptor),
        ] {
            let address = (ptr::from_ref(table)).cast::<u8>().wrapping_add(offset).cast::<usize>();
            // SAFETY: within the table, aligned as a pointer.
            if unsafe { ptr::read(address) } == 0 {
                return Err(wrong("a pointer in its table is null".to_owned()));
            }
        }
        Ok(table)
    }

    /// The version of the interface that it was made for.
    pub(crate) fn version(&self) -> String {
        format!("{}.{}", self.table.major, self.table.minor)
    }

    /// What it says of itself; none where a text is no UTF-8 or a pointer is null.
    pub(crate) fn descriptor(&self) -> Option<RawDescriptor<'static>> {
        if !self.table.descriptor.is_aligned() {
            return None;
        }
        // SAFETY: not null, aligned, and of this size by the table; it and all that it refers to live as long as the library.
        let raw: &'static abi::Descriptor = unsafe { &*self.table.descriptor };
        // SAFETY: as above, for all texts and arrays in it.
        unsafe {
            let mut options = Vec::new();
            for option in slice(raw.options)? {
                let mut choices = Vec::new();
                for choice in slice(option.choices)? {
                    choices.push(text(*choice)?);
                }
                let default = if option.has_default == 0 { None } else { Some(text(option.default)?) };
                options.push(RawOption {
                    name: text(option.name)?,
                    kind: option.kind,
                    default,
                    choices,
                    help: text(option.help)?,
                });
            }
            Some(RawDescriptor {
                name: text(raw.name)?,
                version: text(raw.version)?,
                about: text(raw.about)?,
                speaks_first: raw.speaks_first,
                inputs: raw.inputs,
                ports: slice(raw.ports)?,
                options,
            })
        }
    }

    /// A configured instance and its needs, or the status and text of a failure.
    pub(crate) fn create(
        &self,
        settings: &[Setting],
        calls: Calls,
    ) -> Result<(RawInstance, abi::Needs), (u32, String)> {
        let context: Box<UnsafeCell<Calls>> = Box::new(UnsafeCell::new(calls));
        let host = Box::new(abi::Host {
            struct_size: size_of::<abi::Host>() as u32,
            reserved: 0,
            context: context.get().cast(),
            log: host_log,
            count: host_count,
            now: host_now,
            random: host_random,
            enter: host_enter,
        });
        let texts: Vec<Vec<abi::Text>> = settings.iter().map(texts_of).collect();
        let raw: Vec<abi::Setting> =
            settings.iter().zip(&texts).map(|(setting, texts)| raw_setting(setting, texts)).collect();
        let mut instance: *mut c_void = ptr::null_mut();
        let mut needs = MaybeUninit::new(abi::Needs { inputs: 0, sharing: 0 });
        let mut collected = Collected::default();
        // SAFETY: the table was checked. `host` and its context outlive the instance: both are in one `RawInstance`, which
        // destroys the instance first. Settings and sink live during the call.
        let status = unsafe {
            (self.table.create)(
                &raw const *host,
                lend(&raw),
                &raw mut instance,
                needs.as_mut_ptr(),
                collect,
                (&raw mut collected).cast(),
            )
        };
        if status != abi::status::OK {
            return Err((status, String::from_utf8_lossy(&collected.bytes).into_owned()));
        }
        // SAFETY: initialised before the call.
        let needs = unsafe { needs.assume_init() };
        Ok((RawInstance { table: self.table, instance, collected, context, _host: host }, needs))
    }
}

/// A configured instance.
pub(crate) struct RawInstance {
    table: &'static abi::Table,
    instance: *mut c_void,
    collected: Collected,
    context: Box<UnsafeCell<Calls>>,
    _host: Box<abi::Host>,
}

// SAFETY: by the interface, an instance may be called by one thread after another; it is called with `&mut self` only, and the
// pointers lead to what it owns.
unsafe impl Send for RawInstance {}

impl RawInstance {
    /// What the host knows of the call.
    pub(crate) fn calls(&mut self) -> &mut Calls {
        self.context.get_mut()
    }

    /// Takes a batch: the status, and what the plugin gave back (after a failure its text as bytes).
    pub(crate) fn run(
        &mut self,
        events: &[abi::Event],
        openings: &[abi::Opening],
        bytes: &[u8],
    ) -> (u32, &Collected) {
        self.collected.actions.clear();
        self.collected.bytes.clear();
        // SAFETY: the instance was created by this table and not destroyed; everything lent lives during the call. Host functions
        // use the context through the pointer in `_host`, while no reference to it exists here.
        let status = unsafe {
            (self.table.run)(
                self.instance,
                lend(events),
                lend(openings),
                lend(bytes),
                collect,
                (&raw mut self.collected).cast(),
            )
        };
        (status, &self.collected)
    }
}

impl Drop for RawInstance {
    fn drop(&mut self) {
        // SAFETY: created by this table, and not used after this.
        unsafe { (self.table.destroy)(self.instance) }
    }
}

/// What a sink was given.
#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) actions: Vec<abi::Action>,
    pub(crate) bytes: Vec<u8>,
}

unsafe extern "C" fn collect(context: *mut c_void, actions: abi::Slice<abi::Action>, bytes: abi::Slice<u8>) {
    // SAFETY: the context of each sink is a `Collected` that lives during the call and is not used otherwise in it.
    let collected = unsafe { &mut *context.cast::<Collected>() };
    // SAFETY: what a plugin passes is valid during the call.
    let (actions, bytes) = unsafe { (slice(actions), slice(bytes)) };
    collected.actions.extend_from_slice(actions.unwrap_or_default());
    collected.bytes.extend_from_slice(bytes.unwrap_or_default());
}

/// The calls of an instance, in one of its calls.
///
/// # Safety
/// `context` must be that of a [`RawInstance`] under construction or in a call, on the thread of the call.
unsafe fn calls<'a>(context: *mut c_void) -> &'a mut Calls {
    // SAFETY: `Plugin::create` put it there; nothing else refers to it during a call.
    unsafe { &mut *context.cast::<Calls>() }
}

unsafe extern "C" fn host_log(context: *mut c_void, level: u32, message: abi::Text) {
    let level = match level {
        0 => Level::Error,
        1 => Level::Warn,
        2 => Level::Info,
        3 => Level::Debug,
        _ => Level::Trace,
    };
    // SAFETY: the plugin passes back its context, and a text that is valid during the call.
    unsafe {
        if let Some(message) = text(message) {
            calls(context).log(level, message);
        }
    }
}

unsafe extern "C" fn host_count(context: *mut c_void, name: abi::Text, amount: u64) {
    // SAFETY: as for `host_log`.
    unsafe {
        if let Some(name) = text(name) {
            calls(context).count(name, amount);
        }
    }
}

unsafe extern "C" fn host_now(context: *mut c_void) -> u64 {
    // SAFETY: the plugin passes back its context.
    unsafe { calls(context) }.now()
}

unsafe extern "C" fn host_random(context: *mut c_void, into: *mut u8, length: usize) {
    if into.is_null() || isize::try_from(length).is_err() {
        return;
    }
    // SAFETY: the plugin passes back its context, and memory of its own that it may write; zeroed first, as it may not be
    // initialised.
    unsafe {
        ptr::write_bytes(into, 0, length);
        calls(context).fill_random(std::slice::from_raw_parts_mut(into, length));
    }
}

unsafe extern "C" fn host_enter(context: *mut c_void, session: u64) {
    // SAFETY: the plugin passes back its context.
    unsafe { calls(context) }.enter(session);
}

fn texts_of(setting: &Setting) -> Vec<abi::Text> {
    match &setting.value {
        SettingValue::Text(text) => vec![lend_text(text)],
        SettingValue::Texts(texts) => texts.iter().map(|text| lend_text(text)).collect(),
        SettingValue::Table(entries) => {
            entries.iter().flat_map(|(name, text)| [lend_text(name), lend_text(text)]).collect()
        }
        SettingValue::Boolean(_) | SettingValue::Integer(_) | SettingValue::Number(_) => Vec::new(),
    }
}

/// `texts` are those of the setting, and have to live as long as what is returned is used.
fn raw_setting(setting: &Setting, texts: &[abi::Text]) -> abi::Setting {
    let (kind, integer, number) = match &setting.value {
        SettingValue::Boolean(value) => (abi::kind::BOOLEAN, i64::from(*value), 0.0),
        SettingValue::Integer(value) => (abi::kind::INTEGER, *value, 0.0),
        SettingValue::Number(value) => (abi::kind::NUMBER, 0, *value),
        SettingValue::Text(_) => (abi::kind::TEXT, 0, 0.0),
        SettingValue::Texts(_) => (abi::kind::TEXTS, 0, 0.0),
        SettingValue::Table(_) => (abi::kind::TABLE, 0, 0.0),
    };
    abi::Setting { name: lend_text(&setting.name), kind, integer, number, texts: lend(texts) }
}
