//! What every driver must do, run against one VMM that `DATAPLANE_TEST_VMM` names: `fake-ch` (the default), `qemu` or
//! `cloud-hypervisor`. The cases know no driver; a VMM whose parts are missing fails them, it does not skip them.
//!
//! Real guests need `bin/vmlinux`, `bin/initrd.img` (or `KERNEL_PATH`, `INITRD_PATH`), `mke2fs` and a static busybox.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod adoption;
mod agent;
mod failures;
mod guests;
mod lifecycle;
mod network;
mod process;
mod resize;
mod rig;
mod standby;
mod streams;
