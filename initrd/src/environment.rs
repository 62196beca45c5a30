//! The program's environment, and where its first argument may lie. Pure.

use std::ffi::{CString, NulError};

/// What container runtimes give a program whose image says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configured environment, and PATH, HOSTNAME and HOME where it lacks them.
pub(crate) fn complete(env: &[String], hostname: &str, home: &str) -> Vec<String> {
    let mut complete = env.to_vec();
    for (name, value) in [("PATH", DEFAULT_PATH), ("HOSTNAME", hostname), ("HOME", home)] {
        if get(&complete, name).is_none() {
            complete.push(format!("{name}={value}"));
        }
    }
    complete
}

/// One environment over another: what both name is as the upper one says.
pub(crate) fn overlay(lower: &[String], upper: &[String]) -> Vec<String> {
    let name = |entry: &str| entry.split_once('=').map_or(entry.to_owned(), |(name, _)| name.to_owned());
    let named: Vec<String> = upper.iter().map(|entry| name(entry)).collect();
    let kept = lower.iter().filter(|entry| !named.contains(&name(entry)));
    kept.chain(upper).cloned().collect()
}

/// As [`complete`], and a kind of terminal where none is named.
pub(crate) fn with_terminal(mut env: Vec<String>) -> Vec<String> {
    if get(&env, "TERM").is_none() {
        env.push("TERM=xterm".to_owned());
    }
    env
}

fn get<'a>(env: &'a [String], name: &str) -> Option<&'a str> {
    env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
}

/// The paths to try for a program, in order: itself when it has a slash, otherwise each directory of PATH.
pub(crate) fn candidates(program: &str, env: &[String]) -> Vec<String> {
    if program.is_empty() {
        return Vec::new();
    }
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let path = get(env, "PATH").unwrap_or(DEFAULT_PATH);
    let directories = path.split(':').map(|directory| if directory.is_empty() { "." } else { directory });
    directories.map(|directory| format!("{}/{program}", directory.trim_end_matches('/'))).collect()
}

/// As the kernel takes strings.
pub(crate) fn c_strings(strings: &[String]) -> Result<Vec<CString>, NulError> {
    strings.iter().map(|string| CString::new(string.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn only_what_is_missing_is_added() {
        assert_eq!(
            complete(&strings(&["A=1", "PATH=/x", "PATHS=1"]), "web", "/root"),
            strings(&["A=1", "PATH=/x", "PATHS=1", "HOSTNAME=web", "HOME=/root"])
        );
        let complete = complete(&strings(&["HOME=", "PATH"]), "web", "/root");
        assert_eq!(complete[..2], strings(&["HOME=", "PATH"]));
        assert_eq!(get(&complete, "PATH"), Some(DEFAULT_PATH));
        assert_eq!(get(&complete, "HOME"), Some(""));
    }

    #[test]
    fn the_upper_environment_wins_and_keeps_its_order() {
        let (lower, upper) = (strings(&["A=1", "B=2", "AB=3"]), strings(&["C=4", "A="]));
        assert_eq!(overlay(&lower, &upper), strings(&["B=2", "AB=3", "C=4", "A="]));
        assert_eq!(with_terminal(strings(&["TERM=vt100"])), strings(&["TERM=vt100"]));
        assert_eq!(with_terminal(Vec::new()), strings(&["TERM=xterm"]));
    }

    #[test]
    fn programs_are_looked_up_as_execvp_does() {
        let env = strings(&["PATH=/a:/b/::/"]);
        assert_eq!(candidates("run", &env), strings(&["/a/run", "/b/run", "./run", "/run"]));
        assert_eq!(candidates("./run", &env), strings(&["./run"]));
        assert_eq!(candidates("/bin/run", &env), strings(&["/bin/run"]));
        assert_eq!(candidates("", &env), strings(&[]));
        assert_eq!(candidates("run", &[]).len(), 6);
    }

    #[test]
    fn a_nul_is_refused() {
        assert!(c_strings(&strings(&["a\0b"])).is_err());
        assert_eq!(c_strings(&strings(&["a b\n$(x)"])).unwrap()[0].as_bytes(), b"a b\n$(x)");
    }
}
