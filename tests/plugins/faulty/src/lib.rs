//! A plugin that fails when a request asks it to: what becomes of its other sessions is what the lab's tests look at.
//!
//! It knows of HTTP just enough to find the end of a request without a body. In a request line, `/panic/` makes it panic,
//! `/loop/` makes it never return, `/eat/` makes it take memory without end, `/greedy/` makes it forward more than there is, and
//! `/give-up/` makes it give the session up for a reason. All other requests pass as they are.

use plugin_sdk::{Actions, ConfigError, Descriptor, Level, Needs, Opening, Plugin, Reply, Settings};

/// The plugin; it has no options.
pub struct Faulty;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Pass,
    Panic,
    Loop,
    EatMemory,
    ForwardTooMuch,
    GiveUp,
}

impl Wish {
    fn of(head: &[u8]) -> Self {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let asks_for = |marker: &[u8]| line.windows(marker.len()).any(|window| window == marker);
        match () {
            () if asks_for(b"/panic/") => Self::Panic,
            () if asks_for(b"/loop/") => Self::Loop,
            () if asks_for(b"/eat/") => Self::EatMemory,
            () if asks_for(b"/greedy/") => Self::ForwardTooMuch,
            () if asks_for(b"/give-up/") => Self::GiveUp,
            () => Self::Pass,
        }
    }
}

impl Plugin for Faulty {
    type Session = ();

    fn descriptor() -> Descriptor {
        Descriptor::new("faulty", env!("CARGO_PKG_VERSION"))
            .about("Fails when a request asks it to.")
            .ports(&[8080])
    }

    fn configure(_settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn open(&mut self, _opening: &Opening, _actions: &mut Actions<'_>) {}

    fn on_request(&mut self, (): &mut (), bytes: &[u8], actions: &mut Actions<'_>) {
        let mut rest = bytes;
        while let Some(at) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
            let (head, behind) = rest.split_at(at + 4);
            match Wish::of(head) {
                Wish::Pass => {}
                Wish::Panic => panic!("a request asked for it"),
                Wish::Loop => loop {
                    std::hint::black_box(());
                },
                Wish::EatMemory => {
                    let mut eaten = Vec::new();
                    loop {
                        eaten.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                    }
                }
                Wish::ForwardTooMuch => actions.forward(rest.len() + 1),
                Wish::GiveUp => {
                    actions.give_up("a request asked for it");
                    return;
                }
            }
            actions.count("requests", 1);
            actions.log(Level::Debug, "a request passes");
            actions.forward(head.len());
            // Answers are not looked at, so requests are sent as they come.
            actions.end_request(Reply::NotExpected);
            rest = behind;
        }
    }

    fn on_gap(&mut self, (): &mut (), _actions: &mut Actions<'_>) {}
}

#[cfg(feature = "export")]
plugin_sdk::export_plugin!(Faulty);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_request_line_is_asked() {
        assert_eq!(Wish::of(b"GET /panic/1 HTTP/1.1\r\nHost: lab\r\n\r\n"), Wish::Panic);
        assert_eq!(Wish::of(b"GET /eat/1 HTTP/1.1\r\n\r\n"), Wish::EatMemory);
        assert_eq!(Wish::of(b"GET / HTTP/1.1\r\nReferer: /panic/\r\n\r\n"), Wish::Pass);
    }
}
