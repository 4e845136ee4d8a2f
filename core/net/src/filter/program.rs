//! Classic BPF programs: reading libpcap's, changing them, and the few that are written here.

use libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IND, BPF_JA, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K,
    BPF_LD, BPF_LDX, BPF_LSH, BPF_MISC, BPF_MSH, BPF_RET, BPF_TAX, BPF_W, sock_filter,
};

// Loads at these places give facts about the packet instead of its bytes (linux/filter.h).
const AUXILIARY: u32 = 0xffff_f000;
const PROTOCOL: u32 = AUXILIARY;
const PACKET_TYPE: u32 = AUXILIARY + 4;
/// Loads from here on start at the network header, whatever lies before it.
const NETWORK: u32 = 0xfff0_0000;

const OUTGOING: u32 = 4;
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
    let offset = match side {
        PortSide::Source => 0,
        PortSide::Destination => 2,
    };
    vec![
        statement(BPF_LD | BPF_B | BPF_ABS, NETWORK),
        statement(BPF_ALU | BPF_AND | BPF_K, 0xf0),
        jump(BPF_JEQ | BPF_K, 0x60, 9, 0),
        jump(BPF_JEQ | BPF_K, 0x40, 0, 10),
        // IPv4: a fragment that doesn't start at 0 has no ports.
        statement(BPF_LD | BPF_H | BPF_ABS, NETWORK + 6),
        jump(BPF_JSET | BPF_K, 0x1fff, 8, 0),
        statement(BPF_LD | BPF_B | BPF_ABS, NETWORK),
        statement(BPF_ALU | BPF_AND | BPF_K, 0x0f),
        statement(BPF_ALU | BPF_LSH | BPF_K, 2),
        statement(BPF_MISC | BPF_TAX, 0),
        statement(BPF_LD | BPF_H | BPF_IND, NETWORK + offset),
        statement(BPF_RET | BPF_A, 0),
        // IPv6: TCP right behind the header, or nothing.
        statement(BPF_LD | BPF_B | BPF_ABS, NETWORK + 6),
        jump(BPF_JEQ | BPF_K, 6, 1, 0),
        statement(BPF_RET | BPF_K, 0),
        statement(BPF_LD | BPF_H | BPF_ABS, NETWORK + 40 + offset),
        statement(BPF_RET | BPF_A, 0),
    ]
}
