//! The table: one line per number, with its baseline and what is aimed at.

/// Prints lines as they come.
#[derive(Debug, Default)]
pub(crate) struct Table {
    title: &'static str,
}

impl Table {
    /// A heading, and how what follows was measured.
    pub(crate) fn section(&mut self, title: &'static str, how: &str) {
        self.title = title;
        println!("\n{title}: {how}");
    }

    /// A number that nothing is aimed at.
    pub(crate) fn line(&self, what: &str, value: &str) {
        println!("  {what:<52} {value:>22}");
    }

    /// A number and its aim.
    pub(crate) fn aim(&self, what: &str, value: &str, (goal, is_met): (&str, bool)) {
        let verdict = if is_met { "met" } else { "MISSED" };
        println!("  {what:<52} {value:>22}   aim {goal}: {verdict}");
    }
}

/// Measured times in milliseconds.
#[derive(Debug, Default, Clone)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    pub(crate) fn push(&mut self, time: std::time::Duration) {
        self.0.push(time.as_secs_f64() * 1e3);
    }

    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below the length")]
        let index = ((sorted.len() - 1) as f64 * part).round() as usize;
        sorted[index]
    }

    pub(crate) fn show(&self) -> String {
        format!("p50 {:.2}  p99 {:.2} ms", self.quantile(0.5), self.quantile(0.99))
    }
}
