//! The programs of other people that the lab runs, and the Debian packages that have them.

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// A program that must be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Name of the program.
    pub program: &'static str,
    /// Debian and Ubuntu package that has it.
    pub package: &'static str,
}

/// Makes and joins the hosts.
pub const IP: Tool = Tool { program: "ip", package: "iproute2" };
/// Ties a process to the life of the thread that started it.
pub const SETPRIV: Tool = Tool { program: "setpriv", package: "util-linux" };
/// A real server.
pub const REDIS_SERVER: Tool = Tool { program: "redis-server", package: "redis-server" };
/// Its load generator.
pub const REDIS_BENCHMARK: Tool = Tool { program: "redis-benchmark", package: "redis-tools" };
/// A real server.
pub const NGINX: Tool = Tool { program: "nginx", package: "nginx-light" };
/// HTTP load on short connections.
pub const AB: Tool = Tool { program: "ab", package: "apache2-utils" };
/// HTTP load on long connections.
pub const WRK: Tool = Tool { program: "wrk", package: "wrk" };
/// HTTP as users type it.
pub const CURL: Tool = Tool { program: "curl", package: "curl" };
/// Records what passes a host, as users do.
pub const TCPDUMP: Tool = Tool { program: "tcpdump", package: "tcpdump" };
/// Compresses recordings.
pub const GZIP: Tool = Tool { program: "gzip", package: "gzip" };
/// Compresses recordings.
pub const ZSTD: Tool = Tool { program: "zstd", package: "zstd" };
/// Breaks the network on purpose.
pub const NFT: Tool = Tool { program: "nft", package: "nftables" };
/// What captures from elsewhere are read with to compare.
pub const TSHARK: Tool = Tool { program: "tshark", package: "tshark" };

/// A real server, without the service that its other package starts.
pub const MARIADB_SERVER: Tool = Tool { program: "mariadbd", package: "mariadb-server-core" };
/// Makes the server's first data.
pub const MARIADB_INSTALL: Tool = Tool { program: "mariadb-install-db", package: "mariadb-server-core" };
/// MariaDB as users type it.
pub const MARIADB_CLIENT: Tool = Tool { program: "mariadb", package: "mariadb-client" };
/// MariaDB's load generator.
pub const MARIADB_SLAP: Tool = Tool { program: "mariadb-slap", package: "mariadb-client" };
/// Transactions at load.
pub const SYSBENCH: Tool = Tool { program: "sysbench", package: "sysbench" };
/// For its MySQL driver.
pub const PYTHON: Tool = Tool { program: "python3", package: "python3" };
/// For its MySQL driver.
pub const NODE: Tool = Tool { program: "node", package: "nodejs" };
/// Installs that driver.
pub const NPM: Tool = Tool { program: "npm", package: "npm" };

/// What every lab needs.
pub const LAB: &[Tool] = &[IP, SETPRIV];
/// What the tests need.
pub const TESTS: &[Tool] =
    &[IP, SETPRIV, REDIS_SERVER, REDIS_BENCHMARK, NGINX, AB, WRK, CURL, NFT, TCPDUMP, GZIP, ZSTD];

impl Tool {
    /// Where the program is, if it is installed. Looks in the system folders too, which are not in every user's `PATH`.
    pub fn find(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
            .map(|folder| folder.join(self.program))
            .find(|file| is_executable(file))
    }

    /// Where the program is.
    ///
    /// # Errors
    /// An error with a hint when it is not installed.
    pub fn require(self) -> Result<PathBuf> {
        match self.find() {
            Some(path) => Ok(path),
            None => bail!(
                "{} is not installed\nhint: apt-get install {} (cargo xtask demo and test do so themselves)",
                self.program,
                self.package
            ),
        }
    }
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there_and_names_the_package_of_what_is_not() {
        assert!(Tool { program: "sh", package: "dash" }.find().is_some());
        let missing = Tool { program: "no-such-program", package: "its-package" };
        let error = missing.require().unwrap_err().to_string();
        assert!(
            error.contains("no-such-program") && error.contains("apt-get install its-package"),
            "{error}"
        );
    }
}
