//! A limit on the memory of a child and of its children: a memory control group of their own.
//!
//! The page cache of what they read and write counts in it, so a store that is larger than the
//! limit does not fit into memory. The parent makes the group and removes it again; the child
//! enters it before it opens a store. Works with version 1 and 2 of control groups, for whoever may
//! make groups: usually the superuser.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ROOT: &str = "/sys/fs/cgroup";

/// How long the kernel may take to see that the last process of a group is gone.
const REMOVAL_TRIES: u32 = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// Why a limit cannot be set.
#[derive(Debug)]
pub enum Impossible {
    /// Neither version has a memory controller here.
    NoController,
    /// The kernel refused a step.
    Refused {
        step: &'static str,
        place: PathBuf,
        error: io::Error,
    },
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Impossible::NoController => write!(
                f,
                "--memory needs the memory controller of control groups, and {ROOT} has none"
            ),
            Impossible::Refused { step, place, error } => write!(
                f,
                "--memory: {step} {}: {error}. It takes the right to make control groups, and with \
                 version 2 \"memory\" in cgroup.subtree_control of the group above.",
                place.display()
            ),
        }
    }
}

impl std::error::Error for Impossible {}

/// Of control groups.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// Files and what is to be in them. Swap would be memory too: version 1 limits both together.
    fn limits(self, bytes: u64) -> [(&'static str, u64); 2] {
        match self {
            Version::One => [
                ("memory.limit_in_bytes", bytes),
                ("memory.memsw.limit_in_bytes", bytes),
            ],
            Version::Two => [("memory.max", bytes), ("memory.swap.max", 0)],
        }
    }

    /// The file with the line `oom_kill N`.
    fn events(self) -> &'static str {
        match self {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        }
    }
}

pub struct Group {
    directory: PathBuf,
    version: Version,
}

impl Group {
    /// An empty group with that limit.
    pub fn new(bytes: u64) -> Result<Group, Impossible> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let (above, version) = place(&own).ok_or(Impossible::NoController)?;
        let group = Group {
            directory: above.join(format!("compare-{}", std::process::id())),
            version,
        };
        fs::create_dir(&group.directory).map_err(refused("cannot make", &group.directory))?;
        if let Err(error) = group.limit(bytes) {
            group.remove()?;
            return Err(error);
        }
        Ok(group)
    }

    fn limit(&self, bytes: u64) -> Result<(), Impossible> {
        let [memory, swap] = self.version.limits(bytes);
        for (file, most) in [memory, swap] {
            let path = self.directory.join(file);
            // A kernel without swap has no file for it.
            if file == memory.0 || path.exists() {
                fs::write(&path, most.to_string()).map_err(refused("cannot write", &path))?;
            }
        }
        Ok(())
    }

    /// What the child is told of it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How many of its processes the kernel has killed because of the limit.
    pub fn kills(&self) -> u64 {
        let text =
            fs::read_to_string(self.directory.join(self.version.events())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// Once its processes have ended.
    pub fn remove(&self) -> Result<(), Impossible> {
        let mut tries = 0;
        loop {
            match fs::remove_dir(&self.directory) {
                Ok(()) => return Ok(()),
                Err(_) if tries < REMOVAL_TRIES => tries += 1,
                Err(error) => return Err(refused("cannot remove", &self.directory)(error)),
            }
            std::thread::sleep(REMOVAL_PAUSE);
        }
    }
}

/// Takes this process, and those that it starts later, into a group.
pub fn enter(directory: &Path) -> Result<(), Impossible> {
    let file = directory.join("cgroup.procs");
    fs::write(&file, "0").map_err(refused("cannot write", &file))
}

fn refused(step: &'static str, place: &Path) -> impl FnOnce(io::Error) -> Impossible {
    let place = place.to_path_buf();
    move |error| Impossible::Refused { step, place, error }
}

/// Where a group can be made, by what `/proc/self/cgroup` says. With version 1 below the own group;
/// with version 2 beside it, for there a group with processes has no groups below it.
fn place(own: &str) -> Option<(PathBuf, Version)> {
    let below = |root: &str, path: &str| PathBuf::from(format!("{ROOT}{root}{path}"));
    // Lines of `number:controllers:path`.
    let lines = own.lines().map(|line| line.splitn(3, ':').skip(1));
    let mut second = None;
    for mut line in lines {
        let (controllers, path) = (line.next()?, line.next()?);
        if controllers.split(',').any(|name| name == "memory") {
            return Some((below("/memory", path), Version::One));
        }
        if controllers.is_empty() {
            let above = path.rsplit_once('/').map_or("", |(above, _)| above);
            second = Some((below("", above), Version::Two));
        }
    }
    second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_made_below_the_own_one_or_beside_it() {
        let at =
            |own: &str| place(own).map(|(path, version)| (path.display().to_string(), version));
        let one = |path: &str| Some((path.to_string(), Version::One));
        let two = |path: &str| Some((path.to_string(), Version::Two));
        assert_eq!(
            at("9:cpu:/\n4:memory:/user/7\n0::/x\n"),
            one("/sys/fs/cgroup/memory/user/7")
        );
        assert_eq!(
            at("4:hugetlb,memory:/a:b\n"),
            one("/sys/fs/cgroup/memory/a:b")
        );
        assert_eq!(at("0::/user/7\n"), two("/sys/fs/cgroup/user"));
        assert_eq!(at("0::/\n"), two("/sys/fs/cgroup"));
        assert_eq!(at("3:cpu:/\n"), None);
        assert_eq!(at(""), None);
    }

    /// Where no group can be made, that alone is what is checked: the error is a typed one.
    #[test]
    fn a_process_that_needs_more_than_its_limit_is_killed_and_counted() {
        let group = match Group::new(8 << 20) {
            Ok(group) => group,
            Err(Impossible::NoController | Impossible::Refused { .. }) => return,
        };
        // It looks for the end of a line that has none, and keeps what it has read.
        let script = "echo 0 > \"$0/cgroup.procs\" && exec tail -n 1 /dev/zero";
        let place = group.directory().to_path_buf();
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).arg(&place);
        let status = command.status().unwrap();
        let kills = group.kills();
        group.remove().unwrap();
        assert!(!status.success(), "{status}");
        assert_eq!(kills, 1);
        assert!(!place.exists());
    }

    #[test]
    fn a_refusal_says_which_step_and_where() {
        let nowhere = Path::new("/nowhere/at/all");
        let text = enter(nowhere).expect_err("it entered").to_string();
        assert!(
            text.contains("cannot write /nowhere/at/all/cgroup.procs"),
            "{text}"
        );
    }
}
