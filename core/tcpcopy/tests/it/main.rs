//! What the program says, as snapshots, and what it makes of its command line. No network, no rights needed.

mod check;
mod diagnosis;
mod dry_run;
mod help;
mod inspect;
mod modules;
mod offline;
mod options;
mod program;
mod report;
mod support;
mod transfers;
