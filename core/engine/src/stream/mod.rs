//! Byte streams put together from captured segments.

mod assembler;

pub use assembler::{Arrival, Assembler, SegmentInfo};
