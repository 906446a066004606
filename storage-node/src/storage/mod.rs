//! What is on disk: the log of all groups, and the state that it leads to.
