//! Traces of operations, as OpenTelemetry has them.
//!
//! ```text
//!   door: traceparent ─▶ Trace ─▶ router: Span ─┬─▶ ForwardRequest ─▶ the leader: Span, its child
//!                                               │
//!                                               └─▶ queue ─▶ collector (export.rs)
//! ```
//!
//! An operation belongs to its caller's trace and is recorded if the caller's is. One without a
//! caller's trace begins its own, for as large a part of them as is configured. What a node does
//! for another is recorded only if that node says so.
//!
//! While traces are off nothing is looked at, made or kept: every function returns at its first
//! line.

use std::time::Duration;

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceId, Tracer,
    TracerProvider,
};
use opentelemetry::{Context, KeyValue};
pub use opentelemetry_otlp::ExporterBuildError as TracesError;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{IdGenerator, Sampler, SdkTracer, SdkTracerProvider};
use proto::v1::TraceContext;

use self::export::{Bounded, Flow};
use super::metrics::{Operation, Outcome, Registry};
use crate::config::{Ratio, Tracing};
use crate::seams::{runtime, threads};

mod export;

/// Headers by which callers say what trace their requests belong to.
pub const HEADERS: [&str; 2] = ["traceparent", "tracestate"];

/// A collector that answers nothing for so long has not taken the spans.
const EXPORT_WITHIN: Duration = Duration::from_secs(5);
/// The last spans have so long to be sent when the node ends.
const LAST_SPANS: Duration = Duration::from_secs(2);
/// More of it is not passed on; the specification asks for no more.
const TRACESTATE_BYTES: usize = 512;
/// The door of what a node does for another.
const PEER: &str = "peer";

/// Records spans, or does not.
pub struct Traces {
    on: Option<On>,
}

struct On {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    headers: TraceContextPropagator,
    sampling: Ratio,
}

/// What trace something belongs to.
#[derive(Debug, Clone, Default)]
pub enum Trace {
    /// To none yet.
    #[default]
    None,
    /// To one that is not recorded.
    Unrecorded,
    /// It is done for this span.
    Under(Box<SpanContext>),
}

/// Something that is recorded, from its beginning until [`Span::end`].
pub struct Span {
    span: opentelemetry_sdk::trace::Span,
}

impl Traces {
    /// No traces.
    pub fn off() -> Self {
        Self { on: None }
    }

    /// Sends spans to where the configuration says, if anywhere. `node` is what people call this
    /// node. Needs a runtime.
    pub fn start(tracing: Option<&Tracing>, node: &str, registry: &Registry) -> Result<Self, TracesError> {
        let flow = Flow::register(registry);
        let Some(tracing) = tracing else { return Ok(Self::off()) };
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(tracing.endpoint.as_str())
            .with_timeout(EXPORT_WITHIN)
            .build()?;
        let resource = Resource::builder()
            .with_service_name("trilith")
            .with_attributes([
                KeyValue::new("service.instance.id", node.to_owned()),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            // What is not to be recorded never becomes a span.
            .with_sampler(Sampler::AlwaysOn)
            .with_id_generator(Ids)
            .with_span_processor(Bounded::new(exporter, flow))
            .build();
        let tracer = provider.tracer("trilith-node");
        let headers = TraceContextPropagator::new();
        Ok(Self { on: Some(On { provider, tracer, headers, sampling: tracing.sampling }) })
    }

    /// What trace a request belongs to, by its headers.
    pub fn asked<'a>(&self, header: impl Fn(&str) -> Option<&'a str>) -> Trace {
        match &self.on {
            Some(on) => on.parse(header).unwrap_or_default(),
            None => Trace::None,
        }
    }

    /// What trace another node's request belongs to; nothing that it does not say is recorded.
    pub fn forwarded(&self, context: Option<&TraceContext>) -> Trace {
        let (Some(on), Some(context)) = (&self.on, context) else { return Trace::Unrecorded };
        let header = |name: &str| match name {
            "traceparent" => Some(context.traceparent.as_str()),
            _ => Some(context.tracestate.as_str()).filter(|state| !state.is_empty()),
        };
        on.parse(header).unwrap_or(Trace::Unrecorded)
    }

    /// What another node is told of a trace.
    pub fn forward(&self, trace: &Trace) -> Option<TraceContext> {
        let (Some(on), Trace::Under(span)) = (&self.on, trace) else { return None };
        let mut told = Told::default();
        on.headers.inject_context(&under(span), &mut told);
        Some(told.0)
    }

    /// Begins an operation of a client, if it is to be recorded.
    pub fn begin(
        &self,
        trace: &Trace,
        door: &'static str,
        operation: Operation,
        table: &str,
    ) -> Option<Span> {
        let on = self.on.as_ref()?;
        match trace {
            Trace::Unrecorded => None,
            Trace::None if on.sampling.misses(runtime::random_u64()) => None,
            Trace::None => Some(on.span(&Context::new(), door, operation, table)),
            Trace::Under(caller) => Some(on.span(&under(caller), door, operation, table)),
        }
    }

    /// Begins what this node does for another.
    pub fn begin_forwarded(
        &self,
        trace: &Trace,
        operation: Operation,
        table: impl FnOnce() -> String,
    ) -> Option<Span> {
        let (Some(on), Trace::Under(caller)) = (&self.on, trace) else { return None };
        Some(on.span(&under(caller), PEER, operation, &table()))
    }

    /// Sends what has not been sent yet, for as long as there is time.
    pub async fn stop(&self) {
        let Some(on) = &self.on else { return };
        let provider = on.provider.clone();
        // Whatever is left then is lost.
        let _ = threads::blocking(move || provider.shutdown_with_timeout(LAST_SPANS)).await;
    }
}

impl On {
    fn parse<'a>(&self, header: impl Fn(&str) -> Option<&'a str>) -> Option<Trace> {
        let traceparent = header("traceparent")?;
        let tracestate = header("tracestate").filter(|state| state.len() <= TRACESTATE_BYTES);
        let headers = Headers { traceparent, tracestate };
        let context = self.headers.extract_with_context(&Context::new(), &headers);
        let span = context.span().span_context().clone();
        if !span.is_valid() {
            return None;
        }
        Some(if span.is_sampled() { Trace::Under(Box::new(span)) } else { Trace::Unrecorded })
    }

    fn span(&self, parent: &Context, door: &'static str, operation: Operation, table: &str) -> Span {
        let builder =
            SpanBuilder::from_name(operation.label()).with_kind(SpanKind::Server).with_attributes([
                KeyValue::new("trilith.door", door),
                KeyValue::new("trilith.operation", operation.label()),
                KeyValue::new("trilith.table", table.to_owned()),
            ]);
        Span { span: self.tracer.build_with_context(builder, parent) }
    }
}

impl Span {
    /// The trace of what is done for it.
    pub fn trace(&self) -> Trace {
        Trace::Under(Box::new(self.span.span_context().clone()))
    }

    /// Says more of it.
    pub fn note(&mut self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        self.span.set_attribute(KeyValue::new(name, value));
    }

    /// It ended so.
    pub fn end(mut self, outcome: Outcome) {
        self.note("trilith.outcome", outcome.label());
        if matches!(outcome, Outcome::Failed | Outcome::Unknown) {
            self.span.set_status(Status::error(outcome.label()));
        }
        self.span.end();
    }
}

fn under(span: &SpanContext) -> Context {
    Context::new().with_remote_span_context(span.clone())
}

/// Ids out of the node's own randomness.
#[derive(Debug)]
struct Ids;

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        let halves = [runtime::random_u64(), runtime::random_u64()];
        TraceId::from(u128::from(halves[0]) << 64 | u128::from(halves[1]))
    }

    fn new_span_id(&self) -> SpanId {
        SpanId::from(runtime::random_u64())
    }
}

/// Headers as the propagator reads them.
struct Headers<'a> {
    traceparent: &'a str,
    tracestate: Option<&'a str>,
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(self.traceparent),
            "tracestate" => self.tracestate,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        HEADERS.to_vec()
    }
}

/// What the propagator writes.
#[derive(Default)]
struct Told(TraceContext);

impl Injector for Told {
    fn set(&mut self, key: &str, value: String) {
        match key {
            "traceparent" => self.0.traceparent = value,
            "tracestate" => self.0.tracestate = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
