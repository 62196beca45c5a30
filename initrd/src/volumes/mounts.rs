//! What is mounted, as `/proc/<pid>/mountinfo` tells it (proc(5)). Pure.

use nix::libc::dev_t;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    id: u32,
    parent: u32,
    pub(super) device: dev_t,
    pub(super) path: String,
    pub(super) readonly: bool,
}

/// All that can be understood: `id parent major:minor root mount-point options ...`.
pub(super) fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    let device = super::device(fields.next()?)?;
    let path = unescape(fields.nth(1)?)?;
    let readonly = fields.next()?.split(',').any(|option| option == "ro");
    Some(Mount { id, parent, device, path, readonly })
}

/// Where something is mounted within `outer`.
pub(super) fn below(mounts: &[Mount], outer: &Mount) -> Vec<String> {
    mounts.iter().filter(|mount| mount.parent == outer.id).map(|mount| mount.path.clone()).collect()
}

/// Blanks, tabs, newlines and backslashes are written as `\040`, in octal.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| *first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if escaped.is_some() {
            rest = rest.get(3..).unwrap_or_default();
        }
        bytes.push(escaped.unwrap_or(*first));
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::makedev;

    use super::*;

    const TABLE: &str = "\
21 1 0:19 / / rw,noatime - overlay overlay rw,lowerdir=/mnt/image
30 21 254:48 / /data\\040of\\134mine ro,nosuid,nodev,relatime shared:7 master:3 - ext4 /dev/vdd ro
31 30 254:64 /sub /data\\040of\\134mine/b rw,relatime - ext4 /dev/vde rw
nonsense
40 x 1:2 / /bad rw - ext4 /dev/x rw
";

    #[test]
    fn the_kernels_table_is_understood() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 3);
        assert_eq!((mounts[0].path.as_str(), mounts[0].readonly), ("/", false));
        assert_eq!(mounts[1].device, makedev(254, 48));
        assert_eq!((mounts[1].path.as_str(), mounts[1].readonly), ("/data of\\mine", true));
        assert_eq!(below(&mounts, &mounts[1]), ["/data of\\mine/b"]);
        assert!(below(&mounts, &mounts[2]).is_empty());
    }

    #[test]
    fn this_machines_own_table_is_understood() {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(parse(&text).len(), text.lines().count());
    }
}
