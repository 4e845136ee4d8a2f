//! Who wants the replies of which flow.
//!
//! Connections of one worker of one `tcpcopy` instance form a group; a route belongs to a group, so that it outlives any of
//! the group's connections. This module owns that bookkeeping; sockets are the program's, and so is time.

use super::hello::PeerId;
use super::message::RouteRefusal;
use crate::flow::{FlowKey, FlowMap};
use crate::time::{Duration, Instant};
use slab::Slab;
use smallvec::SmallVec;
use std::hash::BuildHasher;

/// One relay connection, by a number that is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// One worker of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupId(usize);

/// Bounds of a [`RouteTable`].
#[derive(Clone, Copy, Debug)]
pub struct RouteLimits {
    /// Routes that the table holds at most.
    pub max_routes: usize,
    /// A route that no reply used for this long is dropped: a safety net for removals that got lost.
    pub idle_timeout: Duration,
    /// How long a group without connections keeps its routes.
    pub grace: Duration,
}

struct Group {
    instance: [u8; 16],
    worker: u16,
    /// Live connections with their number within the group.
    connections: SmallVec<[(u16, ConnectionId); 4]>,
    /// When the last connection was lost.
    lost_at: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Route {
    group: GroupId,
    /// The connection that the flow's replies go over while it lives, so that they stay in order.
    connection: Option<ConnectionId>,
    body_limit: u32,
    last_used: Instant,
    last_seen: Option<Sighting>,
}

/// One reply as it was seen on one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// A hash of its headers.
    pub fingerprint: u64,
    /// When it was captured, in nanoseconds of the Unix epoch.
    pub captured_at_nanos: u64,
}

impl Sighting {
    /// A packet passes from a port to its bridge, or from a link to its bond, within this; a target sends nothing again so soon.
    const WINDOW_NANOS: u64 = 200_000;

    const fn is_again(&self, earlier: &Self) -> bool {
        self.fingerprint == earlier.fingerprint
            && self.captured_at_nanos.abs_diff(earlier.captured_at_nanos) < Self::WINDOW_NANOS
    }
}

/// Where a reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Over this connection, with that many bytes of the body.
    Connection(ConnectionId, u32),
    /// Nowhere for now: the group that wants it has lost its connections.
    Lost,
    /// Nobody has asked for it.
    NoRoute,
    /// Nowhere again: the same packet was seen on another interface a moment ago (a bridge and its port, a bond and its link).
    Repeated,
}

/// What became of a new route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteAdded {
    /// It is new.
    New,
    /// It was there, and now has this body limit; or another worker of the instance, or an instance that is gone, had it.
    Updated,
}

/// All routes and the groups that they belong to.
pub struct RouteTable {
    routes: FlowMap<FlowKey, Route>,
    groups: Slab<Group>,
    limits: RouteLimits,
    with_bodies: usize,
    next_sweep: Instant,
}

impl RouteTable {
    /// An empty table with room for `capacity` routes from the start.
    pub fn new(limits: RouteLimits, capacity: usize) -> Self {
        Self {
            routes: FlowMap::with_capacity_and_hasher(capacity.min(limits.max_routes), Default::default()),
            groups: Slab::new(),
            limits,
            with_bodies: 0,
            next_sweep: Instant::ZERO,
        }
    }

    /// Number of routes.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Whether any route asks for bodies.
    pub const fn wants_bodies(&self) -> bool {
        self.with_bodies > 0
    }

    /// Adds a connection to its group. When the group has one with the same number already, that one is dead without our
    /// knowing; it is taken out and returned, to be closed.
    pub fn attach(&mut self, peer: PeerId, connection: ConnectionId) -> (GroupId, Option<ConnectionId>) {
        let found = self
            .groups
            .iter()
            .find(|(_, group)| group.instance == peer.instance && group.worker == peer.worker)
            .map(|(id, _)| id);
        let id = found.unwrap_or_else(|| {
            self.groups.insert(Group {
                instance: peer.instance,
                worker: peer.worker,
                connections: SmallVec::new(),
                lost_at: None,
            })
        });
        let group = &mut self.groups[id];
        let replaced = group
            .connections
            .iter()
            .position(|(number, _)| *number == peer.connection)
            .map(|at| group.connections.remove(at).1);
        group.connections.push((peer.connection, connection));
        group.connections.sort_unstable_by_key(|(number, _)| *number);
        group.lost_at = None;
        (GroupId(id), replaced)
    }

    /// Takes a connection out of its group; the routes stay for [`RouteLimits::grace`] should it have been the last.
    pub fn detach(&mut self, group: GroupId, connection: ConnectionId, now: Instant) {
        if let Some(group) = self.groups.get_mut(group.0) {
            group.connections.retain(|(_, other)| *other != connection);
            if group.connections.is_empty() && group.lost_at.is_none() {
                group.lost_at = Some(now);
            }
        }
    }

    /// Adds a route, or changes the body limit of the one that is there.
    ///
    /// # Errors
    /// When a live group of another instance has a route of the same flow, or the table is full.
    pub fn add(
        &mut self,
        group: GroupId,
        flow: FlowKey,
        body_limit: u32,
        now: Instant,
    ) -> Result<RouteAdded, RouteRefusal> {
        let Some(new_owner) = self.groups.get(group.0) else { return Err(RouteRefusal::Owned) };
        let full = self.routes.len() >= self.limits.max_routes;
        let fresh = Route { group, connection: None, body_limit, last_used: now, last_seen: None };
        let added = match self.routes.get_mut(&flow) {
            Some(route) if route.group == group => {
                self.with_bodies -= usize::from(route.body_limit > 0);
                // The connection stays: replies are on their way over it.
                route.body_limit = body_limit;
                route.last_used = now;
                RouteAdded::Updated
            }
            Some(route) => {
                let is_owned_elsewhere = self.groups.get(route.group.0).is_some_and(|owner| {
                    owner.instance != new_owner.instance && !owner.connections.is_empty()
                });
                if is_owned_elsewhere {
                    return Err(RouteRefusal::Owned);
                }
                self.with_bodies -= usize::from(route.body_limit > 0);
                *route = fresh;
                RouteAdded::Updated
            }
            None if full => return Err(RouteRefusal::TableFull),
            None => {
                self.routes.insert(flow, fresh);
                RouteAdded::New
            }
        };
        self.with_bodies += usize::from(body_limit > 0);
        Ok(added)
    }

    /// Removes a route if the group owns it.
    pub fn remove(&mut self, group: GroupId, flow: &FlowKey) {
        if self.routes.get(flow).is_some_and(|route| route.group == group)
            && let Some(route) = self.routes.remove(flow)
        {
            self.with_bodies -= usize::from(route.body_limit > 0);
        }
    }

    /// Where a reply of `flow` goes; its route is marked as used. `sighting` is given where one packet may be captured on
    /// several interfaces.
    pub fn destination(&mut self, flow: &FlowKey, sighting: Option<Sighting>, now: Instant) -> Destination {
        let hasher = self.routes.hasher().clone();
        let Some(route) = self.routes.get_mut(flow) else { return Destination::NoRoute };
        route.last_used = now;
        if let Some(sighting) = sighting
            && route.last_seen.replace(sighting).is_some_and(|earlier| sighting.is_again(&earlier))
        {
            return Destination::Repeated;
        }
        let Some(group) = self.groups.get(route.group.0) else { return Destination::Lost };
        let connections = &group.connections;
        let current = route.connection.filter(|id| connections.iter().any(|(_, other)| other == id));
        route.connection = current.or_else(|| {
            let count = connections.len() as u64;
            (count > 0).then(|| connections[(hasher.hash_one(flow) % count) as usize].1)
        });
        match route.connection {
            Some(connection) => Destination::Connection(connection, route.body_limit),
            None => Destination::Lost,
        }
    }

    /// Drops groups that have been without connections for too long, with their routes, and routes that nothing has used
    /// for too long. Returns the number of routes dropped.
    pub fn expire(&mut self, now: Instant) -> usize {
        let grace = self.limits.grace;
        let before = self.groups.len();
        self.groups
            .retain(|_, group| group.lost_at.is_none_or(|lost_at| now.saturating_since(lost_at) < grace));
        let is_sweep_due = now >= self.next_sweep;
        if self.groups.len() == before && !is_sweep_due {
            return 0;
        }
        let timeout = self.limits.idle_timeout;
        if is_sweep_due {
            self.next_sweep = now + (timeout / 8).max(Duration::from_secs(1));
        }
        let (groups, with_bodies, routes) = (&self.groups, &mut self.with_bodies, self.routes.len());
        self.routes.retain(|_, route| {
            let keep = groups.contains(route.group.0) && now.saturating_since(route.last_used) < timeout;
            *with_bodies -= usize::from(!keep && route.body_limit > 0);
            keep
        });
        routes - self.routes.len()
    }

    /// When [`RouteTable::expire`] will next have something to do; `None` while there is nothing that could expire.
    pub fn next_expiry(&self) -> Option<Instant> {
        let lost = self.groups.iter().filter_map(|(_, group)| Some(group.lost_at? + self.limits.grace)).min();
        let sweep = (!self.routes.is_empty()).then_some(self.next_sweep);
        lost.into_iter().chain(sweep).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Endpoint;
    use std::net::Ipv4Addr;

    const LIMITS: RouteLimits = RouteLimits {
        max_routes: 100,
        idle_timeout: Duration::from_secs(100),
        grace: Duration::from_secs(30),
    };

    fn flow(port: u16) -> FlowKey {
        FlowKey {
            client: Endpoint::new(Ipv4Addr::new(10, 0, 0, 1).into(), port),
            target: Endpoint::new(Ipv4Addr::new(10, 0, 0, 2).into(), 80),
        }
    }

    fn peer(instance: u8, worker: u16, connection: u16) -> PeerId {
        PeerId { instance: [instance; 16], worker, connection }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    #[test]
    fn a_flow_keeps_its_connection_while_that_lives() {
        let mut table = RouteTable::new(LIMITS, 0);
        let (group, _) = table.attach(peer(1, 0, 0), ConnectionId(10));
        for port in 0..50 {
            assert_eq!(table.add(group, flow(port), 7, at(0)), Ok(RouteAdded::New));
            assert_eq!(
                table.destination(&flow(port), None, at(0)),
                Destination::Connection(ConnectionId(10), 7)
            );
        }
        table.attach(peer(1, 0, 1), ConnectionId(11));
        for port in 0..50 {
            assert_eq!(
                table.destination(&flow(port), None, at(0)),
                Destination::Connection(ConnectionId(10), 7)
            );
        }
        table.detach(group, ConnectionId(10), at(1));
        for port in 0..50 {
            assert_eq!(
                table.destination(&flow(port), None, at(1)),
                Destination::Connection(ConnectionId(11), 7)
            );
        }
        table.detach(group, ConnectionId(11), at(1));
        assert_eq!(table.destination(&flow(3), None, at(1)), Destination::Lost);
    }

    #[test]
    fn new_flows_spread_over_the_connections_of_the_group() {
        let mut table = RouteTable::new(LIMITS, 0);
        let (group, _) = table.attach(peer(1, 0, 0), ConnectionId(10));
        table.attach(peer(1, 0, 1), ConnectionId(11));
        let mut counts = [0; 2];
        for port in 0..100 {
            table.add(group, flow(port), 0, at(0)).unwrap();
            match table.destination(&flow(port), None, at(0)) {
                Destination::Connection(id, 0) => counts[(id.0 - 10) as usize] += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
    }

    #[test]
    fn another_instance_gets_a_flow_only_when_its_owner_is_gone() {
        let mut table = RouteTable::new(LIMITS, 0);
        let (first, _) = table.attach(peer(1, 0, 0), ConnectionId(1));
        let (sibling, _) = table.attach(peer(1, 1, 0), ConnectionId(2));
        let (other, _) = table.attach(peer(2, 0, 0), ConnectionId(3));
        table.add(first, flow(1), 0, at(0)).unwrap();
        assert_eq!(table.add(other, flow(1), 0, at(0)), Err(RouteRefusal::Owned));
        table.remove(other, &flow(1));
        assert_eq!(table.destination(&flow(1), None, at(0)), Destination::Connection(ConnectionId(1), 0));
        assert_eq!(table.add(sibling, flow(1), 0, at(0)), Ok(RouteAdded::Updated));
        assert_eq!(table.destination(&flow(1), None, at(0)), Destination::Connection(ConnectionId(2), 0));
        table.detach(sibling, ConnectionId(2), at(1));
        assert_eq!(table.add(other, flow(1), 0, at(1)), Ok(RouteAdded::Updated));
        assert_eq!(table.destination(&flow(1), None, at(1)), Destination::Connection(ConnectionId(3), 0));
    }

    #[test]
    fn routes_outlive_their_connection_for_the_grace_time() {
        let mut table = RouteTable::new(LIMITS, 0);
        let (group, _) = table.attach(peer(1, 0, 0), ConnectionId(1));
        table.add(group, flow(1), 5, at(0)).unwrap();
        assert_eq!(table.expire(at(0)), 0);
        table.detach(group, ConnectionId(1), at(1));
        assert_eq!(table.next_expiry(), Some(at(0) + Duration::from_millis(12_500)));
        assert_eq!(table.expire(at(30)), 0);
        let (again, replaced) = table.attach(peer(1, 0, 0), ConnectionId(2));
        assert_eq!((again, replaced), (group, None));
        assert_eq!(table.destination(&flow(1), None, at(31)), Destination::Connection(ConnectionId(2), 5));
        table.detach(group, ConnectionId(2), at(40));
        assert!(table.wants_bodies());
        assert_eq!(table.expire(at(70)), 1);
        assert!(table.is_empty() && !table.wants_bodies());
        assert_eq!(table.destination(&flow(1), None, at(70)), Destination::NoRoute);
    }

    #[test]
    fn unused_routes_time_out_and_the_table_is_bounded() {
        let mut table = RouteTable::new(LIMITS, 0);
        let (group, _) = table.attach(peer(1, 0, 0), ConnectionId(1));
        for port in 0..100 {
            table.add(group, flow(port), 0, at(0)).unwrap();
        }
        assert_eq!(table.add(group, flow(100), 0, at(0)), Err(RouteRefusal::TableFull));
        assert_eq!(table.add(group, flow(7), 9, at(0)), Ok(RouteAdded::Updated));
        table.destination(&flow(7), None, at(90));
        assert_eq!(table.expire(at(101)), 99);
        assert_eq!(table.destination(&flow(7), None, at(101)), Destination::Connection(ConnectionId(1), 9));
    }

    #[test]
    fn a_connection_that_comes_back_replaces_its_dead_self() {
        let mut table = RouteTable::new(LIMITS, 0);
        let (group, _) = table.attach(peer(1, 0, 0), ConnectionId(1));
        table.add(group, flow(1), 0, at(0)).unwrap();
        assert_eq!(table.attach(peer(1, 0, 0), ConnectionId(2)), (group, Some(ConnectionId(1))));
        table.detach(group, ConnectionId(1), at(0));
        assert_eq!(table.destination(&flow(1), None, at(0)), Destination::Connection(ConnectionId(2), 0));
    }

    #[test]
    fn a_packet_seen_twice_goes_out_once() {
        let mut table = RouteTable::new(LIMITS, 0);
        let (group, _) = table.attach(peer(1, 0, 0), ConnectionId(1));
        table.add(group, flow(1), 0, at(0)).unwrap();
        let mut see = |fingerprint, captured_at_nanos| {
            table.destination(&flow(1), Some(Sighting { fingerprint, captured_at_nanos }), at(0))
        };
        let sent = Destination::Connection(ConnectionId(1), 0);
        assert_eq!(see(7, 1_000), sent);
        assert_eq!(see(7, 3_000), Destination::Repeated);
        assert_eq!(see(8, 4_000), sent, "another packet");
        assert_eq!(see(8, 10_000_000), sent, "sent again by the target");
    }
}
