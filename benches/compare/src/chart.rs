//! The ratios of a run as bars: how many times the time of the first engine each other one takes.
//!
//! The scale is logarithmic and begins at a tenth; a line marks 1, where both take the same time.
//! Drawn with plain rectangles and text, for a list of fifty groups is not a chart that a charting
//! library lays out well.

use crate::engine::Result;
use crate::run::{Row, Run};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

const WIDTH: i32 = 1_000;
const LABELS: i32 = 270;
const RIGHT: i32 = 70;
const TOP: i32 = 60;
const BAR: i32 = 9;
const GAP: i32 = 10;
/// Ends of the scale, in powers of ten.
const LOWEST: f64 = -1.0;
const HIGHEST: f64 = 3.0;

const COLOURS: [RGBColor; 6] = [
    RGBColor(0x44, 0x77, 0xaa),
    RGBColor(0xee, 0x66, 0x77),
    RGBColor(0x22, 0x88, 0x33),
    RGBColor(0xcc, 0xbb, 0x44),
    RGBColor(0x66, 0xcc, 0xee),
    RGBColor(0xaa, 0x33, 0x77),
];

pub fn draw(path: &Path, run: &Run, rows: &[Row<'_>], engines: &[&str]) -> Result<()> {
    let Some((subject, others)) = engines.split_first() else {
        return Ok(());
    };
    let mut groups: Vec<(String, Vec<Option<f64>>)> = Vec::new();
    for &row in rows {
        let ratios = others.iter().map(|o| run.ratio(row, subject, o)).collect();
        groups.push((row.name.to_string(), ratios));
    }
    let means = others
        .iter()
        .map(|o| run.mean_ratio(rows, subject, o))
        .collect();
    groups.push(("geometric mean".to_string(), means));

    let group = others.len() as i32 * BAR + GAP;
    let bottom = TOP + groups.len() as i32 * group;
    let size = (WIDTH as u32, (bottom + 20) as u32);
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    let text = |words: &str, at: (i32, i32), colour: RGBColor, side: HPos| {
        let style = ("sans-serif", 12).into_font().color(&colour);
        let style = style.pos(Pos::new(side, VPos::Center));
        area.draw(&Text::new(words.to_string(), at, style))
    };

    let title = format!("time ÷ time of {subject} (longer: {subject} is faster)");
    text(&title, (10, 15), BLACK, HPos::Left)?;
    for (i, other) in others.iter().enumerate() {
        let left = LABELS + i as i32 * 100;
        let colour = COLOURS[i % COLOURS.len()];
        let square = [(left, 28), (left + 10, 38)];
        area.draw(&Rectangle::new(square, colour.filled()))?;
        text(other, (left + 15, 33), BLACK, HPos::Left)?;
    }
    for mark in [0.1, 1.0, 10.0, 100.0, 1_000.0] {
        let x = position(mark);
        let shade = if mark == 1.0 { 0 } else { 200 };
        let colour = RGBColor(shade, shade, shade);
        area.draw(&PathElement::new([(x, TOP - 5), (x, bottom)], colour))?;
        text(&format!("{mark}"), (x, TOP - 12), BLACK, HPos::Center)?;
    }
    for (number, (name, ratios)) in groups.iter().enumerate() {
        let top = TOP + number as i32 * group + GAP / 2;
        let middle = top + (group - GAP) / 2;
        text(name, (LABELS - 10, middle), BLACK, HPos::Right)?;
        for (i, ratio) in ratios.iter().enumerate() {
            let Some(ratio) = ratio else { continue };
            let y = top + i as i32 * BAR;
            let colour = COLOURS[i % COLOURS.len()];
            let bar = [(position(0.1), y), (position(*ratio), y + BAR - 1)];
            area.draw(&Rectangle::new(bar, colour.filled()))?;
            let at = (position(*ratio) + 4, y + BAR / 2);
            let style = ("sans-serif", 9).into_font().color(&BLACK);
            let style = style.pos(Pos::new(HPos::Left, VPos::Center));
            let digits = if *ratio < 1.0 { 2 } else { 1 };
            area.draw(&Text::new(format!("{ratio:.digits$}"), at, style))?;
        }
    }
    Ok(area.present()?)
}

fn position(ratio: f64) -> i32 {
    let share = (ratio.log10().clamp(LOWEST, HIGHEST) - LOWEST) / (HIGHEST - LOWEST);
    LABELS + (share * f64::from(WIDTH - LABELS - RIGHT)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Gap;
    use crate::run::tests::gap;

    #[test]
    fn a_tenfold_ratio_is_a_quarter_of_the_scale() {
        assert_eq!(position(0.1), LABELS);
        assert_eq!(position(0.001), LABELS);
        assert_eq!(position(1_000.0), WIDTH - RIGHT);
        assert_eq!(
            position(1.0) - position(0.1),
            position(10.0) - position(1.0)
        );
    }

    #[test]
    fn the_chart_is_an_svg_that_names_rows_and_engines() {
        let run = Run {
            outcomes: vec![gap("a row", "other", Gap::TooLong { seconds: 1 })],
            ended_by: None,
        };
        let rows = run.rows(&["work a row"]);
        let name = format!("compare-test-{}.svg", std::process::id());
        let path = std::env::temp_dir().join(name);
        draw(&path, &run, &rows, &["first", "other"]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        for part in ["<svg", "a row", "other", "geometric mean"] {
            assert!(text.contains(part), "{part}");
        }
    }
}
