//! Target servers: smoltcp below, a small application above.
//!
//! Each flow has a network interface and at most one socket of its own, so that the cost of a connection does not depend on
//! how many there are. The application reads requests, counts what it has read, and answers. Like a program on a usual kernel
//! it reads nothing once it has closed: what comes then is answered with a reset.

use crate::profile::ServerKind;
use crate::request::{HEADER_LEN, Header};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::cell::Cell;
use std::collections::VecDeque;
use tcpcopy_engine::flow::FlowKey;

/// What one connection brought.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Bytes that the application read.
    pub read: Vec<u8>,
    /// Bytes that TCP took and the application never read, because it had closed or the connection was reset.
    pub unread: usize,
    /// When its SYN came, in microseconds of the run.
    pub opened_at: u64,
    /// Requests that came while an earlier one was not answered yet: which, and the oldest of those.
    pub overlaps: Vec<(u32, u32)>,
}

/// The server's end of one flow.
pub struct Server {
    /// The flow as the engine names it.
    pub flow: FlowKey,
    kind: ServerKind,
    device: Queue,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: Option<SocketHandle>,
    application: Application,
    options: ServerOptions,
    /// All connections so far, the present one last.
    pub connections: Vec<Connection>,
    /// When the server wants to be run, in microseconds of the run; kept by the world.
    pub scheduled: Option<u64>,
}

/// What differs from flow to flow.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptions {
    /// Largest packet of the interface.
    pub mtu: usize,
    /// Receive buffer in bytes.
    pub receive_buffer: usize,
    /// Whether small segments wait for acknowledgements.
    pub nagle: bool,
    /// Whether timestamps are answered.
    pub timestamps: bool,
    /// Seed of the interface's own numbers.
    pub seed: u64,
}

#[derive(Debug, Default)]
struct Application {
    /// Bytes read and parsed.
    parsed: usize,
    /// Where the request begins whose header was read last.
    last_header: Option<usize>,
    /// Requests read and not answered, and how many bytes of their answers are not written.
    unanswered: VecDeque<(u32, u64)>,
    /// Bytes of the greeting to be written.
    greeting: u64,
    /// Response bytes to be written, and when the next request may be answered.
    owed: u64,
    /// Requests answered.
    served: u32,
    late: VecDeque<(u64, u64)>,
    next_read: u64,
    greeted: bool,
    closing: bool,
    closed: bool,
    confused: bool,
}

impl Server {
    /// The server's end of `flow`.
    pub fn new(flow: FlowKey, kind: ServerKind, options: ServerOptions, now: u64) -> Self {
        let mut device = Queue { mtu: options.mtu, ..Queue::default() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = options.seed;
        let mut interface = Interface::new(config, &mut device, at(now));
        let address = IpAddress::from(flow.target.addr);
        interface.update_ip_addrs(|all| {
            // The list is empty, and has room for one.
            let _ = all.push(IpCidr::new(address, 8));
        });
        Self {
            flow,
            kind,
            device,
            interface,
            sockets: SocketSet::new(Vec::new()),
            socket: None,
            application: Application::default(),
            options,
            connections: Vec::new(),
            scheduled: None,
        }
    }

    /// Takes a packet. A SYN for which no socket is in use opens one, unless `refuse`.
    pub fn receive(&mut self, packet: &[u8], is_syn: bool, admission: Admission, now: u64) {
        if is_syn && admission == Admission::Granted && self.is_free() {
            self.listen(now);
        }
        self.device.incoming.push_back(packet.to_vec());
    }

    fn is_free(&self) -> bool {
        let state = self.socket.map(|handle| self.sockets.get::<Socket<'_>>(handle).state());
        matches!(state, None | Some(State::Closed | State::TimeWait))
    }

    fn listen(&mut self, now: u64) {
        self.note_unread();
        if let Some(handle) = self.socket.take() {
            self.sockets.remove(handle);
        }
        let mut socket = Socket::new(
            SocketBuffer::new(vec![0; self.options.receive_buffer]),
            SocketBuffer::new(vec![0; 65_536]),
        );
        socket.set_nagle_enabled(self.options.nagle);
        if self.options.timestamps {
            socket.set_tsval_generator(Some(timestamp));
        }
        let endpoint = (IpAddress::from(self.flow.target.addr), self.flow.target.port);
        if socket.listen(endpoint).is_ok() {
            self.socket = Some(self.sockets.add(socket));
            self.application = Application::default();
            self.connections.push(Connection { opened_at: now, ..Connection::default() });
        }
    }

    /// Runs the stack and the application; packets to be sent are appended to `out`. Returns when to run it again, in
    /// microseconds of the run.
    pub fn run(&mut self, now: u64, out: &mut Vec<Vec<u8>>) -> Option<u64> {
        TIMESTAMP.set((now / 1000) as u32);
        loop {
            self.interface.poll(at(now), &mut self.device, &mut self.sockets);
            if !self.run_application(now) {
                break;
            }
        }
        self.note_unread();
        out.append(&mut self.device.outgoing);
        let stack = self.interface.poll_at(at(now), &self.sockets).map(|t| t.total_micros() as u64);
        [stack, self.application_deadline(now)].into_iter().flatten().min().map(|t| t.max(now + 10))
    }

    fn application_deadline(&self, now: u64) -> Option<u64> {
        let handle = self.socket?;
        let late = self.application.late.front().map(|(due, _)| *due);
        let waiting = self.sockets.get::<Socket<'_>>(handle).recv_queue() > 0;
        let read = (waiting && self.application.next_read > now).then_some(self.application.next_read);
        [late, read].into_iter().flatten().min()
    }

    /// Returns whether anything was done.
    fn run_application(&mut self, now: u64) -> bool {
        let (Some(handle), Some(connection)) = (self.socket, self.connections.last_mut()) else {
            return false;
        };
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        if matches!(socket.state(), State::Listen | State::SynReceived) {
            return false;
        }
        let app = &mut self.application;
        if app.closed {
            // Nobody reads any more: kernels answer with a reset what comes for a closed socket.
            let resets = socket.recv_queue() > 0 && socket.state() != State::Closed;
            if resets {
                connection.unread = socket.recv_queue();
                socket.abort();
            }
            return resets;
        }
        let mut done = false;
        if let (ServerKind::Greets(len), false) = (self.kind, app.greeted) {
            app.greeted = true;
            app.owed += u64::from(len);
            app.greeting = u64::from(len);
            done = true;
        }
        done |= app.read(self.kind, socket, connection, now);
        done |= app.answer(socket, now);
        app.close(self.kind, socket, connection) || done
    }

    fn note_unread(&mut self) {
        let Some(connection) = self.connections.last_mut() else { return };
        if let Some(handle) = self.socket {
            let queued = self.sockets.get::<Socket<'_>>(handle).recv_queue();
            connection.unread = connection.unread.max(queued);
            if queued == 0 && !self.application.closed {
                connection.unread = 0;
            }
        }
    }
}

impl Application {
    fn read(
        &mut self,
        kind: ServerKind,
        socket: &mut Socket<'_>,
        connection: &mut Connection,
        now: u64,
    ) -> bool {
        let mut most = usize::MAX;
        if let ServerKind::Slow { bytes, every } = kind {
            if now < self.next_read || !socket.can_recv() {
                return false;
            }
            most = bytes;
            self.next_read = now + every;
        }
        let before = connection.read.len();
        while socket.can_recv() && connection.read.len() - before < most && !self.closing {
            let room = most - (connection.read.len() - before);
            let taken = socket.recv(|bytes| {
                let taken = bytes.len().min(room);
                connection.read.extend_from_slice(&bytes[..taken]);
                (taken, taken)
            });
            if !matches!(taken, Ok(1..)) {
                break;
            }
            self.parse(kind, connection, now);
        }
        connection.read.len() > before
    }

    fn parse(&mut self, kind: ServerKind, connection: &mut Connection, now: u64) {
        let read = connection.read.as_slice();
        while kind != ServerKind::Sink
            && !self.confused
            && !self.closing
            && read.len() >= self.parsed + HEADER_LEN
        {
            let Some(header) = Header::parse(&read[self.parsed..]) else {
                // The verdict tells what this means; nothing more is answered.
                self.confused = true;
                return;
            };
            if self.last_header.replace(self.parsed) != Some(self.parsed)
                && let Some((oldest, _)) = self.unanswered.front()
            {
                connection.overlaps.push((header.number, *oldest));
            }
            if read.len() < self.parsed + header.len as usize {
                return;
            }
            self.unanswered.push_back((header.number, u64::from(header.response)));
            self.parsed += header.len as usize;
            self.served += 1;
            match kind {
                ServerKind::Late(delay) => self.late.push_back((now + delay, u64::from(header.response))),
                _ => self.owed += u64::from(header.response),
            }
            if let ServerKind::Closes { after, .. } = kind {
                self.closing = self.served >= after;
            }
        }
    }

    fn answer(&mut self, socket: &mut Socket<'_>, now: u64) -> bool {
        while let Some((_, bytes)) = self.late.pop_front_if(|(due, _)| *due <= now) {
            self.owed += bytes;
        }
        let mut done = false;
        while self.owed > 0 && socket.can_send() {
            let owed = self.owed;
            let written = socket.send(|room| {
                let len = (room.len() as u64).min(owed) as usize;
                room[..len].fill(b'.');
                (len, len)
            });
            match written {
                Ok(len @ 1..) => {
                    self.owed -= len as u64;
                    self.note_written(len as u64);
                }
                _ => break,
            }
            done = true;
        }
        done
    }

    fn note_written(&mut self, mut len: u64) {
        let greeted = self.greeting.min(len);
        self.greeting -= greeted;
        len -= greeted;
        while let Some((_, left)) = self.unanswered.front_mut() {
            let written = (*left).min(len);
            *left -= written;
            len -= written;
            if *left > 0 {
                return;
            }
            self.unanswered.pop_front();
        }
    }

    fn close(&mut self, kind: ServerKind, socket: &mut Socket<'_>, connection: &mut Connection) -> bool {
        let finished = !socket.may_recv() && !socket.can_recv() && self.late.is_empty();
        let gone = !socket.may_send();
        if !(self.closing || finished) || (self.owed > 0 && !gone) {
            return false;
        }
        self.closed = true;
        connection.unread = socket.recv_queue();
        let resets = matches!(kind, ServerKind::Closes { with_reset: true, .. }) && self.closing;
        if resets || connection.unread > 0 {
            socket.abort();
        } else {
            socket.close();
        }
        true
    }
}

/// Whether a SYN may open a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Granted,
    /// It is answered with a reset.
    Refused,
}

fn at(micros: u64) -> Instant {
    Instant::ZERO + Duration::from_micros(micros)
}

thread_local! {
    /// smoltcp takes a plain function for its timestamp clock; virtual time reaches it here.
    static TIMESTAMP: Cell<u32> = const { Cell::new(0) };
}

fn timestamp() -> u32 {
    TIMESTAMP.get()
}

/// A network device that is two queues.
#[derive(Debug, Default)]
struct Queue {
    mtu: usize,
    incoming: VecDeque<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

struct Incoming(Vec<u8>);
struct Outgoing<'a>(&'a mut Vec<Vec<u8>>);

impl Device for Queue {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Incoming, Outgoing<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((Incoming(packet), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.max_transmission_unit = self.mtu;
        capabilities.medium = Medium::Ip;
        capabilities
    }
}

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}
