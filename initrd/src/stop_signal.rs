//! The image's `StopSignal` as a number. Pure.

use nix::libc;

/// The first and last real-time signal, as container runtimes count them.
const REAL_TIME: (i32, i32) = (34, 64);

const NAMES: &[(&str, i32)] = &[
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("BUS", libc::SIGBUS),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("FPE", libc::SIGFPE),
    ("HUP", libc::SIGHUP),
    ("ILL", libc::SIGILL),
    ("INT", libc::SIGINT),
    ("IO", libc::SIGIO),
    ("IOT", libc::SIGABRT),
    ("KILL", libc::SIGKILL),
    ("PIPE", libc::SIGPIPE),
    ("POLL", libc::SIGPOLL),
    ("PROF", libc::SIGPROF),
    ("PWR", libc::SIGPWR),
    ("QUIT", libc::SIGQUIT),
    ("SEGV", libc::SIGSEGV),
    ("STKFLT", libc::SIGSTKFLT),
    ("STOP", libc::SIGSTOP),
    ("SYS", libc::SIGSYS),
    ("TERM", libc::SIGTERM),
    ("TRAP", libc::SIGTRAP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("VTALRM", libc::SIGVTALRM),
    ("WINCH", libc::SIGWINCH),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
];

/// The signal that `text` names: `SIGTERM`, `TERM`, `15`, `RTMIN+3`, `RTMAX-1`.
pub(crate) fn parse(text: &str) -> Option<i32> {
    let upper = text.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return Some(number).filter(|number| (1..=REAL_TIME.1).contains(number));
    }
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let (first, last) = REAL_TIME;
    let real_time = if let Some(offset) = name.strip_prefix("RTMIN") {
        offset_of(offset, '+').map(|offset| first + offset)
    } else {
        name.strip_prefix("RTMAX").and_then(|offset| offset_of(offset, '-')).map(|offset| last - offset)
    };
    match real_time {
        Some(number) => Some(number).filter(|number| (first..=last).contains(number)),
        None => NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number),
    }
}

fn offset_of(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.strip_prefix(sign)?;
    digits.parse::<u8>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit())).map(i32::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_real_time_signals() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("QUIT", 3),
            ("9", 9),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("RTMAX", 64),
            ("64", 64),
        ] {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for text in ["", "SIG", "SIGNOPE", "0", "65", "-1", "RTMIN+31", "RTMIN-1", "RTMIN++1", "RTMAX+1", "RTMAX-40"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
