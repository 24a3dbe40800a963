//! What the messages of `pushpull.v1.json` say (wire contract, section 4).

#[cfg(feature = "client")]
pub(crate) mod client;
#[cfg(feature = "server")]
pub(crate) mod server;
