//! What is worth knowing about the assistant server.

use tcpcopy_engine::relay::hello::{AssistantFacts, Forwarding};

/// Looks at the host.
pub(crate) fn facts(interfaces: &[String]) -> AssistantFacts {
    AssistantFacts {
        forwards_v4: forwarding("/proc/sys/net/ipv4/ip_forward"),
        forwards_v6: forwarding("/proc/sys/net/ipv6/conf/all/forwarding"),
        interfaces: if interfaces.is_empty() { "every interface".into() } else { interfaces.join(",") },
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

fn forwarding(path: &str) -> Forwarding {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim() == "0" => Forwarding::Off,
        Ok(_) => Forwarding::On,
        Err(_) => Forwarding::Unknown,
    }
}

/// Warnings about settings that keep replay from working, each with the command that mends it.
pub(crate) fn warnings(facts: &AssistantFacts) -> Vec<String> {
    let warning = |forwarding, family, command| {
        (forwarding == Forwarding::On).then(|| {
            format!(
                "this host forwards {family} packets: replies go on to the real clients, which reset the connections; \
                 turn it off: sysctl -w {command}=0"
            )
        })
    };
    [
        warning(facts.forwards_v4, "IPv4", "net.ipv4.ip_forward"),
        warning(facts.forwards_v6, "IPv6", "net.ipv6.conf.all.forwarding"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarding_is_warned_of_with_the_command() {
        let mut facts = facts(&["eth0".into(), "eth1".into()]);
        assert_eq!(facts.interfaces, "eth0,eth1");
        facts.forwards_v4 = Forwarding::On;
        facts.forwards_v6 = Forwarding::Off;
        let found = warnings(&facts);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("net.ipv4.ip_forward=0"));
    }
}
