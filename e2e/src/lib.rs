//! Verbs of end-to-end tests.
