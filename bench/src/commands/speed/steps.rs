//! The rows of the table, and what each asks of either system.

use bench::{
    report::{Figure, Unit, figure::Sample},
    target::Routing,
};

/// A table of one partition.
pub const ONE_PARTITION: &str = "bench-1";
/// A table of 64.
pub const MANY_PARTITIONS: &str = "bench-64";

/// The row beside which fsyncs are counted.
pub const PUT_64: &str = "put, 64 clients, unary";

const IN_64_ONE: &str = "put, 64 in flight (stream 8×8), 1 partition";
const IN_64_MANY: &str = "put, 64 in flight (stream 8×8), 64 partitions";
const IN_512_ONE: &str = "put, 512 in flight (stream 8×64), 1 partition";
const IN_512_MANY: &str = "put, 512 in flight (stream 8×64), 64 partitions";

/// A load for one system: clients, each with a window, all for one operation.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Clients that run side by side.
    pub clients: usize,
    /// Operations that each has in flight; more than one means the stream.
    pub window: usize,
    /// 0 for puts, 1 for gets.
    pub read_share: f64,
    /// Trilith's table; empty means `default`.
    pub table: &'static str,
    /// Which node the requests go to.
    pub routing: Routing,
}

impl Shape {
    /// Clients that make one call at a time to the leader.
    pub const fn unary(clients: usize, read_share: f64) -> Self {
        Self { clients, window: 1, read_share, table: "", routing: Routing::Leader }
    }

    const fn any_node(clients: usize, read_share: f64) -> Self {
        Self { routing: Routing::Any, ..Self::unary(clients, read_share) }
    }

    /// The same load on a table that is one Raft group, as etcd is.
    const fn in_one_partition(self) -> Self {
        Self { table: ONE_PARTITION, ..self }
    }

    const fn stream(clients: usize, window: usize, read_share: f64, table: &'static str) -> Self {
        Self { window, table, ..Self::unary(clients, read_share) }
    }
}

/// What one row of the table needs.
pub struct Step {
    /// What the row is called.
    pub name: &'static str,
    /// The row shows the median latency rather than operations per second.
    pub by_latency: bool,
    /// What is asked of Trilith.
    pub trilith: Shape,
    /// What is asked of etcd, where it has its like.
    pub etcd: Option<Shape>,
}

impl Step {
    const fn same(name: &'static str, shape: Shape) -> Self {
        Self { name, by_latency: false, trilith: shape, etcd: Some(shape) }
    }

    const fn against(name: &'static str, trilith: Shape, etcd: Shape) -> Self {
        Self { name, by_latency: false, trilith, etcd: Some(etcd) }
    }

    const fn ours(name: &'static str, trilith: Shape) -> Self {
        Self { name, by_latency: false, trilith, etcd: None }
    }
}

/// All rows, in the order of the table. etcd has no pipelined stream for puts and gets, so
/// beside a stream it has as many unary clients as the stream has operations in flight.
pub fn steps() -> Vec<Step> {
    let one_client = Step::same("put, 1 client, unary: median latency", Shape::unary(1, 0.0));
    vec![
        Step::same(PUT_64, Shape::unary(64, 0.0)),
        Step::against(
            "put, 64 clients, unary, 1 partition",
            Shape::unary(64, 0.0).in_one_partition(),
            Shape::unary(64, 0.0),
        ),
        Step { by_latency: true, ..one_client },
        Step::same("linearizable get, 64 clients, unary", Shape::unary(64, 1.0)),
        Step::same("put, 64 clients, unary, any node", Shape::any_node(64, 0.0)),
        Step::same("linearizable get, 64 clients, unary, any node", Shape::any_node(64, 1.0)),
        Step::against(
            "put, stream, 4 clients × 64 in flight (etcd: 256 clients)",
            Shape::stream(4, 64, 0.0, ""),
            Shape::unary(256, 0.0),
        ),
        Step::against(
            "put, stream, 4 clients × 64 in flight, 1 partition",
            Shape::stream(4, 64, 0.0, ONE_PARTITION),
            Shape::unary(256, 0.0),
        ),
        Step::against(
            "get, stream, 4 clients × 64 in flight (etcd: 256 clients)",
            Shape::stream(4, 64, 1.0, ""),
            Shape::unary(256, 1.0),
        ),
        Step::ours(IN_64_ONE, Shape::stream(8, 8, 0.0, ONE_PARTITION)),
        Step::ours(IN_64_MANY, Shape::stream(8, 8, 0.0, MANY_PARTITIONS)),
        Step::ours(IN_512_ONE, Shape::stream(8, 64, 0.0, ONE_PARTITION)),
        Step::ours(IN_512_MANY, Shape::stream(8, 64, 0.0, MANY_PARTITIONS)),
    ]
}

/// What many partitions cost or give: the rows of 64 divided by those of one.
pub fn many_over_one(figures: &[Figure]) -> [Figure; 2] {
    [
        over("64 partitions against 1, 64 in flight", figures, IN_64_MANY, IN_64_ONE),
        over("64 partitions against 1, 512 in flight", figures, IN_512_MANY, IN_512_ONE),
    ]
}

/// One of our own figures divided by another, round by round.
fn over(name: &str, figures: &[Figure], above: &str, below: &str) -> Figure {
    let samples = |name: &str| {
        let found = figures.iter().find(|figure| figure.name == name);
        found.map(|figure| figure.trilith.clone()).unwrap_or_default()
    };
    let mut figure = Figure::new(name, Unit::Times);
    let pairs = samples(above).into_iter().zip(samples(below));
    figure.trilith = pairs.map(|(above, below)| Sample::from(above.value / below.value)).collect();
    figure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_of_two_figures_is_taken_by_round() {
        let figure = |name: &str, values: [f64; 2]| {
            let trilith = values.map(Sample::from).to_vec();
            Figure { trilith, ..Figure::new(name, Unit::PerSecond) }
        };
        let figures = [figure("many", [90.0, 40.0]), figure("one", [100.0, 50.0])];
        let ratios: Vec<f64> = over("x", &figures, "many", "one").trilith.iter().map(|s| s.value).collect();
        assert_eq!(ratios, [0.9, 0.8]);
    }

    #[test]
    fn figures_that_are_divided_are_measured() {
        let names: Vec<&str> = steps().iter().map(|step| step.name).collect();
        for name in [PUT_64, IN_64_ONE, IN_64_MANY, IN_512_ONE, IN_512_MANY] {
            assert!(names.contains(&name), "{name}");
        }
    }

    #[test]
    fn both_systems_have_as_much_in_flight() {
        for Step { name, trilith, etcd, .. } in steps() {
            let Some(etcd) = etcd else { continue };
            assert_eq!(trilith.clients * trilith.window, etcd.clients * etcd.window, "{name}");
            assert_eq!((trilith.read_share, trilith.routing), (etcd.read_share, etcd.routing), "{name}");
        }
    }
}
