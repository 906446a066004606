use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn started(sampling: Ratio) -> Traces {
    // Nobody listens there, and nobody has to.
    let endpoint = "http://127.0.0.1:9".parse().unwrap();
    Traces::start(Some(&Tracing { endpoint, sampling }), "node-1", &Registry::default()).unwrap()
}

fn asked(traces: &Traces, traceparent: &str, tracestate: &str) -> Trace {
    traces.asked(|name| match name {
        "traceparent" => Some(traceparent),
        "tracestate" => Some(tracestate),
        _ => None,
    })
}

fn begin(traces: &Traces, trace: &Trace) -> Option<Span> {
    traces.begin(trace, "grpc", Operation::Put, "default")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_recorded_as_its_callers_trace_is() {
    let traces = started(Ratio::percent(100));
    let caller = asked(&traces, &format!("00-{TRACE}-{CALLER}-01"), "");
    let span = begin(&traces, &caller).unwrap();
    let told = traces.forward(&span.trace()).unwrap();
    assert!(told.traceparent.starts_with(&format!("00-{TRACE}-")) && told.traceparent.ends_with("-01"));
    assert!(!told.traceparent.contains(CALLER), "the child of the operation, not of its caller");
    assert!(traces.begin_forwarded(&traces.forwarded(Some(&told)), Operation::Put, String::new).is_some());

    let unrecorded = asked(&traces, &format!("00-{TRACE}-{CALLER}-00"), "");
    assert!(begin(&traces, &unrecorded).is_none());
    assert!(traces.forward(&unrecorded).is_none());
    assert!(traces.begin_forwarded(&traces.forwarded(None), Operation::Put, String::new).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_caller_is_recorded_in_part() {
    assert!(begin(&started(Ratio::percent(100)), &Trace::None).is_some());
    assert!(begin(&started(Ratio::percent(0)), &Trace::None).is_none());
    let sampled = format!("00-{TRACE}-{CALLER}-01");
    let traces = started(Ratio::percent(0));
    assert!(begin(&traces, &asked(&traces, &sampled, "")).is_some(), "the caller decides");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_none_begin_a_trace_of_their_own() {
    let traces = started(Ratio::percent(0));
    for bad in
        ["", "00", "no trace", &format!("00-{TRACE}-0000000000000000-01"), &format!("ff-{TRACE}-{CALLER}-01")]
    {
        assert!(matches!(asked(&traces, bad, ""), Trace::None), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tracestate_goes_on_unless_it_is_too_long() {
    let traces = started(Ratio::percent(0));
    let goes_on = |state: &str| {
        let caller = asked(&traces, &format!("00-{TRACE}-{CALLER}-01"), state);
        traces.forward(&begin(&traces, &caller).unwrap().trace()).unwrap().tracestate
    };
    assert_eq!(goes_on("rojo=00f067aa0ba902b7"), "rojo=00f067aa0ba902b7");
    assert_eq!(goes_on(&format!("long={}", "x".repeat(TRACESTATE_BYTES))), "");
}

#[test]
fn while_they_are_off_nothing_is_looked_at() {
    let traces = Traces::off();
    let trace = traces.asked(|_| panic!("nobody asks for a header"));
    assert!(begin(&traces, &trace).is_none() && traces.forward(&trace).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_spans_are_dropped_and_counted() {
    let registry = Registry::default();
    let endpoint = "http://127.0.0.1:9".parse().unwrap();
    let tracing = Tracing { endpoint, sampling: Ratio::percent(100) };
    let traces = Traces::start(Some(&tracing), "node-1", &registry).unwrap();
    let many = export::MOST_WAITING as u64 * 2;
    for _ in 0..many {
        begin(&traces, &Trace::None).unwrap().end(Outcome::Done);
    }
    let figure = |name: &str| -> u64 {
        let text = registry.text();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let (waiting, dropped) =
        (figure("kvstore_trace_spans_waiting"), figure("kvstore_trace_spans_dropped_total"));
    assert!(waiting <= export::MOST_WAITING as u64, "{waiting}");
    assert!(dropped >= 1, "{dropped}");
    assert_eq!(figure("kvstore_trace_spans_sent_total"), 0);
}
