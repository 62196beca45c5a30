//! Create, follow, end, delete; and a daemon that dies meanwhile.

use serde_json::json;

use crate::harness::{Host, shell_image};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_boots_logs_and_is_deleted_without_a_trace() {
    let host = Host::start().unwrap();
    let image = host.import(shell_image()).await.unwrap();
    assert_eq!(image, "img-shell");
    let script = "trap 'echo stopping; exit 0' TERM; echo first line; while :; do sleep 1 & wait; done";
    let instance = host.script("web", &image, script).await.unwrap();
    assert_eq!(instance["state"], "Running");
    host.line("web", "first line").await.unwrap();
    let ready = host.until("web", "ready", |instance| instance["ready"] == true).await.unwrap();
    assert_eq!(ready["last_error"], serde_json::Value::Null);
    let in_use = host.client.delete("/images/img-shell").await.unwrap();
    assert_eq!((in_use.status, in_use.code().as_str()), (409, "image_in_use"));
    host.delete("web", 30).await.unwrap();
    assert!(!host.daemon.log().contains("did not end within its grace"), "the guest was asked and ended by itself");
    assert_eq!(host.client.delete("/instances/web").await.unwrap().code(), "instance_not_found");
    assert_eq!(host.client.delete("/images/img-shell").await.unwrap().status, 204);
    host.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ends_leaves_its_exit_code_and_a_shut_down_vm() {
    let host = Host::start().unwrap();
    let image = host.import(shell_image()).await.unwrap();
    host.script("seven", &image, "echo leaving; exit 7").await.unwrap();
    let ended = host.until("seven", "Shutdown", |instance| instance["state"] == "Shutdown").await.unwrap();
    assert_eq!(ended["exit_code"], 7);
    assert_eq!(ended["ready"], false);
    // A program that cannot be started is told by its reason.
    let body =
        json!({ "id": "lost", "image": image, "memory_mb": 256, "vcpus": 1, "disk_gb": 1, "entrypoint": ["/no/such"] });
    host.create(body).await.unwrap();
    let lost = host.until("lost", "Shutdown", |instance| instance["state"] == "Shutdown").await.unwrap();
    assert_eq!(lost["exit_code"], 127);
    assert_eq!(lost["last_error"]["code"], "program_not_started");
    for id in ["seven", "lost"] {
        host.delete(id, 0).await.unwrap();
    }
    host.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_finds_its_vm_running_and_its_log_unbroken() {
    let mut host = Host::start().unwrap();
    let image = host.import(shell_image()).await.unwrap();
    let script = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.2; done";
    host.script("count", &image, script).await.unwrap();
    let (_, event) = host.line_after("count", "line 3", None).await.unwrap();
    let before = host.daemon.processes();
    assert_eq!(before.len(), 1, "one VMM");
    host.daemon.kill().unwrap();
    assert_eq!(host.daemon.processes(), before, "the VMM does not notice");
    host.daemon.launch().unwrap();
    let instance = host.get("count").await.unwrap();
    assert_eq!(instance["state"], "Running");
    assert_eq!(host.daemon.processes(), before);
    // The log goes on behind the event where the first reader stopped, without a gap.
    let (line, _) = host.line_after("count", "line", Some(&event)).await.unwrap();
    assert_eq!(line, "line 4");
    host.until("count", "ready", |instance| instance["ready"] == true).await.unwrap();
    // An orderly stop leaves the VM running as well.
    host.daemon.stop().unwrap();
    assert_eq!(host.daemon.processes(), before);
    host.daemon.launch().unwrap();
    host.delete("count", 1).await.unwrap();
    host.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_vmm_is_seen_and_its_siblings_do_not_notice() {
    let host = Host::start().unwrap();
    let image = host.import(shell_image()).await.unwrap();
    host.script("one", &image, "echo up; sleep 1000").await.unwrap();
    host.line("one", "up").await.unwrap();
    let [victim] = host.daemon.processes()[..] else { panic!("one VMM") };
    host.script("two", &image, "echo up; sleep 1000").await.unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(victim.cast_signed()), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    let one = host.until("one", "Stopped", |instance| instance["state"] == "Stopped").await.unwrap();
    assert_eq!(one["last_error"]["code"], "vmm_exited");
    assert_eq!(host.get("two").await.unwrap()["state"], "Running");
    for id in ["one", "two"] {
        host.delete(id, 0).await.unwrap();
    }
    host.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_reboots_comes_back_from_its_record() {
    let host = Host::start().unwrap();
    let image = host.import(shell_image()).await.unwrap();
    let script = "if [ -e /booted ]; then echo second life; sleep 1000; fi; echo first life; : > /booted; /bin/busybox sync; echo b > /proc/sysrq-trigger";
    host.script("again", &image, script).await.unwrap();
    host.line("again", "first life").await.unwrap();
    host.line("again", "second life").await.unwrap();
    let instance = host.until("again", "ready", |instance| instance["ready"] == true).await.unwrap();
    assert_eq!(instance["state"], "Running");
    host.delete("again", 0).await.unwrap();
    host.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_instance_starts_with_its_disk_and_a_paused_one_goes_on() {
    let host = Host::start().unwrap();
    let image = host.import(shell_image()).await.unwrap();
    // Recorded before it is said: what is heard may end it at once.
    let script = "trap 'echo stopping; exit 0' TERM; lives=$(cat /lives 2>/dev/null | /bin/busybox wc -l); \
        echo x >> /lives; echo life $lives; n=0; while :; do n=$((n+1)); echo beat $n; sleep 0.2 & wait; done";
    host.script("one", &image, script).await.unwrap();
    host.line("one", "life 0").await.unwrap();
    let act = async |action: &str| {
        let request = hyper::Request::post(format!("/instances/one/{action}")).header("host", "localhost");
        let answer = host.client.call(request.body(http_body_util::Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status, 200, "{action}: {:?}", answer.body);
        answer.json()
    };
    assert_eq!(act("pause").await["state"], "Paused");
    assert_eq!(act("resume").await["state"], "Running");
    let (_, event) = host.line_after("one", "beat", None).await.unwrap();
    host.line_after("one", "beat", Some(&event)).await.unwrap();
    let stopped = act("stop").await;
    assert_eq!((&stopped["state"], &stopped["exit_code"]), (&json!("Stopped"), &json!(0)));
    host.line("one", "stopping").await.unwrap();
    assert_eq!(host.daemon.processes(), Vec::<u32>::new());
    assert_eq!(act("start").await["state"], "Running");
    host.line("one", "life 1").await.unwrap();
    assert_eq!(act("reboot").await["state"], "Running");
    host.line("one", "life 2").await.unwrap();
    host.delete("one", 1).await.unwrap();
    host.assert_clean();
}
