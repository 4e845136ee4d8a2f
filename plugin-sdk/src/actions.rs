//! What a handler may do.

use crate::descriptor::Inputs;
use crate::words::{Level, Reply, Timestamp};
use std::time::Duration;
use tcpcopy_plugin_abi as abi;

/// What the SDK asks of the host, whatever the plugin is made into.
pub(crate) trait HostCalls {
    fn log(&self, level: Level, message: &str);
    fn count(&self, name: &str, amount: u64);
    fn random(&self, into: &mut [u8]);
    fn enter(&self, session: u64);
}

/// What came of a batch. Kept between batches for its memory.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) actions: Vec<abi::Action>,
    pub(crate) bytes: Vec<u8>,
}

impl Outcome {
    pub(crate) fn clear(&mut self) {
        self.actions.clear();
        self.bytes.clear();
    }
}

/// Whether a session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    On,
    Over,
}

/// Whether `on_request` is to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    No,
    Wanted,
}

/// What a handler may do to its session. Actions take effect in the order in which they are called.
///
/// After [`Actions::close`], [`Actions::give_up`] or [`Actions::pass_through`] the session is over for the plugin, and further
/// actions are ignored.
pub struct Actions<'a> {
    pub(crate) outcome: &'a mut Outcome,
    pub(crate) host: &'a dyn HostCalls,
    pub(crate) session: u64,
    pub(crate) at: u64,
    pub(crate) undecided: usize,
    pub(crate) taken: usize,
    pub(crate) wanted: Inputs,
    pub(crate) needed: Inputs,
    pub(crate) course: Course,
    pub(crate) resume: Resume,
}

impl std::fmt::Debug for Actions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actions")
            .field("session", &self.session)
            .field("undecided", &self.undecided)
            .field("course", &self.course)
            .finish_non_exhaustive()
    }
}

impl Actions<'_> {
    #[inline]
    fn push(&mut self, kind: u32, value: u64, length: u32) {
        if self.course == Course::On {
            self.outcome.actions.push(abi::Action { session: self.session, value, length, kind });
        }
    }

    /// Takes bytes from the front; joins what was taken the same way just before.
    #[inline]
    fn take(&mut self, kind: u32, name: &str, bytes: usize) {
        if self.course == Course::Over || bytes == 0 {
            return;
        }
        assert!(
            bytes <= self.undecided,
            "plugin defect: {name}({bytes}) with {} undecided request bytes",
            self.undecided
        );
        self.undecided -= bytes;
        self.taken += bytes;
        if let Some(last) = self.outcome.actions.last_mut()
            && last.kind == kind
            && last.session == self.session
            && last.value + bytes as u64 <= u64::from(u32::MAX)
        {
            last.value += bytes as u64;
            return;
        }
        self.push(kind, bytes as u64, 0);
    }

    /// Leaves all undecided bytes out, because bytes are missing behind them; what is decided next is about what follows.
    pub(crate) fn pass_gap(&mut self) {
        self.discard(self.undecided);
        self.push(abi::output::DISCARD, 0, 0);
    }

    fn text(&mut self, kind: u32, text: &str) {
        if self.course == Course::On {
            let start = self.outcome.bytes.len() as u64;
            self.outcome.bytes.extend_from_slice(text.as_bytes());
            self.push(kind, start, length(text.len()));
        }
    }

    /// Sends the next `bytes` undecided request bytes as they are. They are not copied.
    ///
    /// # Panics
    /// When fewer are undecided.
    #[inline]
    pub fn forward(&mut self, bytes: usize) {
        self.take(abi::output::FORWARD, "forward", bytes);
    }

    /// Leaves the next `bytes` undecided request bytes out.
    ///
    /// # Panics
    /// When fewer are undecided.
    #[inline]
    pub fn discard(&mut self, bytes: usize) {
        self.take(abi::output::DISCARD, "discard", bytes);
    }

    /// Sends `with` in place of the next `bytes` undecided request bytes.
    ///
    /// # Panics
    /// When fewer are undecided.
    pub fn replace(&mut self, bytes: usize, with: &[u8]) {
        self.discard(bytes);
        self.send(with);
    }

    /// Sends these bytes. They belong to the request under way, or begin one.
    pub fn send(&mut self, bytes: &[u8]) {
        self.give(abi::output::SEND, bytes);
    }

    /// Between [`crate::Plugin::on_connected`] and [`Actions::ready`]: sends these bytes at once. They belong to no request, and are
    /// gone with the connection.
    pub fn prepare(&mut self, bytes: &[u8]) {
        self.give(abi::output::PREPARE, bytes);
    }

    fn give(&mut self, kind: u32, bytes: &[u8]) {
        if self.course == Course::Over || bytes.is_empty() {
            return;
        }
        let start = self.outcome.bytes.len() as u64;
        self.outcome.bytes.extend_from_slice(bytes);
        if let Some(last) = self.outcome.actions.last_mut()
            && last.kind == kind
            && last.session == self.session
            && last.value + u64::from(last.length) == start
        {
            last.length = length(last.length as usize + bytes.len());
            return;
        }
        self.push(kind, start, length(bytes.len()));
    }

    /// The request under way ends here. The next one is sent as the client did it: at once when it was pipelined, else after
    /// [`Actions::reply_complete`] for all before it.
    #[inline]
    pub fn end_request(&mut self, reply: Reply) {
        self.push(abi::output::END_REQUEST, u64::from(reply == Reply::NotExpected), 0);
    }

    /// The oldest request that expects a reply has it completely.
    #[inline]
    pub fn reply_complete(&mut self) {
        self.push(abi::output::REPLY_COMPLETE, 0, 0);
    }

    /// The new connection may carry requests now.
    pub fn ready(&mut self) {
        self.push(abi::output::READY, 0, 0);
    }

    /// The target won't answer more on this connection: what follows goes to a new one.
    pub fn reconnect(&mut self) {
        self.push(abi::output::RECONNECT, 0, 0);
    }

    /// Closes the connection behind what was decided so far, and ends the session. What is undecided, and what the client sends
    /// later, is left out.
    pub fn close(&mut self) {
        self.push(abi::output::CLOSE, 0, 0);
        self.course = Course::Over;
    }

    /// Ends the session for a reason that the report shows and counts: keep to few different texts, without data of the session.
    pub fn give_up(&mut self, reason: &str) {
        self.text(abi::output::GIVE_UP, reason);
        self.course = Course::Over;
    }

    /// From the next undecided byte on, be as transparent as with no plugin. The session is not heard of again: what was decided
    /// before goes out as it was decided, but without waiting for [`Actions::reply_complete`], and connections are not prepared
    /// any more.
    pub fn pass_through(&mut self) {
        self.push(abi::output::PASS_THROUGH, 0, 0);
        self.course = Course::Over;
    }

    /// A summary of one exchange, to compare or to look at.
    pub fn observe(&mut self, summary: &str) {
        self.text(abi::output::OBSERVE, summary);
    }

    /// Calls [`Plugin::on_timer`](crate::Plugin::on_timer) so long after what is being handled; replaces an earlier wish.
    pub fn set_timer(&mut self, after: Duration) {
        self.push(abi::output::SET_TIMER, u64::try_from(after.as_nanos()).unwrap_or(u64::MAX), 0);
    }

    /// No timer.
    pub fn clear_timer(&mut self) {
        self.push(abi::output::CLEAR_TIMER, 0, 0);
    }

    /// From now on, only these inputs. Those that [`Plugin::needs`](crate::Plugin::needs) did not name don't come all the same.
    /// Bytes of responses or references that were not consumed are dropped when those are not wanted any more.
    pub fn want(&mut self, inputs: Inputs) {
        if self.course == Course::On {
            self.wanted = inputs.intersection(self.needed);
            self.push(abi::output::WANT, u64::from(self.wanted.bits()), 0);
        }
    }

    /// Calls [`Plugin::on_request`](crate::Plugin::on_request) again after this handler, if request bytes are undecided then: for
    /// a handler that learns something they waited for. In `on_request` itself it has an effect only if that call decided about
    /// bytes, so that it always comes to an end. Where [`Plugin::on_response`](crate::Plugin::on_response) asked for it and left
    /// bytes unconsumed, it is called again with those afterwards.
    pub fn resume(&mut self) {
        self.resume = Resume::Wanted;
    }

    /// Whether [`Actions::resume`] will call `on_request` after this handler. What depends on the bytes that it decides about has to
    /// wait until then: `on_response` may leave the rest of what it was given unconsumed.
    pub fn is_resuming(&self) -> bool {
        self.resume == Resume::Wanted && self.undecided > 0 && self.course == Course::On
    }

    /// When what is being handled happened: the time of capture for what was captured.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.at)
    }

    /// Adds to a named number that the report shows. Names are few (the host keeps at most 1024, of at most 200 bytes) and
    /// without data of the session.
    pub fn count(&self, name: &str, amount: u64) {
        self.host.count(name, amount);
    }

    /// Writes a message to tcpcopy's log. The host limits their rate.
    pub fn log(&self, level: Level, message: &str) {
        self.host.log(level, message);
    }

    /// Fills `into` with random bytes; the same again for the same seed of tcpcopy.
    pub fn random(&self, into: &mut [u8]) {
        self.host.random(into);
    }

    /// How many request bytes are still undecided.
    #[inline]
    pub fn undecided(&self) -> usize {
        self.undecided
    }

    /// Number of the session: unique in the instance.
    pub fn session(&self) -> u64 {
        self.session
    }
}

/// A length as in the interface.
fn length(bytes: usize) -> u32 {
    match u32::try_from(bytes) {
        Ok(length) => length,
        Err(_) => panic!("plugin defect: {bytes} bytes in one call"),
    }
}
