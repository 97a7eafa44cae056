//! What the command tells about a net: comparisons of its values with those of other executors.
//! Everything is data first, then a table for people and JSON for programs.

pub mod check;
pub mod classes;
pub mod compare;
pub mod difference;
pub mod estimate;
pub mod limits;
pub mod profile;
pub mod table;
