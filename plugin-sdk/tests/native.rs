//! The native arm, called through its table as tcpcopy does.

use plugin_sdk::{
    Actions, ConfigError, Descriptor, Inputs, Level, Needs, Opening, Plugin, PluginOption, Reply, Settings,
};
use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr;
use tcpcopy_plugin_abi as abi;

struct Echo {
    limit: i64,
}

impl Plugin for Echo {
    type Session = ();

    fn descriptor() -> Descriptor {
        Descriptor::new("echo", "0.1.0")
            .about("For tests.")
            .ports(&[7, 77])
            .inputs(Inputs::RESPONSES)
            .option(PluginOption::integer("limit").default("5").help("A number."))
            .option(PluginOption::choice("mode", &["fast", "slow"]))
    }

    fn configure(settings: &Settings) -> Result<Self, ConfigError> {
        match settings.integer("limit") {
            Some(limit) if limit > 0 => Ok(Self { limit }),
            other => Err(format!("limit must be above zero, not {other:?}").into()),
        }
    }

    fn needs(&self) -> Needs {
        Needs::new(Inputs::RESPONSES).together()
    }

    fn open(&mut self, opening: &Opening, actions: &mut Actions<'_>) {
        actions.log(Level::Debug, &format!("{} -> {}", opening.client, opening.target));
    }

    fn on_request(&mut self, (): &mut (), bytes: &[u8], actions: &mut Actions<'_>) {
        assert!(bytes.len() as i64 <= self.limit, "too long for an echo");
        let mut random = [0];
        actions.random(&mut random);
        actions.count("bytes", bytes.len() as u64);
        actions.replace(bytes.len(), &[random[0], b'!']);
        actions.end_request(Reply::NotExpected);
    }

    fn on_gap(&mut self, (): &mut (), _: &mut Actions<'_>) {}
}

plugin_sdk::export_plugin!(Echo);

unsafe extern "C" {
    fn tcpcopy_plugin_v0() -> *const abi::Table;
}

fn table() -> &'static abi::Table {
    // SAFETY: the table that the macro above makes; it lives for ever.
    unsafe { &*tcpcopy_plugin_v0() }
}

/// What the plugin asked of its host.
#[derive(Default)]
struct Host {
    calls: RefCell<Vec<String>>,
}

impl Host {
    fn say(context: *mut c_void, text: String) {
        // SAFETY: the context is the `Host` of the test, which outlives the instance.
        unsafe { &*context.cast::<Self>() }.calls.borrow_mut().push(text);
    }

    fn table(&self) -> abi::Host {
        unsafe extern "C" fn log(context: *mut c_void, level: u32, message: abi::Text) {
            Host::say(context, format!("log {level} {}", text(message.data, message.length)));
        }
        unsafe extern "C" fn count(context: *mut c_void, name: abi::Text, amount: u64) {
            Host::say(context, format!("count {} {amount}", text(name.data, name.length)));
        }
        unsafe extern "C" fn now(_: *mut c_void) -> u64 {
            0
        }
        unsafe extern "C" fn random(_: *mut c_void, into: *mut u8, length: usize) {
            // SAFETY: the plugin passes memory of its own.
            unsafe { into.write_bytes(b'r', length) }
        }
        unsafe extern "C" fn enter(context: *mut c_void, session: u64) {
            Host::say(context, format!("enter {session}"));
        }
        abi::Host {
            struct_size: size_of::<abi::Host>() as u32,
            reserved: 0,
            context: ptr::from_ref(self).cast_mut().cast(),
            log,
            count,
            now,
            random,
            enter,
        }
    }

    fn calls(&self) -> Vec<String> {
        self.calls.take()
    }
}

fn text(data: *const u8, length: usize) -> String {
    // SAFETY: both sides pass texts that live during the call.
    String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(data, length) }).into_owned()
}

#[derive(Default)]
struct Given {
    actions: Vec<abi::Action>,
    bytes: Vec<u8>,
}

unsafe extern "C" fn sink(context: *mut c_void, actions: abi::Slice<abi::Action>, bytes: abi::Slice<u8>) {
    // SAFETY: the context is the `Given` of the test; both arrays live during the call.
    unsafe {
        let given = &mut *context.cast::<Given>();
        given.actions.extend_from_slice(std::slice::from_raw_parts(actions.data, actions.length));
        given.bytes.extend_from_slice(std::slice::from_raw_parts(bytes.data, bytes.length));
    }
}

fn slice<T>(items: &[T]) -> abi::Slice<T> {
    abi::Slice { data: items.as_ptr(), length: items.len() }
}

fn create(host: &abi::Host, limit: i64) -> Result<(*mut c_void, abi::Needs), (u32, String)> {
    let name = "limit";
    let setting = abi::Setting {
        name: abi::Text { data: name.as_ptr(), length: name.len() },
        kind: abi::kind::INTEGER,
        integer: limit,
        number: 0.0,
        texts: slice(&[]),
    };
    let mut instance = ptr::null_mut();
    let mut needs = abi::Needs { inputs: 0, sharing: 0 };
    let mut given = Given::default();
    // SAFETY: everything passed lives during the call, and `host` until `destroy`.
    let status = unsafe {
        (table().create)(
            host,
            slice(&[setting]),
            &raw mut instance,
            &raw mut needs,
            sink,
            (&raw mut given).cast(),
        )
    };
    match status {
        abi::status::OK => Ok((instance, needs)),
        _ => Err((status, String::from_utf8_lossy(&given.bytes).into_owned())),
    }
}

fn run(
    instance: *mut c_void,
    events: &[abi::Event],
    openings: &[abi::Opening],
    bytes: &[u8],
) -> (u32, Given) {
    let mut given = Given::default();
    // SAFETY: the instance is one that `create` made and that is not destroyed; the rest lives during the call.
    let status = unsafe {
        (table().run)(instance, slice(events), slice(openings), slice(bytes), sink, (&raw mut given).cast())
    };
    (status, given)
}

fn event(session: u64, kind: u32, start: u32, length: u32) -> abi::Event {
    abi::Event { session, at: 0, kind, start, length, flag: 0 }
}

fn opening(last: u8) -> abi::Opening {
    let v4 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, last];
    let v6 = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    abi::Opening {
        origin: abi::origin::START,
        client: abi::Endpoint { address: v4, port: 4000 },
        online: abi::Endpoint { address: v4, port: 7 },
        target: abi::Endpoint { address: v6, port: 77 },
    }
}

#[test]
fn the_table_says_what_the_plugin_is() {
    let table = table();
    assert_eq!((table.magic, table.major, table.minor), (abi::MAGIC, abi::MAJOR, abi::MINOR));
    assert_eq!(table.event_size as usize, size_of::<abi::Event>());
    // SAFETY: the descriptor lives for ever, and so do the texts and arrays in it.
    unsafe {
        let descriptor = &*table.descriptor;
        assert_eq!(text(descriptor.name.data, descriptor.name.length), "echo");
        assert_eq!(std::slice::from_raw_parts(descriptor.ports.data, descriptor.ports.length), [7, 77]);
        let options = std::slice::from_raw_parts(descriptor.options.data, descriptor.options.length);
        assert_eq!(options.iter().map(|option| option.kind).collect::<Vec<_>>(), [1, 4]);
        assert_eq!((options[0].has_default, options[1].has_default), (1, 0));
        assert_eq!(text(options[0].default.data, options[0].default.length), "5");
        let choices = std::slice::from_raw_parts(options[1].choices.data, options[1].choices.length);
        assert_eq!(text(choices[1].data, choices[1].length), "slow");
    }
}

#[test]
fn refused_settings_give_the_plugins_words() {
    let host = Host::default();
    let refused = create(&host.table(), 0);
    let words = "limit must be above zero, not Some(0)".to_owned();
    assert_eq!(refused.err(), Some((abi::status::REFUSED, words)));
}

#[test]
fn a_batch_becomes_actions_and_a_panic_a_fault() {
    let host = Host::default();
    let host_table = host.table();
    let (instance, needs) = create(&host_table, 5).expect("the settings are good");
    assert_eq!(needs, abi::Needs { inputs: abi::inputs::RESPONSES, sharing: 1 });

    let events = [
        event(1, abi::input::OPENED, 0, 0),
        event(1, abi::input::REQUEST, 0, 3),
        event(2, abi::input::OPENED, 1, 0),
        event(1, abi::input::REQUEST, 3, 2),
    ];
    let (status, given) = run(instance, &events, &[opening(1), opening(2)], b"abcde");
    assert_eq!(status, abi::status::OK);
    assert_eq!(
        host.calls(),
        [
            "enter 1",
            "log 3 192.0.2.1:4000 -> [2001:db8::9]:77",
            "count bytes 3",
            "enter 2",
            "log 3 192.0.2.2:4000 -> [2001:db8::9]:77",
            "enter 1",
            "count bytes 2",
        ]
    );
    let action = |kind, value, length| abi::Action { session: 1, value, length, kind };
    assert_eq!(
        given.actions,
        [
            action(abi::output::DISCARD, 3, 0),
            action(abi::output::SEND, 0, 2),
            action(abi::output::END_REQUEST, 1, 0),
            action(abi::output::DISCARD, 2, 0),
            action(abi::output::SEND, 2, 2),
            action(abi::output::END_REQUEST, 1, 0),
        ]
    );
    assert_eq!(given.bytes, b"r!r!");

    let (status, given) = run(instance, &[event(2, abi::input::REQUEST, 0, 6)], &[], b"abcdef");
    assert_eq!(status, abi::status::FAULT);
    assert_eq!(given.actions, []);
    let text = String::from_utf8_lossy(&given.bytes);
    assert!(text.starts_with("panic at ") && text.ends_with(": too long for an echo"), "{text}");
    assert!(text.contains("native.rs:"), "{text}");
    assert_eq!(host.calls(), ["enter 2".to_owned(), format!("log 0 {text}")]);
    // SAFETY: made by `create`, destroyed once.
    unsafe { (table().destroy)(instance) };
}
