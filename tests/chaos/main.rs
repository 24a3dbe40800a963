//! Faults under load.
