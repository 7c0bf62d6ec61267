// SPDX-License-Identifier: Apache-2.0
//! Footprints from `.pretty` folders: KiCad's stock libraries and the project's own.
//!
//! The file's expression is kept whole, because the board must hold it unchanged (KiCad's check compares the two); what the
//! router and the checks need of it is read out beside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::pcb::geometry::{Bounds, Point, Shape, at, nm};
use crate::sexpr::{Sexpr, SexprError};

/// Layers of copper as bits.
pub type Layers = u8;
/// The upper side.
pub const F_CU: Layers = 1;
/// The upper inner layer.
pub const IN1: Layers = 2;
/// The lower inner layer.
pub const IN2: Layers = 4;
/// The lower side.
pub const B_CU: Layers = 8;
/// All four.
pub const ALL: Layers = 15;
/// Names, by bit.
pub const LAYER_NAMES: [&str; 4] = ["F.Cu", "In1.Cu", "In2.Cu", "B.Cu"];

/// Why a footprint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FootprintError {
    /// Not `library:name`.
    #[error("`{0}` is not library:name")]
    Name(String),
    /// The file cannot be read.
    #[error("read footprint {path}; are the packages kicad-footprints and this tree complete?")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no footprint.
    #[error("footprint {path}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SexprError,
    },
    /// Something in it is not understood.
    #[error("footprint {name}: pad {pad}: {reason}")]
    Pad {
        /// The footprint.
        name: String,
        /// The pad.
        pad: String,
        /// What is not understood.
        reason: &'static str,
    },
}

/// A footprint as drawn in its library.
#[derive(Debug, Clone)]
pub struct Footprint {
    /// `library:name`.
    pub name: String,
    /// The file.
    pub body: Sexpr,
    /// Its pads, those without number included.
    pub pads: Vec<Pad>,
    /// What its courtyard covers.
    pub courtyard: Bounds,
    /// Lines on the upper silk.
    pub silk: Vec<Shape>,
}

/// A pad, relative to the footprint.
#[derive(Debug, Clone)]
pub struct Pad {
    /// The number; empty for holes and bare apertures.
    pub number: String,
    /// Its copper, as one or several shapes.
    pub copper: Vec<Shape>,
    /// The layers with copper.
    pub layers: Layers,
    /// The hole, if it has one.
    pub hole: Option<Shape>,
    /// Whether the hole is plated.
    pub plated: bool,
    /// The middle.
    pub centre: Point,
}

/// Where footprints are found; those read once are kept.
#[derive(Debug)]
pub struct Library {
    stock: PathBuf,
    own: PathBuf,
    read: BTreeMap<String, Footprint>,
}

impl Library {
    /// The stock libraries below `stock` and the project's own, `racklet`, below `own`.
    #[must_use]
    pub fn new(stock: &Path, own: &Path) -> Self {
        Self {
            stock: stock.into(),
            own: own.into(),
            read: BTreeMap::new(),
        }
    }

    /// The footprint `library:name`.
    ///
    /// # Errors
    /// [`FootprintError`] where there is none or it has something that is not understood.
    pub fn get(&mut self, name: &str) -> Result<&Footprint, FootprintError> {
        if !self.read.contains_key(name) {
            let (library, file) = name
                .split_once(':')
                .ok_or_else(|| FootprintError::Name(name.into()))?;
            let base = if library == "racklet" {
                &self.own
            } else {
                &self.stock
            };
            let path = base
                .join(format!("{library}.pretty"))
                .join(format!("{file}.kicad_mod"));
            let source = std::fs::read_to_string(&path).map_err(|source| FootprintError::Read {
                path: path.clone(),
                source,
            })?;
            let body =
                Sexpr::parse(&source).map_err(|source| FootprintError::Syntax { path, source })?;
            self.read
                .insert(name.to_owned(), Footprint::read(name, body)?);
        }
        Ok(&self.read[name])
    }
}

impl Footprint {
    /// Reads what is needed out of a footprint's expression.
    ///
    /// # Errors
    /// [`FootprintError::Pad`] for a pad that is not understood.
    pub fn read(name: &str, body: Sexpr) -> Result<Self, FootprintError> {
        let pads: Vec<Pad> = body
            .all("pad")
            .map(|pad| {
                read_pad(pad).map_err(|reason| FootprintError::Pad {
                    name: name.into(),
                    pad: pad.argument(0).unwrap_or_default().into(),
                    reason,
                })
            })
            .collect::<Result<_, _>>()?;
        let drawn = |layer: &str| -> Vec<Shape> {
            body.items()
                .iter()
                .filter(|item| item.field("layer") == Some(layer))
                .flat_map(graphic)
                .collect()
        };
        let courtyard = drawn("F.CrtYd")
            .iter()
            .chain(&drawn("B.CrtYd"))
            .map(Shape::bounds)
            .chain(
                pads.iter()
                    .flat_map(|pad| pad.copper.iter().map(Shape::bounds)),
            )
            .reduce(Bounds::and)
            .unwrap_or(Bounds {
                low: Point::default(),
                high: Point::default(),
            });
        let silk = drawn("F.SilkS");
        Ok(Self {
            name: name.into(),
            pads,
            courtyard,
            silk,
            body,
        })
    }
}

/// The two numbers of a list such as `(at 1 2)`.
#[must_use]
pub fn point_of(list: &Sexpr) -> Option<Point> {
    Some(at(
        list.items().get(1)?.number()?,
        list.items().get(2)?.number()?,
    ))
}

fn points_of(item: &Sexpr) -> Vec<Point> {
    item.get("pts")
        .map(|pts| pts.all("xy").filter_map(point_of).collect())
        .unwrap_or_default()
}

/// What a drawn item covers, as shapes; texts cover nothing here.
#[must_use]
pub fn graphic(item: &Sexpr) -> Vec<Shape> {
    let width = item
        .get("stroke")
        .and_then(|stroke| stroke.get("width"))
        .or_else(|| item.get("width"))
        .and_then(|width| width.items().get(1)?.number())
        .map_or(0, nm);
    let named = |name| item.get(name).and_then(point_of);
    let kind = item.name().unwrap_or_default();
    let kind = kind
        .strip_prefix("fp_")
        .or_else(|| kind.strip_prefix("gr_"))
        .unwrap_or_default();
    let line = |pair: &[Point]| Shape::line(pair[0], pair[1], width);
    match (kind, named("start"), named("end")) {
        ("line", Some(a), Some(b)) => vec![Shape::line(a, b, width)],
        ("rect", Some(a), Some(b)) => {
            let corners = [a, Point { x: b.x, y: a.y }, b, Point { x: a.x, y: b.y }, a];
            if item
                .field("fill")
                .is_some_and(|fill| fill != "no" && fill != "none")
            {
                vec![Shape {
                    corners: corners[..4].to_vec(),
                    radius: width / 2,
                }]
            } else {
                corners.windows(2).map(line).collect()
            }
        }
        ("arc", Some(a), Some(b)) => named("mid").map_or_else(Vec::new, |mid| {
            vec![Shape::line(a, mid, width), Shape::line(mid, b, width)]
        }),
        ("circle", _, Some(end)) => named("center").map_or_else(Vec::new, |centre| {
            let radius = nm(centre.distance(end) / 1e6);
            if item
                .field("fill")
                .is_some_and(|fill| fill != "no" && fill != "none")
            {
                return vec![Shape::disc(centre, radius + width / 2)];
            }
            let ring: Vec<_> = (0..=16)
                .map(|i| {
                    Point { x: radius, y: 0 }
                        .turned(f64::from(i) * 22.5)
                        .plus(centre)
                })
                .collect();
            ring.windows(2).map(line).collect()
        }),
        ("poly", ..) => {
            let corners = points_of(item);
            if corners.is_empty() {
                Vec::new()
            } else {
                vec![Shape {
                    corners,
                    radius: width / 2,
                }]
            }
        }
        _ => Vec::new(),
    }
}

fn layers_of(pad: &Sexpr) -> Layers {
    let mut layers = 0;
    for name in pad
        .get("layers")
        .map_or(&[][..], Sexpr::items)
        .iter()
        .skip(1)
        .filter_map(Sexpr::value)
    {
        layers |= match name {
            "*.Cu" => ALL,
            "F&B.Cu" => F_CU | B_CU,
            name => LAYER_NAMES
                .iter()
                .position(|it| *it == name)
                .map_or(0, |bit| 1 << bit),
        };
    }
    layers
}

fn read_pad(pad: &Sexpr) -> Result<Pad, &'static str> {
    let number = pad.argument(0).ok_or("no number")?.to_owned();
    let kind = pad.argument(1).ok_or("no kind")?;
    let shape = pad.argument(2).ok_or("no shape")?;
    let place = pad.get("at").ok_or("no place")?;
    let centre = point_of(place).ok_or("no place")?;
    let angle = place.items().get(3).and_then(Sexpr::number).unwrap_or(0.0);
    let size = pad.get("size").and_then(point_of).ok_or("no size")?;
    let radius = match shape {
        "rect" | "trapezoid" => 0,
        "roundrect" => {
            let ratio = pad
                .get("roundrect_rratio")
                .and_then(|it| it.items().get(1)?.number())
                .unwrap_or(0.25);
            nm(ratio * crate::pcb::geometry::mm(size.x.min(size.y)))
        }
        "circle" | "oval" => size.x.min(size.y) / 2,
        "custom" => {
            if pad.get("options").and_then(|it| it.field("anchor")) == Some("circle") {
                size.x.min(size.y) / 2
            } else {
                0
            }
        }
        _ => return Err("its shape is not understood"),
    };
    let mut copper = vec![Shape::rectangle(size.x, size.y, radius)];
    if let Some(primitives) = pad.get("primitives") {
        copper.extend(primitives.items().iter().flat_map(graphic));
    }
    let offset = pad
        .get("drill")
        .and_then(|drill| drill.get("offset"))
        .and_then(point_of)
        .unwrap_or_default();
    let place = |shape: &Shape| shape.map(|p| p.plus(offset).turned(angle).plus(centre));
    let hole = match pad.get("drill") {
        None => None,
        Some(drill) if drill.argument(0) == Some("oval") => {
            let size = |index: usize| drill.items().get(index).and_then(Sexpr::number);
            let width = nm(size(2).ok_or("its hole has no size")?);
            let height = size(3).map_or(width, nm);
            Some(
                Shape::rectangle(width, height, width.min(height) / 2)
                    .map(|p| p.turned(angle).plus(centre)),
            )
        }
        Some(drill) => drill
            .items()
            .get(1)
            .and_then(Sexpr::number)
            .map(|diameter| Shape::disc(centre, nm(diameter) / 2)),
    };
    Ok(Pad {
        number,
        copper: copper.iter().map(place).collect(),
        layers: layers_of(pad),
        hole,
        plated: kind == "thru_hole",
        centre,
    })
}
