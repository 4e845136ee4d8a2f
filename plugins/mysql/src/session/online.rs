//! The online server's side of a session.
//!
//! Owns what its bytes tell: its greeting and challenges, the numbers that it gives to prepared statements, the database that the
//! session is in. For that it reads along what the client sends, ahead of what is decided about it. Where it is not known what
//! was agreed on, or bytes are missing, only the first packet behind a command is believed.

use crate::capabilities::{Capabilities, Features};
use crate::command;
use crate::compression::Unpacker;
use crate::login::greeting::{First, Greeting};
use crate::packet::{self, Message, Messages};
use crate::results::{Answer, Form, Step};
use crate::statements;
use mysql_common::constants::CapabilityFlags as Flags;
use plugin_sdk::cursor::Cursor;
use std::collections::VecDeque;

/// Commands whose answers are awaited at most.
const MOST_AWAITED: usize = 1024;

/// What the online server told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Its answer to the PREPARE of this number, counted from 0.
    Prepared(u64, statements::Answer),
    /// The database that the session is in.
    Database(Vec<u8>),
    /// It refused the command that may choose a database of this number, counted from 0.
    Refused(u64),
}

/// How much of the server's stream is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The greeting is awaited.
    Greeting,
    /// A login is under way.
    Login,
    /// Answers are followed from packet to packet.
    Answers,
    /// The first packet behind a command is its answer's first.
    Loose,
    /// Nothing.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Answer(Form, Number),
    Login,
}

/// Which command it is, of those that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    None,
    Prepare(u64),
    Choice(u64),
}

/// What is known of the online server.
#[derive(Debug)]
pub(super) struct Online {
    stage: Stage,
    server: Messages,
    client: Messages,
    unpacker: Option<Unpacker>,
    features: Features,
    /// Its greeting.
    pub(super) greeting: Option<Greeting>,
    /// Plugin and challenge that it asked for last.
    pub(super) challenge: Option<(Vec<u8>, Vec<u8>)>,
    awaited: VecDeque<Awaited>,
    answer: Option<Answer>,
    /// The client sends a file.
    file: bool,
    /// Commands of the client that prepare statements, so far.
    prepares: u64,
    /// Those that may choose a database.
    choices: u64,
    /// Those that run statements.
    statements: u64,
}

impl Online {
    /// One whose connection is seen from its beginning.
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Greeting,
            server: Messages::default(),
            client: Messages::default(),
            unpacker: None,
            features: Features::default(),
            greeting: None,
            challenge: None,
            awaited: VecDeque::new(),
            answer: None,
            file: false,
            prepares: 0,
            choices: 0,
            statements: 0,
        }
    }

    /// One whose connection is joined.
    pub(super) fn joined() -> Self {
        Self { stage: Stage::Loose, ..Self::new() }
    }

    /// The client's login is what comes first of it.
    pub(super) fn expect_login(&mut self) {
        self.stage = Stage::Login;
    }

    /// One that is not heard.
    pub(super) fn unheard() -> Self {
        Self { stage: Stage::Lost, ..Self::new() }
    }

    /// Whether it may tell anything yet.
    pub(super) fn is_heard(&self) -> bool {
        self.stage != Stage::Lost
    }

    /// How many statements the client has prepared.
    pub(super) const fn prepares(&self) -> u64 {
        self.prepares
    }

    /// What client and server agreed on is known.
    pub(super) fn agreed(&mut self, capabilities: Capabilities) {
        self.features = capabilities.features();
    }

    /// How many commands that may choose a database the client has sent.
    pub(super) const fn choices(&self) -> u64 {
        self.choices
    }

    /// How many commands that run statements the client has sent.
    pub(super) const fn statements(&self) -> u64 {
        self.statements
    }

    /// The client's packets are compressed from here on, and so are the server's once the login is done.
    pub(super) fn compress(&mut self) {
        // The server's OK, the last thing before, comes first.
        self.unpacker = Some(Unpacker::new());
        // What was read of the packets themselves is nothing.
        self.client = Messages::default();
        self.awaited.clear();
        self.prepares = 0;
        self.choices = 0;
        self.statements = 0;
    }

    /// Bytes of the server are missing.
    pub(super) fn on_gap(&mut self) {
        self.stage = match self.stage {
            // The packets themselves can be found again, but not those that hold them.
            _ if self.unpacker.is_some() => Stage::Lost,
            Stage::Lost => Stage::Lost,
            _ => Stage::Loose,
        };
        self.server = Messages::default();
        self.answer = None;
    }

    /// Bytes of the client are missing; a command begins with those that come next.
    pub(super) fn restart(&mut self) {
        self.client = Messages::default();
        self.file = false;
        self.awaited.clear();
        self.answer = None;
        if self.stage != Stage::Lost {
            self.stage = Stage::Loose;
        }
    }

    /// Reads what the client sends.
    pub(super) fn client(&mut self, mut bytes: &[u8]) {
        let mut client = std::mem::take(&mut self.client);
        while let Some(message) = client.next(&mut bytes) {
            self.asked(&message);
        }
        self.client = client;
    }

    fn asked(&mut self, message: &Message<'_>) {
        if self.file {
            if message.length == 0 {
                self.file = false;
                self.awaits(Awaited::Answer(Form::Results, Number::None));
            }
            return;
        }
        if message.began != 0 {
            // A login's, or a file where the wish for it was not seen.
            return;
        }
        let Some(code) = message.first() else { return };
        self.statements += u64::from(command::runs_statements(code));
        let number = match code {
            command::PREPARE => {
                self.prepares += 1;
                Number::Prepare(self.prepares - 1)
            }
            _ if command::may_choose_database(code) => {
                self.choices += 1;
                Number::Choice(self.choices - 1)
            }
            _ => Number::None,
        };
        match command::form(code) {
            _ if code == command::CHANGE_USER => self.awaits(Awaited::Login),
            Form::None => {}
            form => self.awaits(Awaited::Answer(form, number)),
        }
    }

    fn awaits(&mut self, awaited: Awaited) {
        if self.stage == Stage::Lost {
            self.awaited = VecDeque::new();
            return;
        }
        if self.stage == Stage::Greeting {
            // The client would not go on without one: it was not captured.
            self.stage = Stage::Loose;
        }
        if self.stage == Stage::Loose {
            // It sends no command before the answer to the one before, as far as can be known.
            self.awaited.clear();
            self.server = Messages::default();
            self.answer = None;
        }
        if self.awaited.len() < MOST_AWAITED {
            self.awaited.push_back(awaited);
        } else {
            self.stage = Stage::Lost;
        }
    }

    /// Reads what the server sends.
    pub(super) fn server(&mut self, bytes: &[u8], told: &mut Vec<Told>) {
        let mut rest = bytes;
        while !rest.is_empty() && self.stage != Stage::Lost {
            let in_login = matches!(self.stage, Stage::Greeting | Stage::Login);
            let mut server = std::mem::take(&mut self.server);
            match &mut self.unpacker {
                Some(_) if !in_login => {
                    let Some(mut unpacker) = self.unpacker.take() else { return };
                    let fed = unpacker.feed(rest, |mut plain, _| {
                        while let Some(message) = server.next(&mut plain) {
                            self.said(&message, told);
                        }
                    });
                    self.unpacker = Some(unpacker);
                    rest = &[];
                    if fed.is_err() {
                        self.stage = Stage::Lost;
                    }
                }
                _ => {
                    if let Some(message) = server.next(&mut rest) {
                        self.said(&message, told);
                    }
                }
            }
            self.server = server;
        }
    }

    fn said(&mut self, message: &Message<'_>, told: &mut Vec<Told>) {
        match self.stage {
            Stage::Lost => {}
            Stage::Greeting => {
                self.stage = match First::read(message.front) {
                    Ok(First::Greeting(greeting)) => {
                        self.challenge = Some((greeting.plugin.clone(), greeting.nonce.clone()));
                        self.greeting = Some(greeting);
                        Stage::Login
                    }
                    _ => Stage::Lost,
                };
            }
            Stage::Login => self.login(message),
            Stage::Answers | Stage::Loose => self.answered(message, told),
        }
    }

    fn login(&mut self, message: &Message<'_>) {
        match message.front {
            [0, ..] => {
                self.stage = Stage::Answers;
                if let (Some(greeting), None) = (&self.greeting, &self.unpacker)
                    && !greeting.capabilities.has(Flags::CLIENT_PROTOCOL_41)
                {
                    self.stage = Stage::Lost;
                }
            }
            [0xff, ..] => self.stage = Stage::Lost,
            [0xfe, rest @ ..] if !rest.is_empty() => {
                let mut cursor = Cursor::new(rest);
                let name = packet::until_zero(&mut cursor).unwrap_or_default().to_vec();
                let data = cursor.rest();
                self.challenge = Some((name, data.strip_suffix(&[0]).unwrap_or(data).to_vec()));
            }
            _ => {}
        }
    }

    fn answered(&mut self, message: &Message<'_>, told: &mut Vec<Told>) {
        if self.stage == Stage::Loose && message.began != 1 {
            // Of an answer, but not its first; or of a login.
            return;
        }
        let Some(&awaited) = self.awaited.front() else { return };
        let Awaited::Answer(form, number) = awaited else {
            self.awaited.pop_front();
            self.stage = Stage::Login;
            return self.login(message);
        };
        let is_first = self.answer.is_none();
        let mut answer = self.answer.take().unwrap_or_else(|| Answer::new(form));
        let step = answer.take(message, self.features);
        if is_first && let Number::Prepare(prepare) = number {
            told.push(Told::Prepared(
                prepare,
                match answer.outcome.prepared {
                    Some(of) => statements::Answer::Prepared { id: of.id, parameters: of.parameters },
                    None => statements::Answer::Refused,
                },
            ));
        }
        if answer.outcome.error.is_some()
            && let Number::Choice(choice) = number
        {
            told.push(Told::Refused(choice));
        }
        if self.stage == Stage::Loose {
            self.file = step == Ok(Step::File);
            self.awaited.pop_front();
            return;
        }
        match step {
            Ok(Step::More) => self.answer = Some(answer),
            Ok(step) => {
                self.file = step == Step::File;
                self.awaited.pop_front();
                if let Some(database) = answer.outcome.database {
                    told.push(Told::Database(database));
                }
            }
            Err(_) => self.stage = Stage::Loose,
        }
    }
}
