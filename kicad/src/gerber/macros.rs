// SPDX-License-Identifier: Apache-2.0
//! Aperture macros (Gerber format specification, 4.5): a small language of primitives and arithmetic.

use super::shapes::{self, Contour, Point};

/// The polygons of a macro's `body` (its blocks without the name) with `arguments` for `$1`, `$2`...
pub(super) fn polygons(body: &[String], arguments: &[f64]) -> Result<Vec<Contour>, String> {
    let mut variables = arguments.to_vec();
    let mut contours = Vec::new();
    for block in body {
        if block.starts_with('0') && !block[1..].starts_with(',') {
            continue;
        }
        if let Some((name, value)) = block.split_once('=') {
            let index: usize = name
                .trim()
                .strip_prefix('$')
                .and_then(|digits| digits.parse().ok())
                .filter(|index| (1..1000).contains(index))
                .ok_or_else(|| format!("a macro's variable {name}"))?;
            if variables.len() < index {
                variables.resize(index, 0.0);
            }
            variables[index - 1] = evaluate(value, &variables)?;
            continue;
        }
        let numbers = block
            .split(',')
            .map(|term| evaluate(term, &variables))
            .collect::<Result<Vec<_>, _>>()?;
        contours.push(primitive(&numbers).ok_or_else(|| format!("a macro's primitive {block}"))?);
    }
    Ok(contours)
}

/// None for what is not known: other primitives, exposure off, too few numbers.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "codes and counts of corners are small whole numbers, and looked at before"
)]
fn primitive(numbers: &[f64]) -> Option<Contour> {
    let (code, rest) = numbers.split_first()?;
    let (exposure, rest) = rest.split_first()?;
    if *exposure != 1.0 || code.fract() != 0.0 {
        return None;
    }
    let (contour, rotation): (Contour, f64) = match (*code as i64, rest) {
        (1, [diameter, x, y]) => (shapes::circle([*x, *y], *diameter), 0.0),
        (1, [diameter, x, y, rotation]) => (shapes::circle([*x, *y], *diameter), *rotation),
        (20, [width, x1, y1, x2, y2, rotation]) => {
            (band([*x1, *y1], [*x2, *y2], *width), *rotation)
        }
        (21, [width, height, x, y, rotation]) => {
            (shapes::rectangle([*x, *y], *width, *height), *rotation)
        }
        (4, [count, rest @ ..]) if *count >= 3.0 && *count < 10_000.0 => {
            // The first corner is repeated at the end.
            let values = 2 * (*count as usize + 1);
            let (corners, [rotation]) = rest.split_at_checked(values)? else {
                return None;
            };
            let points = corners.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
            (points.collect(), *rotation)
        }
        (5, [count, x, y, diameter, rotation]) if (3.0..=12.0).contains(count) => (
            shapes::regular([*x, *y], diameter / 2.0, *count as u32, 0.0),
            *rotation,
        ),
        _ => return None,
    };
    let turned = contour.into_iter();
    Some(
        turned
            .map(|point| shapes::turned(point, rotation))
            .collect(),
    )
}

/// A line with square ends that stop at its end points.
fn band(from: Point, to: Point, width: f64) -> Contour {
    let length = (to[0] - from[0]).hypot(to[1] - from[1]).max(1e-9);
    let across = [
        -(to[1] - from[1]) / length * width / 2.0,
        (to[0] - from[0]) / length * width / 2.0,
    ];
    let other = [-across[0], -across[1]];
    vec![
        shapes::moved(from, other),
        shapes::moved(to, other),
        shapes::moved(to, across),
        shapes::moved(from, across),
    ]
}

/// `+`, `-`, `x`, `/`, parentheses, numbers and variables.
fn evaluate(text: &str, variables: &[f64]) -> Result<f64, String> {
    let mut terms = Terms {
        rest: text.trim(),
        variables,
        depth: 0,
    };
    match terms.sum() {
        Some(value) if terms.rest.is_empty() && value.is_finite() => Ok(value),
        _ => Err(format!("a macro's expression {text}")),
    }
}

struct Terms<'a> {
    rest: &'a str,
    variables: &'a [f64],
    depth: u32,
}

impl Terms<'_> {
    fn takes(&mut self, letter: char) -> bool {
        let rest = self.rest.strip_prefix(letter);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn sum(&mut self) -> Option<f64> {
        let mut value = self.product()?;
        loop {
            if self.takes('+') {
                value += self.product()?;
            } else if self.takes('-') {
                value -= self.product()?;
            } else {
                return Some(value);
            }
        }
    }

    fn product(&mut self) -> Option<f64> {
        let mut value = self.factor()?;
        loop {
            if self.takes('x') || self.takes('X') {
                value *= self.factor()?;
            } else if self.takes('/') {
                value /= self.factor()?;
            } else {
                return Some(value);
            }
        }
    }

    fn factor(&mut self) -> Option<f64> {
        self.depth += 1;
        if self.depth > 64 {
            return None;
        }
        if self.takes('-') {
            return Some(-self.factor()?);
        }
        if self.takes('+') {
            return self.factor();
        }
        if self.takes('(') {
            let value = self.sum()?;
            return self.takes(')').then_some(value);
        }
        let variable = self.takes('$');
        let end = self
            .rest
            .find(|letter: char| !letter.is_ascii_digit() && (variable || letter != '.'))
            .unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        match variable {
            // A variable that was not given is zero (4.5.4.2).
            true => digits
                .parse::<usize>()
                .ok()?
                .checked_sub(1)
                .map(|index| self.variables.get(index).copied().unwrap_or(0.0)),
            false => digits.parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_follow_the_rules_of_arithmetic() {
        let value = |text: &str| evaluate(text, &[2.0, 3.0]);
        assert_eq!(value("$1+$1"), Ok(4.0));
        assert_eq!(value("1-$2x$1"), Ok(-5.0));
        assert_eq!(value("-(1.5-$2)/$1"), Ok(0.75));
        assert_eq!(value("$9"), Ok(0.0));
        assert!(value("1+").is_err() && value("1 2").is_err() && value("1/0").is_err());
    }

    #[test]
    fn a_rounded_rectangle_is_its_body_corners_and_sides() {
        let body: Vec<String> = [
            "0 Rectangle with rounded corners",
            "4,1,4,$2,$3,$4,$5,$6,$7,$8,$9,$2,$3,0",
            "1,1,$1+$1,$2,$3",
            "20,1,$1+$1,$2,$3,$4,$5,0",
        ]
        .map(str::to_owned)
        .to_vec();
        let arguments = [0.1, -1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0];
        let contours = polygons(&body, &arguments).unwrap();
        assert_eq!(contours.len(), 3);
        assert_eq!(contours[0].len(), 5);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let refused = |block: &str| polygons(&[block.to_owned()], &[]).is_err();
        assert!(refused("7,0,0,1,0.5,0.1,0"), "a thermal");
        assert!(refused("1,0,1,0,0"), "exposure off");
        assert!(refused("4,1,4,0,0,1,0,1,1,0"), "a short outline");
        assert!(refused("$x=1"));
    }
}
