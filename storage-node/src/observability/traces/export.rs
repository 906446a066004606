//! The way of spans to the collector: a queue that is bounded, and what became of each span.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};

use crate::observability::metrics::{Counter, Registry};

/// Spans that may wait to be sent; one more is dropped. A span is about a kilobyte.
pub const MOST_WAITING: usize = 4096;
const SENT_AT_ONCE: usize = 512;
const SENT_EVERY: Duration = Duration::from_secs(1);

/// What became of spans.
#[derive(Debug, Clone)]
pub struct Flow {
    sent: Counter,
    dropped: Counter,
    waiting: Arc<AtomicUsize>,
    fails: Arc<AtomicBool>,
}

impl Flow {
    /// Adds the figures.
    pub fn register(registry: &Registry) -> Self {
        let waiting = Arc::new(AtomicUsize::new(0));
        let shown = Arc::clone(&waiting);
        registry.gauge_fn("kvstore_trace_spans_waiting", "Spans that wait to be sent.", &[], move || {
            shown.load(Ordering::Relaxed) as f64
        });
        Self {
            sent: registry.counter("kvstore_trace_spans_sent_total", "Spans that the collector took.", &[]),
            dropped: registry.counter(
                "kvstore_trace_spans_dropped_total",
                "Spans that were lost: too many waited, or the collector did not take them.",
                &[],
            ),
            waiting,
            fails: Arc::default(),
        }
    }

    /// Whether one more may wait.
    fn admit(&self) -> bool {
        let one_more = |waiting| (waiting < MOST_WAITING).then_some(waiting + 1);
        let admitted = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
        if !admitted {
            self.dropped.increment();
        }
        admitted
    }

    /// So many were sent or not.
    fn ended(&self, spans: usize, result: &OTelSdkResult) {
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        match result {
            Ok(()) => {
                self.sent.add(spans as u64);
                if self.fails.swap(false, Ordering::Relaxed) {
                    tracing::info!("the collector takes spans again");
                }
            }
            Err(error) => {
                self.dropped.add(spans as u64);
                if !self.fails.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the collector does not take spans: they are dropped until it does");
                }
            }
        }
    }
}

/// Batches spans, and takes no more than may wait.
#[derive(Debug)]
pub struct Bounded {
    batches: BatchSpanProcessor,
    flow: Flow,
}

impl Bounded {
    /// In front of an exporter.
    pub fn new(exporter: impl SpanExporter + 'static, flow: Flow) -> Self {
        let config = BatchConfigBuilder::default()
            // Never full, because no more are let in than this.
            .with_max_queue_size(MOST_WAITING)
            .with_max_export_batch_size(SENT_AT_ONCE)
            .with_scheduled_delay(SENT_EVERY)
            .build();
        let counted = Counted { exporter, flow: flow.clone() };
        let batches = BatchSpanProcessor::builder(counted).with_batch_config(config).build();
        Self { batches, flow }
    }
}

impl SpanProcessor for Bounded {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.flow.admit() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Counts what an exporter does.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    flow: Flow,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        self.flow.ended(spans, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
