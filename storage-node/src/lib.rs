//! The storage node.
pub mod raft;
pub mod seams;
pub mod storage;
