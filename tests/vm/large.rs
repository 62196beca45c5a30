//! A file much larger than any memory that may be used for it goes into a guest and comes back.

use std::time::{Duration, Instant};

use bytes::Bytes;
use dataplane_testkit::http::Client;
use futures_util::stream::{iter, unfold};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::Request;
use hyper::body::Frame;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};
use tokio::sync::watch;

use crate::exec::count;
use crate::harness::{Host, shell_image};

const CHUNK: usize = 1 << 20;
/// How much more than at rest the daemon, or the agent, may hold.
const ROOM: u64 = 32 << 20;
const BLOCK: usize = 512;
const SAMPLE: Duration = Duration::from_millis(100);

/// The content's chunk of a number: no two are the same.
fn chunk(number: u64) -> Bytes {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(CHUNK / 8).flatten().collect()
}

/// The most that either held while something went on.
#[derive(Debug, Clone, Copy)]
struct Held {
    daemon: u64,
    agent: u64,
}

async fn held(host: &Host, client: &Client) -> Held {
    let stats = client.get("/instances/large/stats").await.unwrap().json();
    Held { daemon: host.daemon.rss().unwrap(), agent: stats["guest"]["agent_rss_bytes"].as_u64().unwrap_or(0) }
}

/// Looks every [`SAMPLE`] until the work is done.
async fn most_while<T>(host: &Host, work: impl Future<Output = T>) -> (T, Held) {
    let (done, watched) = watch::channel(false);
    let client = host.daemon.client();
    let look = async {
        let mut most = Held { daemon: 0, agent: 0 };
        let mut samples = tokio::time::interval(SAMPLE);
        while !*watched.borrow() {
            samples.tick().await;
            let now = held(host, &client).await;
            most = Held { daemon: most.daemon.max(now.daemon), agent: most.agent.max(now.agent) };
        }
        most
    };
    let work = async {
        let value = work.await;
        done.send_replace(true);
        value
    };
    tokio::join!(work, look)
}

/// `DATAPLANE_TEST_FILE_MIB` of them; 64 where it does not say.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_takes_no_memory_on_its_way() {
    let host = Host::start().unwrap();
    let image = host.import(shell_image()).await.unwrap();
    let chunks = count("DATAPLANE_TEST_FILE_MIB", 64);
    let program = json!(["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"]);
    let disk = chunks / 1024 + 2;
    let body = json!({ "id": "large", "image": image, "memory_mb": 256, "vcpus": 1, "disk_gb": disk, "cmd": program });
    host.create(body).await.unwrap();
    host.until("large", "ready", |instance| instance["ready"] == true).await.unwrap();
    let idle = held(&host, &host.client).await;
    assert!(idle.agent > 0, "{idle:?}");

    let mut header = Header::new_gnu();
    header.set_path("file").unwrap();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(chunks * CHUNK as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_cksum();
    let head = Bytes::copy_from_slice(header.as_bytes());
    let end = Bytes::from_static(&[0; 2 * BLOCK]);
    let body = iter([head]).chain(iter(0..chunks).map(chunk)).chain(iter([end])).map(Frame::data);
    let request = Request::put("/instances/large/files?path=/tmp").header("host", "localhost");
    let request = request.header("content-type", "application/x-tar");
    let request = request.body(StreamBody::new(body.map(Ok::<_, std::io::Error>))).unwrap();
    let begun = Instant::now();
    let (answer, into) = most_while(&host, host.client.send_body(request)).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 204, "{:?}", answer.into_body().collect().await);
    eprintln!("{chunks} MiB in: {:.1} s, idle {idle:?}, at most {into:?}", begun.elapsed().as_secs_f64());

    let begun = Instant::now();
    let ((sum, length), out) = most_while(&host, async {
        let request = Request::get("/instances/large/files?path=/tmp/file").header("host", "localhost");
        let answer = host.client.send(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        let frames = unfold(answer.into_body(), async |mut body| Some((body.frame().await?, body)));
        let (sum, length, _) = frames
            .try_fold((Sha256::new(), 0, BLOCK), async |(mut sum, length, skip), frame| {
                let data = frame.into_data().unwrap_or_default();
                let skipped = skip.min(data.len());
                // Behind the content are only zeros.
                let room = usize::try_from(chunks * CHUNK as u64 - length).unwrap();
                let content = &data[skipped..];
                sum.update(&content[..content.len().min(room)]);
                Ok((sum, length + content.len().min(room) as u64, skip - skipped))
            })
            .await
            .unwrap();
        (sum, length)
    })
    .await;
    eprintln!("{chunks} MiB out: {:.1} s, at most {out:?}", begun.elapsed().as_secs_f64());
    let expected = (0..chunks).fold(Sha256::new(), |sum, number| sum.chain_update(chunk(number)));
    assert_eq!((length, sum.finalize()), (chunks * CHUNK as u64, expected.finalize()));
    for most in [into, out] {
        assert!(most.daemon <= idle.daemon + ROOM && most.agent <= idle.agent + ROOM, "{idle:?}, then {most:?}");
    }
    host.delete("large", 0).await.unwrap();
}
