//! Raising the four hosts and the wire between them.

use crate::host::{Family, Host, RunningHost};
use crate::namespace::Namespace;
use crate::{privilege, programs, tools};
use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Net of client addresses that exist only through `-c`; the target routes it to the assistant like the real client's.
pub const MAPPED_NET_V4: &str = "10.78.0.0/24";
/// As [`MAPPED_NET_V4`], IPv6.
pub const MAPPED_NET_V6: &str = "fd78::/64";

/// Whether the target sends its replies to clients to the assistant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetRoutes {
    /// It does, as a set-up must.
    #[default]
    ViaAssistant,
    /// The most frequent mistake: replies go to the real client, which resets the connection.
    Missing,
}

/// Whether the assistant forwards packets that are not for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarding {
    /// It drops them, as a set-up must.
    #[default]
    Off,
    /// A mistake: replies reach the real client after all.
    On,
}

/// Whether other labs may run on this machine at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Load {
    /// They may.
    Light,
    /// They may not: the test needs the machine's whole power.
    #[default]
    Heavy,
}

/// How to raise a lab.
#[derive(Clone, Copy, Debug, Default)]
pub struct LabOptions {
    /// Routes of the target.
    pub target_routes: TargetRoutes,
    /// Forwarding on the assistant.
    pub forwarding: Forwarding,
    /// Whether it shares the machine.
    pub load: Load,
}

impl LabOptions {
    /// A lab for a test that needs little of the machine: others like it may run beside it.
    pub fn light() -> Self {
        Self { load: Load::Light, ..Self::default() }
    }
}

/// The four hosts, up and connected. Dropping it ends all processes in them and removes them.
pub struct Lab {
    hosts: [RunningHost; 4],
    // Declared after the hosts, so dropped after them: a link's two ends go together.
    wire: Namespace,
    folder: PathBuf,
    _lock: File,
}

impl Lab {
    /// Raises a lab.
    ///
    /// # Errors
    /// When a tool is missing, or the process may not make namespaces; [`privilege::lab_test`] takes care of both.
    pub fn raise(options: LabOptions) -> Result<Self> {
        for tool in tools::LAB {
            tool.require()?;
        }
        privilege::check()?;
        allow_many_files()?;
        let lock = take_turn(options.load)?;
        let folder = make_folder()?;
        let wire = Namespace::create("wire")?;
        let host = |host: Host| -> Result<RunningHost> {
            let running = RunningHost::new(host, Namespace::create(host.name())?, folder.clone());
            set_parameters(&running, options)?;
            Ok(running)
        };
        let hosts = [host(Host::Client)?, host(Host::Online)?, host(Host::Target)?, host(Host::Assistant)?];
        connect(&wire, &hosts).context("connecting the hosts")?;
        let lab = Self { hosts, wire, folder, _lock: lock };
        if options.target_routes == TargetRoutes::ViaAssistant {
            lab.route_clients_to_assistant()?;
        }
        Ok(lab)
    }

    /// One of the hosts.
    pub fn host(&self, host: Host) -> &RunningHost {
        &self.hosts[host as usize]
    }

    /// Where the bridge is; its ports have the hosts' names.
    pub(crate) fn wire(&self) -> &Namespace {
        &self.wire
    }

    /// Makes the hosts send segments as they would be on a real wire, not many at once as links inside one kernel can.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn send_plain_segments(&self) -> Result<()> {
        self.hosts.iter().try_for_each(|host| host.ip("link set dev eth0 gso_max_segs 1"))
    }

    /// A folder for the lab's files. It is removed with the lab, unless a test fails.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the target send what it has for clients to the assistant.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn route_clients_to_assistant(&self) -> Result<()> {
        let target = self.host(Host::Target);
        for (family, mapped) in [(Family::V4, MAPPED_NET_V4), (Family::V6, MAPPED_NET_V6)] {
            let gateway = Host::Assistant.addr(family);
            target.ip(&format!("route replace {} via {gateway} dev eth0", Host::Client.addr(family)))?;
            target.ip(&format!("route replace {mapped} via {gateway} dev eth0"))?;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the lab's logs are kept in {}", self.folder.display());
        } else {
            // A folder that stays is a nuisance, not a failure.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Environment variable with the folder that labs put theirs in, instead of one in the workspace's target folder.
pub const LAB_DIR: &str = "TCPCOPY_LAB_DIR";

/// Folder that labs put theirs in.
pub fn base_folder() -> PathBuf {
    let base = std::env::var_os(LAB_DIR).map_or_else(|| programs::target_folder().join("lab"), PathBuf::from);
    // One per user: files made by root would be in everybody else's way.
    base.join(privilege::outer_user())
}

/// Takes as many open files as this process may have; a shell's usual 1024 are fewer than a load of 1000 connections needs.
/// Processes started in the lab inherit it.
fn allow_many_files() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raising the limit on open files")
}

fn take_turn(load: Load) -> Result<File> {
    let base = base_folder();
    fs::create_dir_all(&base).with_context(|| format!("creating {}", base.display()))?;
    let lock = File::create(base.join("lock"))?;
    match load {
        Load::Heavy => lock.lock()?,
        Load::Light => lock.lock_shared()?,
    }
    Ok(lock)
}

fn make_folder() -> Result<PathBuf> {
    static RAISED: AtomicU32 = AtomicU32::new(0);
    let base = base_folder();
    remove_dead(&base)?;
    let number = RAISED.fetch_add(1, Ordering::Relaxed);
    let folder = base.join(format!("{}-{number}", std::process::id()));
    // Left by a process of an earlier boot that had the same id.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder)
}

/// Removes folders of failed runs once there are many; the latest are what someone may want to look at.
fn remove_dead(base: &Path) -> Result<()> {
    const KEPT: usize = 20;
    let mut dead = Vec::new();
    for entry in fs::read_dir(base)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(owner) = name.split_once('-').map(|(owner, _)| owner) else { continue };
        if owner.parse::<u32>().is_ok() && !Path::new("/proc").join(owner).exists() {
            dead.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    dead.sort();
    let surplus = dead.len().saturating_sub(KEPT);
    for (_, folder) in &dead[..surplus] {
        // Another process may be removing the same one.
        let _ = fs::remove_dir_all(folder);
    }
    Ok(())
}

fn set_parameters(host: &RunningHost, options: LabOptions) -> Result<()> {
    // Set before there is a link: a link takes `default` as its own when it appears.
    for scope in ["all", "default"] {
        for (name, value) in [
            ("ipv4.conf.{}.rp_filter", "0"),
            ("ipv4.conf.{}.accept_redirects", "0"),
            ("ipv4.conf.{}.send_redirects", "0"),
            ("ipv6.conf.{}.accept_redirects", "0"),
            ("ipv6.conf.{}.accept_ra", "0"),
            ("ipv6.conf.{}.accept_dad", "0"),
            ("ipv6.conf.{}.disable_ipv6", "0"),
        ] {
            host.sysctl(&format!("net.{}", name.replace("{}", scope)), value)?;
        }
    }
    let forwarding = match options.forwarding {
        Forwarding::On if host.role() == Host::Assistant => "1",
        _ => "0",
    };
    host.sysctl("net.ipv4.ip_forward", forwarding)?;
    host.sysctl("net.ipv6.conf.all.forwarding", forwarding)?;
    host.sysctl("net.ipv4.ip_local_port_range", "10000 65000")?;
    host.sysctl("net.ipv4.tcp_max_syn_backlog", "16384")?;
    host.sysctl("net.core.somaxconn", "16384")
}

fn connect(wire: &Namespace, hosts: &[RunningHost; 4]) -> Result<()> {
    let mut script = String::from(
        "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set br0 up\n",
    );
    for host in hosts {
        let name = host.role().name();
        let path = host.namespace().path();
        script += &format!("link add {name} type veth peer name eth0 netns {}\n", path.display());
        script += &format!("link set {name} master br0 up\n");
    }
    batch(wire, script)?;
    for host in hosts {
        let (v4, v6) = (host.role().addr(Family::V4), host.role().addr(Family::V6));
        let script = format!(
            "link set lo up\nlink set eth0 up\naddr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\n"
        );
        batch(host.namespace(), script)?;
    }
    Ok(())
}

fn batch(namespace: &Namespace, script: String) -> Result<()> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let ip = tools::IP.require()?;
    let (output, script) = namespace.run(move || -> Result<_> {
        let mut command = Command::new(ip);
        command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("starting ip")?;
        child.stdin.take().context("no pipe to ip")?.write_all(script.as_bytes())?;
        Ok((child.wait_with_output()?, script))
    })?;
    anyhow::ensure!(
        output.status.success(),
        "ip failed: {}\nin the script:\n{script}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
