//! The agent channel: a vsock listener, or a virtio-serial port, or nothing.
//!
//! Invariant: the channel is taken before the image's program starts, is held until the guest is gone, never blocks,
//! and is inherited by nobody. Only the host is listened to: a vsock peer that is not the host is hung up on, and the
//! serial port cannot be opened twice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dataplane_agent::{AGENT_PORT_NAME, AGENT_VSOCK_PORT, Answer, Ask, ExitStatus};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, getpeername, listen, socket};

use crate::asks::Asks;
use crate::error::{During as _, InitError};
use crate::exec::Place;
use crate::streams::Streams;
use crate::sys;
use crate::uevent::Uevents;
use crate::virtio::{Devices, Kind};
use dataplane_init::conversation::{Conversation, Facts, Order, Ticket};

/// How often a port without a host is looked at: the kernel reports its state, not its change.
const PORT_INTERVAL: Duration = Duration::from_millis(100);
/// How long the host may take to name the ports of a serial device.
const PORT_LIMIT: Duration = Duration::from_secs(2);
/// Reads in one turn, so that no host keeps init from its other work.
const MAX_READS: usize = 16;

#[derive(Debug)]
pub(crate) struct Agent {
    channel: Channel,
    pub(crate) facts: Facts,
    asks: Asks,
    streams: Streams,
}

#[derive(Debug)]
enum Channel {
    None,
    Vsock {
        listener: OwnedFd,
        link: Option<Link>,
    },
    /// `link` lives while a host is connected.
    Port {
        port: File,
        link: Option<Conversation>,
    },
}

/// A connection and what is said on it.
#[derive(Debug)]
struct Link {
    stream: File,
    conversation: Conversation,
}

impl Agent {
    /// Opens the channel that the machine has.
    pub(crate) fn open(uevents: &Uevents, devices: &Devices) -> Result<Self, InitError> {
        let channel = if devices.has(Kind::Vsock) {
            Channel::Vsock { listener: vsock_listener().during("listen on", "the agent's vsock port")?, link: None }
        } else if devices.has(Kind::Console) {
            let ports = Path::new("/sys/class/virtio-ports");
            match uevents.wait(PORT_LIMIT, || Ok(find_port(ports)))? {
                Some(path) => Channel::Port { port: open_port(&path).during("open", path.display())?, link: None },
                None => Channel::None,
            }
        } else {
            Channel::None
        };
        Ok(Self { channel, facts: Facts::default(), asks: Asks::open()?, streams: Streams::default() })
    }

    pub(crate) fn exists(&self) -> bool {
        match self.channel {
            Channel::None => false,
            Channel::Vsock { .. } | Channel::Port { .. } => true,
        }
    }

    /// The program was started, on the image's root; `proc` is init's own /proc.
    pub(crate) fn started(&mut self, init_ms: u64, proc: OwnedFd, place: Place) {
        self.asks.allow_volumes(proc);
        self.streams.allow(place);
        self.facts.started = Some(init_ms);
        let facts = self.facts.clone();
        if let Some(conversation) = self.conversation() {
            conversation.tell_started(&facts);
        }
    }

    /// Says (again) how the program ended.
    pub(crate) fn tell_exited(&mut self) {
        let facts = self.facts.clone();
        if let Some(conversation) = self.conversation() {
            conversation.tell_exited(&facts);
        }
    }

    /// A child of init that is not the program has ended.
    pub(crate) fn child_ended(&mut self, pid: i32, status: ExitStatus) {
        self.streams.child_ended(pid, status);
    }

    /// The program has ended: its namespace is gone, and nothing more runs beside it.
    pub(crate) fn program_ended(&mut self) {
        self.streams.forbid();
    }

    fn conversation(&mut self) -> Option<&mut Conversation> {
        self.channel.conversation()
    }

    /// What to wait for.
    pub(crate) fn interests(&self) -> Vec<PollFd<'_>> {
        let mut entries = vec![PollFd::new(self.asks.bell(), PollFlags::POLLIN)];
        let takes_data = match &self.channel {
            Channel::None => false,
            Channel::Vsock { link, .. } => link.as_ref().is_some_and(|link| link.conversation.takes_data()),
            Channel::Port { link, .. } => link.as_ref().is_some_and(Conversation::takes_data),
        };
        entries.extend(self.streams.interests(takes_data));
        match &self.channel {
            Channel::None => {}
            Channel::Vsock { listener, link } => {
                entries.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
                let link = link.iter().map(|link| PollFd::new(link.stream.as_fd(), flags_for(&link.conversation)));
                entries.extend(link);
            }
            Channel::Port { port, link } => {
                entries.extend(link.iter().map(|link| PollFd::new(port.as_fd(), flags_for(link))));
            }
        }
        entries
    }

    /// When to look again although nothing happened.
    pub(crate) fn look_again(&self) -> Option<Duration> {
        match &self.channel {
            Channel::None | Channel::Vsock { .. } | Channel::Port { link: Some(_), .. } => None,
            Channel::Port { link: None, .. } => Some(PORT_INTERVAL),
        }
    }

    /// Accepts, reads, answers and writes as far as that goes without waiting. Only what is not the agent's own is among
    /// the orders.
    pub(crate) fn serve(&mut self) -> Vec<Order> {
        let orders = self.exchange();
        let mut left = Vec::new();
        let mut answers = self.asks.ready();
        for order in orders {
            match order {
                Order::Stop { .. } | Order::ExitRecorded => left.push(order),
                Order::Ask(ticket, ask) => answers.extend(self.take(ticket, ask).map(|answer| (ticket, answer))),
                Order::Anew => self.streams.abandon(),
                Order::Open { stream, window, what } => {
                    if let Some(conversation) = self.channel.conversation() {
                        self.streams.open(stream, window, what, conversation);
                    }
                }
                Order::Stream { stream, order } => self.streams.order(stream, order),
                Order::Data { stream, payload } => self.streams.data(stream, &payload),
            }
        }
        if let Some(conversation) = self.conversation() {
            answers.into_iter().for_each(|(ticket, answer)| conversation.answer(ticket, answer));
        }
        self.streams.work(self.channel.conversation());
        // What does not go now leaves in a later turn: the channel is waited for until it takes something.
        self.channel.flush();
        left
    }

    fn take(&mut self, ticket: Ticket, ask: Ask) -> Option<Answer> {
        match ask {
            Ask::Processes { after } => Some(self.streams.list(after)),
            Ask::Process { pid } => Some(self.streams.get(pid)),
            Ask::Kill { pid, signal, group } => Some(self.streams.kill(pid, signal, group)),
            Ask::Ping
            | Ask::Sync
            | Ask::SetClock { .. }
            | Ask::ReadClock
            | Ask::OnlineCpus
            | Ask::Mount { .. }
            | Ask::Unmount { .. }
            | Ask::Freeze { .. }
            | Ask::Thaw { .. }
            | Ask::ReadUsage => self.asks.take(ticket, ask),
        }
    }

    fn exchange(&mut self) -> Vec<Order> {
        match &mut self.channel {
            Channel::None => Vec::new(),
            Channel::Vsock { listener, link } => {
                if let Some(stream) = accept_host(listener) {
                    // The newest connection wins: the host has given up on the older one.
                    *link = Some(Link { stream, conversation: Conversation::default() });
                }
                let Some(open) = link else { return Vec::new() };
                let (orders, alive) = exchange(&mut open.stream, &mut open.conversation, &self.facts);
                if !alive {
                    *link = None;
                }
                orders
            }
            Channel::Port { port, link } => {
                let connected = has_host(port.as_fd());
                if !connected && link.is_none() {
                    return Vec::new();
                }
                // What a host said before it hung up still counts.
                let conversation = link.get_or_insert_with(Conversation::default);
                let (orders, alive) = exchange(port, conversation, &self.facts);
                // Asked again: a host that came in between has been answered, and must not be forgotten.
                if !alive || (!connected && !has_host(port.as_fd())) {
                    *link = None;
                }
                orders
            }
        }
    }
}

impl Channel {
    fn conversation(&mut self) -> Option<&mut Conversation> {
        match self {
            Self::None => None,
            Self::Vsock { link, .. } => link.as_mut().map(|link| &mut link.conversation),
            Self::Port { link, .. } => link.as_mut(),
        }
    }

    /// Writes what can be written now. A failure is met again by the next exchange.
    fn flush(&mut self) {
        match self {
            Self::None => {}
            Self::Vsock { link, .. } => {
                if let Some(link) = link {
                    write_out(&mut link.stream, &mut link.conversation);
                }
            }
            Self::Port { port, link } => {
                if let Some(conversation) = link {
                    write_out(port, conversation);
                }
            }
        }
    }
}

fn flags_for(conversation: &Conversation) -> PollFlags {
    if conversation.outgoing().is_empty() { PollFlags::POLLIN } else { PollFlags::POLLIN | PollFlags::POLLOUT }
}

/// Reads and writes what is possible; says whether the conversation can go on.
fn exchange(stream: &mut File, conversation: &mut Conversation, facts: &Facts) -> (Vec<Order>, bool) {
    let mut orders = Vec::new();
    let mut alive = true;
    let mut bytes = [0; 16 << 10];
    for _ in 0..MAX_READS {
        match stream.read(&mut bytes) {
            Ok(0) => alive = false,
            Ok(count) => {
                orders.extend(conversation.receive(bytes.get(..count).unwrap_or_default(), facts));
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => alive = error.kind() == io::ErrorKind::WouldBlock,
        }
        break;
    }
    alive = alive && write_out(stream, conversation);
    (orders, alive && !conversation.is_stuck())
}

/// Writes what is possible; says whether the conversation can go on.
fn write_out(stream: &mut File, conversation: &mut Conversation) -> bool {
    while !conversation.outgoing().is_empty() {
        match stream.write(conversation.outgoing()) {
            Ok(count) if count > 0 => conversation.sent(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

fn vsock_listener() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
    bind(listener.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_ANY, AGENT_VSOCK_PORT))?;
    listen(&listener, Backlog::new(8)?)?;
    Ok(listener)
}

/// The newest waiting connection of the host. Programs in the guest can connect too; they are hung up on.
fn accept_host(listener: &OwnedFd) -> Option<File> {
    let mut newest = None;
    for _ in 0..MAX_READS {
        let accepted = match sys::accept(listener.as_fd()) {
            Ok(accepted) => accepted,
            Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
            Err(_) => break,
        };
        let peer = getpeername::<VsockAddr>(accepted.as_raw_fd());
        if peer.is_ok_and(|peer| peer.cid() == libc::VMADDR_CID_HOST) {
            newest = Some(File::from(accepted));
        }
    }
    newest
}

fn find_port(ports: &Path) -> Option<PathBuf> {
    let named = fs::read_dir(ports)
        .ok()?
        .flatten()
        .find(|entry| fs::read_to_string(entry.path().join("name")).is_ok_and(|name| name.trim() == AGENT_PORT_NAME));
    named.map(|entry| Path::new("/dev").join(entry.file_name()))
}

fn open_port(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)
}

/// Whether a host is connected to the port.
fn has_host(port: BorrowedFd<'_>) -> bool {
    let mut entry = [PollFd::new(port, PollFlags::POLLIN)];
    let asked = poll(&mut entry, PollTimeout::ZERO);
    let [entry] = entry;
    asked.is_ok() && !entry.revents().is_some_and(|flags| flags.contains(PollFlags::POLLHUP))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests lay out a directory, no record")]
mod tests {
    use std::os::unix::net::UnixStream;

    use dataplane_agent::{HostMessage, encode};

    use super::*;

    #[test]
    fn the_port_is_found_by_name() {
        let class = tempfile::tempdir().unwrap();
        for (port, name) in [("vport0p1", "other\n"), ("vport0p2", "org.dataplane.agent.0\n")] {
            fs::create_dir(class.path().join(port)).unwrap();
            fs::write(class.path().join(port).join("name"), name).unwrap();
        }
        assert_eq!(find_port(class.path()), Some(PathBuf::from("/dev/vport0p2")));
        assert_eq!(find_port(&class.path().join("none")), None);
    }

    #[test]
    fn a_link_ends_with_its_peer() {
        let (guest, mut host) = UnixStream::pair().unwrap();
        guest.set_nonblocking(true).unwrap();
        let mut stream = File::from(OwnedFd::from(guest));
        let mut conversation = Conversation::default();
        let stop = serde_json::to_vec(&HostMessage::Stop { grace_ms: 5 }).unwrap();
        host.write_all(&encode(0, &stop).unwrap()).unwrap();
        let facts = Facts::default();
        assert_eq!(exchange(&mut stream, &mut conversation, &facts), (vec![Order::Stop { grace_ms: 5 }], true));
        assert_eq!(exchange(&mut stream, &mut conversation, &facts), (Vec::new(), true));
        drop(host);
        assert_eq!(exchange(&mut stream, &mut conversation, &facts), (Vec::new(), false));
    }
}
