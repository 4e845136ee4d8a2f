//! Clients that log in and go on with what they got: a cookie, or a bearer token.

use crate::host::RunningHost;
use crate::http::{Answer, connect, read_answer};
use crate::httpd::password_of;
use crate::load::each_in_its_thread;
use anyhow::{Context, Result, ensure};
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// With the session cookie.
    Cookie,
    /// With the bearer token.
    BearerToken,
}

/// Users who log in and then ask who they are: on the connection of their login, and on a new one in turns.
#[derive(Clone, Copy, Debug)]
pub struct LoginLoad {
    /// The server.
    pub server: SocketAddr,
    /// Users at a time.
    pub users: usize,
    /// Requests of each user after the login.
    pub requests: usize,
    /// How they prove who they are.
    pub credential: Credential,
}

impl LoginLoad {
    /// Requests that [`LoginLoad::run`] sends, logins included.
    pub fn total(&self) -> usize {
        self.users * (self.requests + 1)
    }

    /// Runs the load from `host` to its end.
    ///
    /// # Errors
    /// When a connection fails, a login is refused, or the server takes a user for another.
    pub fn run(&self, host: &RunningHost) -> Result<()> {
        let load = *self;
        host.run(move || each_in_its_thread(load.users, |id| load.run_user(&format!("user{id}"))))
    }

    fn run_user(&self, user: &str) -> Result<()> {
        let mut first = connect(self.server)?;
        let form = format!("user={user}&password={}", password_of(user));
        // Half of the answers come in chunks: what they give must be found in both.
        let path = if user.ends_with(['1', '3', '5', '7', '9']) { "/login?chunked" } else { "/login" };
        let login = format!(
            "POST {path} HTTP/1.1\r\nHost: lab\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{form}",
            form.len()
        );
        let answer = exchange(&mut first, &login)?;
        ensure!(answer.head.status()? == 200, "login of {user}: {:?}", answer.head.line);
        let proof = self.proof(&answer).with_context(|| format!("login of {user}: {answer:?}"))?;
        let mut second = connect(self.server)?;
        for number in 0..self.requests {
            let stream = if number % 2 == 0 { &mut second } else { &mut first };
            let request = format!(
                "GET /me?request={user}.{number} HTTP/1.1\r\nHost: lab\r\nAccept: */*\r\n{proof}\r\n\r\n"
            );
            let answer = exchange(stream, &request)?;
            ensure!(
                answer.head.status()? == 200 && answer.body == format!("{user}\n").as_bytes(),
                "request {number} of {user}: {answer:?}"
            );
        }
        Ok(())
    }

    /// The header field by which a user is known from now on.
    fn proof(&self, answer: &Answer) -> Result<String> {
        match self.credential {
            Credential::Cookie => {
                let mut cookies = answer.head.fields.iter().filter(|(name, _)| name == "set-cookie");
                let session = cookies.find_map(|(_, value)| value.strip_prefix("session="));
                let id = session.and_then(|value| value.split(';').next()).context("no session cookie")?;
                Ok(format!("Cookie: theme=dark; session={id}; seen=1"))
            }
            Credential::BearerToken => {
                let json: serde_json::Value = serde_json::from_slice(&answer.body)?;
                let token = json["access_token"].as_str().context("no access_token")?;
                Ok(format!("Authorization: Bearer {token}"))
            }
        }
    }
}

fn exchange(stream: &mut BufReader<TcpStream>, request: &str) -> Result<Answer> {
    stream.get_mut().write_all(request.as_bytes())?;
    read_answer(stream)
}
