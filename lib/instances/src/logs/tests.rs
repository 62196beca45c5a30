//! Logs as a follower sees them.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use dataplane_store::Layout;
use rustix::fs::FallocateFlags;

use super::*;

struct Log {
    _directory: tempfile::TempDir,
    paths: InstancePaths,
    path: PathBuf,
    logs: Logs,
}

impl Log {
    fn new(content: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path().to_owned(), "/run/d".into()).unwrap();
        let paths = layout.instance(&"a".parse().unwrap());
        let path = paths.serial_log();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(&path).unwrap().write_all(content).unwrap();
        Self { _directory: directory, paths, path, logs: Logs::default() }
    }

    fn append(&self, bytes: &[u8]) {
        File::options().append(true).open(&self.path).unwrap().write_all(bytes).unwrap();
    }

    fn free(&self, to: u64) {
        let file = File::options().write(true).open(&self.path).unwrap();
        rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, to).unwrap();
    }

    fn reader(&self) -> LogReader {
        self.logs.reader(Uuid::nil(), LogSource::App, &self.paths)
    }
}

fn show(item: &LogItem) -> Vec<String> {
    match item {
        LogItem::Gap { from, to } => vec![format!("gap {from}-{to}")],
        LogItem::Chunk(chunk) => {
            let line = |piece: LogPiece<'_>| {
                let more = if piece.partial { "…" } else { "" };
                format!("{}{more}@{}", String::from_utf8_lossy(piece.bytes), piece.end)
            };
            chunk.pieces().map(line).collect()
        }
    }
}

async fn all(reader: &mut LogReader) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(item) = reader.next(false).await.unwrap() {
        lines.extend(show(&item));
    }
    lines
}

#[tokio::test]
async fn lines_carry_the_offset_behind_them() {
    let log = Log::new(b"one\r\n\ntwo");
    assert_eq!(all(&mut log.reader()).await, ["one@5", "@6", "two…@9"]);
    let mut reader = log.reader();
    reader.seek(5);
    assert_eq!(all(&mut reader).await, ["@6", "two…@9"]);
}

#[tokio::test]
async fn the_tail_counts_lines_from_the_end() {
    let log = Log::new(b"a\nb\nc\n");
    for (lines, expected) in [(0, vec![]), (1, vec!["c@6"]), (2, vec!["b@4", "c@6"]), (9, vec!["a@2", "b@4", "c@6"])] {
        let mut reader = log.reader();
        reader.seek_tail(lines).await.unwrap();
        assert_eq!(all(&mut reader).await, expected, "{lines}");
    }
    log.append(b"unfinished");
    let mut reader = log.reader();
    reader.seek_tail(1).await.unwrap();
    assert_eq!(all(&mut reader).await, ["unfinished…@16"]);
}

#[tokio::test]
async fn a_line_of_any_length_comes_in_pieces_that_add_up() {
    // Three bytes a character: no piece ends on a multiple.
    let long = "€".repeat(MAX_PIECE_BYTES);
    let log = Log::new(long.as_bytes());
    log.append(b"\nnext\n");
    let mut reader = log.reader();
    let (mut whole, mut ends) = (Vec::new(), Vec::new());
    while let Some(LogItem::Chunk(chunk)) = reader.next(false).await.unwrap() {
        for piece in chunk.pieces() {
            assert!(piece.bytes.len() <= MAX_PIECE_BYTES && std::str::from_utf8(piece.bytes).is_ok());
            whole.extend_from_slice(piece.bytes);
            ends.push(piece.end);
        }
    }
    assert_eq!(whole, [long.as_bytes(), b"next"].concat());
    // Whoever comes back with one of these offsets gets the others.
    for (index, end) in ends.iter().enumerate() {
        let mut reader = log.reader();
        reader.seek(*end);
        let mut again = Vec::new();
        while let Some(LogItem::Chunk(chunk)) = reader.next(false).await.unwrap() {
            again.extend(chunk.pieces().map(|piece| piece.end));
        }
        assert_eq!(again, ends[index + 1..]);
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_cut_anywhere() {
    for byte in [0x80, 0xff, 0xe2, 0x00] {
        let log = Log::new(&vec![byte; MAX_PIECE_BYTES + 9]);
        let mut reader = log.reader();
        let mut length = 0;
        while let Some(LogItem::Chunk(chunk)) = reader.next(false).await.unwrap() {
            length += chunk.pieces().map(|piece| piece.bytes.len()).sum::<usize>();
        }
        assert_eq!(length, MAX_PIECE_BYTES + 9);
    }
}

#[tokio::test]
async fn a_follower_hears_of_growth_and_never_of_half_a_line() {
    let log = Log::new(b"");
    let mut reader = log.reader();
    let (item, ()) = tokio::join!(reader.next(true), async {
        log.append(b"hal");
        tokio::task::yield_now().await;
        log.append(b"f\n");
    });
    assert_eq!(show(&item.unwrap().unwrap()), ["half@5"]);
}

#[tokio::test]
async fn what_is_gone_is_a_gap_up_to_the_next_line() {
    let line = [vec![b'x'; 4999], vec![b'\n']].concat();
    let log = Log::new(&line.repeat(10));
    log.free(8192);
    let mut reader = log.reader();
    let item = reader.next(false).await.unwrap().unwrap();
    assert_eq!(show(&item), ["gap 0-10000"]);
    let item = reader.next(false).await.unwrap().unwrap();
    assert!(show(&item)[0].ends_with("x@15000"));
    reader.seek(8193);
    assert!(matches!(reader.next(false).await.unwrap(), Some(LogItem::Chunk(_))), "what is there is not gone");
    let mut reader = log.reader();
    reader.seek_tail(100).await.unwrap();
    assert!(
        show(&reader.next(false).await.unwrap().unwrap())[0].ends_with("x@15000"),
        "a tail begins with what is kept"
    );
    reader.seek(50_001);
    assert_eq!(all(&mut reader).await, ["gap 50001-50000"]);
}

/// Waits until so many readers wait at the end of a log: nothing tells when they begin to.
async fn followed_by(shared: &Shared, count: usize) {
    while shared.feed.lock().unwrap().upgrade().map_or(0, |feed| feed.followers()) < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_share_a_reader_and_a_slow_one_finds_all_that_is_kept() {
    let log = Log::new(b"first\n");
    let mut readers: Vec<_> = (0..50).map(|_| log.reader()).collect();
    let mut slow = log.reader();
    for reader in &mut readers {
        assert_eq!(show(&reader.next(true).await.unwrap().unwrap()), ["first@6"]);
    }
    // They wait at the end, hence share a feed.
    let waiting = readers.into_iter().map(|mut reader| {
        tokio::spawn(async move {
            let mut at = 6;
            while at < 6 + 400 * 10_000 {
                let LogItem::Chunk(chunk) = reader.next(true).await.unwrap().unwrap() else { panic!("a gap") };
                assert_eq!(chunk.start(), at);
                at = chunk.end();
            }
            (reader.is_fed(), reader)
        })
    });
    let waiting: Vec<_> = waiting.collect();
    followed_by(&slow.shared, 50).await;
    for number in 0..400 {
        log.append(&format!("{number:09}\n").repeat(1000).into_bytes());
        tokio::task::yield_now().await;
    }
    for task in waiting {
        let (is_fed, reader) = tokio::time::timeout(Duration::from_secs(60), task).await.unwrap().unwrap();
        assert!(is_fed, "it read the file by itself only");
        assert!(Arc::ptr_eq(&reader.shared, &slow.shared), "there is one file for all");
    }
    // More than is kept for followers: it reads by itself, and misses nothing.
    slow.seek(6);
    let mut at = 6;
    while at < 6 + 400 * 10_000 {
        let LogItem::Chunk(chunk) = slow.next(true).await.unwrap().unwrap() else { panic!("a gap") };
        assert_eq!(chunk.start(), at);
        at = chunk.end();
    }
}

#[tokio::test]
async fn a_follower_in_an_unfinished_line_does_not_disturb_another() {
    let log = Log::new(b"unfinished");
    let (mut middle, mut begin) = (log.reader(), log.reader());
    middle.seek(3);
    let shared = Arc::clone(&begin.shared);
    let finish = async {
        // Both are waiting, the feed begins in the middle of the line.
        followed_by(&shared, 2).await;
        log.append(b" line\n");
    };
    let (middle, begin, ()) = tokio::join!(middle.next(true), begin.next(true), finish);
    assert_eq!(show(&middle.unwrap().unwrap()), ["inished line@16"]);
    assert_eq!(show(&begin.unwrap().unwrap()), ["unfinished line@16"]);
}

#[tokio::test]
async fn a_log_that_is_not_there_yet_can_be_followed() {
    let log = Log::new(b"");
    let mut reader = log.logs.reader(Uuid::nil(), LogSource::Vmm, &log.paths);
    let (item, ()) = tokio::join!(reader.next(true), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        File::options().append(true).create(true).open(log.paths.vmm_log()).unwrap().write_all(b"hello\n").unwrap();
    });
    assert_eq!(show(&item.unwrap().unwrap()), ["hello@6"]);
}
