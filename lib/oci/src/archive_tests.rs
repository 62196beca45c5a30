use super::*;
use crate::test_support::{Layer, archive, documents, gzip, listing, scratch};

fn layers() -> Vec<Vec<u8>> {
    vec![
        Layer::default().dir("etc").file("etc/name", b"lower").finish(),
        Layer::default().finish(),
        Layer::default().file("etc/name", b"upper!").finish(),
        Layer::default().finish(),
    ]
}

fn blob_name(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", digest_of(bytes).hex())
}

fn descriptor(bytes: &[u8], name: Option<&str>, platform: Option<&str>) -> serde_json::Value {
    let mut value = serde_json::json!({"digest": digest_of(bytes), "size": bytes.len()});
    if let Some(name) = name {
        value["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": name });
    }
    if let Some(architecture) = platform {
        value["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
    }
    value
}

fn index(entries: &[serde_json::Value]) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": entries})).unwrap()
}

/// An OCI layout with the given index and blobs.
fn layout(index: &[u8], blobs: &[&[u8]]) -> Vec<u8> {
    let names: Vec<String> = blobs.iter().map(|blob| blob_name(blob)).collect();
    let mut members: Vec<(&str, &[u8])> = vec![("oci-layout", b"{}"), ("./index.json", index)];
    members.extend(names.iter().zip(blobs).map(|(name, blob)| (&name[..], *blob)));
    archive(&members)
}

fn image_layout() -> (Vec<u8>, Digest) {
    let layers = layers();
    let (config, manifest) = documents(&layers);
    let mut blobs: Vec<&[u8]> = vec![&config, &manifest];
    blobs.extend(layers.iter().map(Vec::as_slice));
    (layout(&index(&[descriptor(&manifest, Some("web:1"), None)]), &blobs), digest_of(&manifest))
}

fn select(bytes: &[u8], name: Option<&str>) -> Result<(ArchiveImage, Vec<String>), ContentError> {
    let directory = tempfile::tempdir().unwrap();
    let scratch = scratch(directory.path());
    let limits = Limits::default();
    let archive = Archive::spool(bytes, &limits, &scratch)?;
    let name = name.map(|name| name.parse().unwrap());
    let found = archive.select(name.as_ref(), &Platform::default())?;
    let merged = found.image.merge(&limits, &scratch)?;
    let lines = listing(merged.tree());
    Ok((found, lines))
}

#[test]
fn a_layout_is_read_plain_and_compressed() {
    let (plain, digest) = image_layout();
    for bytes in [plain.clone(), gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap()] {
        let (found, lines) = select(&bytes, None).unwrap();
        assert_eq!((found.image.digest, found.image.top), (digest, digest));
        assert_eq!(found.name.as_deref(), Some("web:1"));
        assert_eq!(found.image.config.config.cmd, ["/bin/true"]);
        assert_eq!(lines, ["etc dir", "etc/name file 6"]);
    }
}

#[test]
fn docker_save_is_read_and_its_digest_is_stable() {
    let layers = layers();
    let (config, _) = documents(&layers);
    let saved = br#"[{"Config":"c.json","RepoTags":["web:2"],"Layers":["a/layer.tar","b/layer.tar","c/layer.tar","d/layer.tar"]}]"#;
    let bytes = Layer::default()
        .dir("a")
        .file("a/VERSION", b"1.0")
        .file("a/layer.tar", &layers[0])
        .file("b/layer.tar", &layers[1])
        .file("c/layer.tar", &layers[2])
        .symlink("d/layer.tar", "../b/layer.tar")
        .file("c.json", &config)
        .file("manifest.json", saved)
        .finish();
    let (found, lines) = select(&bytes, None).unwrap();
    assert_eq!(found.name.as_deref(), Some("web:2"));
    assert_eq!(lines, ["etc dir", "etc/name file 6"]);
    assert_eq!(select(&gzip(&bytes), None).unwrap().0.image.digest, found.image.digest);
}

/// Some writers repeat a layer's file rather than link to it; the first of the two was then said to be missing.
#[test]
fn two_files_that_hold_the_same_are_both_found() {
    let layers = layers();
    let (config, _) = documents(&layers);
    let saved = br#"[{"Config":"c.json","RepoTags":["web:2"],"Layers":["a.tar","b.tar","c.tar","d.tar"]}]"#;
    let bytes = archive(&[
        ("a.tar", &layers[0]),
        ("b.tar", &layers[1]),
        ("c.tar", &layers[2]),
        ("d.tar", &layers[3]),
        ("c.json", &config),
        ("manifest.json", saved),
    ]);
    assert_eq!(layers[1], layers[3]);
    assert_eq!(select(&bytes, None).unwrap().1, ["etc dir", "etc/name file 6"]);
}

#[test]
fn the_platform_or_the_name_chooses_among_several() {
    let layers = layers();
    let (config, manifest) = documents(&layers);
    let mut other = manifest.clone();
    other.push(b' ');
    let mut blobs: Vec<&[u8]> = vec![&config, &manifest, &other];
    blobs.extend(layers.iter().map(Vec::as_slice));
    let by_platform = index(&[descriptor(&other, None, Some("arm64")), descriptor(&manifest, None, Some("amd64"))]);
    let nested = index(&[descriptor(&by_platform, Some("x"), None)]);
    let with_nested: Vec<&[u8]> = blobs.iter().copied().chain([&by_platform[..]]).collect();
    let (found, _) = select(&layout(&by_platform, &blobs), None).unwrap();
    assert_eq!(found.image.digest, digest_of(&manifest));
    let (found, _) = select(&layout(&nested, &with_nested), None).unwrap();
    assert_eq!((found.image.digest, found.image.top), (digest_of(&manifest), digest_of(&by_platform)));
    let named = index(&[descriptor(&manifest, Some("a:1"), None), descriptor(&other, Some("b:2"), None)]);
    let bytes = layout(&named, &blobs);
    assert_eq!(select(&bytes, Some("b:2")).unwrap().0.image.digest, digest_of(&other));
    let error = select(&bytes, None).unwrap_err().to_string();
    assert!(error.contains("several images (a:1, b:2)"), "{error}");
}

#[test]
fn archives_that_lie_or_lack_are_refused() {
    let (plain, _) = image_layout();
    let layers = layers();
    let (config, manifest) = documents(&layers);
    let top = index(&[descriptor(&manifest, None, None)]);
    let blobs: Vec<&[u8]> = vec![&config, &manifest];
    let error = select(&layout(&top, &blobs), None).unwrap_err();
    assert!(matches!(error, ContentError::Missing(_)), "no layers: {error}");
    let error = select(&archive(&[("hello", b"world")]), None).unwrap_err();
    assert!(matches!(error, ContentError::NotAnImage { .. }), "{error}");
    let error = select(&archive(&[(&blob_name(b"a"), b"b")]), None).unwrap_err();
    assert!(matches!(error, ContentError::Digest { .. }), "{error}");
    let mut wrong_size = descriptor(&manifest, None, None);
    wrong_size["size"] = 1.into();
    let error = select(&layout(&index(&[wrong_size]), &blobs), None).unwrap_err();
    assert!(matches!(error, ContentError::Size { .. }), "{error}");
    let error = select(&layout(b"[", &[]), None).unwrap_err();
    assert!(matches!(error, ContentError::Corrupt { .. }), "{error}");
    for cut in [gzip(&plain)[..600].to_vec(), plain[..plain.len() / 2 + 100].to_vec(), b"garbage".to_vec()] {
        let error = select(&cut, None).unwrap_err();
        assert!(matches!(error, ContentError::Corrupt { .. } | ContentError::Missing(_)), "{error}");
    }
    assert!(select(b"", None).is_err());
}

#[test]
fn a_sender_that_breaks_off_is_told_from_a_bad_archive() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let (plain, _) = image_layout();
    for start in [&b""[..], &plain[..3000]] {
        let scratch = scratch(&directory.path().join(start.len().to_string()));
        std::fs::create_dir(&scratch.directory).unwrap();
        let result = Archive::spool(start.chain(Broken), &Limits::default(), &scratch);
        assert!(matches!(result, Err(ContentError::Input(_))), "{result:?}");
    }
}
