//! Charts of one run of the simulation: how the leechers progress, how many copies there are, what the seeder sends.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use plotters::prelude::*;

/// Width and height of a chart, in pixels.
const SIZE: (u32, u32) = (900, 420);

/// What is drawn if no scenario is named.
const SCENARIO: &str = "flash";

/// One chart: its file, its title, what its height means, and the columns that are its lines.
struct Chart {
    file: &'static str,
    title: &'static str,
    height: &'static str,
    lines: &'static [(&'static str, &'static str, RGBColor)],
}

const CHARTS: [Chart; 3] = [
    Chart {
        file: "completion.svg",
        title: "What the leechers have",
        height: "percent of the payload",
        lines: &[
            ("fastest_percent", "the fastest leecher", GREEN),
            ("mean_percent", "all leechers, on average", BLUE),
            ("slowest_percent", "the slowest leecher", RED),
        ],
    },
    Chart {
        file: "availability.svg",
        title: "Copies of a piece among the leechers",
        height: "copies",
        lines: &[
            ("mean_copies", "of a piece, on average", BLUE),
            ("rarest_copies", "of the rarest piece", RED),
        ],
    },
    Chart {
        file: "seeder.svg",
        title: "What the seeder has sent",
        height: "copies of the payload",
        lines: &[("seeder_copies", "the seeder", BLUE)],
    },
];

pub(super) fn run(program: &Path, folder: &Path, scenario: Option<&str>) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let scratch = tempfile::tempdir()?;
    let table = scratch.path().join("run.csv");
    let scenario = scenario.unwrap_or(SCENARIO);
    let status = Command::new(program)
        .args(["--scenario", scenario, "--seed", "1", "--csv"])
        .arg(&table)
        .status()
        .context("sim")?;
    if !status.success() {
        bail!("the run failed");
    }
    let columns = Columns::parse(&fs::read_to_string(&table)?)?;
    for chart in &CHARTS {
        let path = folder.join(chart.file);
        draw(chart, scenario, &columns, &path)?;
        println!("{}", path.display());
    }
    Ok(())
}

fn draw(chart: &Chart, scenario: &str, columns: &Columns, path: &Path) -> Result<()> {
    let seconds = columns.of("seconds")?;
    let mut lines = Vec::new();
    for (column, label, color) in chart.lines {
        lines.push((columns.of(column)?, *label, *color));
    }
    let highest = lines.iter().flat_map(|(values, _, _)| values).copied();
    let (width, height) = (
        seconds.iter().copied().fold(1.0, f64::max),
        highest.fold(1.0, f64::max),
    );
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut canvas = ChartBuilder::on(&area)
        .caption(format!("{} ({scenario})", chart.title), ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..width, 0.0..height * 1.04)?;
    canvas
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("seconds")
        .y_desc(chart.height)
        .draw()?;
    for (values, label, color) in lines {
        let points = seconds.iter().copied().zip(values);
        let line = LineSeries::new(points, color.stroke_width(2));
        canvas
            .draw_series(line)?
            .label(label)
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 20, y)], color.stroke_width(2))
            });
    }
    canvas
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}

/// A table of numbers with names above.
#[derive(Debug)]
struct Columns {
    names: Vec<String>,
    rows: Vec<Vec<f64>>,
}

impl Columns {
    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let names = lines.next().context("an empty table")?;
        let names: Vec<String> = names.split(',').map(str::to_owned).collect();
        let mut rows = Vec::new();
        for line in lines {
            let row: Result<Vec<f64>, _> = line.split(',').map(str::parse).collect();
            let row = row.with_context(|| format!("numbers, not {line:?}"))?;
            if row.len() != names.len() {
                bail!("{} numbers, not {}: {line:?}", row.len(), names.len());
            }
            rows.push(row);
        }
        Ok(Self { names, rows })
    }

    fn of(&self, name: &str) -> Result<Vec<f64>> {
        let place = self.names.iter().position(|known| known == name);
        let place = place.with_context(|| format!("no column {name}"))?;
        Ok(self
            .rows
            .iter()
            .filter_map(|row| row.get(place).copied())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_and_drawn() {
        let columns = Columns::parse("seconds,seeder_copies\n0,0\n1,0.5\n").unwrap();
        assert_eq!(columns.of("seeder_copies").unwrap(), [0.0, 0.5]);
        assert!(columns.of("other").is_err());
        assert!(Columns::parse("a,b\n1\n").is_err() && Columns::parse("a\nx\n").is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seeder.svg");
        draw(&CHARTS[2], "flash", &columns, &path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("<polyline") && text.contains("copies of the payload"));
    }
}
