//! What pushpull's HTTP adapters share: query, JSON, problems, origins, authorization, metrics, listener.
