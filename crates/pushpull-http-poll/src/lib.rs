//! pushpull over plain HTTP polling: server and client half, and a scraper.
