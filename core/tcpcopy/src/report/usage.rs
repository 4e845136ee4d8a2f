//! What the process itself uses: processor time and memory, from `/proc`.

use std::time::Duration;

/// Processor time and memory of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user space, all threads.
    pub cpu_user: Duration,
    /// Processor time in the kernel, all threads.
    pub cpu_system: Duration,
    /// Resident memory.
    pub rss_bytes: u64,
    /// The most that it has been.
    pub peak_rss_bytes: u64,
}

/// Reads what this process uses now; zeros where `/proc` is not readable.
pub fn read() -> Usage {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse(&stat, &status, rustix::param::clock_ticks_per_second())
}

fn parse(stat: &str, status: &str, ticks_per_second: u64) -> Usage {
    // The program's name, in parentheses, may hold spaces: fields are counted from its end. utime and stime are the
    // 14th and 15th of all, the 12th and 13th after the name (proc_pid_stat(5)).
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut ticks =
        after_name.split_ascii_whitespace().skip(11).map(|field| field.parse::<u64>().unwrap_or(0));
    let mut time = || Duration::from_millis(ticks.next().unwrap_or(0) * 1000 / ticks_per_second.max(1));
    let kilobytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
        line.split_ascii_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
    };
    Usage {
        cpu_user: time(),
        cpu_system: time(),
        rss_bytes: kilobytes("VmRSS:") * 1024,
        peak_rss_bytes: kilobytes("VmHWM:") * 1024,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_after_a_name_with_spaces() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 1";
        let usage = parse(stat, "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n", 100);
        assert_eq!(usage.cpu_user, Duration::from_millis(2500));
        assert_eq!(usage.cpu_system, Duration::from_millis(500));
        assert_eq!((usage.rss_bytes, usage.peak_rss_bytes), (1 << 20, 2 << 20));
    }

    #[test]
    fn this_process_has_memory() {
        assert!(read().rss_bytes > 0);
    }
}
