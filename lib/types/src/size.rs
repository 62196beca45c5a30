//! Sizes that carry their unit.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! size {
    ($(#[$doc:meta])* $name:ident, $unit:literal, $bytes:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The size in bytes, saturating at `u64::MAX`.
            #[must_use]
            pub fn bytes(self) -> u64 {
                self.0.saturating_mul($bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{} ", $unit), self.0)
            }
        }
    };
}

size!(
    /// Mebibytes (2^20 bytes): guest memory. The API's `memory_mb` is counted in these.
    Mib, "MiB", 1 << 20
);
size!(
    /// Gibibytes (2^30 bytes): disks. The API's `disk_gb` is counted in these.
    Gib, "GiB", 1 << 30
);
