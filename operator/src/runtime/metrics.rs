//! What the operator counts, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;

/// The operator's counts. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    counts: Arc<Mutex<BTreeMap<Family, BTreeMap<String, u64>>>>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Requests,
    Reconciles,
    Errors,
    Steps,
    Leading,
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Self::Requests => "trilith_operator_api_requests_total",
            Self::Reconciles => "trilith_operator_reconciles_total",
            Self::Errors => "trilith_operator_reconcile_errors_total",
            Self::Steps => "trilith_operator_steps_total",
            Self::Leading => "trilith_operator_leading",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Requests => "Requests to the Kubernetes API server, by verb.",
            Self::Reconciles => "Looks at a resource, by kind.",
            Self::Errors => "Looks at a resource that ended with an error, by kind.",
            Self::Steps => "Steps that were carried out, by name.",
            Self::Leading => "Whether this operator is the one that acts.",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Requests => "verb",
            Self::Reconciles | Self::Errors => "kind",
            Self::Steps => "step",
            Self::Leading => "",
        }
    }
}

impl Metrics {
    /// A request to the API server. The verbs are HTTP's, with a watch as one of its own.
    pub fn request(&self, method: &str, query: Option<&str>) {
        let watches = query.is_some_and(|query| query.contains("watch=true"));
        self.add(Family::Requests, if watches { "WATCH" } else { method });
    }

    /// A look at a resource of a kind.
    pub fn reconcile(&self, kind: &str) {
        self.add(Family::Reconciles, kind);
    }

    /// A look that ended with an error.
    pub fn error(&self, kind: &str) {
        self.add(Family::Errors, kind);
    }

    /// A step that was carried out.
    pub fn step(&self, step: &str) {
        self.add(Family::Steps, step);
    }

    /// Whether this operator acts.
    pub fn leading(&self, leading: bool) {
        let mut counts = self.counts.lock();
        counts.entry(Family::Leading).or_default().insert(String::new(), leading.into());
    }

    /// How many requests were made, by verb.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.counts.lock().get(&Family::Requests).cloned().unwrap_or_default()
    }

    /// All of it as text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (family, counts) in self.counts.lock().iter() {
            let name = family.name();
            let kind = if *family == Family::Leading { "gauge" } else { "counter" };
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", family.help());
            for (value, count) in counts {
                let _ = match family.label() {
                    "" => writeln!(text, "{name} {count}"),
                    label => writeln!(text, "{name}{{{label}=\"{value}\"}} {count}"),
                };
            }
        }
        text
    }

    fn add(&self, family: Family, label: &str) {
        let mut counts = self.counts.lock();
        *counts.entry(family).or_default().entry(label.to_owned()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_shown_by_their_labels() {
        let metrics = Metrics::default();
        metrics.request("GET", Some("labelSelector=a&watch=true"));
        metrics.request("PATCH", None);
        metrics.request("PATCH", None);
        metrics.leading(true);
        insta::assert_snapshot!(metrics.render());
    }
}
