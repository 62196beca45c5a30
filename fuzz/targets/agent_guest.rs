//! Bytes from a host into the conversation of a guest's init.
//!
//! Input: a list of steps, each an opcode and what it needs; what is left over is taken as raw bytes. Held against it:
//! nothing panics, what is held stays bounded, and all that the guest says can be understood by a host.
#![no_main]

use dataplane_agent::{
    Answer, Ask, Channel, Decoder, Exec, ExitStatus, Files, GuestMessage, HostMessage, MAX_DATA, MAX_PAYLOAD, Open, StreamEnd,
    StreamOrder, TtySize, encode,
};
use dataplane_init::conversation::{Conversation, Facts, MAX_OUT, Order};
use libfuzzer_sys::fuzz_target;

/// The largest frame that the guest says here.
const LARGEST: usize = MAX_DATA + 8192;

fuzz_target!(|input: &[u8]| {
    let facts = Facts { started: Some(12), exited: Some((ExitStatus::Signal(9), Some("why".repeat(500)))) };
    let (mut conversation, mut host) = (Conversation::default(), Decoder::default());
    let mut waiting = Vec::new();
    let mut rest = input;
    while let Some((&step, tail)) = rest.split_first() {
        rest = tail;
        let bytes = match step % 12 {
            // Raw, and in a frame of any stream.
            0 => take(&mut rest).to_vec(),
            1 => encode(0, take(&mut rest)).unwrap(),
            2 => encode(u16::from(step), take(&mut rest)).unwrap(),
            // Understandable words.
            3 => words(&HostMessage::Hello { version: 2, nonce: u64::from(step / 8 % 3) }),
            4 => words(&HostMessage::Ask { id: u32::from(step), ask: ask(&mut rest) }),
            5 => words(&HostMessage::Stop { grace_ms: u64::from(step) << 58 }),
            // The host reads, or takes some bytes.
            6 => {
                host.push(conversation.outgoing());
                conversation.sent(usize::MAX);
                while let Some((stream, payload)) = host.next_frame() {
                    if stream != 0 {
                        assert!(Channel::of(payload[0]).is_some() && payload.len() <= MAX_DATA + 1);
                        continue;
                    }
                    serde_json::from_slice::<GuestMessage>(&payload).expect("the guest says what a host knows");
                }
                assert_eq!(host.pending(), 0, "the guest says whole frames");
                continue;
            }
            // Streams: opened, ordered about, and what the guest says of them.
            7 => {
                let what = open(step, &mut rest);
                words(&HostMessage::Open { stream: u16::from(step / 64), window: u32::MAX, what })
            }
            8 => words(&HostMessage::Stream { stream: u16::from(step / 64), order: order(step) }),
            9 => {
                let data = take(&mut rest);
                if conversation.takes_data() {
                    conversation.data(u16::from(step) + 1, Channel::Output, &data[..data.len().min(MAX_DATA)]);
                }
                continue;
            }
            10 => {
                conversation.opened(u16::from(step), Some(7));
                conversation.credit(u16::from(step), u32::MAX);
                conversation.end(u16::from(step), StreamEnd::Done);
                conversation.process_ended(7);
                continue;
            }
            // An answer to something asked earlier, in whichever conversation.
            _ => {
                if let Some(ticket) = waiting.pop() {
                    conversation.answer(ticket, Answer::Failed { message: "m".repeat(usize::from(step) * 4) });
                }
                continue;
            }
        };
        for chunk in bytes.chunks(usize::from(step / 8) * 8 + 1) {
            for order in conversation.receive(chunk, &facts) {
                if let Order::Ask(ticket, _) = order {
                    waiting.push(ticket);
                }
            }
        }
        assert!(conversation.outgoing().len() <= MAX_OUT + LARGEST);
    }
});

/// So many bytes as the next byte says, up to more than a frame holds.
fn take<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let Some((&count, tail)) = rest.split_first() else { return &[] };
    let count = if count == u8::MAX { MAX_PAYLOAD } else { usize::from(count) };
    let (taken, left) = tail.split_at(count.min(tail.len()));
    *rest = left;
    taken
}

fn open(step: u8, rest: &mut &[u8]) -> Open {
    let text = String::from_utf8_lossy(take(rest)).into_owned();
    let follow = step & 64 == 0;
    match step / 12 % 5 {
        0 => Open::Files(Files::Read { path: text, follow }),
        1 => Open::Files(Files::Write { path: text, follow }),
        2 => Open::Files(Files::Look { path: text, follow, list: !follow }),
        _ => {
            let tty = follow.then_some(TtySize { rows: 1, columns: u16::MAX });
            let place = Some(text.clone());
            let (argv, env) = (vec![text.clone()], vec![text]);
            Open::Exec(Exec { argv, env, tty, working_dir: place.clone(), user: place, detach: step & 128 == 0 })
        }
    }
}

fn order(step: u8) -> StreamOrder {
    match step / 12 % 5 {
        0 => StreamOrder::Credit { bytes: u32::MAX },
        1 => StreamOrder::Finish,
        2 => StreamOrder::Reset,
        3 => StreamOrder::Signal { signal: step },
        _ => StreamOrder::Resize(TtySize { rows: 0, columns: 0 }),
    }
}

fn ask(rest: &mut &[u8]) -> Ask {
    let text = String::from_utf8_lossy(take(rest)).into_owned();
    match text.len() % 13 {
        0 => Ask::Ping,
        1 => Ask::SetClock { unix_ns: u64::MAX, seed: text },
        2 => Ask::Mount { serial: text.clone(), path: text, filesystem: "ext4".to_owned(), readonly: true },
        3 => Ask::Freeze { serial: text, thaw_after_ms: 1 },
        4 => Ask::Unmount { serial: text },
        5 => Ask::Thaw { serial: text },
        6 => Ask::Sync,
        7 => Ask::ReadClock,
        8 => Ask::OnlineCpus,
        9 => Ask::Processes { after: u64::MAX },
        10 => Ask::Process { pid: u32::MAX },
        11 => Ask::Kill { pid: 0, signal: u8::MAX, group: true },
        _ => Ask::ReadUsage,
    }
}

fn words(message: &HostMessage) -> Vec<u8> {
    encode(0, &serde_json::to_vec(message).unwrap()).unwrap_or_default()
}
