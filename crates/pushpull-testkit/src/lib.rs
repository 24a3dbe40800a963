//! The promises of pushpull as a test kit: history checker, harness, fault proxy.
