//! What a user sees: the examples as they are started, and their pages in a real browser.

mod browser;
mod chat;
mod dashboard;
mod documents;
mod examples;
mod http;
mod markets;
mod program;
mod refusals;
mod services;
