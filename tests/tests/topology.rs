//! The lab itself: who reaches whom, and that nothing is left of it.

use anyhow::ensure;
use std::io::Read;
use std::net::{IpAddr, SocketAddrV4, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;
use tcpcopy_lab::lab::{Forwarding, Load, TargetRoutes};
use tcpcopy_lab::raw::RawSegment;
use tcpcopy_lab::sniffer::{Segment, Sniffer};
use tcpcopy_lab::wait::wait_until;
use tcpcopy_lab::{Family, Host, Lab, LabOptions, lab_test};

const LIGHT: LabOptions =
    LabOptions { target_routes: TargetRoutes::ViaAssistant, forwarding: Forwarding::Off, load: Load::Light };

#[test]
fn client_reaches_online_over_both_ip_versions() {
    lab_test(LIGHT, |lab| {
        for family in [Family::V4, Family::V6] {
            let online = Host::Online.socket(family, 7000);
            let listener = lab.host(Host::Online).run(move || TcpListener::bind(online))?;
            let connecting = lab
                .host(Host::Client)
                .run(move || TcpStream::connect_timeout(&online, Duration::from_secs(5)));
            let (_, from) = listener.accept()?;
            ensure!(from.ip() == Host::Client.addr(family), "the client appears as {from}");
            drop(connecting?);
        }
        Ok(())
    });
}

/// What everything rests on: the target's answer to a client's address comes to the assistant, and goes no further.
#[test]
fn replies_of_the_target_to_clients_arrive_at_the_assistant() {
    lab_test(LIGHT, |lab| {
        for family in [Family::V4, Family::V6] {
            let target = Host::Target.socket(family, 7001);
            let _listener = lab.host(Host::Target).run(move || TcpListener::bind(target))?;
            let at_assistant = Sniffer::open(lab.host(Host::Assistant))?;
            let at_client = Sniffer::open(lab.host(Host::Client))?;
            // The client itself connects to the target: the SYN goes straight there, the answer must not come back.
            let connected = lab
                .host(Host::Client)
                .run(move || TcpStream::connect_timeout(&target, Duration::from_millis(700)));
            ensure!(connected.is_err(), "the handshake completed: the answer came back directly");
            let is_answer = |segment: &Segment| segment.source == target && segment.is_syn_ack();
            wait_until("a SYN-ACK at the assistant", Duration::from_secs(5), || {
                Ok(at_assistant.segments().iter().any(is_answer))
            })?;
            ensure!(!at_client.segments().iter().any(is_answer), "the answer came to the client as well");
        }
        Ok(())
    });
}

#[test]
fn without_routes_replies_go_to_the_client() {
    let options = LabOptions { target_routes: TargetRoutes::Missing, ..LIGHT };
    lab_test(options, |lab| {
        let target = Host::Target.socket(Family::V4, 7002);
        let _listener = lab.host(Host::Target).run(move || TcpListener::bind(target))?;
        lab.host(Host::Client).run(move || TcpStream::connect_timeout(&target, Duration::from_secs(5)))?;
        Ok(())
    });
}

#[test]
fn processes_end_with_their_guard() {
    lab_test(LIGHT, |lab| {
        let mut command = Command::new("sh");
        command.args(["-c", "echo started; exec sleep 1000"]);
        let mut process = lab.host(Host::Client).spawn("sleeper", command)?;
        process.wait_for_line("started", Duration::from_secs(5))?;
        let entry = format!("/proc/{}", process.id());
        ensure!(std::path::Path::new(&entry).exists(), "it is not running");
        drop(process);
        ensure!(!std::path::Path::new(&entry).exists(), "it is still running");
        Ok(())
    });
}

#[test]
fn labs_do_not_disturb_each_other_and_leave_nothing() {
    lab_test(LIGHT, |lab| {
        let second = Lab::raise(LIGHT)?;
        let folder = second.folder().to_owned();
        let address = Host::Online.socket(Family::V4, 7003);
        let _first = lab.host(Host::Online).run(move || TcpListener::bind(address))?;
        let listener = second.host(Host::Online).run(move || TcpListener::bind(address))?;
        let client = second.host(Host::Client).run(move || TcpStream::connect(address))?;
        drop(listener.accept()?);
        let mut rest = Vec::new();
        (&client).read_to_end(&mut rest)?;
        drop(second);
        ensure!(!folder.exists(), "{} is left", folder.display());
        Ok(())
    });
}

/// The way of an injected packet: online sends a SYN in the client's name; the target takes it for the client's.
#[test]
fn a_syn_in_the_clients_name_is_answered_to_the_assistant() {
    lab_test(LIGHT, |lab| {
        let (IpAddr::V4(client), IpAddr::V4(target)) =
            (Host::Client.addr(Family::V4), Host::Target.addr(Family::V4))
        else {
            anyhow::bail!("not IPv4")
        };
        let _listener = lab.host(Host::Target).run(move || TcpListener::bind((target, 7004)))?;
        let at_assistant = Sniffer::open(lab.host(Host::Assistant))?;
        let (from, to) = (SocketAddrV4::new(client, 4000), SocketAddrV4::new(target, 7004));
        RawSegment::syn(from, to).send(lab.host(Host::Online))?;
        wait_until("the answer at the assistant", Duration::from_secs(5), || {
            Ok(at_assistant.segments().iter().any(|segment| {
                segment.is_syn_ack() && segment.source == to.into() && segment.destination == from.into()
            }))
        })
    });
}
