//! The manager against real archives and a real registry (Debian: docker-registry, skopeo, python3), in directories
//! of its own.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use dataplane_images::{
    Created, Credentials, FailureCode, ImageOptions, ImageStatus, Images, ImagesError, ImportRequest, Limits,
    PullRequest,
};
use dataplane_testkit::registry::{Compression, Layout, Login, Registry};
use dataplane_types::Digest;
use serde_json::json;
use support::{LayerTar, Place};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

fn layout(text: &str) -> Layout {
    let lower = LayerTar::default().dir("etc").file("etc/name", 0, text.as_bytes()).finish();
    let upper = LayerTar::default().file("etc/more", 0, b"more").finish();
    let config = json!({"Cmd": ["/bin/app"], "Env": ["A=b"], "User": "7:8", "ExposedPorts": {"80/tcp": {}}});
    Layout::new(&[(lower, Compression::Gzip), (upper, Compression::Plain)], &config).expect("write a layout")
}

fn named(name: &str) -> ImportRequest {
    ImportRequest { name: Some(name.to_owned()), ..ImportRequest::default() }
}

fn pull(name: &str) -> PullRequest {
    PullRequest { name: name.to_owned(), id: None, platform: None, credentials: None, labels: Default::default() }
}

async fn import(images: &Images, request: ImportRequest, layout: &Layout) -> Result<Created, ImagesError> {
    let archive = layout.archive().expect("read the layout");
    images.import(request, &archive[..]).await
}

async fn pulled(images: &Images, request: PullRequest) -> Result<Created, ImagesError> {
    let created = images.create(request).await?;
    Ok(Created { image: images.wait(&created.image.id).await?, ..created })
}

fn nobody(_: &Digest) -> Option<String> {
    None
}

#[tokio::test]
async fn an_archive_becomes_a_ready_image_with_one_disk() {
    let place = Place::new();
    let images = place.open().await;
    let Created { image, existed } = import(&images, named("demo:1"), &layout("one")).await.unwrap();
    assert!(!existed);
    assert_eq!(
        (image.id.as_str(), image.status, image.version.as_deref()),
        ("img-demo", ImageStatus::Ready, Some("1"))
    );
    assert_eq!(
        (image.cmd, image.user, image.exposed_ports),
        (vec!["/bin/app".to_owned()], "7:8".to_owned(), vec!["80/tcp".to_owned()])
    );
    let lease = images.lease("img-demo").unwrap();
    support::fsck(lease.disk());
    assert_eq!(support::debugfs(lease.disk(), "cat /etc/name"), "one");
    let mode = lease.disk().metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o440, "nobody writes an image's disk");
    assert_eq!(lease.disk().metadata().unwrap().len(), image.virtual_size_bytes);
    assert!(image.size_bytes < image.virtual_size_bytes && image.size_bytes > 0);
    assert_eq!(place.files("work"), [""; 0], "the scratch space is empty again");
    assert_eq!(place.mode("records/img-demo.json"), 0o600);
}

#[tokio::test]
async fn repeating_an_import_answers_what_is_there() {
    let place = Place::new();
    let images = place.open().await;
    let layout = layout("one");
    let first = import(&images, named("demo:1"), &layout).await.unwrap();
    let second = import(&images, named("docker.io/library/demo:1"), &layout).await.unwrap();
    assert!(second.existed && second.image.id == first.image.id);
    let explicit = ImportRequest { id: Some("mine".parse().unwrap()), ..named("other:1") };
    let third = import(&images, explicit.clone(), &layout).await.unwrap();
    assert_eq!(third.image.digest, first.image.digest);
    assert_eq!(place.files("disks").len(), 1, "one digest, one disk");
    let error = import(&images, explicit, &self::layout("two")).await.unwrap_err();
    assert!(matches!(error, ImagesError::Conflict { .. }), "{error}");
    let error = import(&images, ImportRequest { id: Some("mine".parse().unwrap()), ..named("x:1") }, &layout).await;
    assert!(matches!(error.unwrap_err(), ImagesError::Conflict { .. }));
    place.until_empty("work").await;
}

#[tokio::test]
async fn ids_that_are_taken_get_digits_of_the_digest() {
    let place = Place::new();
    let images = place.open().await;
    import(&images, named("demo:1"), &layout("one")).await.unwrap();
    let other = import(&images, named("team/demo:1"), &layout("two")).await.unwrap().image;
    let digest = other.digest.unwrap();
    assert_eq!(other.id.as_str(), format!("img-demo-{}", &digest.hex()[..8]));
    let nameless = import(&images, ImportRequest::default(), &layout("three")).await.unwrap().image;
    assert_eq!(nameless.id.as_str(), "img-imported");
    assert!(nameless.name.starts_with("localhost/imported:"), "{}", nameless.name);
}

#[tokio::test]
async fn leases_are_by_id_name_and_digest_and_hold_deletion_off() {
    let place = Place::new();
    let images = place.open().await;
    let image = import(&images, named("demo:1"), &layout("one")).await.unwrap().image;
    let digest = image.digest.unwrap().to_string();
    for text in ["img-demo", "demo:1", "docker.io/library/demo:1", &digest, &format!("x.io/y@{digest}")] {
        assert_eq!(images.lease(text).unwrap().view().id, image.id, "{text}");
    }
    for text in ["demo", "demo:2", "img-other", "", "../etc", &format!("sha256:{}", "0".repeat(64))] {
        assert!(matches!(images.lease(text).unwrap_err(), ImagesError::NotFound(_)), "{text}");
    }
    let lease = images.lease("img-demo").unwrap();
    assert!(matches!(images.delete(&image.id, nobody).await.unwrap_err(), ImagesError::InUse { .. }));
    drop(lease);
    let error = images.delete(&image.id, |_| Some("instance web-1".to_owned())).await.unwrap_err();
    assert_eq!(error.to_string(), "image img-demo is needed by instance web-1");
    assert!(images.lease("img-demo").is_ok(), "a refused deletion changes nothing");
    images.delete(&image.id, nobody).await.unwrap();
    assert!(matches!(images.delete(&image.id, nobody).await.unwrap_err(), ImagesError::NotFound(_)));
    assert!(images.list().is_empty() && place.files("disks").is_empty() && place.files("records").is_empty());
}

#[tokio::test]
async fn a_disk_goes_with_the_last_image_of_its_digest() {
    let place = Place::new();
    let images = place.open().await;
    let layout = layout("one");
    let first = import(&images, named("a:1"), &layout).await.unwrap().image;
    let second = import(&images, named("b:1"), &layout).await.unwrap().image;
    images.delete(&first.id, |_| panic!("another image keeps the disk")).await.unwrap();
    assert_eq!(place.files("disks").len(), 1);
    images.delete(&second.id, nobody).await.unwrap();
    assert!(place.files("disks").is_empty());
}

#[tokio::test]
async fn everything_is_there_after_a_restart_and_leftovers_are_not() {
    let place = Place::new();
    let before = {
        let images = place.open().await;
        import(&images, named("demo:1"), &layout("one")).await.unwrap();
        images.list()
    };
    place.write("work/0123/half", b"x");
    place.write("disks/0123.img", b"an image that no record names");
    place.write("records/.tmp-1", b"{");
    let images = place.open().await;
    assert_eq!(images.list(), before);
    assert!(place.files("work").is_empty());
    assert_eq!((place.files("disks").len(), place.files("records").len()), (1, 1));
    let lease = images.lease("demo:1").unwrap();
    std::fs::remove_file(lease.disk()).unwrap();
    drop(lease);
    let images = place.open().await;
    assert_eq!(images.get(&before[0].id).unwrap().status, ImageStatus::Failed, "its disk is missing");
    let again = import(&images, named("demo:1"), &layout("one")).await.unwrap();
    assert!(!again.existed && again.image.status == ImageStatus::Ready && again.image.error.is_none());
}

#[tokio::test]
async fn an_unreadable_record_costs_no_disk() {
    let place = Place::new();
    {
        let images = place.open().await;
        import(&images, named("demo:1"), &layout("one")).await.unwrap();
    }
    place.write("records/img-demo.json", b"{\"version\": 99}");
    assert!(place.open().await.list().is_empty());
    assert_eq!(place.files("disks").len(), 1, "the record may name it");
}

#[tokio::test]
async fn hostile_and_broken_archives_leave_nothing() {
    let place = Place::new();
    let images = place.open().await;
    let hostile = LayerTar::default().file("../evil", 0, b"x").finish();
    let hostile = Layout::new(&[(hostile, Compression::Gzip)], &json!({})).unwrap();
    let error = import(&images, named("evil:1"), &hostile).await.unwrap_err();
    assert_eq!(support::failure_of(&error), FailureCode::ImageInvalid);
    assert!(error.to_string().contains("../evil"), "{error}");
    let image = images.get(&"img-evil".parse().unwrap()).unwrap();
    assert_eq!((image.status, image.error.unwrap().code), (ImageStatus::Failed, FailureCode::ImageInvalid));
    assert!(matches!(images.lease("img-evil").unwrap_err(), ImagesError::NotReady { .. }));
    let whole = layout("one").archive().unwrap();
    for bad in [&whole[..whole.len() / 2], b"", b"garbage"] {
        let error = images.import(named("bad:1"), bad).await.unwrap_err();
        assert_eq!(support::failure_of(&error), FailureCode::ImageInvalid, "{error}");
    }
    assert!(images.get(&"img-bad".parse().unwrap()).is_none(), "nothing was known of it");
    let bytes = LayerTar::default().pax(&[("path", b"caf\xe9")]).file("x", 0, b"").finish();
    let error =
        import(&images, named("latin:1"), &Layout::new(&[(bytes, Compression::Plain)], &json!({})).unwrap()).await;
    assert!(error.unwrap_err().to_string().contains(r"caf\\xe9"));
    assert!(place.files("work").is_empty() && place.files("disks").is_empty());
    images.delete(&"img-evil".parse().unwrap(), nobody).await.unwrap();
}

#[tokio::test]
async fn a_configuration_beyond_a_bound_makes_the_image_invalid() {
    let place = Place::new();
    let images = place.open().await;
    for config in [json!({"User": "x".repeat(513)}), json!({"WorkingDir": "srv"}), json!({"Cmd": vec![""; 4097]})] {
        let layer = LayerTar::default().file("x", 0, b"").finish();
        let layout = Layout::new(&[(layer, Compression::Plain)], &config).unwrap();
        let error = import(&images, named("big:1"), &layout).await.unwrap_err();
        assert_eq!(support::failure_of(&error), FailureCode::ImageInvalid, "{error}");
        let field = config.as_object().unwrap().keys().next().unwrap();
        assert!(error.to_string().contains(field), "{error}");
    }
    assert!(images.list().is_empty() && place.files("work").is_empty() && place.files("disks").is_empty());
}

#[tokio::test]
async fn a_sender_that_goes_away_leaves_nothing() {
    let place = Place::new();
    let images = place.open().await;
    let whole = layout("one").archive().unwrap();
    let (mut sender, receiver) = tokio::io::duplex(1 << 20);
    sender.write_all(&whole[..5000]).await.unwrap();
    // The import is dropped while it waits for more, as when a client hangs up.
    let gone = tokio::time::timeout(Duration::from_millis(50), images.import(named("x:1"), receiver)).await;
    assert!(gone.is_err());
    place.until_empty("work").await;
    assert!(images.list().is_empty());
}

#[tokio::test]
async fn a_disk_down_to_its_reserve_takes_no_image() {
    let place = Place::new();
    let options = ImageOptions { reserved_bytes: u64::MAX / 2, ..place.options() };
    let images = place.open_with(options).await;
    let error = import(&images, named("x:1"), &layout("one")).await.unwrap_err();
    assert_eq!(support::failure_of(&error), FailureCode::NoSpace, "{error}");
    assert!(place.files("work").is_empty() && images.list().is_empty());
    let registry = Registry::start(None).unwrap();
    let name = registry.push(&layout("one"), "x:1").unwrap();
    assert_eq!(support::failure_of(&pulled(&images, pull(&name)).await.unwrap_err()), FailureCode::NoSpace);
    place.until_empty("work").await;
}

#[tokio::test]
async fn a_registry_is_pulled_from_and_a_moved_tag_is_noticed() {
    let place = Place::new();
    let images = place.open().await;
    let registry = Registry::start(None).unwrap();
    let name = registry.push(&layout("one"), "team/demo:1").unwrap();
    let first = pulled(&images, pull(&name)).await.unwrap();
    assert!(!first.existed);
    assert_eq!((first.image.id.as_str(), first.image.name.as_str()), ("img-demo", name.as_str()));
    let again = pulled(&images, pull(&name)).await.unwrap();
    assert!(again.existed && again.image == first.image);
    let by_digest = format!("{}@{}", name.trim_end_matches(":1"), first.image.digest.unwrap());
    let pinned = pulled(&images, pull(&by_digest)).await.unwrap();
    assert_eq!((pinned.image.digest, place.files("disks").len()), (first.image.digest, 1));

    registry.push(&layout("two"), "team/demo:1").unwrap();
    let lease = images.lease("img-demo").unwrap();
    let moved = pulled(&images, pull(&name)).await.unwrap();
    assert!(!moved.existed && moved.image.id == first.image.id && moved.image.digest != first.image.digest);
    assert!(lease.disk().exists(), "what was lent stays");
    assert_eq!(place.files("disks").len(), 2);
    drop(lease);
    images.delete(&pinned.image.id, nobody).await.unwrap();
    assert_eq!(images.collect(|_| true).await.unwrap(), 0, "an instance needs it");
    assert_eq!(images.collect(|_| false).await.unwrap(), 1);
    assert_eq!(place.files("disks").len(), 1);
    assert_eq!(support::debugfs(images.lease("img-demo").unwrap().disk(), "cat /etc/name"), "two");
}

#[tokio::test]
async fn a_registry_with_a_login_wants_it() {
    let place = Place::new();
    let images = place.open().await;
    let bcrypt = "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
    let login = Login { username: "alice", password: "correct horse", bcrypt };
    let registry = Registry::start(Some(login)).unwrap();
    let name = registry.push(&layout("one"), "demo:1").unwrap();
    let basic = |password: &str| {
        Some(Credentials::Basic { username: login.username.to_owned(), password: password.to_owned() })
    };
    for credentials in [None, basic("wrong")] {
        let error = pulled(&images, PullRequest { credentials, ..pull(&name) }).await.unwrap_err();
        assert_eq!(support::failure_of(&error), FailureCode::RegistryUnauthorized, "{error}");
        assert!(!error.to_string().contains("wrong"));
    }
    assert_eq!(images.list()[0].status, ImageStatus::Failed);
    let request = PullRequest { credentials: basic(login.password), ..pull(&name) };
    let created = pulled(&images, request).await.unwrap();
    assert_eq!(
        (created.image.status, created.image.error),
        (ImageStatus::Ready, None),
        "a failed image is tried again"
    );
    let record = place.read("records/img-demo.json");
    assert!(!record.contains(login.password) && !record.contains(login.username), "credentials are forgotten");
}

#[tokio::test]
async fn what_a_registry_lacks_is_told_apart() {
    let place = Place::new();
    let images = place.open().await;
    let registry = Registry::start(None).unwrap();
    let name = registry.push(&layout("one"), "demo:1").unwrap();
    let absent = format!("{}/absent:1", registry.host());
    let error = pulled(&images, pull(&absent)).await.unwrap_err();
    assert_eq!(support::failure_of(&error), FailureCode::RegistryNotFound, "{error}");
    let other = PullRequest { platform: Some("linux/s390x".parse().unwrap()), ..pull(&name) };
    assert_eq!(support::failure_of(&pulled(&images, other).await.unwrap_err()), FailureCode::ImageUnsupported);
    drop(registry);
    let error = pulled(&images, pull(&name)).await.unwrap_err();
    assert_eq!(support::failure_of(&error), FailureCode::RegistryUnavailable, "{error}");
    assert!(matches!(images.create(pull("not a name")).await.unwrap_err(), ImagesError::Reference(_)));
}

/// A registry that answers everything alike, until it is dropped with its runtime; and its host.
async fn answering(head: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let host = listener.local_addr().expect("its address").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut lines = BufReader::new(stream).lines();
            while lines.next_line().await.is_ok_and(|line| line.is_some_and(|line| !line.is_empty())) {}
            let answer = format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            // Whether the client still listens shows in what it says.
            let _ = lines.into_inner().write_all(answer.as_bytes()).await;
        }
    });
    host
}

#[tokio::test]
async fn a_busy_registry_is_told_from_one_that_breaks_the_protocol() {
    let hour = Some(Duration::from_secs(3600));
    for (head, code, retry_after) in [
        ("429 x\r\nretry-after: 3600", FailureCode::RegistryRateLimited, hour),
        ("503 x\r\nretry-after: 3600", FailureCode::RegistryRateLimited, hour),
        ("429 x", FailureCode::RegistryRateLimited, None),
        ("503 x", FailureCode::RegistryUnavailable, None),
        ("307 x\r\nlocation: /v2/", FailureCode::ImagePullFailed, None),
        ("400 x", FailureCode::ImagePullFailed, None),
    ] {
        let place = Place::new();
        let images = place.open().await;
        let name = format!("{}/demo:1", answering(head).await);
        let Err(ImagesError::Failed(failure)) = pulled(&images, pull(&name)).await else { panic!("{head}") };
        assert_eq!((failure.code, failure.retry_after), (code, retry_after), "{head}: {}", failure.message);
        // The record keeps what the registry asked for.
        let reopened = place.open().await;
        let kept = reopened.list()[0].error.clone().unwrap();
        assert_eq!((kept.code, kept.retry_after_seconds), (code, retry_after.map(|pause| pause.as_secs())), "{head}");
    }
}

#[tokio::test]
async fn simultaneous_creates_join_and_convert_once() {
    let place = Place::new();
    let images = place.open().await;
    let registry = Registry::start(None).unwrap();
    let layout = layout("one");
    let names = [registry.push(&layout, "a:1").unwrap(), registry.push(&layout, "b:1").unwrap()];
    let tasks: Vec<_> = (0..8)
        .map(|at| {
            let (images, name) = (images.clone(), names[at % 2].clone());
            tokio::spawn(async move { pulled(&images, pull(&name)).await })
        })
        .collect();
    let mut digests = std::collections::HashSet::new();
    for task in tasks {
        digests.insert(task.await.unwrap().unwrap().image.digest);
    }
    assert_eq!((digests.len(), images.list().len(), place.files("disks").len()), (1, 2, 1));
}

#[tokio::test]
async fn deleting_ends_running_work() {
    let place = Place::new();
    let images = place.open().await;
    // A registry that accepts and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = format!("{}/slow:1", silent.local_addr().unwrap());
    let created = images.create(pull(&name)).await.unwrap();
    let (_connection, _) = silent.accept().await.unwrap();
    assert!(matches!(images.get(&created.image.id).unwrap().status, ImageStatus::Pulling));
    assert!(matches!(images.lease(&name), Err(ImagesError::NotReady { status: ImageStatus::Pulling, .. })));
    images.delete(&created.image.id, nobody).await.unwrap();
    assert!(images.list().is_empty() && place.files("records").is_empty());
    place.until_empty("work").await;
}

#[tokio::test]
async fn work_that_a_dead_daemon_began_is_failed_and_can_be_repeated() {
    let place = Place::new();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = format!("{}/slow:1", silent.local_addr().unwrap());
    {
        let images = place.open().await;
        images.create(pull(&name)).await.unwrap();
        silent.accept().await.unwrap();
    }
    // The record is as a killed daemon leaves it: asked for, nothing there.
    let images = place.open().await;
    let image = &images.list()[0];
    assert_eq!((image.status, image.error.as_ref().unwrap().code), (ImageStatus::Failed, FailureCode::Unavailable));
    assert_eq!(image.name, name);
}

#[tokio::test]
async fn limits_of_the_options_hold() {
    let place = Place::new();
    let limits = Limits { entries: 2, ..Limits::default() };
    let images = place.open_with(ImageOptions { limits, ..place.options() }).await;
    let error = import(&images, named("demo:1"), &layout("one")).await.unwrap_err();
    assert!(error.to_string().contains("the number of entries may be at most 2"), "{error}");
}
