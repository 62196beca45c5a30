//! What host and guest say to each other: the configuration disk that the guest's init reads at boot, and the protocol
//! of the agent channel (vsock with Cloud Hypervisor, a virtio-serial port with QEMU).
//!
//! Invariant: nothing that a guest sends can make the host allocate more than [`MAX_PAYLOAD`] bytes, panic, or name a
//! path. The codec does no I/O; [`host`] (feature `host`) drives it over a stream. This crate knows no VMM and no disk.

mod config;
mod frame;
#[cfg(feature = "host")]
pub mod host;
mod message;
mod stream;

pub use config::{ConfigDiskError, GuestConfig, GuestNetwork, MAX_CONFIG_BYTES};
pub use frame::{Decoder, FrameError, MAX_PAYLOAD, encode};
pub use message::{
    ASK_VERSION, Answer, Ask, ExitStatus, GuestMessage, GuestUsage, HostMessage, MAX_COMMAND_TEXT, MAX_PROCESSES,
    PROTOCOL_VERSION, ProcessEnd, ProcessInfo,
};
pub use stream::{
    Channel, Exec, FailureKind, Files, GUEST_WINDOW, MAX_DATA, MAX_STREAMS, MAX_WINDOW, Open, STREAM_VERSION,
    StreamEnd, StreamOrder, TtySize, files_code,
};

/// The vsock port on which the guest's init listens. Below 1024, so that in the guest only root can bind it, and held
/// by PID 1 from before the image's program starts until the guest is gone: no program can speak in its place.
pub const AGENT_VSOCK_PORT: u32 = 1;

/// The name of the virtio-serial port that the guest's init opens; it can be opened once, and PID 1 holds it.
pub const AGENT_PORT_NAME: &str = "org.dataplane.agent.0";

/// Serial of the read-only disk made from the image.
pub const IMAGE_DISK_SERIAL: &str = "image";
/// Serial of the instance's writable layer.
pub const WRITABLE_DISK_SERIAL: &str = "writable";
/// Serial of the read-only configuration disk.
pub const CONFIG_DISK_SERIAL: &str = "config";
