//! HTTP/1.0 and 1.1 for tcpcopy: requests one by one, filters, rewriting, sessions that stay logged in.
//!
//! The wire format is the business of [`codec`]; it knows nothing of replays. Everything else decides: `session` about a
//! client's bytes, `responses` about what the target says. What users may set is in `options`, and in the README.

mod answers;
mod carry;
pub mod codec;
mod credentials;
mod filter;
mod glob;
mod issued;
mod learning;
mod options;
mod responses;
mod rewrite;
mod session;
mod target;

use credentials::Credentials;
use options::Options;
use plugin_sdk::{Actions, ConfigError, Descriptor, Inputs, Loss, Needs, Opening, Plugin, Settings};
pub use session::Session;

/// The plugin.
#[derive(Debug)]
pub struct Http {
    options: Options,
    credentials: Option<Credentials>,
    /// For heads that are written anew.
    scratch: Vec<u8>,
}

impl Plugin for Http {
    type Session = Session;

    fn descriptor() -> Descriptor {
        options::descriptor()
    }

    fn configure(settings: &Settings) -> Result<Self, ConfigError> {
        let options = Options::read(settings)?;
        let credentials = options.credentials.as_ref().map(|options| Credentials::new(options.max));
        Ok(Self { options, credentials, scratch: Vec::new() })
    }

    fn needs(&self) -> Needs {
        match self.credentials {
            None => Needs::new(Inputs::RESPONSES),
            Some(_) => Needs::new(Inputs::RESPONSES | Inputs::REFERENCES).together(),
        }
    }

    fn open(&mut self, opening: &Opening, _: &mut Actions<'_>) -> Session {
        Session::new(self, opening)
    }

    fn on_request(&mut self, session: &mut Session, bytes: &[u8], actions: &mut Actions<'_>) {
        session.decide(self, bytes, actions);
    }

    fn on_response(&mut self, session: &mut Session, bytes: &[u8], actions: &mut Actions<'_>) -> usize {
        session.hear(self, bytes, actions)
    }

    fn on_response_end(&mut self, session: &mut Session, actions: &mut Actions<'_>) {
        session.hear_end(self, actions);
    }

    fn on_reference(&mut self, session: &mut Session, bytes: &[u8], actions: &mut Actions<'_>) -> usize {
        session.overhear(self, bytes, actions)
    }

    fn on_reference_gap(&mut self, session: &mut Session, actions: &mut Actions<'_>) {
        session.handle_reference_gap(actions);
    }

    fn on_connection_lost(&mut self, session: &mut Session, loss: Loss, actions: &mut Actions<'_>) {
        session.handle_loss(self, loss, actions);
    }

    fn on_gap(&mut self, session: &mut Session, actions: &mut Actions<'_>) {
        session.handle_gap(actions);
    }

    fn on_timer(&mut self, session: &mut Session, actions: &mut Actions<'_>) {
        session.handle_timer(actions);
    }

    fn on_ended(&mut self, session: Session) {
        if let (Some(mut learning), Some(table)) = (session.learning, &mut self.credentials) {
            learning.abandon(table);
        }
    }
}

#[cfg(feature = "export")]
plugin_sdk::export_plugin!(Http);
