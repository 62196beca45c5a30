//! How an image wants to be run, as its configuration says, and the bounds of that.
//!
//! What is accepted here is kept in records, shown to clients and handed to guests: the bounds are those of the API's
//! description, so that no image can make an answer that breaks it. Lengths are in bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::ContentError;
use crate::manifest::null_is_default;

/// Elements of `Entrypoint`, and of `Cmd`.
const MAX_ARGUMENTS: usize = 4096;
/// One argument, or one variable's value: what Linux takes, its NUL counted.
const MAX_ARGUMENT_BYTES: usize = 131_071;
const MAX_VARIABLES: usize = 1024;
const MAX_VARIABLE_NAME_BYTES: usize = 256;
const MAX_USER_BYTES: usize = 512;
const MAX_WORKING_DIR_BYTES: usize = 4096;
const MAX_STOP_SIGNAL_BYTES: usize = 32;
const MAX_PORTS: usize = 1024;
const MAX_PORT_BYTES: usize = 32;
/// Everything that is kept, as JSON has it: a record holds it and has to stay readable.
const MAX_TOTAL_BYTES: usize = 1 << 20;

/// Defaults for running the image's program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// User and group, in any of the usual forms.
    #[serde(default, deserialize_with = "null_is_default")]
    pub user: String,
    /// The program and its first arguments.
    #[serde(default, deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    /// More arguments, or the program where there is no entry point.
    #[serde(default, deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    /// `NAME=value`, in order.
    #[serde(default, deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// Where the program starts.
    #[serde(default, deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// The signal that asks the program to end.
    #[serde(default, deserialize_with = "null_is_default")]
    pub stop_signal: String,
    /// `80/tcp` and the like.
    #[serde(default, deserialize_with = "keys")]
    pub exposed_ports: Vec<String>,
    /// The image's own labels. Not kept, and bounded by the document alone.
    #[serde(default, deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
}

fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let set: Option<BTreeMap<String, serde::de::IgnoredAny>> = Option::deserialize(deserializer)?;
    Ok(set.unwrap_or_default().into_keys().collect())
}

impl RunConfig {
    /// Refuses what is beyond a bound; the error names the field.
    pub(crate) fn check(&self, subject: &str) -> Result<(), ContentError> {
        let check = Check { subject };
        for (field, arguments) in [("Entrypoint", &self.entrypoint), ("Cmd", &self.cmd)] {
            check.count(field, arguments.len(), MAX_ARGUMENTS)?;
            arguments.iter().try_for_each(|argument| check.text(field, argument, MAX_ARGUMENT_BYTES))?;
        }
        check.count("Env", self.env.len(), MAX_VARIABLES)?;
        for variable in &self.env {
            // A name without a value is no variable, and is passed over later.
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            check.text("a name in Env", name, MAX_VARIABLE_NAME_BYTES)?;
            check.text("a value in Env", value, MAX_ARGUMENT_BYTES)?;
            check.holds(!name.is_empty(), || "a name in Env is empty".to_owned())?;
        }
        check.text("User", &self.user, MAX_USER_BYTES)?;
        check.text("WorkingDir", &self.working_dir, MAX_WORKING_DIR_BYTES)?;
        let is_absolute = self.working_dir.is_empty() || self.working_dir.starts_with('/');
        check.holds(is_absolute, || "WorkingDir is not absolute".to_owned())?;
        check.text("StopSignal", &self.stop_signal, MAX_STOP_SIGNAL_BYTES)?;
        check.count("ExposedPorts", self.exposed_ports.len(), MAX_PORTS)?;
        for port in &self.exposed_ports {
            check.text("ExposedPorts", port, MAX_PORT_BYTES)?;
            check.holds(is_port(port), || format!("{port:?} in ExposedPorts is no port"))?;
        }
        let total = self.kept().map(json_bytes).fold(0, usize::saturating_add);
        check.at_most(total, MAX_TOTAL_BYTES, || "what says how to run the image, in bytes as JSON,".to_owned())
    }

    /// Everything that records keep.
    fn kept(&self) -> impl Iterator<Item = &str> {
        let lists = [&self.entrypoint, &self.cmd, &self.env, &self.exposed_ports].into_iter().flatten();
        lists.chain([&self.user, &self.working_dir, &self.stop_signal]).map(String::as_str)
    }
}

/// Checks whose errors name the configuration.
struct Check<'a> {
    subject: &'a str,
}

impl Check<'_> {
    fn at_most(&self, found: usize, allowed: usize, what: impl FnOnce() -> String) -> Result<(), ContentError> {
        if found > allowed {
            return Err(ContentError::limit(self.subject, what(), allowed as u64));
        }
        Ok(())
    }

    fn holds(&self, holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), ContentError> {
        if holds { Ok(()) } else { Err(ContentError::corrupt(self.subject, otherwise())) }
    }

    fn count(&self, field: &str, found: usize, allowed: usize) -> Result<(), ContentError> {
        self.at_most(found, allowed, || format!("the number of elements of {field}"))
    }

    fn text(&self, field: &str, text: &str, allowed: usize) -> Result<(), ContentError> {
        self.at_most(text.len(), allowed, || format!("the length of {field} in bytes"))?;
        self.holds(!text.contains('\0'), || format!("{field} holds a NUL"))
    }
}

/// A port or a range of them, and perhaps a protocol: `80`, `80/tcp`, `8000-8010/udp`.
fn is_port(text: &str) -> bool {
    let is_number = |text: &str| (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase());
    let (ports, protocol) = text.split_once('/').map_or((text, None), |(ports, protocol)| (ports, Some(protocol)));
    let (first, last) = ports.split_once('-').map_or((ports, None), |(first, last)| (first, Some(last)));
    is_number(first) && last.is_none_or(is_number) && protocol.is_none_or(is_word)
}

/// How long a text is as an element of a JSON list: quotes, comma and escapes counted.
fn json_bytes(text: &str) -> usize {
    let byte = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(byte).fold(3, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(config: &RunConfig) -> String {
        config.check("it").expect_err("beyond a bound").to_string()
    }

    fn text(length: usize) -> String {
        "x".repeat(length)
    }

    #[test]
    fn what_is_at_a_bound_is_accepted() {
        let config = RunConfig {
            user: text(512),
            entrypoint: [vec![text(131_071)], vec![String::new(); 4095]].concat(),
            cmd: vec![String::new(); 4096],
            env: [vec![format!("{}={}", text(256), text(131_071))], vec!["A=b=c".to_owned(); 1023]].concat(),
            working_dir: format!("/{}", text(4095)),
            stop_signal: text(32),
            exposed_ports: vec!["8000-8010/udp".to_owned(); 1024],
            labels: BTreeMap::new(),
        };
        config.check("it").unwrap();
        RunConfig::default().check("it").unwrap();
        RunConfig { env: vec!["NAME".to_owned(), "EMPTY=".to_owned()], ..RunConfig::default() }.check("it").unwrap();
    }

    #[test]
    fn what_is_beyond_a_bound_is_refused_by_its_name() {
        let base = RunConfig::default;
        let number = |field, most| format!("it: the number of elements of {field} may be at most {most}");
        let length = |field, most| format!("it: the length of {field} in bytes may be at most {most}");
        for (config, expected) in [
            (RunConfig { entrypoint: vec![text(1); 4097], ..base() }, number("Entrypoint", 4096)),
            (RunConfig { cmd: vec![text(1); 4097], ..base() }, number("Cmd", 4096)),
            (RunConfig { env: vec!["A=b".to_owned(); 1025], ..base() }, number("Env", 1024)),
            (RunConfig { exposed_ports: vec!["1".to_owned(); 1025], ..base() }, number("ExposedPorts", 1024)),
            (RunConfig { entrypoint: vec![text(131_072)], ..base() }, length("Entrypoint", 131_071)),
            (RunConfig { cmd: vec![text(131_072)], ..base() }, length("Cmd", 131_071)),
            (RunConfig { env: vec![format!("{}=", text(257))], ..base() }, length("a name in Env", 256)),
            (RunConfig { env: vec![text(257)], ..base() }, length("a name in Env", 256)),
            (RunConfig { env: vec![format!("A={}", text(131_072))], ..base() }, length("a value in Env", 131_071)),
            (RunConfig { user: text(513), ..base() }, length("User", 512)),
            (RunConfig { working_dir: format!("/{}", text(4096)), ..base() }, length("WorkingDir", 4096)),
            (RunConfig { stop_signal: text(33), ..base() }, length("StopSignal", 32)),
            (RunConfig { exposed_ports: vec!["1".repeat(33)], ..base() }, length("ExposedPorts", 32)),
        ] {
            assert_eq!(error(&config), expected);
        }
    }

    #[test]
    fn what_means_nothing_is_refused_by_its_name() {
        let base = RunConfig::default;
        let nul = || vec!["a\0".to_owned()];
        for (config, expected) in [
            (RunConfig { entrypoint: nul(), ..base() }, "Entrypoint holds a NUL"),
            (RunConfig { cmd: nul(), ..base() }, "Cmd holds a NUL"),
            (RunConfig { env: vec!["a\0=b".to_owned()], ..base() }, "a name in Env holds a NUL"),
            (RunConfig { env: vec!["a=\0".to_owned()], ..base() }, "a value in Env holds a NUL"),
            (RunConfig { env: vec!["=b".to_owned()], ..base() }, "a name in Env is empty"),
            (RunConfig { env: vec![String::new()], ..base() }, "a name in Env is empty"),
            (RunConfig { user: "\0".to_owned(), ..base() }, "User holds a NUL"),
            (RunConfig { working_dir: "srv".to_owned(), ..base() }, "WorkingDir is not absolute"),
            (RunConfig { stop_signal: "\0".to_owned(), ..base() }, "StopSignal holds a NUL"),
        ] {
            assert_eq!(error(&config), format!("it is corrupt: {expected}"));
        }
    }

    #[test]
    fn ports_have_the_form_of_the_api() {
        for good in ["1", "80/tcp", "99999", "8000-8010", "8000-8010/udp", "1/sctp"] {
            assert!(is_port(good), "{good}");
        }
        for bad in ["", "/tcp", "80/", "80/TCP", "80/tcp/tcp", "123456", "80-", "-80", "1-2-3", "http", "+80", "٣"] {
            assert!(!is_port(bad), "{bad}");
            let config = RunConfig { exposed_ports: vec![bad.to_owned()], ..RunConfig::default() };
            assert!(error(&config).contains("in ExposedPorts is no port"), "{bad}");
        }
    }

    #[test]
    fn all_together_is_bounded_as_records_write_it() {
        for (element, most) in [(text(100_000), 10), ("\u{1}".repeat(100_000), 1), ("\"\n".repeat(50_000), 5)] {
            let config = |count| RunConfig { cmd: vec![element.clone(); count], ..RunConfig::default() };
            config(most).check("it").unwrap();
            let refused = error(&config(most + 1));
            assert_eq!(refused, "it: what says how to run the image, in bytes as JSON, may be at most 1048576");
        }
        for text in ["", "a\"\\/b", "\u{0}\u{7}\u{8}\t\n\u{b}\u{c}\r\u{1f} \u{7f}é\u{2028}"] {
            assert_eq!(json_bytes(text), serde_json::to_string(text).unwrap().len() + 1, "{text:?}");
        }
    }
}
