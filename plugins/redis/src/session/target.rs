//! What the target says, and its connections.

use super::Session;
use crate::answers::{During, Preamble, Sink};
use crate::explain;
use plugin_sdk::{Actions, Level, Loss};

impl Session {
    /// Takes the target's bytes.
    pub fn on_response(&mut self, bytes: &[u8], actions: &mut Actions<'_>) -> usize {
        match self.answers.feed(bytes, &mut Teller(actions)) {
            Ok(taken) => taken,
            Err(error) => {
                actions.count(&format!("invalid reply: {error}"), 1);
                actions.log(Level::Warn, &format!("the target sends what is no RESP ({error}); the session goes on as without the plugin"));
                actions.pass_through();
                bytes.len()
            }
        }
    }

    /// A connection to the target is there.
    pub fn on_connected(&mut self, actions: &mut Actions<'_>) {
        let mut bytes = Vec::new();
        let preamble = self.answers.connect(&mut bytes);
        actions.prepare(&bytes);
        if preamble == Preamble::None {
            actions.ready();
        }
    }

    /// The connection to the target is lost.
    pub fn on_connection_lost(&mut self, loss: Loss) {
        self.answers.lose(loss.unanswered);
        self.interrupted |= loss.interrupted;
    }
}

/// Tells the host what came from the target.
struct Teller<'a, 'b>(&'a mut Actions<'b>);

impl Sink for Teller<'_, '_> {
    #[inline]
    fn reply_complete(&mut self) {
        self.0.reply_complete();
    }

    fn ready(&mut self) {
        self.0.ready();
    }

    fn error(&mut self, word: &str, during: During) {
        self.0.count(&explain::error(word, during), 1);
    }

    fn unexpected(&mut self) {
        self.0.count("replies to nothing", 1);
    }
}
