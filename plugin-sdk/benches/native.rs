//! What one event costs in a native plugin, from the host's call to the sink: `cargo bench -p tcpcopy-plugin-sdk`.

use plugin_sdk::{Actions, ConfigError, Descriptor, Inputs, Needs, Opening, Plugin, Reply, Settings};
use std::ffi::c_void;
use std::hint::black_box;
use std::ptr;
use std::time::Instant;
use tcpcopy_plugin_abi as abi;

/// Requests are what comes at once; every other one is looked at in two pieces.
struct Pieces;

impl Plugin for Pieces {
    type Session = u64;

    fn descriptor() -> Descriptor {
        Descriptor::new("pieces", "0.1.0").inputs(Inputs::RESPONSES)
    }

    fn configure(_: &Settings) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn needs(&self) -> Needs {
        Needs::new(Inputs::RESPONSES)
    }

    fn open(&mut self, _: &Opening, _: &mut Actions<'_>) -> u64 {
        0
    }

    fn on_request(&mut self, seen: &mut u64, bytes: &[u8], actions: &mut Actions<'_>) {
        if bytes.last() != Some(&b'+') {
            *seen += 1;
            actions.forward(bytes.len());
            actions.end_request(Reply::Expected);
        }
    }

    fn on_response(&mut self, _: &mut u64, bytes: &[u8], actions: &mut Actions<'_>) -> usize {
        actions.reply_complete();
        bytes.len()
    }

    fn on_gap(&mut self, _: &mut u64, _: &mut Actions<'_>) {}
}

plugin_sdk::export_plugin!(Pieces);

unsafe extern "C" {
    fn tcpcopy_plugin_v0() -> *const abi::Table;
}

unsafe extern "C" fn log(_: *mut c_void, _: u32, _: abi::Text) {}
unsafe extern "C" fn count(_: *mut c_void, _: abi::Text, _: u64) {}
unsafe extern "C" fn now(_: *mut c_void) -> u64 {
    0
}
unsafe extern "C" fn random(_: *mut c_void, _: *mut u8, _: usize) {}
unsafe extern "C" fn enter(_: *mut c_void, session: u64) {
    black_box(session);
}

/// Copies, as a host does.
unsafe extern "C" fn sink(context: *mut c_void, actions: abi::Slice<abi::Action>, _: abi::Slice<u8>) {
    // SAFETY: the context is the vector below; the actions live during the call.
    unsafe {
        let into = &mut *context.cast::<Vec<abi::Action>>();
        into.clear();
        into.extend_from_slice(std::slice::from_raw_parts(actions.data, actions.length));
    }
}

fn slice<T>(items: &[T]) -> abi::Slice<T> {
    abi::Slice { data: items.as_ptr(), length: items.len() }
}

const SESSIONS: u64 = 1024;
const ROUNDS: usize = 20_000;

struct Bench {
    table: &'static abi::Table,
    instance: *mut c_void,
    actions: Vec<abi::Action>,
}

impl Bench {
    fn run(&mut self, events: &[abi::Event], openings: &[abi::Opening], bytes: &[u8]) {
        let context = (&raw mut self.actions).cast();
        // SAFETY: the instance is alive; everything else lives during the call.
        let status = unsafe {
            (self.table.run)(self.instance, slice(events), slice(openings), slice(bytes), sink, context)
        };
        assert_eq!(status, abi::status::OK);
    }

    /// The median of several measurements.
    fn measure(&mut self, what: &str, batches: &[Vec<abi::Event>], bytes: &[u8]) {
        let mut nanos: Vec<f64> = (0..9)
            .map(|_| {
                let start = Instant::now();
                for batch in batches.iter().cycle().take(ROUNDS) {
                    self.run(black_box(batch), &[], bytes);
                }
                start.elapsed().as_nanos() as f64 / (ROUNDS * batches[0].len()) as f64
            })
            .collect();
        nanos.sort_by(f64::total_cmp);
        println!("{what:<55} {:>6.1} ns an event (best {:.1})", nanos[4], nanos[0]);
    }
}

fn event(session: u64, kind: u32, start: u32, length: u32) -> abi::Event {
    abi::Event { session, at: 0, kind, start, length, flag: 0 }
}

fn main() {
    // SAFETY: the table that the macro makes; it lives for ever.
    let table = unsafe { &*tcpcopy_plugin_v0() };
    let host = abi::Host {
        struct_size: size_of::<abi::Host>() as u32,
        reserved: 0,
        context: ptr::null_mut(),
        log,
        count,
        now,
        random,
        enter,
    };
    let mut instance = ptr::null_mut();
    let mut needs = abi::Needs { inputs: 0, sharing: 0 };
    // SAFETY: all arguments live during the call, and the host for the whole program.
    let status = unsafe {
        (table.create)(&host, slice(&[]), &raw mut instance, &raw mut needs, sink, ptr::null_mut())
    };
    assert_eq!(status, abi::status::OK);
    let mut bench = Bench { table, instance, actions: Vec::new() };

    let endpoint = abi::Endpoint { address: [0; 16], port: 1 };
    let opening =
        abi::Opening { origin: abi::origin::START, client: endpoint, online: endpoint, target: endpoint };
    let openings: Vec<abi::Event> =
        (0..SESSIONS).map(|session| event(session, abi::input::OPENED, 0, 0)).collect();
    bench.run(&openings, &[opening], &[]);

    // The front half ends with a sign that more comes, the whole does not.
    let mut bytes = vec![b'x'; 1460];
    bytes[699] = b'+';
    let batches = |of: &dyn Fn(u64, u64) -> abi::Event| -> Vec<Vec<abi::Event>> {
        (0..SESSIONS / 32).map(|batch| (0..32).map(|index| of(batch, index)).collect()).collect()
    };
    let request = |session| event(session, abi::input::REQUEST, 0, 1460);
    bench.measure("requests of one session", &batches(&|batch, _| request(batch)), &bytes);
    bench.measure(
        "requests, each of another session",
        &batches(&|batch, index| request(batch + index * 32)),
        &bytes,
    );
    let both = |batch: u64, index: u64| match index % 2 {
        0 => request(batch + index * 32),
        _ => event(batch + (index - 1) * 32, abi::input::RESPONSE, 0, 100),
    };
    bench.measure("request and response by turns", &batches(&both), &bytes);
    let halves = |batch: u64, index: u64| match index % 2 {
        0 => event(batch + index * 32, abi::input::REQUEST, 0, 700),
        _ => event(batch + (index - 1) * 32, abi::input::REQUEST, 700, 760),
    };
    bench.measure("requests of 1460 bytes in two pieces", &batches(&halves), &bytes);
    let one = |batch: u64, index: u64| request(batch + index * 32);
    let single: Vec<Vec<abi::Event>> =
        (0..SESSIONS).map(|session| vec![one(session / 32, session % 32)]).collect();
    bench.measure("requests, one a batch", &single, &bytes);

    // SAFETY: made by `create`, destroyed once.
    unsafe { (table.destroy)(bench.instance) };
}
