//! Names and labels, and the text that Prometheus reads (exposition format 0.0.4).

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use parking_lot::Mutex;

use super::instrument::{Counter, Gauge, Histogram};

/// All figures of a node by name. The lock is taken to add one and to read all, never to
/// count.
#[derive(Default)]
pub struct Registry {
    families: Mutex<BTreeMap<&'static str, Family>>,
}

/// The figures of one name, which differ in their labels.
struct Family {
    help: &'static str,
    kind: &'static str,
    series: BTreeMap<Labels, Source>,
    /// Further series, which come and go.
    more: Option<Box<dyn Fn() -> Vec<Labelled> + Send + Sync>>,
}

/// A value and its labels.
pub type Labelled = (Vec<(&'static str, String)>, f64);

/// Names and values of labels, as they are written.
type Labels = String;

enum Source {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
    CounterFn(Box<dyn Fn() -> u64 + Send + Sync>),
    GaugeFn(Box<dyn Fn() -> f64 + Send + Sync>),
}

impl Registry {
    /// A new counter. By custom its name ends with `_total`.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Counter {
        let counter = Counter::default();
        self.add(name, help, labels, Source::Counter(counter.clone()));
        counter
    }

    /// A new gauge.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Gauge {
        let gauge = Gauge::default();
        self.add(name, help, labels, Source::Gauge(gauge.clone()));
        gauge
    }

    /// A new histogram of times. By custom its name ends with `_seconds`.
    pub fn histogram(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Histogram {
        let histogram = Histogram::default();
        self.show_histogram(name, help, labels, &histogram);
        histogram
    }

    /// Shows a histogram that somebody else has.
    pub fn show_histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        histogram: &Histogram,
    ) {
        self.add(name, help, labels, Source::Histogram(histogram.clone()));
    }

    /// A counter that is asked when somebody reads. It is called under the registry's lock,
    /// so it must be quick and must not touch the registry.
    pub fn counter_fn(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        count: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.add(name, help, labels, Source::CounterFn(Box::new(count)));
    }

    /// A gauge that is asked when somebody reads; the same holds for it.
    pub fn gauge_fn(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.add(name, help, labels, Source::GaugeFn(Box::new(value)));
    }

    /// Gauges of one name whose labels come and go. Whoever adds them bounds how many there are.
    /// The name is shown also while there are none.
    pub fn gauges_fn(
        &self,
        name: &'static str,
        help: &'static str,
        values: impl Fn() -> Vec<Labelled> + Send + Sync + 'static,
    ) {
        let mut families = self.families.lock();
        let family = families.entry(name).or_insert_with(|| Family::new(help, "gauge"));
        family.more = Some(Box::new(values));
    }

    /// Everything, sorted by name and labels.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, family) in self.families.lock().iter() {
            let kind = family.kind;
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            line(&mut out, format_args!("# HELP {name} {help}"));
            line(&mut out, format_args!("# TYPE {name} {kind}"));
            for (labels, source) in &family.series {
                source.write(&mut out, name, labels);
            }
            for (labels, value) in family.more.iter().flat_map(|more| more()) {
                let labels = written(labels.iter().map(|(label, value)| (*label, value.as_str())));
                line(&mut out, format_args!("{name}{{{labels}}} {}", number(value)));
            }
        }
        out
    }

    /// The last to register a name with the same labels is the one that is read.
    fn add(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)], source: Source) {
        debug_assert!(name.starts_with("kvstore_"), "{name} is not named as metrics are here");
        let mut families = self.families.lock();
        let family = families.entry(name).or_insert_with(|| Family::new(help, source.kind()));
        debug_assert!(family.kind == source.kind(), "{name} is registered as two kinds");
        family.series.insert(written(labels.iter().copied()), source);
    }
}

impl Family {
    fn new(help: &'static str, kind: &'static str) -> Self {
        Self { help, kind, series: BTreeMap::new(), more: None }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry of {} names", self.families.lock().len())
    }
}

impl Source {
    fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) | Self::CounterFn(_) => "counter",
            Self::Gauge(_) | Self::GaugeFn(_) => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let set = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        match self {
            Self::Counter(counter) => line(out, format_args!("{name}{set} {}", counter.get())),
            Self::CounterFn(count) => line(out, format_args!("{name}{set} {}", count())),
            Self::Gauge(gauge) => line(out, format_args!("{name}{set} {}", gauge.get())),
            Self::GaugeFn(value) => line(out, format_args!("{name}{set} {}", number(value()))),
            Self::Histogram(histogram) => {
                let reading = histogram.read();
                let comma = if labels.is_empty() { "" } else { "," };
                for (bound, count) in reading.up_to {
                    let bound = number(bound);
                    line(out, format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"));
                }
                line(out, format_args!("{name}_sum{set} {}", number(reading.sum)));
                line(out, format_args!("{name}_count{set} {}", reading.count));
            }
        }
    }
}

fn line(out: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// A number as the format wants it, which knows infinities by names of its own.
fn number(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        value.to_string()
    }
}

fn written<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Labels {
    let labels: Vec<_> = labels.map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
    labels.join(",")
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let registry = Registry::default();
        registry.counter("kvstore_b_total", "Counts.", &[("kind", "a \"b\" \\ c")]).add(3);
        registry.counter("kvstore_b_total", "Counts.", &[("kind", "d")]).increment();
        registry.gauge("kvstore_a_bytes", "Is so much.\nAnd more.", &[]).set(5);
        registry.gauge_fn("kvstore_c_seconds", "Is asked.", &[], || 0.25);
        registry.counter_fn("kvstore_d_total", "Is asked too.", &[], || 7);
        assert_eq!(
            registry.text(),
            "# HELP kvstore_a_bytes Is so much.\\nAnd more.\n\
             # TYPE kvstore_a_bytes gauge\n\
             kvstore_a_bytes 5\n\
             # HELP kvstore_b_total Counts.\n\
             # TYPE kvstore_b_total counter\n\
             kvstore_b_total{kind=\"a \\\"b\\\" \\\\ c\"} 3\n\
             kvstore_b_total{kind=\"d\"} 1\n\
             # HELP kvstore_c_seconds Is asked.\n\
             # TYPE kvstore_c_seconds gauge\n\
             kvstore_c_seconds 0.25\n\
             # HELP kvstore_d_total Is asked too.\n\
             # TYPE kvstore_d_total counter\n\
             kvstore_d_total 7\n"
        );
    }

    #[test]
    fn a_histogram_is_cumulative_and_ends_with_infinity() {
        let registry = Registry::default();
        let histogram = registry.histogram("kvstore_x_seconds", "Takes so long.", &[("operation", "get")]);
        histogram.record(Duration::from_micros(60));
        histogram.record(Duration::from_micros(60));
        histogram.record(Duration::from_mins(1));
        let text = registry.text();
        for line in [
            "# TYPE kvstore_x_seconds histogram",
            "kvstore_x_seconds_bucket{operation=\"get\",le=\"0.00005\"} 0",
            "kvstore_x_seconds_bucket{operation=\"get\",le=\"0.0001\"} 2",
            "kvstore_x_seconds_bucket{operation=\"get\",le=\"13.1072\"} 2",
            "kvstore_x_seconds_bucket{operation=\"get\",le=\"+Inf\"} 3",
            "kvstore_x_seconds_count{operation=\"get\"} 3",
            "kvstore_x_seconds_sum{operation=\"get\"} 60.00012",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
