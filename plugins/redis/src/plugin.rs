//! The plugin, as tcpcopy calls it.

use crate::options::{self, Options};
use crate::rules::Rules;
use crate::session::Session;
use plugin_sdk::{Actions, ConfigError, Descriptor, Inputs, Loss, Needs, Opening, Plugin, Settings};

/// Redis, RESP2 and RESP3.
#[derive(Debug)]
pub struct Redis {
    rules: Rules,
}

impl Plugin for Redis {
    type Session = Session;

    fn descriptor() -> Descriptor {
        options::list().into_iter().fold(
            Descriptor::new("redis", env!("CARGO_PKG_VERSION"))
                .about("Redis, RESP2 and RESP3: logins, databases, transactions, subscriptions, filters, key prefixes.")
                .ports(&[6379])
                .inputs(Inputs::RESPONSES | Inputs::CONNECTIONS),
            Descriptor::option,
        )
    }

    fn configure(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self { rules: Rules::new(Options::read(settings)?) })
    }

    fn needs(&self) -> Needs {
        Needs::new(Inputs::RESPONSES | Inputs::CONNECTIONS)
    }

    fn open(&mut self, opening: &Opening, _: &mut Actions<'_>) -> Session {
        Session::new(&self.rules, opening.origin)
    }

    fn on_request(&mut self, session: &mut Session, bytes: &[u8], actions: &mut Actions<'_>) {
        session.on_request(&self.rules, bytes, actions);
    }

    fn on_response(&mut self, session: &mut Session, bytes: &[u8], actions: &mut Actions<'_>) -> usize {
        session.on_response(bytes, actions)
    }

    fn on_connected(&mut self, session: &mut Session, actions: &mut Actions<'_>) {
        session.on_connected(actions);
    }

    fn on_connection_lost(&mut self, session: &mut Session, loss: Loss, _: &mut Actions<'_>) {
        session.on_connection_lost(loss);
    }

    fn on_gap(&mut self, session: &mut Session, _: &mut Actions<'_>) {
        session.on_gap();
    }
}

#[cfg(feature = "export")]
plugin_sdk::export_plugin!(Redis);
