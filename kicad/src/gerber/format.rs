// SPDX-License-Identifier: Apache-2.0
//! Gerber layers (RS-274X with X2's attributes): a file becomes polygons, dark or clear, in their order.

use std::collections::BTreeMap;

use super::{
    macros,
    shapes::{self, Contour, Point},
};

/// Where and why a file was not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("at `{word}`: {reason}")]
pub struct GerberError {
    word: String,
    reason: String,
}

/// A layer of copper.
#[derive(Debug)]
pub struct Layer {
    /// Counted from the top, from one.
    pub number: usize,
    /// What was drawn, in order.
    pub objects: Vec<Object>,
}

/// A polygon that was drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Copper; otherwise copper that was there is taken away.
    pub dark: bool,
    /// Its corners; it may touch itself (zones are cut open to their holes).
    pub contour: Contour,
}

/// A shape that is flashed or drawn with.
enum Aperture {
    /// A circle of this diameter, the only one that lines are drawn with.
    Circle(f64),
    Other(Vec<Contour>),
}

#[derive(Clone, Copy, PartialEq)]
enum Motion {
    Line,
    Arc { clockwise: bool },
}

struct Reader {
    /// Coordinates are whole numbers of this many millimetres.
    unit: Option<f64>,
    decimals: Option<i32>,
    apertures: BTreeMap<u32, Aperture>,
    macros: BTreeMap<String, Vec<String>>,
    current: Option<u32>,
    at: Point,
    motion: Motion,
    multi_quadrant: bool,
    dark: bool,
    region: Option<Contour>,
    number: Option<usize>,
    objects: Vec<Object>,
    ended: bool,
}

/// Reads a file of copper.
///
/// # Errors
/// Anything in it that is not understood, a file without its end or without a layer's number.
pub fn read(source: &str) -> Result<Layer, GerberError> {
    let mut reader = Reader {
        unit: None,
        decimals: None,
        apertures: BTreeMap::new(),
        macros: BTreeMap::new(),
        current: None,
        at: [0.0, 0.0],
        motion: Motion::Line,
        multi_quadrant: false,
        dark: true,
        region: None,
        number: None,
        objects: Vec::new(),
        ended: false,
    };
    let fault = |word: &str, reason: String| GerberError {
        word: word.chars().take(60).collect(),
        reason,
    };
    // Between two percent signs there are extended commands, each of words that end in an asterisk.
    for (index, part) in source.split('%').enumerate() {
        let extended = index % 2 == 1;
        let text: String = part.split(['\n', '\r']).collect();
        let words: Vec<&str> = text.split('*').collect();
        let (last, words) = words.split_last().unwrap_or((&"", &[]));
        if !last.trim().is_empty() {
            return Err(fault(last, "no asterisk ends it".into()));
        }
        if extended {
            let Some((first, rest)) = words.split_first() else {
                return Err(fault("%%", "an empty command".into()));
            };
            reader
                .extended(first, rest)
                .map_err(|reason| fault(first, reason))?;
            continue;
        }
        for word in words {
            reader.word(word).map_err(|reason| fault(word, reason))?;
        }
    }
    if !reader.ended {
        return Err(fault("", "the file stops before M02".into()));
    }
    let number = reader
        .number
        .ok_or_else(|| fault("", "it does not say which layer of copper it is".into()))?;
    Ok(Layer {
        number,
        objects: reader.objects,
    })
}

type Outcome = Result<(), String>;

impl Reader {
    fn extended(&mut self, first: &str, rest: &[&str]) -> Outcome {
        if let Some(name) = first.strip_prefix("AM") {
            let body = rest.iter().map(|block| (*block).to_owned()).collect();
            self.macros.insert(name.to_owned(), body);
            return Ok(());
        }
        if !rest.is_empty() {
            return Err("several commands between percent signs".into());
        }
        if let Some(format) = first.strip_prefix("FSLA") {
            let (x, y) = format
                .strip_prefix('X')
                .and_then(|format| format.split_once('Y'))
                .ok_or("a format of coordinates")?;
            let decimals = x.strip_prefix(|digit: char| digit.is_ascii_digit());
            let decimals = decimals.and_then(|digit| digit.parse().ok());
            if x != y || decimals.is_none() {
                return Err("a format of coordinates".into());
            }
            self.decimals = decimals;
        } else if let Some(definition) = first.strip_prefix("ADD") {
            self.define(definition)?;
        } else if let Some(attribute) = first.strip_prefix("TF.FileFunction,") {
            let layer = attribute.strip_prefix("Copper,L");
            let number = layer.and_then(|rest| rest.split(',').next()?.parse().ok());
            self.number = Some(number.ok_or("not a layer of copper")?);
        } else {
            match first {
                "MOMM" => self.unit = Some(1.0),
                "MOIN" => self.unit = Some(25.4),
                "LPD" => self.dark = true,
                "LPC" => self.dark = false,
                "TF.FilePolarity,Negative" => return Err("a negative layer".into()),
                // Attributes say what things are called; what is copper does not depend on them.
                attribute if attribute.starts_with('T') => {}
                "LMN" | "LR0" | "LR0.0" | "LS1" | "LS1.0" | "IPPOS" => {}
                _ => return Err("not understood".into()),
            }
        }
        Ok(())
    }

    fn define(&mut self, text: &str) -> Outcome {
        let end = text
            .find(|letter: char| !letter.is_ascii_digit())
            .ok_or("an aperture without a shape")?;
        let number = text[..end].parse().map_err(|_| "an aperture's number")?;
        let (name, arguments) = text[end..].split_once(',').unwrap_or((&text[end..], ""));
        let numbers = arguments
            .split('X')
            .filter(|term| !term.is_empty())
            .map(|term| term.parse::<f64>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| "an aperture's numbers")?;
        let unit = self.unit.ok_or("an aperture before the unit")?;
        let scaled = |contour: Contour| -> Contour {
            let points = contour.into_iter();
            points.map(|[x, y]| [x * unit, y * unit]).collect()
        };
        const O: Point = [0.0, 0.0];
        let aperture = match (name, &*numbers) {
            ("C", [diameter]) => Aperture::Circle(diameter * unit),
            ("R", [x, y]) => Aperture::Other(vec![scaled(shapes::rectangle(O, *x, *y))]),
            ("O", [x, y]) => Aperture::Other(vec![scaled(shapes::obround(O, *x, *y))]),
            ("C" | "R" | "O" | "P", _) => {
                return Err("an aperture with a hole, or a polygon: not understood".into());
            }
            (name, numbers) => {
                let body = self.macros.get(name).ok_or("an unknown shape")?;
                let contours = macros::polygons(body, numbers)?;
                Aperture::Other(contours.into_iter().map(scaled).collect())
            }
        };
        self.apertures.insert(number, aperture);
        Ok(())
    }

    fn word(&mut self, word: &str) -> Outcome {
        if word.starts_with("G04") {
            return Ok(());
        }
        if self.ended && !word.is_empty() {
            return Err("something follows the end".into());
        }
        let word = match word.get(..3) {
            Some("G01") => self.moves(Motion::Line, word),
            Some("G02") => self.moves(Motion::Arc { clockwise: true }, word),
            Some("G03") => self.moves(Motion::Arc { clockwise: false }, word),
            _ => word,
        };
        match word {
            "" => Ok(()),
            "G36" => match self.region.replace(Vec::new()) {
                None => Ok(()),
                Some(_) => Err("a region within a region".into()),
            },
            "G37" => {
                self.close();
                self.region.take().map(drop).ok_or("no region".into())
            }
            "G75" => {
                self.multi_quadrant = true;
                Ok(())
            }
            "M02" => {
                self.ended = true;
                match self.region {
                    None => Ok(()),
                    Some(_) => Err("the file ends in a region".into()),
                }
            }
            _ if word.starts_with('D') => {
                let number = word[1..].parse().ok().filter(|number| *number >= 10);
                let number = number.ok_or("an operation without a place")?;
                if !self.apertures.contains_key(&number) {
                    return Err("an aperture that was not defined".into());
                }
                self.current = Some(number);
                Ok(())
            }
            _ if word.starts_with(['X', 'Y', 'I', 'J']) => self.operate(word),
            _ => Err("not understood".into()),
        }
    }

    fn moves<'a>(&mut self, motion: Motion, word: &'a str) -> &'a str {
        self.motion = motion;
        &word[3..]
    }

    fn operate(&mut self, word: &str) -> Outcome {
        let (places, operation) = word.split_once('D').ok_or("a place without an operation")?;
        let unit = self.unit.ok_or("a place before the unit")?;
        let unit = unit / 10f64.powi(self.decimals.ok_or("a place before the format")?);
        let (mut to, mut offset) = (self.at, [0.0, 0.0]);
        let mut rest = places;
        while let Some(letter) = rest.chars().next() {
            let end = rest[1..].find(|c: char| c.is_ascii_alphabetic());
            let end = end.map_or(rest.len(), |end| end + 1);
            let value: i64 = rest[1..end].parse().map_err(|_| "a coordinate")?;
            let value = f64::from(i32::try_from(value).map_err(|_| "a coordinate")?) * unit;
            match letter {
                'X' => to[0] = value,
                'Y' => to[1] = value,
                'I' => offset[0] = value,
                'J' => offset[1] = value,
                _ => return Err("a coordinate".into()),
            }
            rest = &rest[end..];
        }
        match operation {
            "01" | "1" => self.draw(to, offset)?,
            "02" | "2" => {
                self.close();
                if let Some(contour) = &mut self.region {
                    contour.push(to);
                }
            }
            "03" | "3" => self.flash(to)?,
            _ => return Err("an operation".into()),
        }
        self.at = to;
        Ok(())
    }

    fn draw(&mut self, to: Point, offset: Point) -> Outcome {
        let points = match self.motion {
            Motion::Line => vec![to],
            Motion::Arc { .. } if !self.multi_quadrant => {
                return Err("an arc before G75: single quadrants are not understood".into());
            }
            Motion::Arc { clockwise } => {
                shapes::arc(self.at, to, shapes::moved(self.at, offset), clockwise)
            }
        };
        if let Some(contour) = &mut self.region {
            contour.extend(points);
            return Ok(());
        }
        let aperture = self.current.and_then(|number| self.apertures.get(&number));
        let Some(Aperture::Circle(width)) = aperture else {
            return Err("a line that is not drawn with a circle".into());
        };
        let width = *width;
        let mut from = self.at;
        for point in points {
            self.objects.push(Object {
                dark: self.dark,
                contour: shapes::stroke(from, point, width),
            });
            from = point;
        }
        Ok(())
    }

    fn flash(&mut self, at: Point) -> Outcome {
        if self.region.is_some() {
            return Err("a flash within a region".into());
        }
        let aperture = self.current.and_then(|number| self.apertures.get(&number));
        let contours = match aperture.ok_or("a flash without an aperture")? {
            Aperture::Circle(diameter) => vec![shapes::circle([0.0, 0.0], *diameter)],
            Aperture::Other(contours) => contours.clone(),
        };
        let dark = self.dark;
        self.objects.extend(contours.into_iter().map(|contour| {
            Object {
                dark,
                contour: contour
                    .into_iter()
                    .map(|point| shapes::moved(point, at))
                    .collect(),
            }
        }));
        Ok(())
    }

    /// Ends the contour of a region that was being drawn.
    fn close(&mut self) {
        if let Some(contour) = &mut self.region
            && contour.len() > 2
        {
            self.objects.push(Object {
                dark: self.dark,
                contour: std::mem::take(contour),
            });
        } else if let Some(contour) = &mut self.region {
            contour.clear();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file with one aperture of each kind.
    pub(in super::super) fn layer(number: usize, body: &str) -> String {
        format!(
            "%TF.FileFunction,Copper,L{number},Top*%\n%FSLAX46Y46*%\nG04 made by hand*\n%MOMM*%\n%LPD*%\nG01*\n%ADD10C,0.500000*%\n\
             %ADD11R,2.000000X1.000000*%\n%ADD12O,1.000000X2.000000*%\n{body}M02*\n"
        )
    }

    #[test]
    fn flashes_lines_arcs_and_regions_become_polygons() {
        let body = "D11*\nX1000000Y0D03*\nD10*\nX0Y0D02*\nX5000000Y0D01*\nG75*\nG02*\nX6000000Y-1000000I0J-1000000D01*\nG01*\n\
                    G36*\nX0Y0D02*\nX1000000Y0D01*\nX0Y1000000D01*\nG37*\n";
        let read = read(&layer(2, body)).unwrap();
        assert_eq!(read.number, 2);
        assert_eq!(read.objects[0].contour[0], [0.0, -0.5]);
        // A flash, a line, twelve pieces of a quarter turn, a triangle.
        assert_eq!(read.objects.len(), 1 + 1 + 12 + 1);
        assert_eq!(read.objects.last().unwrap().contour.len(), 3);
    }

    #[test]
    fn clear_objects_stay_clear() {
        let body = "D11*\nX0Y0D03*\n%LPC*%\nD10*\nX0Y0D03*\n";
        let objects = read(&layer(1, body)).unwrap().objects;
        assert_eq!((objects[0].dark, objects[1].dark), (true, false));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let error = |body: &str| read(&layer(1, body)).unwrap_err().to_string();
        assert!(error("D99*\n").contains("not defined"));
        assert!(error("%SRX2Y2I1J1*%\n").contains("not understood"));
        assert!(error("%ADD13C,1X0.5*%\n").contains("hole"));
        assert!(error("D11*\nX0Y0D02*\nX1Y1D01*\n").contains("circle"));
        assert!(error("G36*\n").contains("ends in a region"));
        assert!(error("D10*\nX0Y0D02*\nG02*\nX1Y1I1J0D01*\n").contains("G75"));
        let whole = layer(1, "");
        let cut = whole.strip_suffix("M02*\n").unwrap();
        assert!(read(cut).unwrap_err().to_string().contains("M02"));
    }
}
