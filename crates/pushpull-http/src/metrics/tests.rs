use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn counted() -> Metrics {
    let metrics = Metrics::default();
    metrics.published(3, Duration::from_micros(400));
    metrics.published(1, Duration::from_secs(9));
    metrics.delivered(Transport::Sse, 7);
    metrics.delivered(Transport::Poll, 2);
    metrics.gap(GapReason::Lagged);
    metrics.gap(GapReason::Reset);
    metrics.gap(GapReason::Reset);
    metrics.rejected(Rejection::Full);
    metrics.conflated(5);
    metrics.connected(Transport::Ws, 2);
    metrics.connected(Transport::Ws, -1);
    metrics
}

fn observation() -> Observation {
    Observation::new(11, 12, 13, true).of_engine("memory")
}

/// The family of a sample, as the format names it.
fn family<'a>(sample: &'a str, kinds: &BTreeMap<&str, &str>) -> &'a str {
    let cut = ["_total", "_bucket", "_sum", "_count"].into_iter().find_map(|end| sample.strip_suffix(end));
    match cut.filter(|cut| kinds.contains_key(cut)) {
        Some(cut) => cut,
        None => sample,
    }
}

/// Checks the grammar of a page, and gives back its samples.
fn parsed(page: &str, format: Exposition) -> BTreeMap<String, f64> {
    let mut kinds = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut samples = BTreeMap::new();
    let mut current = "";
    let mut finished = BTreeSet::new();
    assert!(page.ends_with('\n') && !page.contains('\r'));
    let body = match format {
        Exposition::OpenMetrics => page.strip_suffix("# EOF\n").unwrap(),
        Exposition::Prometheus => page,
    };
    assert!(!body.contains("# EOF"));
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(helped.insert(name) && !text.is_empty(), "HELP comes once: {line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(helped.contains(name) && kinds.insert(name, kind).is_none(), "TYPE comes once: {line}");
            assert!(!current.is_empty() || samples.is_empty());
            assert!(finished.insert(current) || current.is_empty());
            current = name;
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            assert_eq!(family(name, &kinds), current, "a family's samples stand together: {line}");
            let is_new = samples.insert(sample.to_owned(), value.parse().unwrap()).is_none();
            assert!(is_new, "a sample comes once: {line}");
        }
    }
    for (name, kind) in &kinds {
        let ends_in_total = name.ends_with("_total");
        let expected = *kind == "counter" && format == Exposition::Prometheus;
        assert_eq!(ends_in_total, expected, "{name} is a {kind}");
    }
    samples
}

#[test]
fn both_formats_keep_their_grammar_and_tell_the_same() {
    let [plain, open] = [Exposition::Prometheus, Exposition::OpenMetrics].map(|format| {
        let samples = parsed(&counted().render(format, Some(&observation())), format);
        let own = samples.into_iter().filter(|(name, _)| name.starts_with("pushpull_"));
        own.collect::<BTreeMap<_, _>>()
    });
    assert_eq!(plain, open);
}

#[test]
fn a_source_that_counts_what_is_published_is_believed() {
    let observed = observation().having_published(9);
    let page = counted().render(Exposition::Prometheus, Some(&observed));
    assert_eq!(parsed(&page, Exposition::Prometheus)["pushpull_published_total"], 9.0);
}

#[test]
fn every_family_of_the_contract_is_there_with_its_value() {
    let samples =
        parsed(&counted().render(Exposition::Prometheus, Some(&observation())), Exposition::Prometheus);
    let version = format!("pushpull_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    for (sample, value) in [
        ("pushpull_connections{transport=\"ws\"}", 1.0),
        ("pushpull_connections{transport=\"grpc\"}", 0.0),
        ("pushpull_published_total", 4.0),
        ("pushpull_delivered_total{transport=\"sse\"}", 7.0),
        ("pushpull_delivered_total{transport=\"poll\"}", 2.0),
        ("pushpull_delivered_total{transport=\"longpoll\"}", 0.0),
        ("pushpull_gaps_total{reason=\"reset\"}", 2.0),
        ("pushpull_gaps_total{reason=\"lagged\"}", 1.0),
        ("pushpull_gaps_total{reason=\"evicted\"}", 0.0),
        ("pushpull_rejected_total{reason=\"full\"}", 1.0),
        ("pushpull_conflated_total", 5.0),
        ("pushpull_retained_events", 11.0),
        ("pushpull_retained_bytes", 12.0),
        ("pushpull_topics", 13.0),
        ("pushpull_engine_up", 1.0),
        ("pushpull_publish_seconds_bucket{le=\"0.0001\"}", 0.0),
        ("pushpull_publish_seconds_bucket{le=\"0.0005\"}", 1.0),
        ("pushpull_publish_seconds_bucket{le=\"5.0\"}", 1.0),
        ("pushpull_publish_seconds_bucket{le=\"+Inf\"}", 2.0),
        ("pushpull_publish_seconds_count", 2.0),
        ("pushpull_publish_seconds_sum", 9.0004),
        (&version, 1.0),
    ] {
        assert_eq!(samples.get(sample), Some(&value), "{sample}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_is_told_of() {
    let samples = parsed(&Metrics::default().render(Exposition::Prometheus, None), Exposition::Prometheus);
    for sample in ["process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds"] {
        assert!(samples[sample] > 0.0, "{sample}");
    }
    assert!(samples.contains_key("process_cpu_seconds_total"));
    assert!(!samples.contains_key("pushpull_topics"), "what nobody observed is left out");
}

#[test]
fn labels_are_fixed_words() {
    let page = counted().render(Exposition::Prometheus, Some(&observation()));
    let labelled = page.lines().filter(|line| !line.starts_with('#') && line.contains('{'));
    let labels: BTreeSet<_> = labelled.filter_map(|line| line.split(['{', '=']).nth(1)).collect();
    assert_eq!(labels, BTreeSet::from(["le", "reason", "transport", "version"]));
    for reason in Rejection::ALL {
        assert!(page.contains(&format!("pushpull_rejected_total{{reason=\"{}\"}} ", reason.as_str())));
    }
}

#[test]
fn a_problem_is_counted_by_what_it_is() {
    use pushpull_core::ErrorKind as Kind;
    for (kind, reason) in [
        (Kind::Invalid, Rejection::BadRequest),
        (Kind::Conflict, Rejection::BadRequest),
        (Kind::UnsupportedType, Rejection::BadRequest),
        (Kind::Unauthenticated, Rejection::Unauthenticated),
        (Kind::Forbidden, Rejection::Forbidden),
        (Kind::TooLarge, Rejection::TooLarge),
        (Kind::Busy, Rejection::RateLimit),
        (Kind::Timeout, Rejection::Timeout),
        (Kind::Unavailable, Rejection::Unavailable),
        (Kind::Internal, Rejection::Other),
    ] {
        assert_eq!(Rejection::from(&Problem::new(kind, "x")), reason);
    }
}
