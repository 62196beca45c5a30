//! What an image's program finds in its guest.

use serde_json::json;

use crate::harness::{Host, shell_image};

#[tokio::test(flavor = "multi_thread")]
async fn argv_environment_host_name_and_identity_are_exact() {
    let host = Host::start().unwrap();
    let image = shell_image()
        .config("Entrypoint", json!(["/bin/sh", "-c"]))
        .config("Cmd", json!(["echo image default"]))
        .config("Env", json!(["PATH=/bin", "FROM_IMAGE=1", "CHANGED=image"]))
        .config("WorkingDir", json!("/var/made"));
    let image = host.import(image).await.unwrap();
    let script = "echo \"args[$0][$1]\"; echo env[$FROM_IMAGE][$CHANGED][$OWN][$HOME]; echo cwd[$(/bin/busybox pwd)]; \
        echo name[$(hostname)]; /bin/busybox grep -c guest-name /etc/hosts; echo id[$(cat /etc/machine-id | /bin/busybox wc -c)]; \
        echo mounts; cat /proc/mounts; /bin/busybox df /; echo done; sleep 1000";
    let body = json!({
        "id": "exact", "image": image, "memory_mb": 256, "vcpus": 1, "disk_gb": 2, "hostname": "guest-name",
        "cmd": [script, "a b", "$HOME 'x'"], "env": { "CHANGED": "own", "OWN": "two words\ttab" },
    });
    let instance = host.create(body).await.unwrap();
    assert_eq!(instance["entrypoint"], json!(["/bin/sh", "-c"]));
    assert_eq!(instance["env"]["CHANGED"], "own");
    for line in
        ["args[a b][$HOME 'x']", "env[1][own][two words", "cwd[/var/made]", "name[guest-name]", "id[33]", "done"]
    {
        host.line("exact", line).await.unwrap();
    }
    let root = host.line("exact", " / overlay ").await.unwrap();
    assert!(root.contains("rw"), "{root}");
    for mount in ["proc /proc", "sysfs /sys", "/dev/pts", "/dev/shm"] {
        host.line("exact", mount).await.unwrap();
    }
    host.delete("exact", 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_images_user_runs_the_program_and_owns_its_streams() {
    let host = Host::start().unwrap();
    let passwd = b"root:x:0:0:root:/root:/bin/sh\napp:x:1234:1234:app:/home/app:/bin/sh\n";
    let image = shell_image()
        .file("etc/passwd", 0o644, passwd)
        .unwrap()
        .file("etc/group", 0o644, b"root:x:0:\napp:x:1234:\nextra:x:777:app\n")
        .unwrap()
        .config("User", json!("app"));
    let image = host.import(image).await.unwrap();
    let script = "echo who[$(id -u):$(id -g):$(id -G)] home[$HOME]; echo again > /dev/stdout; \
        (echo x > /etc/forbidden) 2>/dev/null || echo forbidden; exit 3";
    host.script("user", &image, script).await.unwrap();
    for line in ["who[1234:1234:1234 777] home[/home/app]", "again", "forbidden"] {
        host.line("user", line).await.unwrap();
    }
    let ended = host.until("user", "Shutdown", |instance| instance["state"] == "Shutdown").await.unwrap();
    assert_eq!(ended["exit_code"], 3);
    host.delete("user", 0).await.unwrap();
}

/// `USER 1234` that no passwd knows, no shell, no libc: the image is one static program.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_one_static_program_runs_as_a_bare_number() {
    let host = Host::start().unwrap();
    let program = std::fs::read("/bin/busybox").unwrap();
    let image = dataplane_testkit::image::ImageBuilder::new("scratch:1")
        .file("id", 0o755, &program)
        .unwrap()
        .config("Entrypoint", json!(["/id"]))
        .config("User", json!("1234"));
    let image = host.import(image).await.unwrap();
    let body = json!({ "id": "bare", "image": image, "memory_mb": 256, "vcpus": 1, "disk_gb": 1 });
    host.create(body).await.unwrap();
    host.line("bare", "uid=1234 gid=0").await.unwrap();
    let ended = host.until("bare", "Shutdown", |instance| instance["state"] == "Shutdown").await.unwrap();
    assert_eq!(ended["exit_code"], 0);
    host.delete("bare", 0).await.unwrap();
    host.assert_clean();
}
