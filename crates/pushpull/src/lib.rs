//! Live data, one API, every way to carry it: WebSocket, Server-Sent Events, long polling and HTTP polling over one sequence with one resume cursor.
