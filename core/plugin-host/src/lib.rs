//! Loads protocol plugins.
