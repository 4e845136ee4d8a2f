//! What all sessions of one worker share.

use crate::config::EngineConfig;
use crate::counters::Counters;
use crate::flow::{Endpoint, FlowKey, FlowMap};
use crate::mapping::Mapper;
use crate::plugin::Hub;
use crate::protocol::ProtocolFactory;
use crate::seq::SeqNumber;
use crate::time::Instant;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use std::net::IpAddr;

/// A change to the routes by which `intercept` returns replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteChange {
    /// Replies of this flow are wanted, with so many payload bytes of each.
    Add {
        /// Whose replies.
        flow: FlowKey,
        /// Payload bytes wanted of each reply; 0 for headers only.
        body_limit: u32,
    },
    /// They are not wanted any more.
    Remove {
        /// Whose replies.
        flow: FlowKey,
    },
}

/// Everything that sessions reach beyond themselves.
pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) mapper: Mapper,
    pub(crate) counters: Counters,
    pub(crate) factory: Box<dyn ProtocolFactory>,
    pub(crate) hub: Hub,
    /// Which session has which flow, with the payload bytes that it wants of each reply.
    pub(crate) flows: FlowMap<FlowKey, (u32, u32)>,
    pub(crate) routes: Vec<RouteChange>,
    /// How far the capture has come, in nanoseconds of the Unix epoch; kept for recorded captures.
    pub(crate) captured_until: u64,
    /// Sessions alive whose client has ended: what remains of them is the target's business.
    pub(crate) finishing: u64,
    /// When the requests were captured that were sent since the caller last asked; kept for recorded captures.
    pub(crate) sent_requests: Vec<u64>,
    /// Path MTUs below the configured one, as found by failed sends.
    path_mtus: FlowMap<IpAddr, u32>,
}

impl Shared {
    pub(crate) fn new(config: EngineConfig, factory: Box<dyn ProtocolFactory>) -> Self {
        Self {
            mapper: Mapper::new(config.mapping.clone()),
            config,
            counters: Counters::default(),
            factory,
            hub: Hub::default(),
            flows: FlowMap::default(),
            routes: Vec::new(),
            captured_until: 0,
            finishing: 0,
            sent_requests: Vec::new(),
            path_mtus: FlowMap::default(),
        }
    }

    /// An address and port for `client` that no live session has at `target`, entered under `session`.
    pub(crate) fn claim_flow(
        &mut self,
        session: u32,
        client: Endpoint,
        target: Endpoint,
        copy: u16,
        attempt: u64,
        body_limit: u32,
    ) -> Option<FlowKey> {
        let flows = &self.flows;
        let flow = self.mapper.allocate(client, target, copy, attempt, &mut |f| flows.contains_key(f))?;
        self.flows.insert(flow, (session, body_limit));
        self.routes.push(RouteChange::Add { flow, body_limit });
        Some(flow)
    }

    /// Asks for more or fewer payload bytes of a flow's replies.
    pub(crate) fn change_body_limit(&mut self, flow: &FlowKey, body_limit: u32) {
        if let Some((_, limit)) = self.flows.get_mut(flow).filter(|(_, limit)| *limit != body_limit) {
            *limit = body_limit;
            self.routes.push(RouteChange::Add { flow: *flow, body_limit });
        }
    }

    /// Gives a flow back.
    pub(crate) fn release_flow(&mut self, flow: &FlowKey) {
        if self.flows.remove(flow).is_some() {
            self.routes.push(RouteChange::Remove { flow: *flow });
        }
    }

    /// An initial sequence number that grows with time for each flow (RFC 6528, section 3).
    pub(crate) fn initial_sequence(&self, flow: &FlowKey, now: Instant) -> SeqNumber {
        let hash = FixedState::with_seed(self.config.seed).hash_one(flow) as u32;
        SeqNumber(hash.wrapping_add((now.as_nanos() / 4000) as u32))
    }

    /// A start for the timestamp clock of a client that showed none.
    pub(crate) fn timestamp_offset(&self, client: IpAddr) -> u32 {
        FixedState::with_seed(self.config.seed ^ 0x7473).hash_one(client) as u32
    }

    /// Largest packet for `target`.
    pub(crate) fn mtu_for(&self, target: IpAddr) -> u32 {
        self.path_mtus.get(&target).copied().unwrap_or(self.config.mtu).min(self.config.mtu)
    }

    /// Remembers a smaller path MTU.
    pub(crate) fn lower_mtu(&mut self, target: IpAddr, mtu: u32) {
        let known = self.path_mtus.entry(target).or_insert(mtu);
        *known = (*known).min(mtu);
    }
}
