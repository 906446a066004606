//! What goes wrong is said clearly, and never ends in a panic or a hang.
//!
//! ```text
//!   requests       what makes no sense at a door, from any client
//!   command_lines  what makes no sense on a command line
//!   clusters       clusters that are mixed up: init, join, other people's folders
//!   damage         files that are not as they were written
//!   full_disk      a disk without room
//! ```

mod clusters;
mod command_lines;
mod damage;
mod full_disk;
mod refusal;
mod requests;
