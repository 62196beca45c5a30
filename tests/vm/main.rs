//! Real guests through the real daemon, over its API: a kernel boots, an image's program runs. The same suite serves
//! every VMM; `HYPERVISOR` says which. Needs root, `bin/vmlinux` and `bin/initrd.img`, and the VMM's binary; what is
//! missing fails the test that needs it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod exec;
mod files;
mod guest;
mod harness;
mod large;
mod lifecycle;
mod limits;
mod logs;
mod names;
mod network;
mod standby;
