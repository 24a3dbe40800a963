//! Pictures of figures against scale, as plain SVG.

use std::fmt::Write as _;

/// The colours of Okabe and Ito, which can be told apart by everyone.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
/// Lines of one colour, if there are more than colours.
const DASHES: [&str; 3] = ["none", "7 4", "2 4"];

const WIDTH: f64 = 760.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const HEAD: f64 = 46.0;
/// A panel, from its title to the labels of its x axis.
const PANEL: f64 = 250.0;
const TITLE: f64 = 30.0;
const FOOT: f64 = 48.0;
/// An entry of the legend.
const ENTRY: f64 = 22.0;
const COLUMNS: usize = 2;

/// Panels one below the other, with one x axis and one legend.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// What is counted along the logarithmic x axis.
    pub(crate) x: String,
    /// Names of the lines, the same in every panel.
    pub(crate) names: Vec<String>,
    pub(crate) panels: Vec<Panel>,
}

/// One figure.
#[derive(Debug)]
pub(crate) struct Panel {
    /// The figure and its unit.
    pub(crate) title: String,
    /// The spots of each line, x above 0 and rising.
    pub(crate) lines: Vec<Vec<Spot>>,
}

/// What was measured at an x: the median, and from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spot {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Where values stand along an axis of pixels.
#[derive(Clone, Copy, Debug)]
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Chart {
    /// The picture.
    pub(crate) fn svg(&self) -> String {
        let rows = self.names.len().div_ceil(COLUMNS) as f64;
        let legend = HEAD + 8.0;
        let top = legend + rows * ENTRY;
        let height = top + self.panels.len() as f64 * PANEL + 8.0;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#222\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        let title = escaped(&self.title);
        let _ =
            writeln!(svg, "<text x=\"{LEFT}\" y=\"32\" font-size=\"17\" font-weight=\"600\">{title}</text>");
        self.put_legend(&mut svg, legend);
        for (at, panel) in self.panels.iter().enumerate() {
            self.put_panel(&mut svg, panel, top + at as f64 * PANEL);
        }
        svg + "</svg>\n"
    }

    fn put_legend(&self, svg: &mut String, top: f64) {
        for (at, name) in self.names.iter().enumerate() {
            let x = LEFT + (at % COLUMNS) as f64 * (WIDTH - LEFT - RIGHT) / COLUMNS as f64;
            let y = top + (at / COLUMNS) as f64 * ENTRY + 6.0;
            put_line(svg, at, &[(x, y), (x + 28.0, y)]);
            put_mark(svg, at, x + 14.0, y);
            let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\">{}</text>", x + 36.0, y + 4.5, escaped(name));
        }
    }

    fn put_panel(&self, svg: &mut String, panel: &Panel, top: f64) {
        let spots = panel.lines.iter().flatten().filter(|spot| spot.y.is_finite());
        let (bottom, upper) = (top + PANEL - FOOT, top + TITLE);
        let (step, most) = steps(spots.map(|spot| spot.most).fold(0.0, f64::max));
        let y = Scale { low: 0.0, high: most, from: bottom, to: upper };
        let x = self.x_scale();
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"600\">{}</text>",
            top + 18.0,
            escaped(&panel.title)
        );
        for at in 0..=(most / step).round() as usize {
            let (value, right) = (at as f64 * step, WIDTH - RIGHT);
            let (pixel, told) = (y.pixel(value), told(value));
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {pixel:.1}H{right}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{told}</text>",
                LEFT - 8.0,
                pixel + 4.5
            );
        }
        self.put_x_axis(svg, x, bottom, upper);
        for (at, line) in panel.lines.iter().enumerate() {
            let spots = || line.iter().filter(|spot| spot.y.is_finite());
            let pixels: Vec<(f64, f64)> =
                spots().map(|spot| (x.pixel(spot.x.ln()), y.pixel(spot.y))).collect();
            put_line(svg, at, &pixels);
            for spot in spots().filter(|spot| spot.least < spot.most) {
                put_range(svg, at, x.pixel(spot.x.ln()), [spot.least, spot.most].map(|value| y.pixel(value)));
            }
            pixels.iter().for_each(|(x, y)| put_mark(svg, at, *x, *y));
        }
    }

    /// Every x at which something was measured has a mark of its own.
    fn put_x_axis(&self, svg: &mut String, x: Scale, bottom: f64, upper: f64) {
        for at in self.xs() {
            let pixel = x.pixel(at.ln());
            let told = told(at);
            let _ = writeln!(
                svg,
                "<path d=\"M{pixel:.1} {upper:.1}V{:.1}\" stroke=\"#eee\"/>\
                 <text x=\"{pixel:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{told}</text>",
                bottom + 5.0,
                bottom + 19.0
            );
        }
        let (right, middle) = (WIDTH - RIGHT, (LEFT + WIDTH - RIGHT) / 2.0);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {upper:.1}V{bottom:.1}H{right}\" fill=\"none\" stroke=\"#888\"/>\
             <text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{} (logarithmic)</text>",
            bottom + 36.0,
            escaped(&self.x)
        );
    }

    fn x_scale(&self) -> Scale {
        let xs = self.xs();
        let (least, most) = (xs.first().copied().unwrap_or(1.0), xs.last().copied().unwrap_or(10.0));
        // A little room on both sides, also where there is but one x.
        let (low, high) = (least.ln() - 0.2, most.ln() + 0.2);
        Scale { low, high, from: LEFT, to: WIDTH - RIGHT }
    }

    fn xs(&self) -> Vec<f64> {
        let spots = self.panels.iter().flat_map(|panel| panel.lines.iter().flatten());
        let mut xs: Vec<f64> = spots.map(|spot| spot.x).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        xs
    }
}

impl Scale {
    fn pixel(self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }
}

fn put_line(svg: &mut String, at: usize, pixels: &[(f64, f64)]) {
    let (colour, dash) = (COLOURS[at % COLOURS.len()], DASHES[at / COLOURS.len() % DASHES.len()]);
    let points: Vec<String> = pixels.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>",
        points.join(" ")
    );
}

/// A line that stands, with a foot and a head.
fn put_range(svg: &mut String, at: usize, x: f64, [least, most]: [f64; 2]) {
    let (colour, left) = (COLOURS[at % COLOURS.len()], x - 4.0);
    let _ = writeln!(
        svg,
        "<path d=\"M{left:.1} {least:.1}h8M{x:.1} {least:.1}V{most:.1}M{left:.1} {most:.1}h8\" fill=\"none\" \
         stroke=\"{colour}\" stroke-opacity=\"0.6\"/>"
    );
}

/// Circles, squares and diamonds in turn, so that lines are told apart without colours.
fn put_mark(svg: &mut String, at: usize, x: f64, y: f64) {
    let colour = COLOURS[at % COLOURS.len()];
    let _ = match at % 3 {
        0 => writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"),
        1 => {
            let (x, y) = (x - 3.5, y - 3.5);
            writeln!(svg, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"7\" height=\"7\" fill=\"{colour}\"/>")
        }
        _ => {
            let y = y - 5.0;
            writeln!(svg, "<path d=\"M{x:.1} {y:.1}l5 5-5 5-5-5z\" fill=\"{colour}\"/>")
        }
    };
}

/// Three to six round steps up to `most` or a little above: the step, and where they end.
fn steps(most: f64) -> (f64, f64) {
    if most <= 0.0 {
        return (1.0, 4.0);
    }
    let decade = 10f64.powf((most / 3.0).log10().floor());
    let fits = |step: &f64| (most / step).ceil() <= 6.0;
    let step = [1.0, 2.0, 2.5, 5.0].map(|round| round * decade).into_iter().find(fits);
    let step = step.unwrap_or(10.0 * decade);
    (step, (most / step).ceil() * step)
}

/// With as many digits as it has, and k or M.
fn told(value: f64) -> String {
    let (value, unit) = match value {
        1e6.. => (value / 1e6, " M"),
        1e3.. => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let text = format!("{value:.2}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let spot = |(x, y, most)| Spot { x, y, least: y, most };
        let spots = [(100.0, 1e6, 1e6), (1000.0, 2e6, 2.2e6), (10_000.0, 1.5e6, 1.5e6)].map(spot);
        let lines = vec![spots.to_vec(), vec![spot((100.0, f64::NAN, f64::NAN))]];
        let panel = Panel { title: "deliveries a second".to_owned(), lines };
        let names = vec!["ws, 1 worker".to_owned(), "a<b>&".to_owned()];
        Chart { title: "t".to_owned(), x: "subscribers".to_owned(), names, panels: vec![panel] }
    }

    #[test]
    fn an_axis_has_few_round_steps() {
        for (most, wanted) in [
            (2_300_000.0, (500_000.0, 2_500_000.0)),
            (6.0, (1.0, 6.0)),
            (6.1, (2.0, 8.0)),
            (0.94, (0.2, 1.0)),
            (1_499.0, (250.0, 1_500.0)),
            (0.0, (1.0, 4.0)),
        ] {
            let (step, end) = steps(most);
            assert!((step - wanted.0).abs() < 1e-9 * wanted.0, "{most}: {step}");
            assert!((end - wanted.1).abs() < 1e-9 * wanted.1, "{most}: {end}");
        }
    }

    #[test]
    fn ten_times_as_many_is_always_as_far() {
        let x = chart().x_scale();
        let pixels = [100f64, 1000.0, 10_000.0].map(|at| x.pixel(at.ln()));
        assert!((pixels[1] - pixels[0] - (pixels[2] - pixels[1])).abs() < 1e-9, "{pixels:?}");
        assert!(pixels[0] > LEFT && pixels[2] < WIDTH - RIGHT, "{pixels:?}");
    }

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 0.25, 100.0, 1500.0, 15_000.0, 2_500_000.0].map(told);
        assert_eq!(all, ["0", "0.25", "100", "1.5 k", "15 k", "2.5 M"]);
    }

    #[test]
    fn a_picture_has_axes_a_legend_and_what_was_measured() {
        let svg = chart().svg();
        for text in ["deliveries a second", "subscribers (logarithmic)", "ws, 1 worker", "a&lt;b&gt;&amp;"] {
            assert!(svg.contains(text), "{text}");
        }
        for told in [">100<", ">1 k<", ">10 k<", ">2 M<", ">0<"] {
            assert!(svg.contains(told), "{told}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        // In the legend and at its three points; a figure that is not there has none.
        assert_eq!((svg.matches("<circle").count(), svg.matches("height=\"7\"").count()), (4, 1));
        assert!(svg.contains(">2.5 M<") && svg.matches("stroke-opacity").count() == 1, "one has a range");
    }
}
