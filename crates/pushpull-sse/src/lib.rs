//! pushpull over Server-Sent Events: server and client half.
