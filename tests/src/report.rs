//! What `tcpcopy --stats-json` writes, read back.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::Path;

/// A report of `tcpcopy`: a snapshot while it runs, or the closing one.
#[derive(Clone, Debug)]
pub struct Report(Value);

impl Report {
    /// Reads the latest report in a file: the file's only JSON value, or the last complete line of many.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", file.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        if let Ok(value) = serde_json::from_str(text) {
            return Ok(Self(value));
        }
        let last = text.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        last.map(Self).context("no complete JSON report")
    }

    /// The report's JSON.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// A counter, by its name in the engine.
    ///
    /// # Errors
    /// When the report has none of that name: a test would pass for the wrong reason.
    pub fn counter(&self, name: &str) -> Result<u64> {
        self.0["counters"][name]
            .as_u64()
            .with_context(|| format!("the report has no counter {name}: {}", self.0))
    }

    /// A counter's numbers by reason, those above zero.
    ///
    /// # Errors
    /// When the report has none of that name.
    pub fn by_reason(&self, name: &str) -> Result<Vec<(String, u64)>> {
        let Some(reasons) = self.0["counters"][name].as_object() else {
            bail!("the report has no counter {name} by reason: {}", self.0)
        };
        Ok(reasons.iter().map(|(reason, n)| (reason.clone(), n.as_u64().unwrap_or(u64::MAX))).collect())
    }

    /// Number of requests given up, for all reasons.
    ///
    /// # Errors
    /// As [`Report::by_reason`].
    pub fn given_up(&self) -> Result<u64> {
        Ok(self.by_reason("requests_given_up")?.iter().map(|(_, n)| n).sum())
    }

    /// What the report says of a plugin, by its name.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn module(&self, name: &str) -> Result<&Value> {
        let modules = self.0["modules"].as_array();
        let found = modules.and_then(|modules| modules.iter().find(|module| module["name"] == name));
        found.with_context(|| format!("the report has no module {name}: {}", self.0))
    }

    /// A number that a plugin counted under `count`; 0 if it counted none.
    ///
    /// # Errors
    /// As [`Report::module`].
    pub fn module_count(&self, name: &str, count: &str) -> Result<u64> {
        Ok(self.module(name)?["counts"][count].as_u64().unwrap_or(0))
    }

    /// Fails unless the counters add up: every session and every captured request is accounted for.
    ///
    /// # Errors
    /// The sum that does not hold.
    pub fn check_sums(&self) -> Result<()> {
        let ended: u64 = self.by_reason("sessions_ended")?.iter().map(|(_, n)| n).sum();
        let (opened, live) = (self.counter("sessions_opened")?, self.counter("sessions_live")?);
        ensure!(opened == live + ended, "sessions: {opened} opened, {live} live, {ended} ended");
        let captured = self.counter("requests_captured")?;
        let (acknowledged, waiting) =
            (self.counter("requests_acknowledged")?, self.counter("requests_waiting")?);
        let given_up = self.given_up()?;
        ensure!(
            captured == acknowledged + waiting + given_up,
            "requests: {captured} captured, {acknowledged} acknowledged, {waiting} waiting, {given_up} given up"
        );
        Ok(())
    }

    /// Fails unless something was captured, all of it was delivered, and the counters add up.
    ///
    /// # Errors
    /// What is wrong, with the whole report.
    pub fn check_delivered(&self) -> Result<()> {
        self.check_sums().with_context(|| self.0.to_string())?;
        ensure!(self.counter("requests_captured")? > 0, "nothing was captured: {}", self.0);
        let given_up = self.by_reason("requests_given_up")?;
        ensure!(given_up.is_empty(), "requests were given up: {given_up:?} in {}", self.0);
        let waiting = self.counter("requests_waiting")?;
        ensure!(waiting == 0, "{waiting} requests still wait: {}", self.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"counters":{"sessions_opened":3,"sessions_live":1,"sessions_ended":{"completed":2},
        "requests_captured":9,"requests_acknowledged":8,"requests_waiting":0,"requests_given_up":{"refused":1}}}"#;

    #[test]
    fn sums_are_checked() {
        let good = Report::parse(GOOD).unwrap();
        good.check_sums().unwrap();
        assert_eq!(good.given_up().unwrap(), 1);
        assert!(good.check_delivered().is_err());
        assert!(good.counter("no_such_counter").is_err());
        let lost = Report::parse(&GOOD.replace("\"requests_acknowledged\":8", "\"requests_acknowledged\":7"));
        assert!(lost.unwrap().check_sums().is_err());
    }

    #[test]
    fn the_last_complete_line_counts() {
        let one_line = GOOD.replace('\n', "");
        let report = Report::parse(&format!("{{\"a\":1}}\n{one_line}\n{{\"counters\":{{")).unwrap();
        assert_eq!(report.counter("requests_captured").unwrap(), 9);
    }
}
