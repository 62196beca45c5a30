//! The link against guests that answer, lie, stall and go away, in a time that passes only when everybody waits.

use std::collections::VecDeque;
use std::sync::Mutex;

use proptest::prelude::*;
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;

use super::super::tests::Guest;
use super::talk::{HEARTBEAT, SILENCE};
use super::*;
use crate::host::MAX_OPEN;

const PATIENCE: Duration = Duration::from_secs(3);

/// The streams of guests to come, in order.
type Guests = Arc<Mutex<VecDeque<DuplexStream>>>;

struct Bench {
    link: Link,
    guests: Guests,
    work: JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Bench {
    fn start() -> Self {
        let guests = Guests::default();
        let (link, work) = Link::new({
            let guests = Arc::clone(&guests);
            move || {
                let guest = guests.lock().unwrap().pop_front();
                async move { guest.ok_or("nobody listens") }
            }
        });
        Self { link, guests, work: tokio::spawn(work) }
    }

    /// A guest of this version, greeted.
    async fn guest(&mut self, version: u32) -> Guest {
        let (mut guest, stream) = Guest::pair();
        self.guests.lock().unwrap().push_back(stream);
        let nonce = guest.hear_hello().await;
        guest.say(&GuestMessage::Hello { version, nonce }).await;
        assert_eq!(self.link.next().await, Some(LinkEvent::Connected));
        guest
    }
}

async fn asked(guest: &mut Guest) -> (u32, Ask) {
    let message = guest.hear().await;
    let HostMessage::Ask { id, ask } = message else { panic!("got {message:?}") };
    (id, ask)
}

async fn answer(guest: &mut Guest, id: u32, answer: Answer) {
    guest.say(&GuestMessage::Answer { id, answer }).await;
}

#[tokio::test(start_paused = true)]
async fn answers_find_their_questions_in_any_order() {
    let mut bench = Bench::start();
    assert!(matches!(bench.link.asker().ask(Ask::Ping, PATIENCE).await, Err(AskError::NotConnected)));
    let mut guest = bench.guest(2).await;
    let (sync, clock) = (bench.link.asker().ask(Ask::Sync, PATIENCE), bench.link.asker().ask(Ask::ReadClock, PATIENCE));
    let refused = bench.link.asker().ask(Ask::Thaw { serial: "a".into() }, PATIENCE);
    let (first, second, third) = (asked(&mut guest).await, asked(&mut guest).await, asked(&mut guest).await);
    assert_eq!((first.1, second.1), (Ask::Sync, Ask::ReadClock));
    answer(&mut guest, third.0, Answer::Failed { message: "no such disk".into() }).await;
    answer(&mut guest, second.0, Answer::Clock { unix_ns: 7 }).await;
    answer(&mut guest, first.0, Answer::Done).await;
    assert_eq!(clock.await.unwrap(), Answer::Clock { unix_ns: 7 });
    assert_eq!(sync.await.unwrap(), Answer::Done);
    assert_eq!(refused.await.unwrap_err().to_string(), "the guest's agent: no such disk");
}

#[tokio::test(start_paused = true)]
async fn impatience_gives_up_and_a_late_answer_is_nobodys() {
    let mut bench = Bench::start();
    let mut guest = bench.guest(2).await;
    let begun = Instant::now();
    let late = bench.link.asker().ask(Ask::Sync, PATIENCE).await;
    assert!(matches!(late, Err(AskError::Timeout(PATIENCE))));
    assert_eq!(begun.elapsed(), PATIENCE);
    let next = bench.link.asker().ask(Ask::ReadClock, PATIENCE);
    let (old, new) = (asked(&mut guest).await, asked(&mut guest).await);
    answer(&mut guest, old.0, Answer::Done).await;
    answer(&mut guest, new.0, Answer::Clock { unix_ns: 1 }).await;
    assert_eq!(next.await.unwrap(), Answer::Clock { unix_ns: 1 });
}

#[tokio::test(start_paused = true)]
async fn a_broken_conversation_answers_at_once_and_is_made_again() {
    let mut bench = Bench::start();
    let mut guest = bench.guest(2).await;
    let open = bench.link.asker().ask(Ask::Sync, PATIENCE);
    asked(&mut guest).await;
    let begun = Instant::now();
    drop(guest);
    assert!(matches!(open.await, Err(AskError::Broken)));
    assert!(begun.elapsed() < Duration::from_millis(100));
    assert!(matches!(bench.link.asker().ask(Ask::Sync, PATIENCE).await, Err(AskError::NotConnected)));
    let mut guest = bench.guest(2).await;
    let again = bench.link.asker().ask(Ask::Sync, PATIENCE);
    let (id, _) = asked(&mut guest).await;
    answer(&mut guest, id, Answer::Done).await;
    assert_eq!(again.await.unwrap(), Answer::Done);
}

#[tokio::test(start_paused = true)]
async fn an_old_guest_is_neither_asked_nor_pinged() {
    let mut bench = Bench::start();
    let mut guest = bench.guest(1).await;
    assert!(matches!(bench.link.asker().ask(Ask::Sync, PATIENCE).await, Err(AskError::TooOld(1))));
    assert!(tokio::time::timeout(HEARTBEAT * 20, guest.hear()).await.is_err());
    bench.link.say(HostMessage::ExitRecorded);
    assert_eq!(guest.hear().await, HostMessage::ExitRecorded);
    assert!(tokio::time::timeout(HEARTBEAT, bench.link.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn questions_without_answers_are_bounded_and_given_up_ones_do_not_count() {
    let mut bench = Bench::start();
    let _guest = bench.guest(2).await;
    let mut open = VecDeque::new();
    for _ in 0..MAX_OPEN - 1 {
        open.push_back(bench.link.asker().ask(Ask::Sync, PATIENCE));
        tokio::task::yield_now().await;
    }
    assert!(matches!(bench.link.asker().ask(Ask::Sync, PATIENCE).await, Err(AskError::Busy)));
    open.pop_front();
    assert!(matches!(bench.link.asker().ask(Ask::Sync, PATIENCE).await, Err(AskError::Timeout(_))));
}

#[tokio::test(start_paused = true)]
async fn more_words_than_the_queue_holds_are_refused() {
    let mut bench = Bench::start();
    let _guest = bench.guest(2).await;
    let asks: Vec<_> = (0..QUEUE + 1).map(|_| bench.link.asker().ask(Ask::Ping, PATIENCE)).collect();
    let last = asks.into_iter().next_back().unwrap();
    assert!(matches!(last.await, Err(AskError::Busy)));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_answers_pings_is_left_in_peace() {
    let mut bench = Bench::start();
    let mut guest = bench.guest(2).await;
    let begun = Instant::now();
    for beat in 1..=10 {
        let (id, ask) = asked(&mut guest).await;
        assert_eq!((ask, begun.elapsed()), (Ask::Ping, HEARTBEAT * beat));
        answer(&mut guest, id, Answer::Done).await;
    }
    guest.say(&GuestMessage::Started { init_ms: 3 }).await;
    let event = bench.link.next().await;
    assert_eq!(event, Some(LinkEvent::Message(GuestMessage::Started { init_ms: 3 })));
}

#[tokio::test(start_paused = true)]
async fn silence_is_told_once_and_the_next_conversation_begins_anew() {
    let mut bench = Bench::start();
    let guest = bench.guest(2).await;
    let begun = Instant::now();
    assert_eq!(bench.link.next().await, Some(LinkEvent::Silent));
    assert_eq!(begun.elapsed(), HEARTBEAT + SILENCE);
    assert!(matches!(bench.link.asker().ask(Ask::Sync, PATIENCE).await, Err(AskError::NotConnected)));
    // One that takes connections and says nothing is no second silence.
    let (mute, stream) = Guest::pair();
    bench.guests.lock().unwrap().push_back(stream);
    assert!(tokio::time::timeout(SILENCE * 10, bench.link.next()).await.is_err());
    drop((guest, mute));
    let _guest = bench.guest(2).await;
    assert_eq!(bench.link.next().await, Some(LinkEvent::Silent));
}

#[tokio::test(start_paused = true)]
async fn answers_to_other_questions_do_not_stand_for_a_ping() {
    let mut bench = Bench::start();
    let mut guest = bench.guest(2).await;
    let begun = Instant::now();
    let lies = async {
        let (id, _) = asked(&mut guest).await;
        for wrong in [id.wrapping_add(1), 0, u32::MAX] {
            answer(&mut guest, wrong, Answer::Done).await;
        }
        std::future::pending().await
    };
    let event = tokio::select! {
        event = bench.link.next() => event,
        () = lies => None,
    };
    assert_eq!(event, Some(LinkEvent::Silent));
    assert_eq!(begun.elapsed(), HEARTBEAT + SILENCE);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a greeted guest sends, and whenever it goes, every question ends within its patience.
    #[test]
    fn every_question_ends(
        bytes in proptest::collection::vec(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            (0u32..40).prop_map(|id| super::super::tests::frame(&GuestMessage::Answer { id, answer: Answer::Done })),
            Just(br#"DPA1"#.to_vec()),
        ], 0..30),
        questions in 1usize..30,
        stays in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::start();
            let mut guest = bench.guest(2).await;
            let asks: Vec<_> = (0..questions).map(|_| bench.link.asker().ask(Ask::Sync, PATIENCE)).collect();
            for chunk in bytes {
                if guest.stream.write_all(&chunk).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let _guest = stays.then_some(guest);
            let begun = Instant::now();
            for ask in asks {
                let _ = ask.await;
            }
            assert!(begun.elapsed() <= PATIENCE);
        });
    }
}
