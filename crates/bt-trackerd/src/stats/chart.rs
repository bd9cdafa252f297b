//! Lines over time as SVG, drawn here: no script, and nothing from elsewhere.

use std::fmt::Write as _;

/// Of the drawing, in its own units; the page scales it.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 160.0;

/// Room for the scale.
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 18.0;
const TOP: f64 = 8.0;

/// Horizontal lines above zero.
const LINES: u32 = 4;

/// A line of the chart.
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    /// From left to right, evenly apart; none below zero.
    pub(super) values: Vec<f64>,
}

/// The chart, of which `span` says how far back it goes. All texts are ours: nothing is escaped.
pub(super) fn draw(title: &str, span: &str, series: &[Series<'_>]) -> String {
    let highest = series.iter().flat_map(|series| &series.values);
    let top = ceiling(highest.copied().fold(0.0, f64::max));
    let bottom = HEIGHT - BOTTOM;
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>"
    );
    for line in 0..=LINES {
        let part = f64::from(line) / f64::from(LINES);
        let y = bottom - part * (bottom - TOP);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{x}\" y=\"{below:.1}\" text-anchor=\"end\">{label}</text>",
            x = LEFT - 6.0,
            below = y + 4.0,
            label = short(top * part),
        );
    }
    for (number, series) in series.iter().enumerate() {
        let points = points(&series.values, top);
        if !points.is_empty() {
            let _ = writeln!(
                out,
                "<polyline class=\"line{number}\" points=\"{points}\"><title>{name}</title></polyline>",
                name = series.name,
            );
        }
    }
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{below}\">{span}</text><text x=\"{WIDTH}\" y=\"{below}\" \
         text-anchor=\"end\">now</text></svg>",
        below = HEIGHT - 4.0,
    );
    out
}

fn points(values: &[f64], top: f64) -> String {
    let steps = values.len().saturating_sub(1).max(1) as f64;
    let mut points = String::new();
    for (place, value) in values.iter().enumerate() {
        // A lone value is that of now.
        let part = if values.len() == 1 {
            1.0
        } else {
            place as f64 / steps
        };
        let x = LEFT + part * (WIDTH - LEFT);
        let y = HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP);
        let _ = write!(points, "{x:.1},{y:.1} ");
    }
    points.trim_end().to_owned()
}

/// The next of 4, 8, 20, 40, 80, 200… so that a scale of four parts has round numbers; 4 at least.
fn ceiling(highest: f64) -> f64 {
    let mut top = 4.0;
    let mut factors = [2.0, 2.5, 2.0].into_iter().cycle();
    while top < highest && top < 1e15 {
        top *= factors.next().unwrap_or(10.0);
    }
    top
}

/// A number in few characters.
pub(super) fn short(value: f64) -> String {
    let (value, unit) = match value {
        1e9.. => (value / 1e9, "G"),
        1e6.. => (value / 1e6, "M"),
        1e4.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    if value >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}{unit}")
    } else {
        format!("{value:.1}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round_and_hold_everything() {
        for (highest, expected) in [
            (0.0, 4.0),
            (4.0, 4.0),
            (4.1, 8.0),
            (9.0, 20.0),
            (21.0, 40.0),
            (41.0, 80.0),
            (81.0, 200.0),
            (1_000_000.0, 2_000_000.0),
        ] {
            assert_eq!(ceiling(highest), expected, "{highest}");
        }
        for (value, expected) in [
            (0.0, "0"),
            (2.5, "2.5"),
            (9_999.0, "9999"),
            (10_000.0, "10k"),
            (12_345.0, "12.3k"),
            (1_500_000.0, "1.5M"),
            (4e9, "4G"),
        ] {
            assert_eq!(short(value), expected);
        }
    }

    #[test]
    fn lines_end_at_now_and_stay_inside() {
        assert_eq!(points(&[], 4.0), "");
        assert_eq!(points(&[0.0], 4.0), "600.0,142.0");
        assert_eq!(
            points(&[0.0, 4.0, 2.0], 4.0),
            "52.0,142.0 326.0,8.0 600.0,75.0"
        );
    }
}
