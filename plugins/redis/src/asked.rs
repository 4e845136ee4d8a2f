//! What a client asks of its connection.
//!
//! Owns reading the commands that change the connection itself: logins, protocol, database, names, subscriptions,
//! transactions, and whether there are replies at all; and rewriting those that have to say something else to the target.

use crate::answers::Answers;
use crate::commands::Command;
use crate::encode;
use crate::keys::{self, Role, is_one_of};
use crate::memory::{Effect, Memory, Quiet, Slot};
use crate::options::{Login, Options};
use crate::reply::Channel;
use crate::rules::Rules;

/// Whether the client wants replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Replies {
    /// It does.
    #[default]
    On,
    /// Not until it says so.
    Off,
    /// Not for the next request.
    Skip,
}

/// What the client has asked for so far, whether the target has answered or not.
#[derive(Debug, Default)]
pub struct Asked {
    replies: Replies,
    in_transaction: bool,
    /// What the requests of the transaction will change.
    queued: Vec<Effect>,
    /// Replies that the transaction's answer has beyond the one.
    more: u32,
    /// What the connection is once everything has been answered.
    will: Memory,
}

/// What a request does, once it is complete.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Ending {
    /// Nothing but to be answered.
    #[default]
    Plain,
    /// This.
    Effects(Vec<Effect>),
    /// It begins or ends subscriptions: so many, or all.
    Confirm(Channel, bool, Option<u32>, Vec<Effect>),
    /// `CLIENT REPLY ON`.
    ReplyOn,
    /// `CLIENT REPLY OFF`.
    ReplyOff,
    /// `CLIENT REPLY SKIP`.
    ReplySkip,
    /// `MULTI`.
    Begin,
    /// `EXEC`.
    Execute,
    /// `DISCARD`.
    Abandon,
    /// `RESET`; then these commands are sent, which have so many replies.
    Reset(Vec<u8>, u32, Vec<Effect>),
    /// `QUIT`.
    Quit,
    /// Replication begins: nothing that follows is a request or a reply.
    Replicate,
}

/// What becomes of a request that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It is answered.
    Answered,
    /// It is not.
    Unanswered,
    /// It is one with the next.
    Joined,
}

/// What an argument is replaced with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Which one; the name is argument 0.
    pub index: usize,
    /// The new one.
    pub argument: Vec<u8>,
}

/// What becomes of a request that was seen whole.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Judgement {
    /// It is left out, for this reason.
    pub dropped: Option<&'static str>,
    /// Arguments that change, in their order.
    pub edits: Vec<Edit>,
    /// It is replaced with these bytes.
    pub replaced: Option<Vec<u8>>,
    /// What it does.
    pub ending: Ending,
}

fn remember(slot: Slot, args: &[&[u8]]) -> Effect {
    Effect::Remember(slot, encode::command(args).into_boxed_slice())
}

fn login_command(login: (Option<&[u8]>, &[u8])) -> Vec<u8> {
    match login {
        (Some(user), password) => encode::command(&[b"AUTH", user, password]),
        (None, password) => encode::command(&[b"AUTH", password]),
    }
}

/// The login that is made up, as a command.
pub fn made_up_login(options: &Options) -> Option<Vec<u8>> {
    options.made_up_login().map(login_command)
}

/// The command that selects one of the online server's databases at the target.
pub fn select(options: &Options, online: u32) -> Vec<u8> {
    encode::command(&[b"SELECT", options.database(online).to_string().as_bytes()])
}

impl Asked {
    /// Whether a transaction is open.
    pub const fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// The request under way will not be completed.
    pub fn lose_request(&mut self) {
        if self.replies == Replies::Skip {
            self.replies = Replies::On;
        }
    }

    /// Judges a request by its arguments, all of which are there.
    pub fn judge(&self, rules: &Rules, command: &Command, args: &[&[u8]]) -> Judgement {
        let options = &rules.options;
        let mut judgement = Judgement { dropped: rules.why_arguments(command, args), ..Judgement::default() };
        if judgement.dropped.is_some() {
            return judgement;
        }
        if !options.key_prefix.is_empty() {
            keys::each(command.keys, args, |index, role| {
                judgement.edits.push(Edit { index, argument: rules.prefixed(args[index], role) });
            });
            judgement.edits.sort_by_key(|edit| edit.index);
        }
        // With too many or too few arguments it is answered with an error, and changes nothing.
        if command.takes(args.len()) {
            self.read(rules, command, args, &mut judgement);
        }
        judgement
    }

    fn read(&self, rules: &Rules, command: &Command, args: &[&[u8]], judgement: &mut Judgement) {
        let options = &rules.options;
        let channels = || args[1..].iter().map(|name| Box::from(*name)).collect::<Vec<Box<[u8]>>>();
        let effects = |effects: Vec<Effect>| Ending::Effects(effects);
        judgement.ending = match command.name {
            "auth" => return login(options, args, judgement),
            "hello" => return hello(options, args, judgement),
            "select" => {
                let Some(online) = keys::decimal(args[1]).and_then(|number| u32::try_from(number).ok())
                else {
                    return;
                };
                let target = options.database(online);
                if target != online {
                    judgement.edits.push(Edit { index: 1, argument: target.to_string().into_bytes() });
                }
                effects(vec![Effect::Remember(Slot::Database, select(options, online).into_boxed_slice())])
            }
            "copy" | "move" | "swapdb" | "migrate" => {
                map_databases(options, command.name, args, judgement);
                Ending::Plain
            }
            "multi" => Ending::Begin,
            "exec" => Ending::Execute,
            "discard" => Ending::Abandon,
            "monitor" => effects(vec![Effect::Monitor]),
            "quit" => Ending::Quit,
            "reset" => reset(options),
            "sync" | "psync" => Ending::Replicate,
            "readonly" => effects(vec![remember(Slot::ReadOnly, &[b"READONLY"])]),
            "readwrite" => effects(vec![Effect::Forget(Slot::ReadOnly)]),
            "subscribe" | "psubscribe" | "ssubscribe" => {
                let channel = channel(command.name);
                let effects = vec![Effect::Subscribe(channel, channels())];
                Ending::Confirm(channel, false, Some(args.len() as u32 - 1), effects)
            }
            "unsubscribe" | "punsubscribe" | "sunsubscribe" => {
                let channel = channel(command.name);
                let count = (args.len() > 1).then_some(args.len() as u32 - 1);
                Ending::Confirm(channel, true, count, vec![Effect::Unsubscribe(channel, channels())])
            }
            "client|reply" if is_one_of(args[2], &["ON"]) => Ending::ReplyOn,
            "client|reply" if is_one_of(args[2], &["OFF", "SKIP"]) => {
                if self.in_transaction {
                    // Redis leaves the transaction's answer unfinished then, and no one knows where the next one begins.
                    judgement.dropped = Some("within a transaction it makes the answer unreadable");
                }
                if is_one_of(args[2], &["OFF"]) { Ending::ReplyOff } else { Ending::ReplySkip }
            }
            "client|setname" => effects(vec![remember(Slot::Name, args)]),
            "client|setinfo" if is_one_of(args[2], &["LIB-NAME"]) => {
                effects(vec![remember(Slot::LibraryName, args)])
            }
            "client|setinfo" => effects(vec![remember(Slot::LibraryVersion, args)]),
            "client|no-evict" => effects(vec![remember(Slot::NoEvict, args)]),
            "client|no-touch" => effects(vec![remember(Slot::NoTouch, args)]),
            "client|tracking" => tracking(rules, args, judgement),
            _ => Ending::Plain,
        };
    }

    /// A request is complete, and all of it is decided.
    #[inline]
    pub fn finish(&mut self, ending: Ending, answers: &mut Answers) -> Finish {
        if ending == Ending::Plain && self.replies == Replies::On {
            answers.outstanding.plain();
            return Finish::Answered;
        }
        self.finish_special(ending, answers)
    }

    fn finish_special(&mut self, ending: Ending, answers: &mut Answers) -> Finish {
        let refused = !self.will.speaks_resp3()
            && self.will.is_subscribed()
            && !matches!(ending, Ending::Confirm(..) | Ending::Reset(..) | Ending::Quit);
        let ending = if refused {
            // A subscriber in RESP2 may do little else.
            Ending::Plain
        } else if self.in_transaction {
            self.within_transaction(ending)
        } else {
            ending
        };
        match &ending {
            Ending::ReplyOn => {
                self.replies = Replies::On;
                answers.outstanding.one(vec![Effect::Quiet(Quiet::No)], 0);
                return Finish::Answered;
            }
            Ending::ReplyOff => {
                self.replies = Replies::Off;
                answers.silent(vec![Effect::Quiet(Quiet::Yes)]);
                return Finish::Unanswered;
            }
            Ending::ReplySkip if self.replies == Replies::Off => return Finish::Unanswered,
            Ending::ReplySkip => {
                self.replies = Replies::Skip;
                return Finish::Joined;
            }
            Ending::Reset(..) if self.replies == Replies::Off => self.replies = Replies::On,
            _ => {}
        }
        let (effects, more) = match ending {
            Ending::Plain | Ending::Quit | Ending::Replicate | Ending::Abandon | Ending::Execute => {
                (Vec::new(), 0)
            }
            Ending::Begin => {
                self.in_transaction = true;
                self.queued.clear();
                self.more = 0;
                (vec![Effect::Begin], 0)
            }
            Ending::Effects(effects) => {
                effects.iter().for_each(|effect| self.expect(effect));
                let more = std::mem::take(&mut self.more);
                (effects, more)
            }
            Ending::Reset(_, more, effects) => {
                self.in_transaction = false;
                self.will = Memory::default();
                self.more = 0;
                if self.replies == Replies::Skip && more > 0 {
                    // What is sent behind it is answered all the same.
                    self.replies = Replies::On;
                    (effects, more - 1)
                } else {
                    (effects, more)
                }
            }
            Ending::Confirm(channel, ends, count, effects) => {
                effects.iter().for_each(|effect| self.expect(effect));
                let muted = self.replies != Replies::On;
                answers.outstanding.confirm(channel, ends, count, muted, effects);
                return if muted { self.unanswered(Vec::new(), answers) } else { Finish::Answered };
            }
            Ending::ReplyOn | Ending::ReplyOff | Ending::ReplySkip => (Vec::new(), 0),
        };
        if self.replies == Replies::On {
            answers.outstanding.one(effects, more);
            Finish::Answered
        } else {
            self.unanswered(effects, answers)
        }
    }

    /// What the target will have been told of protocol and subscriptions.
    fn expect(&mut self, effect: &Effect) {
        if matches!(effect, Effect::Protocol(_) | Effect::Subscribe(..) | Effect::Unsubscribe(..)) {
            self.will.apply(effect.clone());
        }
    }

    fn unanswered(&mut self, effects: Vec<Effect>, answers: &mut Answers) -> Finish {
        if self.replies == Replies::Skip {
            self.replies = Replies::On;
        }
        answers.silent(effects);
        Finish::Unanswered
    }

    /// What a request does when a transaction is open: most are queued.
    fn within_transaction(&mut self, ending: Ending) -> Ending {
        match ending {
            Ending::Execute => {
                self.in_transaction = false;
                let mut effects = vec![Effect::End];
                effects.append(&mut self.queued);
                Ending::Effects(effects)
            }
            Ending::Abandon => {
                self.in_transaction = false;
                self.queued.clear();
                self.more = 0;
                Ending::Effects(vec![Effect::End])
            }
            Ending::Effects(mut effects) => {
                // Not to be had within a transaction.
                effects.retain(|effect| *effect != Effect::Monitor);
                self.queued.append(&mut effects);
                Ending::Plain
            }
            Ending::Confirm(channel, _, count, mut effects) => {
                let all = || u32::try_from(self.will.subscriptions(channel)).unwrap_or(u32::MAX);
                self.more = self.more.saturating_add(count.unwrap_or_else(all).saturating_sub(1));
                self.queued.append(&mut effects);
                Ending::Plain
            }
            Ending::Begin | Ending::ReplyOn | Ending::ReplyOff | Ending::ReplySkip => Ending::Plain,
            Ending::Plain | Ending::Reset(..) | Ending::Quit | Ending::Replicate => ending,
        }
    }
}

fn channel(command: &str) -> Channel {
    match command.as_bytes().first() {
        Some(b'p') => Channel::Pattern,
        // `subscribe` has its u behind the first letter, `ssubscribe` and `sunsubscribe` begin with one letter more.
        _ if matches!(command, "ssubscribe" | "sunsubscribe") => Channel::Sharded,
        _ => Channel::Plain,
    }
}

fn login(options: &Options, args: &[&[u8]], judgement: &mut Judgement) {
    let (user, password) = match args {
        [_, password] => (None, *password),
        [_, user, password] => (Some(*user), *password),
        _ => return,
    };
    let command = match options.login_of(user.unwrap_or(b"default")) {
        Some(login) => {
            let command = login_command(login);
            judgement.replaced = Some(command.clone());
            command
        }
        None => login_command((user, password)),
    };
    judgement.ending = Ending::Effects(vec![Effect::Remember(Slot::Login, command.into_boxed_slice())]);
}

fn hello(options: &Options, args: &[&[u8]], judgement: &mut Judgement) {
    let mut effects = Vec::new();
    match args.get(1).copied() {
        None => {}
        Some(b"2") => effects.push(Effect::Protocol(2)),
        Some(b"3") => effects.push(Effect::Protocol(3)),
        // Refused.
        Some(_) => return,
    }
    let mut index = 2;
    while index < args.len() {
        if is_one_of(args[index], &["AUTH"]) && index + 2 < args.len() {
            let user = args[index + 1];
            let login = match options.login_of(user) {
                Some((new_user, password)) => {
                    let new_user = new_user.unwrap_or(b"default");
                    judgement.edits.push(Edit { index: index + 1, argument: new_user.to_vec() });
                    judgement.edits.push(Edit { index: index + 2, argument: password.to_vec() });
                    login_command((Some(new_user), password))
                }
                None => login_command((Some(user), args[index + 2])),
            };
            effects.push(Effect::Remember(Slot::Login, login.into_boxed_slice()));
            index += 3;
        } else if is_one_of(args[index], &["SETNAME"]) && index + 1 < args.len() {
            effects.push(remember(Slot::Name, &[b"CLIENT", b"SETNAME", args[index + 1]]));
            index += 2;
        } else {
            return;
        }
    }
    judgement.ending = Ending::Effects(effects);
}

fn reset(options: &Options) -> Ending {
    let mut effects = vec![Effect::Reset];
    let mut commands = Vec::new();
    let mut replies = 0;
    if options.login == Login::Always
        && let Some(login) = made_up_login(options)
    {
        commands.extend_from_slice(&login);
        effects.push(Effect::Remember(Slot::Login, login.into_boxed_slice()));
        replies += 1;
    }
    if options.database(0) != 0 {
        let select = select(options, 0);
        commands.extend_from_slice(&select);
        effects.push(Effect::Remember(Slot::Database, select.into_boxed_slice()));
        replies += 1;
    }
    Ending::Reset(commands, replies, effects)
}

fn tracking(rules: &Rules, args: &[&[u8]], judgement: &mut Judgement) -> Ending {
    if !is_one_of(args[2], &["ON"]) {
        return Ending::Effects(vec![Effect::Forget(Slot::Tracking)]);
    }
    let mut told: Vec<Vec<u8>> = args.iter().map(|arg| arg.to_vec()).collect();
    if !rules.options.key_prefix.is_empty() {
        let mut index = 3;
        while index + 1 < args.len() {
            if is_one_of(args[index], &["PREFIX"]) {
                let argument = rules.prefixed(args[index + 1], Role::Key);
                told[index + 1].clone_from(&argument);
                judgement.edits.push(Edit { index: index + 1, argument });
                index += 1;
            }
            index += 1;
        }
    }
    let told: Vec<&[u8]> = told.iter().map(Vec::as_slice).collect();
    Ending::Effects(vec![remember(Slot::Tracking, &told)])
}

fn map_databases(options: &Options, command: &str, args: &[&[u8]], judgement: &mut Judgement) {
    let behind = |word: &str| (3..args.len()).find(|&at| is_one_of(args[at], &[word])).map(|at| at + 1);
    let places = match command {
        "swapdb" => [Some(1), Some(2)],
        "move" => [Some(2), None],
        "copy" => [behind("DB"), None],
        _ => [Some(4), None],
    };
    for index in places.into_iter().flatten() {
        let number = args.get(index).and_then(|arg| keys::decimal(arg)).and_then(|n| u32::try_from(n).ok());
        if let Some(online) = number
            && options.database(online) != online
        {
            let argument = options.database(online).to_string().into_bytes();
            judgement.edits.push(Edit { index, argument });
        }
    }
    judgement.edits.sort_by_key(|edit| edit.index);
}
