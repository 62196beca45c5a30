//! Who the guest is: host name, `/etc/hosts`, `/etc/resolv.conf`, `/etc/machine-id`, and the kernel settings that every
//! container has.
//!
//! Works inside the image's root. A link that leads to a file is followed; whatever is no file is replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use dataplane_agent::{GuestConfig, GuestNetwork};
use nix::unistd::sethostname;

use crate::error::{During as _, InitError};

/// Any user may listen on any port and send echo requests, as in container runtimes.
const SETTINGS: &[(&str, &str)] =
    &[("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"), ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")];

pub(crate) fn apply(config: &GuestConfig) -> Result<(), InitError> {
    sethostname(&config.hostname).during("set the host name", &config.hostname)?;
    for (path, value) in SETTINGS {
        match OpenOptions::new().write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => file.and_then(|mut file| file.write_all(value.as_bytes())).during("write", path)?,
        }
    }
    write_files(Path::new("/"), config)
}

fn write_files(root: &Path, config: &GuestConfig) -> Result<(), InitError> {
    let etc = root.join("etc");
    let had_etc = etc.is_dir();
    if !had_etc {
        fs::create_dir(&etc).during("make", etc.display())?;
    }
    put(&etc.join("hostname"), &format!("{}\n", config.hostname), 0o644)?;
    put(&etc.join("hosts"), &hosts(config), 0o644)?;
    if let Some(network) = &config.network {
        put(&etc.join("resolv.conf"), &resolv_conf(network), 0o644)?;
    }
    let machine_id = etc.join("machine-id");
    if had_etc && lacks_machine_id(&machine_id) {
        put(&machine_id, &random_id()?, 0o444)?;
    }
    Ok(())
}

fn hosts(config: &GuestConfig) -> String {
    let address = config.network.as_ref().map_or(Ipv4Addr::new(127, 0, 1, 1), |network| network.address);
    let names = match config.fqdn.as_deref().filter(|fqdn| !fqdn.is_empty() && *fqdn != config.hostname) {
        Some(fqdn) => format!("{fqdn} {}", config.hostname),
        None => config.hostname.clone(),
    };
    format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n{address}\t{names}\n"
    )
}

fn resolv_conf(network: &GuestNetwork) -> String {
    let search = network.search.iter().map(|domain| format!("search {domain}\n"));
    search.chain(network.nameservers.iter().map(|server| format!("nameserver {server}\n"))).collect()
}

/// Empty, missing, or what an image builder writes for "make one at boot".
fn lacks_machine_id(path: &Path) -> bool {
    let mut content = String::new();
    let read = File::open(path).and_then(|file| file.take(64).read_to_string(&mut content));
    match read {
        Ok(_) => matches!(content.trim(), "" | "uninitialized"),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Two guests of one image must differ: this waits for the kernel's random pool, `/dev/urandom` would not.
fn random_id() -> Result<String, InitError> {
    let mut bytes = [0; 16];
    File::open("/dev/random").and_then(|mut random| random.read_exact(&mut bytes)).during("read", "/dev/random")?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(digits + "\n")
}

/// Writes a file, through a link when it leads to a file; anything else at that place makes room.
fn put(path: &Path, content: &str, mode: u32) -> Result<(), InitError> {
    let is_file = fs::metadata(path).is_ok_and(|target| target.is_file());
    if !is_file && fs::symlink_metadata(path).is_ok() {
        fs::remove_file(path).during("replace", path.display())?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let file = options.open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes())).during("write", path.display())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests lay out a directory, no record")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn config() -> GuestConfig {
        GuestConfig {
            instance_id: "web".into(),
            hostname: "web".into(),
            fqdn: Some("web.dataplane.internal".into()),
            image_filesystem: "ext4".into(),
            argv: vec!["/app".into()],
            env: Vec::new(),
            working_dir: "/".into(),
            user: String::new(),
            stop_signal: "SIGTERM".into(),
            network: Some(GuestNetwork {
                mac: "52:54:00:00:00:01".into(),
                address: Ipv4Addr::new(192, 168, 100, 7),
                prefix_len: 24,
                gateway: Ipv4Addr::new(192, 168, 100, 1),
                nameservers: vec![Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(9, 9, 9, 9)],
                search: Some("dataplane.internal".into()),
            }),
        }
    }

    fn read(root: &Path, name: &str) -> String {
        fs::read_to_string(root.join("etc").join(name)).unwrap()
    }

    #[test]
    fn an_image_without_etc_gets_what_the_resolver_needs() {
        let root = tempfile::tempdir().unwrap();
        write_files(root.path(), &config()).unwrap();
        assert!(read(root.path(), "hosts").ends_with("192.168.100.7\tweb.dataplane.internal web\n"));
        assert_eq!(
            read(root.path(), "resolv.conf"),
            "search dataplane.internal\nnameserver 1.1.1.1\nnameserver 9.9.9.9\n"
        );
        assert_eq!(read(root.path(), "hostname"), "web\n");
        assert!(!root.path().join("etc/machine-id").exists());
    }

    #[test]
    fn links_that_lead_nowhere_are_replaced_and_others_followed() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        fs::create_dir(&etc).unwrap();
        symlink(root.path().join("run/none/resolv.conf"), etc.join("resolv.conf")).unwrap();
        fs::write(etc.join("real-hosts"), "old").unwrap();
        symlink("real-hosts", etc.join("hosts")).unwrap();
        nix::unistd::mkfifo(&etc.join("hostname"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(etc.join("machine-id"), "").unwrap();
        write_files(root.path(), &config()).unwrap();
        assert!(fs::symlink_metadata(etc.join("resolv.conf")).unwrap().is_file());
        assert!(fs::symlink_metadata(etc.join("hosts")).unwrap().is_symlink());
        assert!(read(root.path(), "real-hosts").contains("localhost"));
        assert_eq!(read(root.path(), "hostname"), "web\n");
        let id = read(root.path(), "machine-id");
        assert!(id.len() == 33 && id.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");

        write_files(root.path(), &config()).unwrap();
        assert_eq!(read(root.path(), "machine-id"), id);
    }

    #[test]
    fn without_a_network_the_images_resolver_stays() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/resolv.conf"), "nameserver 10.0.0.1\n").unwrap();
        write_files(root.path(), &GuestConfig { network: None, fqdn: None, ..config() }).unwrap();
        assert_eq!(read(root.path(), "resolv.conf"), "nameserver 10.0.0.1\n");
        assert!(read(root.path(), "hosts").ends_with("127.0.1.1\tweb\n"));
    }
}
