//! What a program needs of its own process.
/// What to do when a privilege is missing.
pub const CAPABILITY_HINT: &str = "run it as root (sudo), or give the program the privilege: sudo setcap cap_net_raw,cap_net_admin+ep <program>";
