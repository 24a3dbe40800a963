//! The in-process hub of pushpull: assigns the sequence, retains, fans out.
