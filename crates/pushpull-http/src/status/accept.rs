//! Which text format of metrics a client asked for (RFC 9110, 12.5.1).

use http::{HeaderMap, header::ACCEPT};

use crate::Exposition;

/// One media range, reduced to what tells the two formats apart.
struct Range<'a> {
    essence: &'a str,
    version: Option<&'a str>,
    quality: f32,
}

/// How well the most specific range that covers a format likes it.
#[derive(Clone, Copy, PartialEq, PartialOrd, Default)]
struct Liking {
    quality: f32,
    precision: u8,
}

/// The format that is liked best. Equally liked: the one named more exactly, then Prometheus text, which is
/// also the answer where nothing fits.
pub(super) fn negotiate(headers: &HeaderMap) -> Exposition {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<Range<'_>> = values.flat_map(|value| value.split(',')).filter_map(Range::parse).collect();
    let open = liking(&ranges, "application/openmetrics-text", "application/*", "1.0.0");
    let plain = liking(&ranges, "text/plain", "text/*", "0.0.4");
    if open > plain { Exposition::OpenMetrics } else { Exposition::Prometheus }
}

fn liking(ranges: &[Range<'_>], essence: &str, group: &str, version: &str) -> Liking {
    let precise = |range: &Range<'_>| match range.version {
        _ if range.essence == "*/*" => Some(1),
        _ if range.essence.eq_ignore_ascii_case(group) => Some(2),
        _ if !range.essence.eq_ignore_ascii_case(essence) => None,
        None => Some(3),
        Some(asked) => (asked == version).then_some(4),
    };
    let rated = ranges.iter().filter_map(|range| Some((precise(range)?, range.quality)));
    let most = rated.max_by(|(a, p), (b, q)| a.cmp(b).then(p.total_cmp(q)));
    most.filter(|(_, quality)| *quality > 0.0)
        .map(|(precision, quality)| Liking { quality, precision })
        .unwrap_or_default()
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self { essence: parts.next()?, version: None, quality: 1.0 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("q") {
                range.quality = value.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))?;
            } else if name.eq_ignore_ascii_case("version") {
                range.version = Some(value);
            }
        }
        Some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMETHEUS_2: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    const PROMETHEUS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

    #[test]
    fn the_best_liked_format_is_taken() {
        use Exposition::{OpenMetrics, Prometheus};
        for (accept, expected) in [
            ("", Prometheus),
            ("*/*", Prometheus),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Prometheus),
            ("application/json", Prometheus),
            ("application/openmetrics-text", OpenMetrics),
            ("APPLICATION/OpenMetrics-Text ; version=\"1.0.0\"", OpenMetrics),
            ("application/openmetrics-text; version=0.0.1", Prometheus),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.9", Prometheus),
            ("application/openmetrics-text;q=0.9, text/plain;q=0.2", OpenMetrics),
            ("application/openmetrics-text;q=0, */*", Prometheus),
            ("application/openmetrics-text, */*", OpenMetrics),
            ("application/openmetrics-text, text/plain", Prometheus),
            ("text/plain;version=0.0.4;q=0.1, application/openmetrics-text;version=1.0.0;q=0.2", OpenMetrics),
            ("text/*;q=0.9, application/openmetrics-text;q=0.8", Prometheus),
            ("text/plain;q=0, application/openmetrics-text;q=0.001", OpenMetrics),
            ("text/plain;q=0, */*;q=0.5", OpenMetrics),
            ("application/openmetrics-text;q=2", Prometheus),
            ("application/openmetrics-text;q=NaN, text/plain;q=0.1", Prometheus),
            (PROMETHEUS_2, OpenMetrics),
            (PROMETHEUS_3, OpenMetrics),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(negotiate(&headers), expected, "{accept}");
        }
    }
}
