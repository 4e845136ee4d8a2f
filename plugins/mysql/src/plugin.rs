//! The plugin, as tcpcopy calls it.

use crate::options::{self, Online};
use crate::session::Session;
use crate::shared::Shared;
use plugin_sdk::{Actions, ConfigError, Descriptor, Inputs, Loss, Needs, Opening, Plugin, Settings, Side};

const UNHEARD: Inputs = Inputs::RESPONSES.union(Inputs::CONNECTIONS);
const INPUTS: Inputs = UNHEARD.union(Inputs::REFERENCES);

/// MySQL and MariaDB.
#[derive(Debug)]
pub struct Mysql {
    shared: Shared,
}

impl Plugin for Mysql {
    type Session = Session;

    fn descriptor() -> Descriptor {
        options::list().into_iter().fold(
            Descriptor::new("mysql", env!("CARGO_PKG_VERSION"))
                .about("MySQL and MariaDB: logins, databases, prepared statements, filters; sessions joined mid-stream.")
                .speaks_first(Side::Server)
                .ports(&[3306])
                .inputs(INPUTS),
            Descriptor::option,
        )
    }

    fn configure(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self { shared: Shared::new(settings)? })
    }

    fn needs(&self) -> Needs {
        let inputs = match self.shared.options.online {
            Online::Heard => INPUTS,
            Online::Unheard => UNHEARD,
        };
        Needs::new(inputs).together()
    }

    fn open(&mut self, opening: &Opening, actions: &mut Actions<'_>) -> Session {
        Session::new(&mut self.shared, opening, actions)
    }

    fn on_request(&mut self, session: &mut Session, bytes: &[u8], actions: &mut Actions<'_>) {
        session.on_request(&mut self.shared, bytes, actions);
    }

    fn on_response(&mut self, session: &mut Session, bytes: &[u8], actions: &mut Actions<'_>) -> usize {
        session.on_response(&mut self.shared, bytes, actions);
        bytes.len()
    }

    fn on_reference(&mut self, session: &mut Session, bytes: &[u8], actions: &mut Actions<'_>) -> usize {
        session.on_reference(&mut self.shared, bytes, actions);
        bytes.len()
    }

    fn on_reference_gap(&mut self, session: &mut Session, _: &mut Actions<'_>) {
        session.on_reference_gap();
    }

    fn on_connected(&mut self, session: &mut Session, actions: &mut Actions<'_>) {
        session.on_connected(actions);
    }

    fn on_connection_lost(&mut self, session: &mut Session, loss: Loss, actions: &mut Actions<'_>) {
        session.on_connection_lost(&mut self.shared, loss, actions);
    }

    fn on_gap(&mut self, session: &mut Session, actions: &mut Actions<'_>) {
        session.on_gap(&mut self.shared, actions);
    }

    fn on_timer(&mut self, session: &mut Session, actions: &mut Actions<'_>) {
        session.on_timer(actions);
    }
}

#[cfg(feature = "export")]
plugin_sdk::export_plugin!(Mysql);
