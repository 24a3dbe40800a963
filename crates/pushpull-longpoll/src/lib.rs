//! pushpull over long polling: server and client half.
