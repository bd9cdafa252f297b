//! What several seeds came to: median and spread of each number, beside its goal, as text or as JSON.

use crate::swarms::{Goal, Measure};
use bt_core::Layout;
use core::fmt::Write;

/// The seeds of one scenario.
pub(crate) struct Summary {
    pub(crate) scenario: &'static str,
    pub(crate) seeds: u64,
    pub(crate) first_seed: u64,
    pub(crate) failed: Vec<u64>,
    /// How the payload is cut; `None` if each seed has its own.
    pub(crate) layout: Option<Layout>,
    pub(crate) steps: u64,
    pub(crate) wall_seconds: f64,
    pub(crate) peak_mebibytes: Option<u64>,
    pub(crate) spreads: Vec<Spread>,
}

/// One number over all seeds.
pub(crate) struct Spread {
    pub(crate) name: &'static str,
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) goal: Goal,
}

impl Goal {
    fn is_met(self, median: f64) -> Option<bool> {
        match self {
            Self::None => None,
            Self::AtMost(most) => Some(median <= most),
            Self::AtLeast(least) => Some(median >= least),
        }
    }
}

/// Puts the numbers of the seeds together, each under its name.
pub(crate) fn spreads(runs: &[Vec<Measure>]) -> Vec<Spread> {
    let names = runs.first().map(Vec::as_slice).unwrap_or_default();
    let spread = |(place, first): (usize, &Measure)| {
        let values = runs.iter().filter_map(|run| run.get(place));
        let mut values: Vec<f64> = values.map(|measure| measure.value).collect();
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(0.0);
        Spread {
            name: first.name,
            // The upper of the two in the middle.
            median: at(values.len() / 2),
            least: at(0),
            most: at(values.len().saturating_sub(1)),
            goal: first.goal,
        }
    };
    names.iter().enumerate().map(spread).collect()
}

impl Summary {
    /// For people: what it took, and a line for each number.
    pub(crate) fn text(&self) -> String {
        let peak = self.peak_mebibytes;
        let peak = peak.map_or(String::new(), |peak| format!(", {peak} MiB at most"));
        let mut text = format!(
            "{} seeds from {} in {:.1} s, {} steps, {:.0} a second{peak}",
            self.seeds,
            self.first_seed,
            self.wall_seconds,
            self.steps,
            self.steps as f64 / self.wall_seconds
        );
        for spread in &self.spreads {
            let Spread {
                name,
                median,
                least,
                most,
                goal,
            } = spread;
            let goal = match (*goal, goal.is_met(*median)) {
                (Goal::AtMost(goal), Some(met)) => format!("; goal: at most {goal}, {}", word(met)),
                (Goal::AtLeast(goal), Some(met)) => {
                    format!("; goal: at least {goal}, {}", word(met))
                }
                (Goal::None | Goal::AtMost(_) | Goal::AtLeast(_), _) => String::new(),
            };
            let line = format!("\n{name}: median {median:.3}, {least:.3} to {most:.3}{goal}");
            text.push_str(&line);
        }
        text
    }

    /// For programs: one object. Every text in it is one of ours, and needs no escapes.
    pub(crate) fn json(&self) -> String {
        let mut json = format!(
            "{{\"scenario\":\"{}\",\"seeds\":{},\"first_seed\":{},\"failed\":{:?},\
             \"payload_bytes\":{},\"piece_bytes\":{},\"steps\":{},\"wall_seconds\":{:.3},\
             \"peak_mebibytes\":{},\"measures\":[",
            self.scenario,
            self.seeds,
            self.first_seed,
            self.failed,
            number(self.layout.map(|layout| layout.total_length())),
            number(self.layout.map(|layout| layout.piece_length_max())),
            self.steps,
            self.wall_seconds,
            self.peak_mebibytes
                .map_or("null".to_owned(), |peak| peak.to_string()),
        );
        for (place, spread) in self.spreads.iter().enumerate() {
            let (at_most, at_least) = match spread.goal {
                Goal::None => (None, None),
                Goal::AtMost(goal) => (Some(goal), None),
                Goal::AtLeast(goal) => (None, Some(goal)),
            };
            let met = spread.goal.is_met(spread.median);
            // Writing to a string cannot fail.
            let _ = write!(
                json,
                "{}{{\"name\":\"{}\",\"median\":{:.4},\"least\":{:.4},\"most\":{:.4},\
                 \"at_most\":{},\"at_least\":{},\"met\":{}}}",
                if place == 0 { "" } else { "," },
                spread.name,
                spread.median,
                spread.least,
                spread.most,
                number(at_most),
                number(at_least),
                number(met),
            );
        }
        json.push_str("]}");
        json
    }
}

/// As JSON has it: what there is not is null.
fn number(value: Option<impl ToString>) -> String {
    value.map_or("null".to_owned(), |value| value.to_string())
}

const fn word(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(values: [f64; 2]) -> Vec<Measure> {
        let [first, second] = values;
        vec![
            Measure {
                name: "first",
                value: first,
                goal: Goal::AtMost(2.0),
            },
            Measure {
                name: "second",
                value: second,
                goal: Goal::AtLeast(20.0),
            },
        ]
    }

    #[test]
    fn seeds_become_a_median_and_a_spread_beside_a_goal() {
        let runs = [[3.0, 10.0], [1.0, 30.0], [2.0, 11.0]].map(run);
        let summary = Summary {
            scenario: "even",
            seeds: 3,
            first_seed: 7,
            failed: vec![8],
            layout: Layout::new(100, 10).ok(),
            steps: 50,
            wall_seconds: 2.0,
            peak_mebibytes: None,
            spreads: spreads(&runs),
        };
        let text = summary.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "3 seeds from 7 in 2.0 s, 50 steps, 25 a second",
                "first: median 2.000, 1.000 to 3.000; goal: at most 2, met",
                "second: median 11.000, 10.000 to 30.000; goal: at least 20, missed",
            ]
        );
        let json = summary.json();
        for part in [
            r#""failed":[8],"payload_bytes":100,"piece_bytes":10,"#,
            r#""peak_mebibytes":null,"#,
            r#"{"name":"first","median":2.0000,"least":1.0000,"most":3.0000,"at_most":2,"at_least":null,"met":true},"#,
            r#""at_most":null,"at_least":20,"met":false}]}"#,
        ] {
            assert!(json.contains(part), "{part} in {json}");
        }
    }
}
