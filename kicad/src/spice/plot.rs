// SPDX-License-Identifier: Apache-2.0
//! A run as a picture: a panel for volts and one for amperes over the same time.

use std::fmt::Write as _;

use super::{Simulation, Waveforms};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 58.0;
const PANEL: f64 = 190.0;
const GAP: f64 = 38.0;
/// Columns in which a curve's smallest and largest values are drawn: more than pixels would say nothing.
const COLUMNS: usize = 350;
/// Told apart by people who see few colours (Okabe and Ito), dark enough on white.
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

pub(super) fn svg(simulation: &Simulation, waves: &Waveforms) -> String {
    let units: Vec<&str> = ["V", "A"]
        .into_iter()
        .filter(|unit| simulation.probes.iter().any(|probe| probe.unit == *unit))
        .collect();
    #[allow(clippy::cast_precision_loss, reason = "two panels at most")]
    let height = TOP + (PANEL + GAP) * units.len() as f64 + 16.0;
    let mut out = format!(
        "<!-- SPDX-License-Identifier: CERN-OHL-P-2.0 -->\n<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escaped(simulation.title)
    );
    let mut top = TOP;
    for unit in units {
        panel(&mut out, simulation, waves, unit, top);
        top += PANEL + GAP;
    }
    let (scale, name) = seconds(simulation.end);
    for tick in ticks(0.0, simulation.end * scale) {
        let x = across(tick / scale, simulation.end);
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            top - GAP + 16.0,
            label(tick)
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>\n</svg>",
        WIDTH - RIGHT,
        top - GAP + 32.0
    );
    out
}

fn panel(out: &mut String, simulation: &Simulation, waves: &Waveforms, unit: &str, top: f64) {
    let curves = || {
        simulation
            .probes
            .iter()
            .zip(&waves.curves)
            .filter(move |(probe, _)| probe.unit == unit)
    };
    let values = || curves().flat_map(|(_, curve)| curve.iter().copied());
    let low = values().fold(0.0, f64::min);
    let high = values().fold(low + 1e-3, f64::max);
    let (low, high) = (low - (high - low) * 0.04, high + (high - low) * 0.08);
    let y = |value: f64| top + PANEL - (value - low) / (high - low) * PANEL;
    let (scale, prefix) = match high.abs() < 0.5 {
        true => (1e3, "m"),
        false => (1.0, ""),
    };
    for tick in ticks(low * scale, high * scale) {
        let at = y(tick / scale);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#dddddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            label(tick)
        );
    }
    let (time, _) = seconds(simulation.end);
    for tick in ticks(0.0, simulation.end * time) {
        let x = across(tick / time, simulation.end);
        let _ = writeln!(
            out,
            "<path d=\"M{x:.1} {top:.1}v{PANEL}\" stroke=\"#eeeeee\"/>"
        );
    }
    let _ = writeln!(
        out,
        "<rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{PANEL}\" fill=\"none\" stroke=\"#666666\"/>\n\
         <text x=\"14\" y=\"{:.1}\">{prefix}{unit}</text>",
        WIDTH - LEFT - RIGHT,
        top + 12.0
    );
    let mut legend = WIDTH - RIGHT - curves().map(|(probe, _)| width(probe.label)).sum::<f64>();
    for (index, (probe, curve)) in curves().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let mut path = String::new();
        for (time, value) in thinned(&waves.time, curve, simulation.end) {
            let command = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(
                path,
                "{command}{:.1} {:.1}",
                across(time, simulation.end),
                y(value)
            );
        }
        let _ = writeln!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" stroke-linejoin=\"round\"/>\n\
             <text x=\"{legend:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
            top - 6.0,
            escaped(probe.label)
        );
        legend += width(probe.label);
    }
}

/// About how wide a label is, with the space to the next.
#[allow(clippy::cast_precision_loss, reason = "a few words")]
fn width(label: &str) -> f64 {
    6.6 * label.chars().count() as f64 + 16.0
}

fn across(time: f64, end: f64) -> f64 {
    LEFT + time / end * (WIDTH - LEFT - RIGHT)
}

/// The curve's smallest and largest value of each column, in the order in which they come.
fn thinned(time: &[f64], curve: &[f64], end: f64) -> Vec<(f64, f64)> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a time of 0 to the end, so a column of 0 to COLUMNS"
    )]
    let column = |time: f64| (time / end * COLUMNS as f64) as usize;
    let points: Vec<(f64, f64)> = time.iter().copied().zip(curve.iter().copied()).collect();
    points
        .chunk_by(|one, other| column(one.0) == column(other.0))
        .flat_map(|chunk| {
            let by_value = |one: &&(f64, f64), other: &&(f64, f64)| one.1.total_cmp(&other.1);
            let mut ends = [chunk.iter().min_by(by_value), chunk.iter().max_by(by_value)]
                .map(|point| *point.expect("a chunk is not empty"));
            ends.sort_by(|one, other| one.0.total_cmp(&other.0));
            ends
        })
        .collect()
}

/// Round numbers between both, four to ten of them.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(power);
    let first = (low / step).ceil();
    let mut ticks = Vec::new();
    let mut index = 0.0;
    while (first + index) * step <= high * 1.000_001 && ticks.len() < 20 {
        ticks.push((first + index) * step);
        index += 1.0;
    }
    ticks
}

fn label(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0" } else { text }.to_owned()
}

fn seconds(end: f64) -> (f64, &'static str) {
    match end {
        end if end < 1e-3 => (1e6, "us"),
        end if end < 1.0 => (1e3, "ms"),
        _ => (1.0, "s"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(-1.0, 4.2).first(), Some(&-0.0));
        for (low, high) in [(0.0, 1e-6), (-3.0, 41.0), (0.0, 997.0)] {
            assert!((4..=11).contains(&ticks(low, high).len()), "{low} {high}");
        }
        assert_eq!(
            (label(2.50), label(-0.0), label(20.0)),
            ("2.5".into(), "0".into(), "20".into())
        );
    }

    #[test]
    fn a_short_peak_is_not_thinned_away() {
        let time: Vec<f64> = (0..10_000).map(f64::from).collect();
        let mut curve = vec![0.0; 10_000];
        curve[5_003] = 7.0;
        let thin = thinned(&time, &curve, 10_000.0);
        assert!(thin.len() <= 2 * (COLUMNS + 1));
        assert!(thin.iter().any(|(_, value)| *value > 6.9));
    }
}
