//! The process's use of the machine, on Linux.

use std::fs;

/// CPU time, memory and files.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    pub(super) cpu_s: f64,
    pub(super) resident_bytes: i64,
    pub(super) open_files: i64,
}

/// How many ticks make a second in the kernel's reports: `USER_HZ`, which is the same on all its
/// platforms (proc(5), time(7)).
const TICKS_PER_SECOND: f64 = 100.0;

/// The current use; `None` on systems other than Linux.
pub(super) fn usage() -> Option<Usage> {
    let cpu_s = cpu_s(&fs::read_to_string("/proc/self/stat").ok()?)?;
    let resident_bytes = resident_bytes(&fs::read_to_string("/proc/self/status").ok()?)?;
    // The descriptor that reads the directory is among them.
    let open_files = i64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()? - 1;
    Some(Usage { cpu_s, resident_bytes, open_files })
}

/// Fields 14 and 15 of `stat`. Its second field, the program's name, may contain spaces and
/// parentheses.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

fn resident_bytes(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_files_are_understood() {
        let stat = "7 (a (b) c) S 1 1 1 0 -1 4194560 1 2 3 4 250 50 5 6 20 0 9 0 100 200 300";
        assert_eq!(cpu_s(stat), Some(3.0));
        assert_eq!(cpu_s("7 (x"), None);
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t  12 kB\n"), Some(12 * 1024));
        assert_eq!(resident_bytes("VmRSS:\t x kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_takes_something() {
        let usage = usage().unwrap();
        assert!(usage.resident_bytes > 100_000 && usage.open_files >= 3, "{usage:?}");
    }
}
