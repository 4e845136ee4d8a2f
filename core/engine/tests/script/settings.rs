//! What a script may set before it begins.

use super::lines::Lines;
use super::variant::Variant;
use super::words;
use std::time::Duration;
use tcpcopy_engine::config::{MidStreamPolicy, Pace};
use tcpcopy_engine::counters::EndReason;
use tcpcopy_engine::mapping::{MappingOptions, Transfer};
use tcpcopy_engine::plugin::{AfterFault, Inputs, Without};
use tcpcopy_engine::protocol::{
    ClientEnd, Exchange, Origin, Protocol, ProtocolFactory, ResponseBytes, TransparentFactory, WaitPolicy,
};
use tcpcopy_engine::stream::SegmentInfo;
use tcpcopy_engine::tcp::sender::Boundary;
use tcpcopy_engine::{Engine, EngineConfig};

/// Settings of a script's engine; what is not set is as the command line has it.
#[derive(Default)]
pub(crate) struct Settings {
    changes: Vec<Change>,
    policy: WaitPolicy,
    strict: bool,
    /// Whether sessions are served by the plugin of [`Lines`], what it needs, and what a failure of it means.
    lines: Option<(Inputs, AfterFault)>,
}

type Change = Box<dyn Fn(&mut EngineConfig) + Send + Sync>;

impl Settings {
    /// Takes a `config` line.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let change: Change = match key {
            "percentage" => with(words::number(value)?, |c, v| c.percentage = v),
            "mtu" => with(words::number(value)?, |c, v| c.mtu = v),
            "mss" => with(words::number(value)?, |c, v| c.mss = v),
            "memory_limit" => with(words::number(value)?, |c, v| c.memory_limit = v),
            "session_limit" => with(words::number(value)?, |c, v| c.session_limit = v),
            "copies" => with(words::number(value)?, |c, v| c.mapping.copies = v),
            "workers" => with(words::number(value)?, |c, v| c.mapping.workers = v),
            "session_timeout" => with(words::duration(value)?, |c, v: Duration| c.session_timeout = v),
            "keepalive_timeout" => with(words::duration(value)?, |c, v: Duration| c.keepalive_timeout = v),
            "pace" => with(Pace::Fixed(words::duration(value)?), |c, v| c.pace = v),
            "mid_stream" => {
                let policy = match value {
                    "join" => MidStreamPolicy::Join,
                    "ignore" => MidStreamPolicy::Ignore,
                    _ => return Err(format!("{value} is neither join nor ignore")),
                };
                with(policy, |c, v| c.mid_stream = v)
            }
            "wait_policy" => {
                self.policy = match value {
                    "like_client" => WaitPolicy::LikeClient,
                    "never" => WaitPolicy::Never,
                    _ => return Err(format!("{value} is neither like_client nor never")),
                };
                return Ok(());
            }
            "protocol" => {
                match value {
                    "transparent" => self.strict = false,
                    "strict" => self.strict = true,
                    "lines" => self.lines = Some((Inputs::RESPONSES, AfterFault::Rejoin)),
                    "greeted_lines" => {
                        let inputs = Inputs::RESPONSES.union(Inputs::CONNECTIONS);
                        self.lines = Some((inputs, AfterFault::Rejoin));
                    }
                    "closing_lines" => {
                        self.lines = Some((Inputs::RESPONSES.union(Inputs::CLOSES), AfterFault::Rejoin));
                    }
                    _ => return Err(format!("there is no protocol {value}")),
                }
                return Ok(());
            }
            "after_fault" => {
                let after = match value {
                    "rejoin" => AfterFault::Rejoin,
                    "pass" => AfterFault::Disabled(Without::PassThrough),
                    "give_up" => AfterFault::Disabled(Without::GiveUp),
                    _ => return Err(format!("{value} is none of rejoin, pass, give_up")),
                };
                let lines = self.lines.as_mut().ok_or("after_fault goes behind protocol lines")?;
                lines.1 = after;
                return Ok(());
            }
            _ => return Err(format!("there is no setting {key}")),
        };
        self.changes.push(change);
        Ok(())
    }

    /// The configuration under `variant`.
    pub(crate) fn config(&self, variant: &Variant) -> EngineConfig {
        let online = variant.online();
        let transfer =
            Transfer { online: Some(online.addr), online_port: online.port, target: variant.target() };
        let mapping = MappingOptions { transfers: vec![transfer], ..MappingOptions::default() };
        let mut config = EngineConfig::new(mapping);
        for change in &self.changes {
            change(&mut config);
        }
        config
    }

    /// Gives `engine` the plugin that serves `port`, if there is to be one.
    pub(crate) fn add_plugin(&self, engine: &mut Engine, port: u16) {
        if let Some((inputs, after_fault)) = self.lines {
            engine.add_plugin(Box::new(Lines::new(inputs, after_fault)), vec![port], self.policy);
        }
    }

    /// What makes the protocols.
    pub(crate) fn factory(&self) -> Box<dyn ProtocolFactory> {
        if self.strict {
            Box::new(StrictFactory)
        } else {
            Box::new(TransparentFactory { policy: self.policy })
        }
    }
}

fn with<T: Clone + Send + Sync + 'static>(value: T, set: fn(&mut EngineConfig, T)) -> Change {
    Box::new(move |config| set(config, value.clone()))
}

/// The transparent protocol, which gives the session up when a request contains `!`, as a plugin does with what it can't
/// read, and leaves bytes out that are `-`, as a plugin does with what must not reach the target.
#[derive(Debug)]
struct Strict;

struct StrictFactory;

impl ProtocolFactory for StrictFactory {
    fn create(&mut self, _origin: Origin) -> Box<dyn Protocol> {
        Box::new(Strict)
    }
}

impl Protocol for Strict {
    fn on_request(&mut self, len: usize, _info: SegmentInfo, exchange: &mut Exchange<'_>) {
        exchange.begin_request(exchange.captured_end() - len as u64);
        let (first, second) = exchange.pending();
        let bytes: Vec<u8> = first.iter().chain(second).copied().collect();
        if bytes.contains(&b'!') {
            return exchange.give_up(EndReason::Protocol);
        }
        for run in bytes.chunk_by(|a, b| (*a == b'-') == (*b == b'-')) {
            match run[0] {
                b'-' => exchange.drop_bytes(run.len()),
                _ => exchange.forward(run.len(), Boundary::Pushed),
            }
        }
    }

    fn on_response(&mut self, _response: ResponseBytes<'_>, exchange: &mut Exchange<'_>) {
        exchange.answered();
    }

    fn on_gap(&mut self, reason: EndReason, exchange: &mut Exchange<'_>) {
        exchange.give_up(reason);
    }

    fn on_connection_lost(&mut self, _exchange: &mut Exchange<'_>) {}

    fn on_close(&mut self, end: ClientEnd, _info: SegmentInfo, exchange: &mut Exchange<'_>) {
        exchange.close(end);
    }

    fn on_timer(&mut self, _exchange: &mut Exchange<'_>) {}
}
