//! What the report says of each user.
//!
//! Owns the names of the counts: few enough for the host, and readable in a sorted list. Who is asked to count is left to the
//! caller.

use std::collections::HashMap;

/// Most users that are named; those after them are counted together.
pub const MAX_USERS: usize = 24;
/// Most error codes that are named for a user.
pub const MAX_CODES: usize = 8;
/// Most rules that are named for a user.
pub const MAX_RULES: usize = 12;
/// Most bytes of a name, as the host has it.
const MAX_NAME: usize = 200;
/// Most bytes of a server's text.
const MAX_TEXT: usize = 96;
/// Most bytes of a user's or a rule's name.
const MAX_WORD: usize = 64;

/// What counts: [`plugin_sdk::Actions`], or a test.
pub trait Counter {
    /// Adds to a named number.
    fn count(&self, name: &str, amount: u64);
}

impl Counter for plugin_sdk::Actions<'_> {
    fn count(&self, name: &str, amount: u64) {
        plugin_sdk::Actions::count(self, name, amount);
    }
}

/// A user, as counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct User(usize);

/// What is counted for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A session began.
    Session,
    /// The target accepted a login.
    LoginAccepted,
    /// There is no password for the user: the session is given up.
    NoPassword,
    /// A statement went to the target.
    Sent,
    /// The target answered without an error.
    Answered,
    /// The session was made again on a new connection.
    Rebuilt,
}

impl Event {
    const ALL: [Self; 6] =
        [Self::Session, Self::LoginAccepted, Self::NoPassword, Self::Sent, Self::Answered, Self::Rebuilt];

    const fn name(self) -> &'static str {
        match self {
            Self::Session => "sessions",
            Self::LoginAccepted => "logins accepted",
            Self::NoPassword => "sessions given up for want of a password",
            Self::Sent => "statements sent",
            Self::Answered => "statements answered without an error",
            Self::Rebuilt => "sessions made again on a new connection",
        }
    }
}

#[derive(Debug)]
struct Names {
    prefix: String,
    events: Vec<String>,
    refusals: HashMap<u16, String>,
    errors: HashMap<u16, String>,
    rules: HashMap<String, String>,
    lost: HashMap<&'static str, String>,
}

impl Names {
    fn new(prefix: String) -> Self {
        let events = Event::ALL.iter().map(|event| format!("{prefix}: {}", event.name())).collect();
        Self {
            prefix,
            events,
            refusals: HashMap::new(),
            errors: HashMap::new(),
            rules: HashMap::new(),
            lost: HashMap::new(),
        }
    }
}

/// The names of what has been counted, made once each.
#[derive(Debug, Default)]
pub struct Tally {
    known: HashMap<Vec<u8>, User>,
    names: Vec<Names>,
}

/// A text without control characters, and not too long.
fn shown(text: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(text);
    let mut shown = String::new();
    for character in text.chars().map(|character| if character.is_control() { '?' } else { character }) {
        if shown.len() + character.len_utf8() > most {
            shown.push_str("...");
            break;
        }
        shown.push(character);
    }
    shown
}

/// The name for a code: with the text that came first, or the name for those that are too many.
fn by_code<'a>(
    names: &'a mut HashMap<u16, String>,
    prefix: &str,
    code: u16,
    text: &[u8],
    what: &str,
) -> &'a str {
    let room = names.len() < MAX_CODES;
    // Servers have no error 0.
    let key = if room || names.contains_key(&code) { code } else { 0 };
    names.entry(key).or_insert_with(|| {
        if key == 0 {
            return format!("{prefix}: {what} with other errors");
        }
        let start = format!("{prefix}: {what} with error {code}, such as ");
        let most = MAX_NAME.saturating_sub(start.len() + 5).min(MAX_TEXT);
        format!("{start}\"{}\"", shown(text, most))
    })
}

impl Tally {
    /// The user of this name. An empty one is a user too, the anonymous one.
    pub fn user(&mut self, name: &[u8]) -> User {
        if let Some(&user) = self.known.get(name) {
            return user;
        }
        if self.names.len() > MAX_USERS {
            return User(MAX_USERS);
        }
        if self.names.len() == MAX_USERS {
            self.names.push(Names::new("other users".to_owned()));
            return User(MAX_USERS);
        }
        let user = User(self.names.len());
        self.names.push(Names::new(format!("user \"{}\"", shown(name, MAX_WORD))));
        self.known.insert(name.to_vec(), user);
        user
    }

    /// Counts what happened.
    pub fn event(&self, user: User, event: Event, counter: &impl Counter) {
        counter.count(&self.names[user.0].events[event as usize], 1);
    }

    /// Counts a login that the target refused, with its error.
    pub fn login_refused(&mut self, user: User, code: u16, text: &[u8], counter: &impl Counter) {
        let names = &mut self.names[user.0];
        counter.count(by_code(&mut names.refusals, &names.prefix, code, text, "logins refused"), 1);
    }

    /// Counts a statement that the target answered with an error. The text that came first is shown with the code, as an example.
    pub fn error(&mut self, user: User, code: u16, text: &[u8], counter: &impl Counter) {
        let names = &mut self.names[user.0];
        counter.count(by_code(&mut names.errors, &names.prefix, code, text, "statements answered"), 1);
    }

    /// Counts a statement that a rule left out. `rule` is what the rule is called.
    pub fn dropped(&mut self, user: User, rule: &str, counter: &impl Counter) {
        let names = &mut self.names[user.0];
        if let Some(name) = names.rules.get(rule) {
            return counter.count(name, 1);
        }
        let key = if names.rules.len() < MAX_RULES { rule } else { "other rules" };
        let prefix = &names.prefix;
        let name = names.rules.entry(key.to_owned()).or_insert_with(|| {
            format!("{prefix}: statements dropped by {}", shown(key.as_bytes(), MAX_WORD))
        });
        counter.count(name, 1);
    }

    /// Counts what was lost with a connection: [`crate::memory::Lost::counts`], or another word for what it is.
    pub fn lost(&mut self, user: User, what: &'static str, amount: u32, counter: &impl Counter) {
        if amount == 0 {
            return;
        }
        let names = &mut self.names[user.0];
        let prefix = &names.prefix;
        let name =
            names.lost.entry(what).or_insert_with(|| format!("{prefix}: lost with a connection: {what}"));
        counter.count(name, u64::from(amount));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Counts(RefCell<BTreeMap<String, u64>>);

    impl Counter for Counts {
        fn count(&self, name: &str, amount: u64) {
            *self.0.borrow_mut().entry(name.to_owned()).or_default() += amount;
        }
    }

    #[test]
    fn what_happens_is_counted_by_user() {
        let (mut tally, counts) = (Tally::default(), Counts::default());
        let (alice, bob) = (tally.user(b"alice"), tally.user(b"bob\n"));
        assert_eq!(tally.user(b"alice"), alice);
        for event in Event::ALL {
            tally.event(alice, event, &counts);
        }
        tally.event(bob, Event::Sent, &counts);
        tally.login_refused(bob, 1045, b"Access denied for user 'bob'", &counts);
        tally.error(alice, 1146, b"Table 'a.b' doesn't exist", &counts);
        tally.error(alice, 1146, b"Table 'a.c' doesn't exist", &counts);
        tally.dropped(alice, "read-only: insert", &counts);
        tally.lost(alice, "open transaction", 1, &counts);
        tally.lost(alice, "temporary table", 0, &counts);
        let expected = [
            ("user \"alice\": logins accepted", 1),
            ("user \"alice\": lost with a connection: open transaction", 1),
            ("user \"alice\": sessions", 1),
            ("user \"alice\": sessions given up for want of a password", 1),
            ("user \"alice\": sessions made again on a new connection", 1),
            ("user \"alice\": statements answered with error 1146, such as \"Table 'a.b' doesn't exist\"", 2),
            ("user \"alice\": statements answered without an error", 1),
            ("user \"alice\": statements dropped by read-only: insert", 1),
            ("user \"alice\": statements sent", 1),
            ("user \"bob?\": logins refused with error 1045, such as \"Access denied for user 'bob'\"", 1),
            ("user \"bob?\": statements sent", 1),
        ];
        assert_eq!(counts.0.into_inner(), expected.map(|(name, count)| (name.to_owned(), count)).into());
    }

    #[test]
    fn names_are_few_and_short() {
        let (mut tally, counts) = (Tally::default(), Counts::default());
        for number in 0..MAX_USERS + 20 {
            let user = tally.user(format!("{number}{}", "ü".repeat(300)).as_bytes());
            for event in Event::ALL {
                tally.event(user, event, &counts);
            }
            for code in 0..40 {
                tally.error(user, code, &[b'x'; 500], &counts);
                tally.login_refused(user, code, &[0xFF; 500], &counts);
                tally.dropped(user, &format!("rule {code} {}", "y".repeat(300)), &counts);
            }
        }
        let names = counts.0.into_inner();
        assert!(names.len() <= 1024, "{}", names.len());
        assert_eq!(names.keys().find(|name| name.len() > MAX_NAME), None);
        assert!(names.keys().any(|name| name.starts_with("other users: ")));
    }
}
