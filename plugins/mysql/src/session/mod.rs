//! One client's session.
//!
//! Owns what the session knows, and how its sides come together: the client's bytes (`client`) and the target's (`target`).

mod arrival;
mod asked;
mod client;
mod entry;
mod executed;
mod online;
mod out;
mod packed;
mod plans;
mod restore;
mod search;
mod target;

use crate::login::Credential;
use crate::login::greeting::NONCE;
use crate::login::identity::Identity;
use crate::memory::{Memory, Refused, Undo};
use crate::options;
use crate::passwords::{self, Secret};
use crate::rules::Named;
use crate::shared::Shared;
use crate::statements::{self, Prepared, Slot};
use crate::tally::{Event, User};
use asked::{Asked, What};
use client::{Client, Phase};
use online::{Online, Told};
use out::Out;
use packed::Packed;
use plugin_sdk::{Actions, Level, Loss, Opening, Origin, Reply};
use restore::Homes;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use target::Target;

/// Answers to PREPAREs that are remembered until both sides of them are known.
const MOST_TOLD: usize = 16_384;

/// Commands refused by the online server that are remembered.
const MOST_REFUSED: usize = 64;

/// Commands without an answer that are remembered until a later one is answered.
const MOST_SILENT: usize = 1024;

/// A session.
#[derive(Debug)]
pub struct Session {
    from: SocketAddr,
    /// Nothing more is done: the session was given up.
    over: bool,
    /// Who the client is, once that is known.
    identity: Option<Identity>,
    user: User,
    /// What the client has proved itself with, and the plugin that it is of.
    proof: Option<(Vec<u8>, Vec<u8>)>,
    client: Client,
    /// The client's packets, if they are compressed.
    packed: Option<Packed>,
    /// Number of undecided bytes that the online server's side knows of.
    watched: usize,
    target: Target,
    online: Online,
    outstanding: VecDeque<Asked>,
    memory: Memory,
    /// Statements prepared in SQL.
    named: Named,
    prepared: Prepared,
    /// PREPAREs that were decided about.
    prepares: u64,
    /// What the online server said to those that were not decided about yet.
    early: HashMap<u64, statements::Answer>,
    /// Those that it has said nothing to.
    untold: HashMap<u64, Slot>,
    /// Commands that may choose a database: those decided about, and the numbers of those that the online server refused.
    choices: u64,
    /// Number of commands that run statements that were decided about.
    decided: u64,
    refused: VecDeque<u64>,
    /// One that the target refused, and what is to be taken back.
    choice: Option<(Option<u64>, Undo)>,
    homes: Homes,
    /// Ids that statements must get again, because requests on their way name them.
    wanted: HashMap<Slot, u32>,
    /// Commands whose answers have come, or will not.
    answers: u64,
    /// Target's ids of statements in commands without an answer, with the number of answers by which they have surely arrived.
    silent: VecDeque<(u64, u32)>,
    /// Connections that were ready.
    connections: u32,
    /// Logins that were refused for the moment, since.
    retries: u8,
}

impl Session {
    /// A session that begins.
    pub fn new(shared: &mut Shared, opening: &Opening, _: &mut Actions<'_>) -> Self {
        let joined = opening.origin != Origin::Start;
        let mut session = Self {
            from: opening.client,
            over: false,
            identity: None,
            user: shared.tally.user(b""),
            proof: None,
            client: Client::new(opening.origin),
            packed: None,
            watched: 0,
            target: Target::default(),
            online: match shared.options.online {
                options::Online::Unheard => Online::unheard(),
                options::Online::Heard if joined => Online::joined(),
                options::Online::Heard => Online::new(),
            },
            outstanding: VecDeque::new(),
            memory: Memory::new(shared.options.rules.initial_mode()),
            named: Named::default(),
            prepared: Prepared::default(),
            prepares: 0,
            early: HashMap::new(),
            untold: HashMap::new(),
            choices: 0,
            decided: 0,
            refused: VecDeque::new(),
            choice: None,
            homes: Homes::default(),
            wanted: HashMap::new(),
            answers: 0,
            silent: VecDeque::new(),
            connections: 0,
            retries: 0,
        };
        if joined && let Some(user) = shared.options.joined_user(opening.client.ip()) {
            let user = user.to_vec();
            let identity = shared.joined_identity(&user);
            if let Some(database) = &identity.database {
                session.memory.set_database(database);
            }
            session.become_user(shared, identity);
        }
        session
    }

    /// The client is known.
    fn become_user(&mut self, shared: &mut Shared, identity: Identity) {
        self.user = shared.tally.user(&identity.user);
        self.memory.set_collation(identity.collation);
        self.identity = Some(identity);
    }

    /// The session ends for a reason that users can do something about.
    fn give_up(&mut self, reason: &str, actions: &mut Actions<'_>) {
        if !self.over {
            self.over = true;
            actions.give_up(reason);
        }
    }

    /// What a user proves itself with at the target.
    fn credential(&self, shared: &mut Shared, user: &[u8]) -> Option<Credential> {
        let stage2 = match shared.options.passwords.of(user, self.from.ip())? {
            Secret::Password(password) => return Some(Credential::Password(password.clone())),
            Secret::Stage2(stage2) => *stage2,
        };
        let given_away = || {
            let (proof, _) = self.proof.as_ref()?;
            let (_, nonce) = self.online.challenge.as_ref()?;
            passwords::stage1(&stage2, nonce.get(..NONCE)?, proof)
        };
        if let Some(stage1) = given_away() {
            shared.learn_stage1(user, stage1);
        }
        shared.stage1(user).copied().map(Credential::Stage1)
    }

    /// Lets the online server's side know of new request bytes.
    fn watch(&mut self, bytes: &[u8]) {
        if let Some(new) = bytes.get(self.watched..) {
            if !matches!(self.client.phase, Phase::Join | Phase::Search) {
                self.online.client(new);
            }
            self.watched = bytes.len();
        }
    }

    /// Decides about the bytes that are there.
    pub fn on_request(&mut self, shared: &mut Shared, bytes: &[u8], actions: &mut Actions<'_>) {
        let mut rest = bytes;
        while !self.over {
            let was_packed = self.packed.is_some();
            let taken = if was_packed {
                self.walk_packed(shared, rest, actions)
            } else {
                self.walk_plain(shared, rest, actions)
            };
            rest = &rest[taken..];
            let goes_on = was_packed != self.packed.is_some();
            if !goes_on && !self.release(shared, actions) && !self.target.resumes {
                break;
            }
        }
    }

    /// Decides about bytes as they were captured. Gives how many that were.
    fn walk_plain(&mut self, shared: &mut Shared, bytes: &[u8], actions: &mut Actions<'_>) -> usize {
        self.watch(bytes);
        let mut packer = self.target.packer.take();
        let mut out = Out::captured(actions, bytes, packer.as_mut());
        self.walk(shared, &mut out);
        let taken = out.taken();
        self.target.packer = packer.or(self.target.packer.take());
        self.watched = self.watched.saturating_sub(taken);
        taken
    }

    /// Decides about what a client's compressed packets hold. Gives how many captured bytes that were.
    fn walk_packed(&mut self, shared: &mut Shared, bytes: &[u8], actions: &mut Actions<'_>) -> usize {
        let Some(mut packed) = self.packed.take() else { return 0 };
        let fed = packed.feed(bytes, |plain| self.online.client(plain));
        let mut plain = std::mem::take(&mut packed.plain);
        let mut pieces = std::mem::take(&mut packed.pieces);
        let decidable = packed.decidable(plain.len());
        // Whether the client compresses is seen by this while its bytes are walked.
        self.packed = Some(packed);
        let mut packer = self.target.packer.take();
        let mut out = Out::unpacked(actions, &plain[..decidable], &mut pieces, packer.as_mut());
        self.walk(shared, &mut out);
        let (taken, decided) = (out.taken(), out.decided());
        self.target.packer = packer.or(self.target.packer.take());
        plain.drain(..taken);
        if let Some(packed) = &mut self.packed {
            packed.decided(decided);
            packed.plain = plain;
            packed.pieces = pieces;
        }
        if fed.is_err() {
            self.give_up("the client's compressed packets can't be read", actions);
        }
        decided
    }

    /// Something that undecided bytes waited for has come.
    fn resume(&mut self, actions: &mut Actions<'_>) {
        if actions.undecided() > 0 {
            self.target.resumes = true;
            actions.resume();
        }
    }

    /// Takes the online server's bytes.
    pub fn on_reference(&mut self, shared: &mut Shared, bytes: &[u8], _: &mut Actions<'_>) {
        if self.over {
            return;
        }
        let mut told = Vec::new();
        self.online.server(bytes, &mut told);
        for told in told {
            match told {
                Told::Prepared(number, answer) => match self.untold.remove(&number) {
                    Some(slot) => self.told(shared, slot, answer),
                    None if number >= self.prepares && self.early.len() < MOST_TOLD => {
                        self.early.insert(number, answer);
                    }
                    None => {}
                },
                Told::Database(name) => {
                    shared.learn_database(self.user_name(), &name);
                    if self.connections == 0 && self.memory.database().is_none() {
                        self.memory.set_database(&name);
                    }
                }
                Told::Refused(number) => {
                    if self.refused.len() >= MOST_REFUSED {
                        self.refused.pop_front();
                    }
                    self.refused.push_back(number);
                }
            }
        }
    }

    /// The online server's answer to a PREPARE is known.
    fn told(&mut self, shared: &mut Shared, slot: Slot, answer: statements::Answer) {
        self.prepared.online_answer(slot, answer);
        if shared.known.is_teaching()
            && let statements::Answer::Prepared { id, .. } = answer
            && let Some(text) = self.prepared.text(id)
        {
            shared.known.learn(self.user_name(), id, text);
        }
    }

    /// Bytes of the online server are missing.
    pub fn on_reference_gap(&mut self) {
        self.online.on_gap();
    }

    /// The session is in this database now.
    fn enter(&mut self, shared: &mut Shared, database: &[u8]) {
        if let Some(identity) = &self.identity {
            shared.learn_database(&identity.user, database);
        }
        self.memory.set_database(database);
    }

    /// The user's name.
    fn user_name(&self) -> &[u8] {
        self.identity.as_ref().map(|identity| identity.user.as_slice()).unwrap_or_default()
    }

    /// The database that a new connection begins in: the one that the requests which are sent again were decided for.
    fn first_database(&self) -> Option<&[u8]> {
        self.memory.database_before(self.outstanding.iter().filter_map(|asked| asked.undo.as_ref()))
    }

    /// Takes back what a refused choice of a database had changed. By now the online server has said what it made of it, since the
    /// client goes on.
    fn settle_choice(&mut self) {
        if let Some((number, undo)) = self.choice.take() {
            let by_both = number.is_some_and(|number| self.refused.contains(&number));
            self.memory.failed(undo, if by_both { Refused::ByBoth } else { Refused::ByTarget });
        }
    }

    /// A command about a statement was sent that is not answered.
    fn note_silent(&mut self, id: u32) {
        let arrived = self.answers + self.outstanding.len() as u64 + 1;
        match self.silent.back_mut() {
            Some((last, known)) if *known == id => *last = arrived,
            _ => self.silent.push_back((arrived, id)),
        }
        if self.silent.len() > MOST_SILENT {
            self.silent.pop_front();
        }
    }

    /// So many more commands have their answers, or get none.
    fn note_answers(&mut self, more: usize) {
        self.answers += more as u64;
        while self.silent.pop_front_if(|(arrived, _)| *arrived <= self.answers).is_some() {}
    }

    /// A PREPARE was decided about.
    fn note_prepare(&mut self, shared: &mut Shared, slot: Slot) {
        let number = self.prepares;
        self.prepares += 1;
        self.homes.add(slot, self.memory.database());
        if let Some(answer) = self.early.remove(&number) {
            self.told(shared, slot, answer);
        } else if self.online.is_heard() && self.untold.len() < MOST_TOLD {
            self.untold.insert(number, slot);
        }
    }

    /// The connection to the target is lost.
    pub fn on_connection_lost(&mut self, shared: &mut Shared, loss: Loss, actions: &mut Actions<'_>) {
        if self.over {
            return;
        }
        let kept = (loss.kept as usize).min(self.outstanding.len());
        let gone = self.outstanding.len() - kept;
        self.note_answers(gone);
        let gone = self.outstanding.drain(..gone);
        let mut statements = gone.filter(Asked::is_statement).count() as u32;
        if loss.interrupted && self.client.statement_under_way() {
            statements += 1;
        }
        shared.tally.lost(self.user, "statement", statements, actions);
        let state = self.memory.connection_lost();
        // A client that has quit misses nothing of it.
        if self.client.phase != Phase::Over {
            for (what, amount) in state.counts() {
                shared.tally.lost(self.user, what, amount, actions);
            }
        }
        let changing = self.target.lose(loss.interrupted);
        let of_kept = |what: &dyn Fn(What) -> bool| self.outstanding.iter().any(|asked| what(asked.what));
        if of_kept(&|what| what == What::File) {
            return self.give_up("the target closed within a LOAD DATA LOCAL", actions);
        }
        let names_statements = of_kept(&|what| what == What::Statement)
            || (!loss.interrupted && self.client.statement_under_way());
        if names_statements && self.wanted.is_empty() {
            self.wanted = self.prepared.placed().into_iter().collect();
        }
        let prepares = self.outstanding.iter().filter(|asked| matches!(asked.what, What::Prepare(_))).count();
        self.prepared.connection_lost(prepares);
        self.client.on_connection_lost(loss.interrupted);
        if changing {
            if !loss.interrupted {
                return self.give_up("the target closed within a COM_CHANGE_USER", actions);
            }
            actions.end_request(Reply::NotExpected);
            self.client.interrupted = false;
        }
    }

    /// Request bytes are missing.
    pub fn on_gap(&mut self, shared: &mut Shared, actions: &mut Actions<'_>) {
        if self.over {
            return;
        }
        // What waited is gone: the target could not be reached.
        let waited = self.online.statements().saturating_sub(self.decided);
        let waited = u32::try_from(waited).unwrap_or(u32::MAX);
        shared.tally.lost(self.user, "statement that waited for one", waited, actions);
        self.decided = self.online.statements();
        if self.packed.is_some() {
            return self.give_up("bytes of a compressed connection were not captured", actions);
        }
        if matches!(self.client.phase, Phase::Hello | Phase::LoggingIn) && self.identity.is_none() {
            return self.give_up("a client's login was not captured whole", actions);
        }
        self.client.on_gap();
        self.watched = 0;
        self.early.clear();
        self.untold.clear();
        self.refused.clear();
    }

    /// A command surely begins with these bytes, behind others that are missing or not understood.
    fn found(&mut self, bytes: &[u8]) {
        self.online.restart();
        self.prepares = self.online.prepares();
        self.choices = self.online.choices();
        self.decided = self.online.statements();
        self.online.client(bytes);
    }

    /// A login took too long, or is to be tried again.
    pub fn on_timer(&mut self, actions: &mut Actions<'_>) {
        if self.over {
        } else if self.target.is_awaited() {
            actions.log(Level::Warn, "a login at the target was not complete in time");
            self.give_up("the target did not complete a login in time", actions);
        } else if self.retries > 0 && !self.target.is_ready() {
            actions.reconnect();
        }
    }
}

/// Bytes of a client or server for people to read: printable, and not too many.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 80;
    let text = bytes[..bytes.len().min(MOST)].escape_ascii().to_string();
    if bytes.len() > MOST { text + "..." } else { text }
}
