//! pushpull over WebSocket: server and client half.
