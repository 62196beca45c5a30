//! Programs that the host wants run beside the image's own: from a request to a process.
//!
//! Invariant: the process id namespace, root and user databases are the image program's, and what is done in the new
//! process is the same ([`crate::child`]). Whether it was exec'ed is read from a pipe, and not waited for.

use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use dataplane_agent::{Exec, FailureKind, Files, GuestConfig, TtySize};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, openat};
use nix::libc;
use nix::pty::{grantpt, posix_openpt, unlockpt};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, fchdir, fchown, pipe2};

use crate::child::{self, Named, Stage, Target, User, tell_failure};
use crate::error::{During as _, InitError};
use crate::program::{DATABASES, read_database};
use crate::sys::{self, Strings};
use crate::{console, environment, files, user, volumes};

/// Where and as what programs run: made once, when the image's program runs.
#[derive(Debug)]
pub(crate) struct Place {
    config: Arc<GuestConfig>,
    /// Init's own namespace, and the program's.
    own: OwnedFd,
    programs: OwnedFd,
    /// Init's own /proc.
    proc: OwnedFd,
    /// Init's own program, for what it does in other processes.
    init: OwnedFd,
}

/// A process and init's ends of what it reads and writes.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// As init numbers it.
    pub(crate) pid: i32,
    /// As programs number it.
    pub(crate) inner_pid: u32,
    /// Ends when the program was exec'ed, and says why not otherwise.
    pub(crate) report: OwnedFd,
    /// For that.
    pub(crate) named: Named,
    pub(crate) input: OwnedFd,
    pub(crate) output: OwnedFd,
    /// None with a terminal.
    pub(crate) error: Option<OwnedFd>,
}

/// Init waits for none of its ends.
fn ready(spawned: Spawned) -> Result<Spawned, Refused> {
    let ends = [Some(&spawned.report), Some(&spawned.input), Some(&spawned.output), spawned.error.as_ref()];
    for end in ends.into_iter().flatten() {
        fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| {
            sys::signal(spawned.pid, libc::SIGKILL);
            Refused(FailureKind::Other, format!("prepare a pipe: {}", errno.desc()))
        })?;
    }
    Ok(spawned)
}

/// Why no process was made.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) FailureKind, pub(crate) String);

/// The new process' own ends.
struct Ends {
    input: OwnedFd,
    output: OwnedFd,
    error: OwnedFd,
    terminal: bool,
}

impl Ends {
    fn prepare(&self) -> nix::Result<()> {
        child::prepare(&self.input, &self.output, &self.error, self.terminal)
    }
}

impl Place {
    /// `program` is the image's program, which has been started; `proc` is init's own /proc.
    pub(crate) fn new(config: GuestConfig, program: i32, proc: OwnedFd) -> Result<Self, InitError> {
        let open = |path: &str| openat(&proc, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
        let own = open("self/ns/pid").during("open", "the process id namespace")?;
        let programs = open(&format!("{program}/ns/pid")).during("open", "the program's process id namespace")?;
        let init = open("self/exe").during("open", "init's own program")?;
        Ok(Self { config: Arc::new(config), own, programs, proc, init })
    }

    /// A process of init's own for work on files: beside the programs, which do not see it.
    pub(crate) fn spawn_files(&self, work: &Files) -> Result<Spawned, Refused> {
        let failed = |errno: Errno| Refused(FailureKind::Other, format!("make a process: {}", errno.desc()));
        let argv = files::argv(work).map_err(|why| Refused(FailureKind::Invalid, why))?;
        let (report, writer) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
        let (ends, input, output, error) = pipes(Uid::from_raw(0)).map_err(failed)?;
        let (argv, env) = (Strings::new(&argv), Strings::new(&[]));
        let pid = sys::fork_for_system_calls_only(None, || {
            let (stage, errno) = match ends.prepare().and_then(|()| fchdir(&self.proc)) {
                Ok(()) => (Stage::Exec, sys::exec_file(self.init.as_fd(), &argv, &env)),
                Err(errno) => (Stage::Prepare, errno),
            };
            tell_failure(&writer, stage, errno)
        });
        ready(Spawned {
            pid: pid.map_err(failed)?,
            inner_pid: 0,
            report,
            named: Named::default(),
            input,
            output,
            error,
        })
    }

    /// `group` is the directory of the control group that it is made in.
    pub(crate) fn spawn(&self, exec: &Exec, group: Option<BorrowedFd<'_>>) -> Result<Spawned, Refused> {
        let (target, owner, named) = self.plan(exec)?;
        let failed = |act: &str, errno: Errno| Refused(FailureKind::Other, format!("{act}: {}", errno.desc()));
        let (report, writer) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed("make a pipe", errno))?;
        let (ends, input, output, error) = match exec.tty {
            Some(size) => terminal(size, owner).map_err(|errno| failed("make a terminal", errno))?,
            None => pipes(owner).map_err(|errno| failed("make a pipe", errno))?,
        };
        let (argv, env) = (Strings::new(&target.argv), Strings::new(&target.env));
        setns(&self.programs, CloneFlags::CLONE_NEWPID)
            .map_err(|errno| failed("enter the program's process id namespace", errno))?;
        let pid = sys::fork_for_system_calls_only(group, || {
            let (stage, errno) = match ends.prepare() {
                Ok(()) => child::become_program(&target, &argv, &env),
                Err(errno) => (Stage::Prepare, errno),
            };
            tell_failure(&writer, stage, errno)
        });
        if let Err(errno) = setns(&self.own, CloneFlags::CLONE_NEWPID) {
            console::kernel_log(&format!("go back to init's own process id namespace: {errno}"));
        }
        // Where the namespace's first process has ended there are no more.
        let pid = pid.map_err(|errno| {
            let gone = Refused(FailureKind::NotRunning, "the image's program has ended".to_owned());
            if errno == Errno::ENOMEM { gone } else { failed("make a process", errno) }
        })?;
        ready(Spawned { pid, inner_pid: self.inner_pid(pid), report, named, input, output, error })
    }

    /// What the process is to become, whose its standard streams are, and what is said of it.
    fn plan(&self, exec: &Exec) -> Result<(Target, Uid, Named), Refused> {
        let invalid = |why: String| Refused(FailureKind::Invalid, why);
        let program = exec.argv.first().ok_or_else(|| invalid("there is no program to run".to_owned()))?;
        let database = |path| read_database(path).map_err(|error| Refused(FailureKind::Other, error.chain()));
        let (passwd, group) = (database(DATABASES[0])?, database(DATABASES[1])?);
        let wanted = exec.user.as_ref().unwrap_or(&self.config.user);
        let identity = user::resolve(wanted, &passwd, &group)
            .map_err(|error| invalid(format!("find the user `{wanted}` in the image: {error}")))?;
        let env = environment::overlay(&self.config.env, &exec.env);
        let env = environment::complete(&env, &self.config.hostname, &identity.home);
        let env = if exec.tty.is_some() { environment::with_terminal(env) } else { env };
        let strings = |strings: &[String]| {
            environment::c_strings(strings).map_err(|_| invalid("a string holds a zero byte".to_owned()))
        };
        let directory = exec.working_dir.as_ref().unwrap_or(&self.config.working_dir);
        let directory = format!("/{}", directory.trim_start_matches('/'));
        let named = Named { program: program.clone(), working_dir: directory.clone(), user: wanted.clone() };
        let target = Target {
            candidates: strings(&environment::candidates(program, &env))?,
            argv: strings(&exec.argv)?,
            env: strings(&env)?,
            working_dir: CString::new(directory).map_err(|_| invalid("a string holds a zero byte".to_owned()))?,
            user: User::of(&identity),
        };
        Ok((target, Uid::from_raw(identity.uid), named))
    }

    /// 0 when it cannot be told.
    fn inner_pid(&self, pid: i32) -> u32 {
        let status = volumes::read(self.proc.as_fd(), &format!("{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        line.and_then(|pids| pids.split_whitespace().next_back()?.parse().ok()).unwrap_or(0)
    }
}

type Made = (Ends, OwnedFd, OwnedFd, Option<OwnedFd>);

/// Three pipes. The user may open its own standard streams again by /dev/stdout.
fn pipes(owner: Uid) -> nix::Result<Made> {
    let (input, to_input) = pipe2(OFlag::O_CLOEXEC)?;
    let (from_output, output) = pipe2(OFlag::O_CLOEXEC)?;
    let (from_error, error) = pipe2(OFlag::O_CLOEXEC)?;
    for end in [&input, &output, &error] {
        fchown(end, Some(owner), None)?;
    }
    Ok((Ends { input, output, error, terminal: false }, to_input, from_output, Some(from_error)))
}

fn terminal(size: TtySize, owner: Uid) -> nix::Result<Made> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    sys::resize_terminal(master.as_fd(), size.rows, size.columns);
    let terminal = sys::terminal_of(master.as_fd())?;
    fchown(&terminal, Some(owner), None)?;
    let copy = |file: BorrowedFd<'_>| file.try_clone_to_owned().map_err(|_| Errno::EMFILE);
    let (input, output) = (copy(terminal.as_fd())?, copy(terminal.as_fd())?);
    let ends = Ends { input, output, error: terminal, terminal: true };
    Ok((ends, copy(master.as_fd())?, copy(master.as_fd())?, None))
}
