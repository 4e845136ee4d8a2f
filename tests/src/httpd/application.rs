//! What the lab's HTTP server answers: sessions, files of any length, event streams, refusals.
//!
//! Owns the routes and the sessions. Each instance gives out session ids and tokens of its own, so that one that another
//! instance gave out is worth nothing here, as in the field.

use super::message::{Head, chunked};
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Duration;

/// The longest body that a request can ask for.
const LONGEST: usize = 64 << 20;
/// Time between two events of a stream.
const BETWEEN_EVENTS: Duration = Duration::from_millis(10);

/// The password of a user.
pub fn password_of(user: &str) -> String {
    format!("secret-of-{user}")
}

/// Sessions of one instance.
#[derive(Default)]
pub(crate) struct Application {
    /// Users by session id and by token.
    sessions: Mutex<HashMap<String, String>>,
}

/// What became of a request.
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// Who asked, where that is known.
    pub(crate) user: String,
    /// What else is in the header.
    fields: String,
    body: Body,
}

enum Body {
    /// With its length.
    Whole(Vec<u8>),
    /// In a chunk.
    Chunked(Vec<u8>),
    /// Ends with the connection.
    UntilClose(Vec<u8>),
    /// So many server-sent events, in chunks.
    Events(u32),
}

/// Whether the connection can carry another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It can.
    KeepAlive,
    /// It ends here.
    Close,
}

impl Answer {
    fn of(status: u16, body: Vec<u8>) -> Self {
        Self { status, user: String::new(), fields: String::new(), body: Body::Whole(body) }
    }

    /// A refusal to read the body that a client announced.
    pub(crate) fn refusal(status: u16) -> Self {
        Self::of(status, b"refused\n".to_vec())
    }

    /// Writes it; `asked` is what the client wants to become of the connection.
    pub(crate) fn write(&self, stream: &mut TcpStream, asked: Next) -> Result<Next> {
        let next = if matches!(self.body, Body::UntilClose(_)) { Next::Close } else { asked };
        let connection = match next {
            Next::KeepAlive => "keep-alive",
            Next::Close => "close",
        };
        let version = if matches!(self.body, Body::UntilClose(_)) { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut head = format!("{version} {} {}\r\n", self.status, reason(self.status));
        head += &format!("{}Connection: {connection}\r\n", self.fields);
        match &self.body {
            Body::Whole(body) => {
                let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
                stream.write_all(&[head.as_bytes(), body].concat())?;
            }
            Body::Chunked(body) => {
                let head = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
                stream.write_all(&[head.as_bytes(), &chunked(body)].concat())?;
            }
            Body::UntilClose(body) => stream.write_all(&[head.as_bytes(), b"\r\n", body].concat())?,
            Body::Events(count) => {
                write!(
                    stream,
                    "{head}Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                )?;
                for number in 0..*count {
                    let event = format!("id: {number}\ndata: event {number}\n\n");
                    stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
                    std::thread::sleep(BETWEEN_EVENTS);
                }
                stream.write_all(b"0\r\n\r\n")?;
            }
        }
        Ok(next)
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        401 => "Unauthorized",
        404 => "Not Found",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        _ => "Other",
    }
}

/// What a request with this path wants to hear before it sends its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// That it may.
    Continue,
    /// That it may not: this status.
    Refused(u16),
}

/// Whether a body with `Expect: 100-continue` is wanted: `/refuse/STATUS/…` refuses it.
pub(crate) fn expectation_of(path: &str) -> Expectation {
    let refused = path.strip_prefix("/refuse/").and_then(|rest| rest.split('/').next()?.parse().ok());
    refused.map_or(Expectation::Continue, Expectation::Refused)
}

impl Application {
    /// The answer to a request whose body, as far as it is kept, is `body`.
    pub(crate) fn answer(&self, head: &Head, body: &[u8]) -> Result<Answer> {
        let mut words = head.line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let number = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.parse::<usize>().ok());
        if (method, path) == ("POST", "/login") {
            return self.log_in(query, body);
        }
        if path == "/me" {
            return Ok(self.who_asks(head));
        }
        if let Some(length) = number("/bytes/") {
            return Ok(Answer::of(200, vec![b'x'; length.min(LONGEST)]));
        }
        if let Some(length) = number("/close/") {
            let body = Body::UntilClose(vec![b'c'; length.min(LONGEST)]);
            return Ok(Answer { body, ..Answer::of(200, Vec::new()) });
        }
        if let Some(count) = number("/events/") {
            let body = Body::Events(u32::try_from(count).unwrap_or(u32::MAX));
            return Ok(Answer { body, ..Answer::of(200, Vec::new()) });
        }
        Ok(Answer::of(200, b"noted\n".to_vec()))
    }

    fn log_in(&self, query: &str, body: &[u8]) -> Result<Answer> {
        let form = String::from_utf8_lossy(body);
        let value = |name: &str| {
            let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .filter(|(known, _)| *known == name)
                .map(|(_, value)| value.to_owned())
                .next()
                .unwrap_or_default()
        };
        let user = value("user");
        if user.is_empty() || value("password") != password_of(&user) {
            return Ok(Answer::of(401, b"wrong password\n".to_vec()));
        }
        let (id, token) = (random_text()?, random_text()?);
        let mut sessions = super::lock(&self.sessions);
        sessions.insert(id.clone(), user.clone());
        sessions.insert(token.clone(), user.clone());
        let json =
            format!("{{\"token_type\":\"bearer\",\"access_token\":\"{token}\",\"user\":\"{user}\"}}\n");
        let fields = format!(
            "Content-Type: application/json\r\nSet-Cookie: theme=dark; Path=/\r\nSet-Cookie: session={id}; Path=/; HttpOnly\r\n"
        );
        let body = match query.contains("chunked") {
            true => Body::Chunked(json.into_bytes()),
            false => Body::Whole(json.into_bytes()),
        };
        Ok(Answer { status: 200, user, fields, body })
    }

    fn who_asks(&self, head: &Head) -> Answer {
        let cookies = head.fields.iter().filter(|(name, _)| name == "cookie");
        let cookie = cookies
            .flat_map(|(_, value)| value.split(';'))
            .find_map(|pair| pair.trim().strip_prefix("session=").map(str::to_owned));
        let bearer =
            head.field("authorization").and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
        let sessions = super::lock(&self.sessions);
        match cookie.or(bearer).and_then(|credential| sessions.get(&credential)) {
            Some(user) => Answer { user: user.clone(), ..Answer::of(200, format!("{user}\n").into_bytes()) },
            None => Answer::of(401, b"who are you?\n".to_vec()),
        }
    }
}

/// 128 random bits as text.
fn random_text() -> Result<String> {
    let mut bytes = [0; 16];
    let source = std::fs::File::open("/dev/urandom");
    source.and_then(|mut source| source.read_exact(&mut bytes)).context("reading /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(application: &Application, head: &str, body: &str) -> Answer {
        let head = Head::read(&mut format!("{head}\r\n\r\n").as_bytes()).unwrap().unwrap();
        application.answer(&head, body.as_bytes()).unwrap()
    }

    #[test]
    fn sessions_are_known_only_where_they_began() {
        let (here, elsewhere) = (Application::default(), Application::default());
        let form = format!("user=ann&password={}", password_of("ann"));
        let answer = ask(&here, "POST /login HTTP/1.1", &form);
        assert_eq!((answer.status, answer.user.as_str()), (200, "ann"));
        let id = answer.fields.split("session=").nth(1).unwrap().split(';').next().unwrap();
        let me = format!("GET /me HTTP/1.1\r\nCookie: theme=dark; session={id}");
        assert_eq!((ask(&here, &me, "").status, ask(&here, &me, "").user.as_str()), (200, "ann"));
        assert_eq!(ask(&elsewhere, &me, "").status, 401);
        let Body::Whole(json) = &answer.body else { panic!("not whole") };
        let json: serde_json::Value = serde_json::from_slice(json).unwrap();
        let bearer =
            format!("GET /me HTTP/1.1\r\nAuthorization: Bearer {}", json["access_token"].as_str().unwrap());
        assert_eq!(ask(&here, &bearer, "").status, 200);
        assert_eq!(ask(&elsewhere, &bearer, "").status, 401);
        assert_eq!(ask(&here, "POST /login HTTP/1.1", "user=ann&password=x").status, 401);
    }

    #[test]
    fn a_number_in_the_path_asks_for_so_many_bytes() {
        let answer = ask(&Application::default(), "GET /bytes/1000?id=3 HTTP/1.1", "");
        assert!(matches!(&answer.body, Body::Whole(body) if body.len() == 1000));
        let answer = ask(&Application::default(), "GET /close/7 HTTP/1.1", "");
        assert!(matches!(&answer.body, Body::UntilClose(body) if body.len() == 7));
        assert_eq!(expectation_of("/refuse/417/x"), Expectation::Refused(417));
        assert_eq!(expectation_of("/upload"), Expectation::Continue);
    }
}
