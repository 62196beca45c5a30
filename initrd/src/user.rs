//! Who the program runs as: the image's `User` against the image's own passwd and group files.
//!
//! The rules are those of the OCI image specification: a number is always an id and need not be listed; a name must
//! be; a user without a group brings the group and the supplementary groups that the files give; a named group
//! replaces them all. Pure: reads no file, and never asks the C library, which would look elsewhere.

use thiserror::Error;

/// Larger ids are not ids: the kernel reserves the last one, and runtimes refuse the upper half.
const MAX_ID: u32 = i32::MAX as u32;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum UserError {
    #[error("no user of that name in /etc/passwd")]
    NoUser,
    #[error("no group `{0}` in /etc/group")]
    NoGroup(String),
    #[error("the id {0} is out of range")]
    Range(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, ascending, each once.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Resolves what an image writes as its user.
pub(crate) fn resolve(user: &str, passwd: &str, group: &str) -> Result<Identity, UserError> {
    let (user_part, group_part) = user.split_once(':').unwrap_or((user, ""));
    let wanted = if user_part.is_empty() { Some(0) } else { number(user_part)? };
    let entry = passwd.lines().filter_map(passwd_entry).find(|entry| match wanted {
        Some(uid) => entry.uid == uid,
        None => entry.name == user_part,
    });
    let uid = match (&entry, wanted) {
        (Some(entry), _) => entry.uid,
        (None, Some(uid)) => uid,
        (None, None) => return Err(UserError::NoUser),
    };
    let home = entry.as_ref().map_or("/", |entry| entry.home);
    let home = if home.is_empty() { "/" } else { home }.to_owned();
    if !group_part.is_empty() {
        return Ok(Identity { uid, gid: find_group(group_part, group)?, groups: Vec::new(), home });
    }
    let gid = entry.as_ref().map_or(0, |entry| entry.gid);
    let mut groups: Vec<u32> = match &entry {
        Some(entry) => group.lines().filter_map(group_entry).filter(|g| g.has(entry.name)).map(|g| g.gid).collect(),
        None => Vec::new(),
    };
    groups.sort_unstable();
    groups.dedup();
    Ok(Identity { uid, gid, groups, home })
}

fn find_group(wanted: &str, group: &str) -> Result<u32, UserError> {
    if let Some(gid) = number(wanted)? {
        return Ok(gid);
    }
    let found = group.lines().filter_map(group_entry).find(|entry| entry.name == wanted);
    found.map(|entry| entry.gid).ok_or_else(|| UserError::NoGroup(wanted.to_owned()))
}

/// The id that `text` is, or `None` when it is a name.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let id = text.parse().ok().filter(|id| *id <= MAX_ID);
    id.map(Some).ok_or_else(|| UserError::Range(text.to_owned()))
}

fn passwd_entry(line: &str) -> Option<PasswdEntry<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1).unwrap_or("");
    Some(PasswdEntry { name, uid, gid, home })
}

fn group_entry(line: &str) -> Option<GroupEntry<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some(GroupEntry { name, gid, members: fields.next().unwrap_or("") })
}

impl GroupEntry<'_> {
    fn has(&self, user: &str) -> bool {
        self.members.split(',').any(|member| member.trim() == user)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nwww:x:33:34:www:/var/www:/none\n\
        app:x:1000:1000::/home/app\nnohome:x:1001:1001:::\n42:x:7:7::/seven:\n";
    const GROUP: &str =
        "root:x:0:\nadm:x:4:app,www\nwww:x:34:\nweb:x:80:app\nagain:x:80:app\napp:x:1000:\n\nbad:x:y:app\n";

    fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> Identity {
        Identity { uid, gid, groups: groups.to_vec(), home: home.to_owned() }
    }

    #[test]
    fn every_form_of_user() {
        for (user, expected) in [
            ("", identity(0, 0, &[], "/root")),
            ("root", identity(0, 0, &[], "/root")),
            ("app", identity(1000, 1000, &[4, 80], "/home/app")),
            ("1000", identity(1000, 1000, &[4, 80], "/home/app")),
            ("app:web", identity(1000, 80, &[], "/home/app")),
            ("app:5", identity(1000, 5, &[], "/home/app")),
            ("1000:web", identity(1000, 80, &[], "/home/app")),
            ("1234", identity(1234, 0, &[], "/")),
            ("1234:99", identity(1234, 99, &[], "/")),
            ("1234:adm", identity(1234, 4, &[], "/")),
            ("www:", identity(33, 34, &[4], "/var/www")),
            (":web", identity(0, 80, &[], "/root")),
            ("nohome", identity(1001, 1001, &[], "/")),
            // A number is an id, even where a user has that name.
            ("42", identity(42, 0, &[], "/")),
        ] {
            assert_eq!(resolve(user, PASSWD, GROUP), Ok(expected), "{user}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        assert_eq!(resolve("nobody", PASSWD, GROUP), Err(UserError::NoUser));
        assert_eq!(resolve("app:none", PASSWD, GROUP), Err(UserError::NoGroup("none".into())));
        assert_eq!(resolve("4294967295", PASSWD, GROUP), Err(UserError::Range("4294967295".into())));
        assert_eq!(resolve("1:99999999999", PASSWD, GROUP), Err(UserError::Range("99999999999".into())));
    }

    #[test]
    fn an_image_without_the_files_runs_numbers_only() {
        assert_eq!(resolve("", "", ""), Ok(identity(0, 0, &[], "/")));
        assert_eq!(resolve("7:8", "", ""), Ok(identity(7, 8, &[], "/")));
        assert_eq!(resolve("root", "", ""), Err(UserError::NoUser));
    }

    proptest! {
        #[test]
        fn nothing_panics(user in ".{0,20}", passwd in ".{0,200}", group in ".{0,200}") {
            let _ = resolve(&user, &passwd, &group);
        }
    }
}
