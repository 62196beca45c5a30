//! A container registry on loopback, for tests that pull.
