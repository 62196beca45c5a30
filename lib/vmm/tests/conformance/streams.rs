//! What runs beside a guest's program: exec, files, processes, and what of them stays when the guest is put away.

use std::io::Read as _;
use std::sync::Arc;

use dataplane_agent::host::{Asker, Link, Lost, Stream, StreamEvent};
use dataplane_agent::{
    Answer, Ask, Channel, Exec, ExitStatus, FailureKind, Files, Open, ProcessInfo, StreamEnd, files_code,
};
use dataplane_vmm::VmHandle;
use tokio::time::timeout;

use crate::guests::Program;
use crate::rig::{LIMIT, Rig, is_simulated};

/// One guest and its conversations, for as long as this is held.
struct Hands {
    asker: Asker,
    work: tokio::task::JoinHandle<()>,
}

impl Drop for Hands {
    fn drop(&mut self) {
        self.work.abort();
    }
}

async fn hands(rig: &Rig, handle: &Arc<dyn VmHandle>) -> Hands {
    let handle = Arc::clone(handle);
    let (mut link, work) = Link::new(move || {
        let handle = Arc::clone(&handle);
        async move { handle.connect_agent().await }
    });
    let asker = link.asker();
    let work = tokio::spawn(async move {
        let events = async { while link.next().await.is_some() {} };
        tokio::join!(work, events);
    });
    asker.connected(LIMIT).await;
    let hands = Hands { asker, work };
    // Programs can be run once the image's own does.
    rig.console_shows("up", 1).await;
    hands
}

/// A program that every kind of guest has.
fn program(words: &[&str]) -> Exec {
    let words: Vec<&str> = match words {
        ["exit", code] if !is_simulated() => return program(&["sh", "-c", &format!("exit {code}")]),
        words if is_simulated() => words.to_vec(),
        words => [&["/bin/busybox"], words].concat(),
    };
    Exec { argv: words.iter().map(|word| (*word).to_owned()).collect(), ..Exec::default() }
}

impl Hands {
    fn run(&self, words: &[&str]) -> Stream {
        self.asker.open(Open::Exec(program(words))).unwrap()
    }

    async fn ask(&self, ask: Ask) -> Answer {
        self.asker.ask(ask, LIMIT).await.unwrap()
    }

    async fn processes(&self) -> Vec<ProcessInfo> {
        match self.ask(Ask::Processes { after: 0 }).await {
            Answer::Processes { processes, .. } => processes,
            other @ (Answer::Done
            | Answer::Clock { .. }
            | Answer::Sizes { .. }
            | Answer::Failed { .. }
            | Answer::Usage(_)) => panic!("{other:?}"),
        }
    }

    /// Waits until the process has ended.
    async fn ended(&self, pid: u32) -> ExitStatus {
        let wait = async {
            loop {
                let mut ends = self.asker.process_ends();
                let process = self.processes().await.into_iter().find(|process| process.pid == pid);
                if let Some(end) = process.unwrap_or_else(|| panic!("{pid} is not listed")).ended {
                    return end.status;
                }
                ends.changed().await.unwrap();
            }
        };
        timeout(LIMIT, wait).await.expect("the process does not end")
    }
}

async fn next(stream: &mut Stream) -> StreamEvent {
    timeout(LIMIT, stream.next()).await.expect("nothing comes of the stream").expect("the stream is lost")
}

/// The process of a stream that has just been opened.
async fn begun(stream: &mut Stream) -> u32 {
    match next(stream).await {
        StreamEvent::Opened(Some(pid)) => pid,
        other @ (StreamEvent::Opened(None) | StreamEvent::Data(..) | StreamEvent::Ended(_)) => panic!("{other:?}"),
    }
}

/// The rest of a stream: its output, its error, its end.
async fn rest(stream: &mut Stream) -> (Vec<u8>, Vec<u8>, StreamEnd) {
    let (mut output, mut error) = (Vec::new(), Vec::new());
    loop {
        match next(stream).await {
            StreamEvent::Opened(_) => {}
            StreamEvent::Data(Channel::Error, bytes) => error.extend(bytes),
            StreamEvent::Data(Channel::Output | Channel::Input, bytes) => output.extend(bytes),
            StreamEvent::Ended(end) => return (output, error, end),
        }
    }
}

fn exited(code: u8) -> StreamEnd {
    StreamEnd::Exited { status: ExitStatus::Code(code), reason: None }
}

fn killed(signal: u8) -> StreamEnd {
    StreamEnd::Exited { status: ExitStatus::Signal(signal), reason: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_run_and_their_ends_are_told() {
    let rig = Rig::new(Program::Say("up"));
    let handle = rig.boot().await;
    let hands = hands(&rig, &handle).await;

    let mut echo = hands.run(&["echo", "some", "words"]);
    let pid = begun(&mut echo).await;
    assert_eq!(rest(&mut echo).await, (b"some words\n".to_vec(), Vec::new(), exited(0)));
    assert_eq!(timeout(LIMIT, echo.next()).await.unwrap(), Err(Lost), "nothing comes behind the end");
    assert_eq!(rest(&mut hands.run(&["exit", "7"])).await.2, exited(7));

    let missing = Exec { argv: vec!["/no/such/program".to_owned()], ..Exec::default() };
    let mut missing = hands.asker.open(Open::Exec(missing)).unwrap();
    let StreamEnd::Exited { status, reason: Some(_) } = rest(&mut missing).await.2 else { panic!("it has no reason") };
    assert_eq!(status, ExitStatus::Code(127));

    let mut asleep = hands.run(&["sleep", "1000"]);
    begun(&mut asleep).await;
    assert!(asleep.writer().signal(15));
    assert_eq!(rest(&mut asleep).await.2, killed(15));

    // By its number, by another.
    let mut asleep = hands.run(&["sleep", "1000"]);
    let other = begun(&mut asleep).await;
    assert_ne!(other, pid);
    assert_eq!(hands.ask(Ask::Kill { pid: other, signal: 2, group: true }).await, Answer::Done);
    assert_eq!(rest(&mut asleep).await.2, killed(2));
    assert_eq!(hands.ended(other).await, ExitStatus::Signal(2));
    assert_eq!(hands.ended(pid).await, ExitStatus::Code(0));
    let nobody = hands.ask(Ask::Kill { pid: 4_000_000, signal: 9, group: false }).await;
    assert_eq!(nobody, Answer::Processes { processes: Vec::new(), more: false });
    let Answer::Usage(usage) = hands.ask(Ask::ReadUsage).await else { panic!("no usage") };
    assert!(usage.memory_total_kib > 0);
    handle.quit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_flows_as_far_as_there_is_credit() {
    const BYTES: usize = 1 << 20;
    let rig = Rig::new(Program::Say("up"));
    let handle = rig.boot().await;
    let hands = hands(&rig, &handle).await;

    // Nobody reads this one, and nobody else is held up by it.
    let mut endless = hands.run(&["yes"]);
    let pid = begun(&mut endless).await;
    for _ in 0..5 {
        assert_eq!(hands.ask(Ask::Ping).await, Answer::Done);
    }
    assert_eq!(rest(&mut hands.run(&["echo", "beside"])).await, (b"beside\n".to_vec(), Vec::new(), exited(0)));

    // Much more than either side's window, there and back at once.
    let mut cat = hands.run(&["cat"]);
    begun(&mut cat).await;
    let sent: Vec<u8> = (0..BYTES).map(|at| u8::try_from(at * at / 7 % 251).unwrap()).collect();
    let writer = cat.writer();
    let write = async {
        timeout(LIMIT, writer.write(&mut sent.as_slice())).await.expect("the guest takes it").unwrap();
        writer.finish();
    };
    let ((), (got, _, end)) = tokio::join!(write, rest(&mut cat));
    assert_eq!((got == sent, end), (true, exited(0)), "{} bytes", got.len());

    // The first one goes on as soon as it is read, and without a gap.
    let mut got = 0;
    while got < BYTES {
        let StreamEvent::Data(Channel::Output, bytes) = next(&mut endless).await else { panic!("no data") };
        for (at, byte) in bytes.iter().enumerate() {
            assert_eq!(*byte, b"y\n"[(got + at) % 2]);
        }
        got += bytes.len();
    }
    // Hanging up ends it.
    drop(endless);
    assert_eq!(hands.ended(pid).await, ExitStatus::Signal(9));
    handle.quit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_in_and_out() {
    let rig = Rig::new(Program::Say("up"));
    let handle = rig.boot().await;
    let hands = hands(&rig, &handle).await;
    let files = |work| hands.asker.open(Open::Files(work)).unwrap();
    let (root, follow) = (|| "/tmp".to_owned(), false);
    let mut writing = files(Files::Write { path: root(), follow });
    if is_simulated() {
        let StreamEnd::Failed { kind, message } = rest(&mut writing).await.2 else { panic!("it has files") };
        return assert_eq!((kind, message.as_str()), (FailureKind::Other, "a simulated guest has no files"));
    }
    let content: Vec<u8> = (0..300_000usize).map(|at| u8::try_from(at / 3 % 256).unwrap()).collect();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o640);
    header.set_uid(7);
    header.set_gid(8);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, "file", content.as_slice()).unwrap();
    let archive = archive.into_inner().unwrap();
    let writer = writing.writer();
    let write = async {
        timeout(LIMIT, writer.write(&mut archive.as_slice())).await.expect("the guest takes it").unwrap();
        writer.finish();
    };
    let ((), (said, complaint, end)) = tokio::join!(write, rest(&mut writing));
    assert_eq!((said, complaint, end), (Vec::new(), Vec::new(), exited(0)));

    let mut reading = files(Files::Read { path: "/tmp/file".to_owned(), follow });
    let (archive, complaint, end) = rest(&mut reading).await;
    assert_eq!((complaint, end), (Vec::new(), exited(0)));
    let mut archive = tar::Archive::new(archive.as_slice());
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let told = (entry.path_bytes().into_owned(), entry.header().mode().unwrap(), entry.header().uid().unwrap());
    assert_eq!(told, (b"file".to_vec(), 0o640, 7));
    let mut got = Vec::new();
    entry.read_to_end(&mut got).unwrap();
    assert!(got == content);

    let mut missing = files(Files::Look { path: "/nowhere".to_owned(), follow, list: false });
    let (_, complaint, end) = rest(&mut missing).await;
    assert_eq!(end, exited(files_code::NOT_FOUND), "{}", String::from_utf8_lossy(&complaint));
    let programs = hands.processes().await;
    assert!(programs.is_empty(), "work on files is no program: {programs:?}");
    handle.quit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_the_guest_is_put_away() {
    let mut rig = Rig::new(Program::Say("up"));
    let handle = rig.boot().await;
    let before = hands(&rig, &handle).await;
    let mut open = before.run(&["sleep", "1000"]);
    let pid = begun(&mut open).await;
    let kept = Exec { detach: true, ..program(&["sleep", "2000"]) };
    let mut kept = before.asker.open(Open::Exec(kept)).unwrap();
    let kept_pid = begun(&mut kept).await;
    handle.pause().await.unwrap();
    let directory = rig.snapshot_directory("snapshot");
    handle.snapshot(&directory).await.unwrap_or_else(|error| panic!("snapshot: {error:?}\n{}", rig.story()));
    handle.quit().await.unwrap();
    for stream in [&mut open, &mut kept] {
        assert_eq!(timeout(LIMIT, stream.next()).await.expect("it is told at once"), Err(Lost));
    }
    assert!(before.asker.open(Open::Exec(program(&["echo"]))).is_err(), "there is nobody to ask");
    drop(before);

    let handle = rig.restore(&directory).await;
    handle.resume().await.unwrap();
    let after = hands(&rig, &handle).await;
    if is_simulated() {
        assert!(after.processes().await.is_empty(), "the processes of a simulated guest are not in its memory");
    } else {
        assert_eq!(after.ended(pid).await, ExitStatus::Signal(9), "nobody is there for it");
        let listed = after.processes().await;
        let kept = listed.iter().find(|process| process.pid == kept_pid).unwrap();
        assert!(kept.detached && kept.ended.is_none(), "{kept:?}");
    }
    assert_eq!(rest(&mut after.run(&["echo", "again"])).await.2, exited(0));
    handle.quit().await.unwrap();
}
