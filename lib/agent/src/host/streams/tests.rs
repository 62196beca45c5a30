//! Streams against guests that keep to the rules, and against some that do not.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::handle::{MAX_ORDERS, MAX_WAITING};
use super::*;
use crate::frame::{Decoder, MAX_PAYLOAD};
use crate::message::ExitStatus;
use crate::stream::{Exec, MAX_DATA, TtySize};

fn exec() -> Open {
    Open::Exec(Exec { argv: vec!["cat".into()], ..Exec::default() })
}

fn exited() -> StreamEnd {
    StreamEnd::Exited { status: ExitStatus::Code(3), reason: None }
}

/// What a board says: messages, and data by stream.
fn said(board: &Board) -> (Vec<HostMessage>, BTreeMap<u16, usize>) {
    let (mut messages, mut data) = (Vec::new(), BTreeMap::new());
    let mut decoder = Decoder::default();
    decoder.push(&board.outgoing());
    while let Some((stream, payload)) = decoder.next_frame() {
        if stream == 0 {
            messages.push(serde_json::from_slice(&payload).unwrap());
        } else {
            assert_eq!(payload[0], Channel::Input.byte());
            *data.entry(stream).or_default() += payload.len() - 1;
        }
    }
    (messages, data)
}

fn data(channel: Channel, length: usize) -> Vec<u8> {
    [vec![channel.byte()], vec![b'x'; length]].concat()
}

fn order(stream: u16, order: StreamOrder) -> HostMessage {
    HostMessage::Stream { stream, order }
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_goes_both_ways_and_ends() {
    let board = Arc::new(Board::default());
    let mut stream = board.open(exec()).unwrap();
    assert_eq!(said(&board).0, [HostMessage::Open { stream: 1, window: HOST_WINDOW, what: exec() }]);
    assert!(board.hear(1, StreamNews::Opened(Some(7))).unwrap());
    assert!(!board.hear(1, StreamNews::Opened(Some(8))).unwrap(), "said twice");
    assert!(!board.hear(2, StreamNews::Opened(None)).unwrap(), "nobody's");
    stream.writer().write(&mut b"input".as_slice()).await.unwrap();
    stream.writer().finish();
    let (messages, sent) = said(&board);
    assert_eq!((messages, sent), (vec![order(1, StreamOrder::Finish)], BTreeMap::from([(1, 5)])));
    assert!(board.take(1, &data(Channel::Error, 2)).unwrap());
    assert!(board.take(1, &data(Channel::Output, 3)).unwrap());
    assert!(board.hear(1, StreamNews::End(exited())).unwrap());
    assert!(!board.take(1, &data(Channel::Output, 1)).unwrap(), "behind the end");
    assert_eq!(stream.next().await, Ok(StreamEvent::Opened(Some(7))));
    assert_eq!(stream.next().await, Ok(StreamEvent::Data(Channel::Output, b"xxx".to_vec())));
    assert_eq!(stream.next().await, Ok(StreamEvent::Data(Channel::Error, b"xx".to_vec())));
    assert_eq!(stream.next().await, Ok(StreamEvent::Ended(exited())));
    assert_eq!(stream.next().await, Err(Lost));
    drop(stream);
    assert_eq!(said(&board).0, [], "it is over already");
    assert_eq!(board.open(exec()).unwrap().0.0.number, 1, "the number is free");
}

#[tokio::test(start_paused = true)]
async fn nobody_sends_more_than_was_allowed() {
    let board = Arc::new(Board::default());
    let mut stream = board.open(exec()).unwrap();
    let writer = stream.writer();
    let input = vec![b'i'; GUEST_WINDOW as usize + 10];
    let write = tokio::spawn(async move { writer.write(&mut input.as_slice()).await });
    let mut sent = 0;
    for _ in 0..10 {
        tokio::task::yield_now().await;
        sent += said(&board).1.get(&1).copied().unwrap_or(0);
    }
    write.await.unwrap().unwrap();
    assert_eq!(sent, GUEST_WINDOW as usize);
    assert_eq!(said(&board).1, BTreeMap::new(), "the credit is used up");
    assert!(board.hear(1, StreamNews::Credit(4096)).unwrap());
    assert_eq!(said(&board).1, BTreeMap::from([(1, 10)]));
    assert!(matches!(board.hear(1, StreamNews::Credit(u32::MAX)), Err(AgentError::Unruly(1))));

    let window = HOST_WINDOW as usize;
    for _ in 0..window / MAX_DATA {
        assert!(board.take(1, &data(Channel::Output, MAX_DATA)).unwrap());
    }
    assert!(matches!(board.take(1, &data(Channel::Output, 1)), Err(AgentError::Unruly(1))));
    assert!(matches!(stream.next().await, Ok(StreamEvent::Data(_, bytes)) if bytes.len() == window));
    assert_eq!(said(&board).0, [order(1, StreamOrder::Credit { bytes: HOST_WINDOW })]);
    assert!(board.take(1, &data(Channel::Output, 1)).unwrap());
    assert!(matches!(board.take(1, &data(Channel::Input, 1)), Err(AgentError::Unruly(1))));
}

#[tokio::test(start_paused = true)]
async fn words_never_wait_behind_data_and_all_streams_have_their_turn() {
    let board = Arc::new(Board::default());
    let streams: Vec<_> = (0..8).map(|_| board.open(exec()).unwrap()).collect();
    said(&board);
    for stream in &streams {
        stream.writer().write(&mut vec![0; MAX_WAITING].as_slice()).await.unwrap();
    }
    assert!(streams[7].writer().signal(15));
    let (messages, first) = said(&board);
    assert_eq!(messages, [order(8, StreamOrder::Signal { signal: 15 })]);
    let mut served: Vec<u16> = first.into_keys().collect();
    while served.len() < 8 {
        served.extend(said(&board).1.into_keys());
    }
    assert_eq!(served, [1, 2, 3, 4, 5, 6, 7, 8]);
    for _ in 0..MAX_ORDERS {
        assert!(streams[0].writer().resize(TtySize { rows: 1, columns: 1 }));
    }
    assert!(!streams[0].writer().resize(TtySize { rows: 1, columns: 1 }), "too many orders");
}

#[tokio::test(start_paused = true)]
async fn who_lets_go_resets_and_a_number_is_taken_until_the_guest_has_ended_it() {
    let board = Arc::new(Board::default());
    drop(board.open(exec()).unwrap());
    assert_eq!(said(&board).0, [], "the guest never heard of it");
    let stream = board.open(exec()).unwrap();
    said(&board);
    let writer = stream.writer();
    drop(stream);
    assert_eq!(said(&board).0, [], "somebody still writes");
    drop(writer);
    assert_eq!(said(&board).0, [order(1, StreamOrder::Reset)]);
    assert!(board.take(1, &data(Channel::Output, 5)).unwrap(), "it was under way");
    assert_eq!(board.open(exec()).unwrap().0.0.number, 2);
    board.hear(1, StreamNews::End(StreamEnd::Reset)).unwrap();
    let _one = board.open(exec()).unwrap();
    let all: Vec<_> = std::iter::from_fn(|| board.open(exec()).ok()).collect();
    assert!(all.len() >= MAX_STREAMS - 2 && all.len() < MAX_STREAMS, "{}", all.len());
    assert!(matches!(board.open(exec()), Err(OpenError::TooMany)));
    let huge = Open::Exec(Exec { argv: vec!["x".repeat(MAX_PAYLOAD)], ..Exec::default() });
    drop(all);
    said(&board);
    assert!(matches!(Arc::new(Board::default()).open(huge), Err(OpenError::Unspeakable(_))));
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_ends_takes_its_streams_with_it_at_once() {
    let board = Arc::new(Board::default());
    let mut stream = board.open(exec()).unwrap();
    let writer = stream.writer();
    board.hear(1, StreamNews::Opened(None)).unwrap();
    let waits = tokio::spawn(async move {
        while stream.next().await.is_ok() {}
        stream
    });
    tokio::task::yield_now().await;
    board.close();
    let _stream = waits.await.unwrap();
    assert_eq!(writer.write(&mut b"x".as_slice()).await, Err(Lost));
    assert!(matches!(board.open(exec()), Err(OpenError::NotConnected)));
}

proptest! {
    /// Whatever a guest says of streams: what is held stays within the windows.
    #[test]
    fn what_is_held_is_bounded(steps in proptest::collection::vec((0u8..8, 0u16..4, 0usize..40_000), 0..200)) {
        let board = Arc::new(Board::default());
        let mut streams = Vec::new();
        for (step, stream, size) in steps {
            let length = u32::try_from(size).unwrap();
            let outcome = match step {
                0 if streams.len() < 4 => {
                    streams.extend(board.open(exec()).ok());
                    Ok(true)
                }
                1 => board.hear(stream, StreamNews::Opened(Some(length))),
                2 => board.hear(stream, StreamNews::Credit(length)),
                3 => board.hear(stream, StreamNews::End(exited())),
                4 => {
                    streams.pop();
                    Ok(true)
                }
                5 => {
                    said(&board);
                    Ok(true)
                }
                _ => board.take(stream, &data(if step == 6 { Channel::Output } else { Channel::Error }, size.min(MAX_DATA))),
            };
            let held: usize = board.lock().by_number.values().map(|cell| cell.output.len() + cell.error.len()).sum();
            prop_assert!(held <= 8 * HOST_WINDOW as usize);
            for cell in board.lock().by_number.values() {
                prop_assert!(cell.output.len() + cell.error.len() <= HOST_WINDOW as usize);
            }
            if outcome.is_err() {
                break;
            }
        }
    }
}
