//! The trait that a plugin implements.

use crate::{Actions, ClientEnd, ConfigError, Descriptor, Loss, Needs, Opening, Settings};

/// A protocol plugin: a filter for each session.
///
/// One value serves the sessions that share an instance; what belongs to one session is in [`Plugin::Session`]. Nothing is
/// remembered across instances, and an instance that fails is replaced by a new one.
///
/// # Bytes
/// Request bytes stay undecided until a handler takes them from the front with [`Actions::forward`] or [`Actions::discard`].
/// [`Plugin::on_request`] gets all that are undecided; what it leaves comes again, with more behind it. It is called whenever
/// request bytes come, however they were split on the way, so it decides about everything that it can: several requests may be
/// there at once. Bytes that need not be seen together are best decided as they come: the body of a large request passes piece
/// by piece.
///
/// It does not hold a request back to wait for the reply to the one before: the host sends requests in step with replies, as the
/// client did. For that it needs [`Actions::end_request`] at the end of each request, and [`Actions::reply_complete`] at the end
/// of each reply if response bytes were asked for.
///
/// # Panics
/// A panic in any method is a fault of the plugin: the session at hand ends, and the others of the instance are joined again.
/// Hostile bytes should lead to [`Actions::give_up`] or [`Actions::pass_through`], never to a panic.
pub trait Plugin: Sized + 'static {
    /// What the plugin knows of one session.
    type Session: 'static;

    /// What the plugin is. Must always give the same.
    fn descriptor() -> Descriptor;

    /// Makes an instance. Must give the same for the same settings.
    ///
    /// # Errors
    /// When settings contradict each other or make no sense; the text is shown to the user as tcpcopy starts.
    fn configure(settings: &Settings) -> Result<Self, ConfigError>;

    /// What the instance needs, now that it is configured.
    fn needs(&self) -> Needs;

    /// A session begins. No bytes are there yet.
    fn open(&mut self, opening: &Opening, actions: &mut Actions<'_>) -> Self::Session;

    /// Request bytes came: `bytes` are all undecided ones, the new ones at the end.
    fn on_request(&mut self, session: &mut Self::Session, bytes: &[u8], actions: &mut Actions<'_>);

    /// Response bytes of the target came: `bytes` are those that were not consumed yet, the new ones at the end. Returns how
    /// many are consumed; the rest comes again, with more.
    ///
    /// # Panics
    /// The SDK panics when more than `bytes.len()` is returned.
    fn on_response(&mut self, session: &mut Self::Session, bytes: &[u8], actions: &mut Actions<'_>) -> usize {
        let _ = (session, actions);
        bytes.len()
    }

    /// The target closed its side after everything delivered so far. Bytes that were not consumed are dropped after this call.
    fn on_response_end(&mut self, session: &mut Self::Session, actions: &mut Actions<'_>) {
        let _ = (session, actions);
    }

    /// Bytes that the online server sent to the client came. As with [`Plugin::on_response`].
    fn on_reference(
        &mut self,
        session: &mut Self::Session,
        bytes: &[u8],
        actions: &mut Actions<'_>,
    ) -> usize {
        let _ = (session, actions);
        bytes.len()
    }

    /// Bytes of the online server are missing before those that come next. Bytes that were not consumed are dropped.
    fn on_reference_gap(&mut self, session: &mut Self::Session, actions: &mut Actions<'_>) {
        let _ = (session, actions);
    }

    /// A connection to the target is established: the first one, or one in place of a lost one. Nothing of the client's is sent
    /// before [`Actions::ready`]; what [`Actions::send`] adds until then (a login) goes at once.
    fn on_connected(&mut self, session: &mut Self::Session, actions: &mut Actions<'_>) {
        let _ = session;
        actions.ready();
    }

    /// The connection to the target is gone; it needs not be asked for. Response bytes that were not consumed are dropped before
    /// this call.
    fn on_connection_lost(&mut self, session: &mut Self::Session, loss: Loss, actions: &mut Actions<'_>) {
        let _ = (session, loss, actions);
    }

    /// Request bytes were not captured. Undecided bytes have been discarded before this call; the request that they belong to
    /// can't be completed. What comes next begins at an unknown place: discard until a request surely begins. Up to the first
    /// byte that is not discarded, it goes with the incomplete request.
    fn on_gap(&mut self, session: &mut Self::Session, actions: &mut Actions<'_>);

    /// The client ended its side after everything delivered so far.
    fn on_close(&mut self, session: &mut Self::Session, end: ClientEnd, actions: &mut Actions<'_>) {
        let _ = (session, end, actions);
    }

    /// The moment asked for with [`Actions::set_timer`] has come.
    fn on_timer(&mut self, session: &mut Self::Session, actions: &mut Actions<'_>) {
        let _ = (session, actions);
    }

    /// The session is over, on whichever side's wish.
    fn on_ended(&mut self, session: Self::Session) {
        drop(session);
    }
}
