//! Classic BPF programs: reading libpcap's, changing them, and the few that are written here.

use libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET,
    BPF_K, BPF_LD, BPF_LDX, BPF_LSH, BPF_MEM, BPF_MISC, BPF_MSH, BPF_RET, BPF_ST, BPF_TAX, BPF_TXA, BPF_W,
    BPF_X, sock_filter,
};

// Loads at these places give facts about the packet instead of its bytes (linux/filter.h).
const AUXILIARY: u32 = 0xffff_f000;
const PROTOCOL: u32 = AUXILIARY;
const PACKET_TYPE: u32 = AUXILIARY + 4;
/// `SKF_AD_HATYPE`: the type of the interface.
const INTERFACE_TYPE: u32 = AUXILIARY + 28;
/// Loads from here on start at the network header, whatever lies before it.
const NETWORK: u32 = 0xfff0_0000;

const OUTGOING: u32 = 4;
/// `ARPHRD_LOOPBACK`.
const LOOPBACK: u32 = 772;
const ETHERTYPE_IPV4: u32 = 0x0800;
const ETHERTYPE_IPV6: u32 = 0x86dd;
const ETHERTYPE_VLAN: u32 = 0x8100;
const ETHERTYPE_QINQ: u32 = 0x88a8;
const VLAN_TAG: u32 = 4;

const fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

const fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | code) as u16, jt, jf, k }
}

/// One instruction, from the four numbers that the `pcap` crate shows it as.
pub(super) fn parse(text: &str) -> Option<sock_filter> {
    let mut numbers = text.split(' ');
    let instruction = sock_filter {
        code: numbers.next()?.parse().ok()?,
        jt: numbers.next()?.parse().ok()?,
        jf: numbers.next()?.parse().ok()?,
        k: numbers.next()?.parse().ok()?,
    };
    numbers.next().is_none().then_some(instruction)
}

/// The program with every accepting return keeping `snap_len` bytes.
pub(crate) fn snap_program(program: &[sock_filter], snap_len: u32) -> Vec<sock_filter> {
    let mut program = program.to_vec();
    for instruction in &mut program {
        if u32::from(instruction.code) == BPF_RET | BPF_K && instruction.k != 0 {
            instruction.k = snap_len;
        }
    }
    program
}

/// The program behind a test that rejects what this host sends, for kernels without `PACKET_IGNORE_OUTGOING`.
pub(crate) fn ignore_outgoing_program(program: &[sock_filter]) -> Vec<sock_filter> {
    // Jumps are relative, so a program can be moved as it is.
    let mut whole = vec![
        statement(BPF_LD | BPF_W | BPF_ABS, PACKET_TYPE),
        jump(BPF_JEQ | BPF_K, OUTGOING, 0, 1),
        statement(BPF_RET | BPF_K, 0),
    ];
    whole.extend_from_slice(program);
    whole
}

/// Instructions that are put before a filter at most, in a socket that it is attached to.
pub(super) const LONGEST_PREFIX: usize = 5;

/// The program behind a test that rejects what goes out through a loopback interface: the same packet comes in there.
pub(crate) fn loopback_once_program(program: &[sock_filter]) -> Vec<sock_filter> {
    let mut whole = vec![
        statement(BPF_LD | BPF_W | BPF_ABS, PACKET_TYPE),
        jump(BPF_JEQ | BPF_K, OUTGOING, 0, 3),
        statement(BPF_LD | BPF_W | BPF_ABS, INTERFACE_TYPE),
        jump(BPF_JEQ | BPF_K, LOOPBACK, 0, 1),
        statement(BPF_RET | BPF_K, 0),
    ];
    whole.extend_from_slice(program);
    whole
}

/// The program for sockets whose data starts at the network header: packets that have a tag there are looked at behind it.
pub(super) fn with_tags_in_datagrams(program: &[sock_filter]) -> Vec<sock_filter> {
    let length = program.len() as u32;
    let mut whole = vec![
        statement(BPF_LD | BPF_W | BPF_ABS, PROTOCOL),
        jump(BPF_JEQ | BPF_K, ETHERTYPE_VLAN, 3, 0),
        jump(BPF_JEQ | BPF_K, ETHERTYPE_QINQ, 2, 0),
        jump(BPF_JEQ | BPF_K, ETHERTYPE_IPV4, 2, 0),
        jump(BPF_JEQ | BPF_K, ETHERTYPE_IPV6, 1, 2),
        statement(BPF_JMP | BPF_JA, length + 2),
        // Untagged IP. The jump over the reject below is unconditional so that the program's own jumps stay as they are.
        statement(BPF_JMP | BPF_JA, 1),
        statement(BPF_RET | BPF_K, 0),
    ];
    whole.extend_from_slice(program);
    // The tag's control information comes first (its EtherType is in the link header): the packet starts 4 bytes later.
    whole.extend(program.iter().map(|instruction| shifted(*instruction, VLAN_TAG)));
    whole
}

/// The instruction with its loads from the packet moved by `bytes`.
fn shifted(mut instruction: sock_filter, bytes: u32) -> sock_filter {
    let code = u32::from(instruction.code);
    let mode = code & 0xe0;
    let loads = match code & 0x07 {
        BPF_LD => mode == BPF_ABS || mode == BPF_IND,
        BPF_LDX => mode == BPF_MSH,
        _ => false,
    };
    if loads && instruction.k < NETWORK {
        instruction.k += bytes;
    }
    instruction
}

/// What a packet's worker is chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortSide {
    Source,
    Destination,
}

/// A program whose result is the TCP port on one side, for `PACKET_FANOUT_CBPF`. The kernel takes it modulo the number of
/// members. What has no port to find (fragments, extension headers, other protocols) gives 0.
pub(crate) fn fanout_program(side: PortSide) -> Vec<sock_filter> {
    let mut program = find_ports();
    program.extend(match side {
        PortSide::Source => [statement(BPF_LD | BPF_W | BPF_MEM, SOURCE_SLOT), statement(BPF_RET | BPF_A, 0)],
        PortSide::Destination => {
            [statement(BPF_LD | BPF_W | BPF_MEM, DESTINATION_SLOT), statement(BPF_RET | BPF_A, 0)]
        }
    });
    program
}

/// A program whose result is the client's TCP port, whichever direction the packet goes: the one that is none of the online
/// servers' `ports`. Where both are, it is the larger one, so that both directions have the same result all the same.
pub(crate) fn client_port_program(ports: &[u16]) -> Vec<sock_filter> {
    let mut program = find_ports();
    let to_end = |program: &mut Vec<sock_filter>, slot| {
        program.push(statement(BPF_LD | BPF_W | BPF_MEM, slot));
        program.push(statement(BPF_RET | BPF_A, 0));
    };
    // To no online port: from the server to the client.
    program.extend(unless_one_of(ports, DESTINATION_SLOT));
    to_end(&mut program, DESTINATION_SLOT);
    // To an online port, and not from one: from the client.
    program.extend(unless_one_of(ports, SOURCE_SLOT));
    to_end(&mut program, SOURCE_SLOT);
    program.extend([
        statement(BPF_LDX | BPF_W | BPF_MEM, DESTINATION_SLOT),
        statement(BPF_LD | BPF_W | BPF_MEM, SOURCE_SLOT),
        jump(BPF_JGE | BPF_X, 0, 1, 0),
        statement(BPF_MISC | BPF_TXA, 0),
        statement(BPF_RET | BPF_A, 0),
    ]);
    program
}

/// Jumps over the next two instructions if the port in `slot` is one of `ports`.
fn unless_one_of(ports: &[u16], slot: u32) -> Vec<sock_filter> {
    let mut program = vec![statement(BPF_LD | BPF_W | BPF_MEM, slot)];
    let count = ports.len() as u32;
    for (index, port) in (0u32..).zip(ports) {
        // Conditional jumps reach 255 instructions, unconditional ones any number.
        program.push(jump(BPF_JEQ | BPF_K, u32::from(*port), 0, 1));
        program.push(statement(BPF_JMP | BPF_JA, 2 * (count - index - 1) + 2));
    }
    program
}

const SOURCE_SLOT: u32 = 0;
const DESTINATION_SLOT: u32 = 1;

/// Loads both TCP ports into their slots, or ends with 0.
fn find_ports() -> Vec<sock_filter> {
    vec![
        statement(BPF_LD | BPF_B | BPF_ABS, NETWORK),
        statement(BPF_ALU | BPF_AND | BPF_K, 0xf0),
        jump(BPF_JEQ | BPF_K, 0x60, 12, 0),
        jump(BPF_JEQ | BPF_K, 0x40, 0, 13),
        // IPv4: a fragment that doesn't start at 0 has no ports.
        statement(BPF_LD | BPF_H | BPF_ABS, NETWORK + 6),
        jump(BPF_JSET | BPF_K, 0x1fff, 11, 0),
        statement(BPF_LD | BPF_B | BPF_ABS, NETWORK),
        statement(BPF_ALU | BPF_AND | BPF_K, 0x0f),
        statement(BPF_ALU | BPF_LSH | BPF_K, 2),
        statement(BPF_MISC | BPF_TAX, 0),
        statement(BPF_LD | BPF_H | BPF_IND, NETWORK),
        statement(BPF_ST, SOURCE_SLOT),
        statement(BPF_LD | BPF_H | BPF_IND, NETWORK + 2),
        statement(BPF_ST, DESTINATION_SLOT),
        statement(BPF_JMP | BPF_JA, 7),
        // IPv6: TCP right behind the header, or nothing.
        statement(BPF_LD | BPF_B | BPF_ABS, NETWORK + 6),
        jump(BPF_JEQ | BPF_K, 6, 1, 0),
        statement(BPF_RET | BPF_K, 0),
        statement(BPF_LD | BPF_H | BPF_ABS, NETWORK + 40),
        statement(BPF_ST, SOURCE_SLOT),
        statement(BPF_LD | BPF_H | BPF_ABS, NETWORK + 40 + 2),
        statement(BPF_ST, DESTINATION_SLOT),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program gives for a packet of these bytes, by a reading of the instructions used here.
    fn run(program: &[sock_filter], packet: &[u8]) -> u32 {
        let (mut a, mut x, mut slots, mut at) = (0u32, 0u32, [0u32; 16], 0usize);
        loop {
            let instruction = program[at];
            at += 1;
            let k = instruction.k;
            let load = |offset: u32, len: usize| {
                let bytes = &packet[offset as usize..][..len];
                bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
            };
            let mut branch = |taken: bool| {
                at += usize::from(if taken { instruction.jt } else { instruction.jf });
            };
            match u32::from(instruction.code) {
                code if code == BPF_LD | BPF_B | BPF_ABS => a = load(k - NETWORK, 1),
                code if code == BPF_LD | BPF_H | BPF_ABS => a = load(k - NETWORK, 2),
                code if code == BPF_LD | BPF_H | BPF_IND => a = load(k.wrapping_add(x) - NETWORK, 2),
                code if code == BPF_LD | BPF_W | BPF_MEM => a = slots[k as usize],
                code if code == BPF_LDX | BPF_W | BPF_MEM => x = slots[k as usize],
                code if code == BPF_ST => slots[k as usize] = a,
                code if code == BPF_ALU | BPF_AND | BPF_K => a &= k,
                code if code == BPF_ALU | BPF_LSH | BPF_K => a <<= k,
                code if code == BPF_MISC | BPF_TAX => x = a,
                code if code == BPF_MISC | BPF_TXA => a = x,
                code if code == BPF_JMP | BPF_JEQ | BPF_K => branch(a == k),
                code if code == BPF_JMP | BPF_JSET | BPF_K => branch(a & k != 0),
                code if code == BPF_JMP | BPF_JGE | BPF_X => branch(a >= x),
                code if code == BPF_JMP | BPF_JA => at += k as usize,
                code if code == BPF_RET | BPF_K => return k,
                code if code == BPF_RET | BPF_A => return a,
                code => panic!("instruction {code:#x} at {}", at - 1),
            }
        }
    }

    fn packets(source: u16, destination: u16) -> [Vec<u8>; 2] {
        // 24 bytes of IPv4 header: one with an option.
        let mut v4 = vec![0; 24];
        (v4[0], v4[9]) = (0x46, 6);
        let mut v6 = vec![0; 40];
        (v6[0], v6[6]) = (0x6f, 6);
        [v4, v6].map(|mut packet| {
            packet.extend(source.to_be_bytes());
            packet.extend(destination.to_be_bytes());
            packet
        })
    }

    #[test]
    fn both_directions_of_a_connection_have_one_key() {
        let many: Vec<u16> = (1000..1300).collect();
        for online in [&[80][..], &[80, 443, 8080], &many] {
            let program = client_port_program(online);
            let last = *online.last().unwrap();
            for client in [40_001, 79, 81, 65_535, 1] {
                for (server, expected) in [(online[0], client), (last, client)] {
                    for packet in packets(client, server).iter().chain(&packets(server, client)) {
                        assert_eq!(run(&program, packet), u32::from(expected), "{client} {server}");
                    }
                }
            }
            // A client whose own port is one of the online ones.
            for packet in packets(online[0], last).iter().chain(&packets(last, online[0])) {
                assert_eq!(run(&program, packet), u32::from(last.max(online[0])));
            }
        }
    }

    #[test]
    fn what_has_no_ports_has_the_key_0() {
        for program in [
            fanout_program(PortSide::Source),
            fanout_program(PortSide::Destination),
            client_port_program(&[80]),
        ] {
            let [mut v4, mut v6] = packets(7, 7);
            assert_eq!([run(&program, &v4), run(&program, &v6)], [7, 7]);
            v4[7] = 1;
            v6[6] = 44;
            assert_eq!([run(&program, &v4), run(&program, &v6)], [0, 0]);
            assert_eq!(run(&program, &[0x15; 60]), 0);
        }
    }
}
