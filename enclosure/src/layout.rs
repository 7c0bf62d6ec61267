// SPDX-License-Identifier: Apache-2.0
//! Where everything is in the rack, from `boards/`: x to the right, y to the rear, z upwards from the base's upper face.
//! Checks and solids take their numbers from here.

use std::fmt::Write as _;

use racklet_boards::dimensions::{Dimensions, Rack, Switch, Wall};

use crate::mesh::Aabb;

/// Room around a connector in its opening.
const AROUND: f64 = 0.6;
/// Side of the block that an insert is set into, and its height.
const BOSS: f64 = 7.2;
const BOSS_HEIGHT: f64 = 6.3;
/// Screws at the rear keep away from the backplane's posts.
const ASIDE: f64 = 14.0;
/// How far base and top reach beyond the walls.
const SKIRT: f64 = 3.0;
/// From the walls' front edge to the switch's: plugs stand there, and the front screws' blocks.
const SWITCH_Y: f64 = 8.4;

/// The rack, laid out.
#[derive(Debug, Clone)]
pub struct Layout {
    /// What it follows from.
    pub rack: Rack,
    /// The board on each tray.
    pub hat: Dimensions,
    /// Upright at the rear.
    pub backplane: Dimensions,
    /// Over the outer walls.
    pub width: f64,
    /// Between base and top.
    pub height: f64,
    /// The rear wall's inner face.
    pub depth: f64,
    /// The left end of the space of the trays.
    pub zone_x: f64,
    /// The deck's lower face.
    pub deck_z: f64,
    /// The lower face of the lowest tray.
    pub slot_z: f64,
    /// Where the SD cards' edges are: every host ends there.
    pub board_rear: f64,
    /// The backplane's face towards the trays.
    pub backplane_y: f64,
}

impl Layout {
    /// Lays the rack out.
    #[must_use]
    pub fn new(rack: Rack, hat: Dimensions, backplane: Dimensions) -> Self {
        let case = rack.case;
        let zone = rack.tray.width + 2.0 * case.clearance;
        // Fans and plenum beside the trays, or the switch below all: the wider one decides.
        let beside = rack.fan.thickness + case.plenum + case.wall + zone;
        let switch = rack.largest_switch();
        let inner = beside.max(switch[0] + 8.0 * case.clearance);
        let width = inner + 2.0 * case.wall;
        let deck_z = switch[2] + 2.0 * case.clearance + case.ledge + rack.print.fit;
        let deck_top = deck_z + rack.print.plate;
        let board_rear = rack.tray.inset + 85.0;
        let tip = hat.edge.map_or(0.0, |edge| -edge.low[0]);
        let backplane_y = board_rear + tip + rack.socket.seat;
        Self {
            width,
            height: deck_top + backplane.size[1],
            depth: (backplane_y + backplane.thickness + case.rear)
                .max(SWITCH_Y + switch[1] + rack.bay.jack),
            zone_x: width - case.wall - zone,
            deck_z,
            slot_z: deck_top + case.strip,
            board_rear,
            backplane_y,
            rack,
            hat,
            backplane,
        }
    }

    /// The lower face of the tray in `slot`; 1 is the uppermost.
    #[must_use]
    pub fn tray_z(&self, slot: u32) -> f64 {
        self.slot_z + f64::from(self.rack.slots - slot) * self.rack.pitch
    }

    fn deck_top(&self) -> f64 {
        self.deck_z + self.rack.print.plate
    }

    /// The left edge of the host's board, which is where y of its own dimensions begins.
    fn board_x(&self, host: &Dimensions) -> f64 {
        self.zone_x + self.rack.case.clearance + (self.rack.tray.width - host.size[1]) / 2.0
    }

    /// The HAT's holes lie on the host's.
    fn hat_x(&self, host: &Dimensions) -> f64 {
        self.board_x(host) + host.holes[0][1] - self.hat.holes[0][1]
    }

    /// From the tray's plate to the host: less for a thicker board, so that the HAT stays where its socket is.
    #[must_use]
    pub fn standoff(&self, host: &Dimensions) -> f64 {
        self.rack.tray.standoff + 1.4 - host.thickness
    }

    fn host_top(&self, slot: u32) -> f64 {
        self.tray_z(slot) + self.rack.tray.plate + self.rack.tray.standoff + 1.4
    }

    /// The box of what is given in a board's own x and y, lying at `left` with its surface at `z`.
    fn lying(&self, left: f64, low: [f64; 2], high: [f64; 2], z: [f64; 2]) -> Aabb {
        Aabb {
            low: [left + low[1], self.board_rear - high[0], z[0]],
            high: [left + high[1], self.board_rear - low[0], z[1]],
        }
    }

    /// From the HAT's socket to the host's pins, along the host's x and y, if both have a header.
    #[must_use]
    pub fn header_off(&self, host: &Dimensions) -> Option<[f64; 2]> {
        let middle = |board: &Dimensions| {
            let header = board.bodies.iter().find(|body| body.name == "header")?;
            Some([0, 1].map(|axis| {
                f64::midpoint(header.low[axis], header.high[axis]) - board.holes[0][axis]
            }))
        };
        let (socket, pins) = (middle(&self.hat)?, middle(host)?);
        Some([0, 1].map(|axis| pins[axis] - socket[axis]))
    }

    /// The host's network jack in a slot: the middle of its face.
    #[must_use]
    pub fn jack(&self, host: &Dimensions, slot: u32) -> Option<[f64; 3]> {
        let boards = self.boards(host, slot).into_iter();
        let (_, shape) = boards.into_iter().find(|(name, _)| name == "ethernet")?;
        let middle = |axis: usize| f64::midpoint(shape.low[axis], shape.high[axis]);
        Some([middle(0), shape.low[1], middle(2)])
    }

    /// The backplane's network jack: the middle of its face, in the right wall.
    #[must_use]
    pub fn backplane_jack(&self) -> Option<[f64; 3]> {
        let boxes = self.backplane(&[]).into_iter();
        let (_, shape) = boxes.into_iter().find(|(name, _)| name == "network")?;
        let middle = |axis: usize| f64::midpoint(shape.low[axis], shape.high[axis]);
        Some([shape.high[0], middle(1), middle(2)])
    }

    /// Boxes of the host and the HAT of a slot, by name; the tab is one of its own.
    #[must_use]
    pub fn boards(&self, host: &Dimensions, slot: u32) -> Vec<(String, Aabb)> {
        let (left, top) = (self.board_x(host), self.host_top(slot));
        let bottom = top - host.thickness;
        let mut boxes = vec![(
            host.name.clone(),
            self.lying(left, [0.0, 0.0], host.size, [bottom, top]),
        )];
        for body in &host.bodies {
            let z = if body.height < 0.0 {
                [bottom - body.below, bottom]
            } else {
                [top, top + body.height]
            };
            boxes.push((body.name.clone(), self.lying(left, body.low, body.high, z)));
        }
        let (left, bottom) = (self.hat_x(host), top + self.rack.tray.spacer);
        let top = bottom + self.hat.thickness;
        boxes.push((
            self.hat.name.clone(),
            self.lying(left, [0.0, 0.0], self.hat.size, [bottom, top]),
        ));
        for body in &self.hat.bodies {
            let (name, z) = if body.height < 0.0 {
                (
                    format!("{} below the HAT", body.name),
                    [bottom - body.below, bottom],
                )
            } else {
                (body.name.clone(), [top, top + body.height])
            };
            boxes.push((name, self.lying(left, body.low, body.high, z)));
        }
        if let Some(edge) = self.hat.edge {
            let tab = self.lying(left, edge.low, edge.high, [bottom, top]);
            boxes.push(("tab".to_owned(), tab));
        }
        boxes
    }

    /// The middle of each socket on the backplane, slot 1 first, in the backplane's own x and y.
    #[must_use]
    pub fn sockets(&self, host: &Dimensions) -> Vec<[f64; 2]> {
        let edge = self
            .hat
            .edge
            .map_or(0.0, |edge| f64::midpoint(edge.low[1], edge.high[1]));
        (1..=self.rack.slots)
            .map(|slot| {
                let z = self.host_top(slot) + self.rack.tray.spacer + self.hat.thickness / 2.0;
                let [x, y] = self.backplane_corner();
                [self.hat_x(host) + edge - x, z - y]
            })
            .collect()
    }

    fn backplane_corner(&self) -> [f64; 2] {
        let (right, left) = (
            self.width - self.rack.case.wall - self.rack.case.clearance,
            self.backplane.size[0],
        );
        [right - left, self.deck_top()]
    }

    /// The backplane with its bodies and sockets, by name.
    #[must_use]
    pub fn backplane(&self, sockets: &[[f64; 2]]) -> Vec<(String, Aabb)> {
        let [x, z] = self.backplane_corner();
        let (front, board) = (self.backplane_y, &self.backplane);
        let rear = front + board.thickness;
        let slack = self.rack.print.fit / 2.0;
        let mut boxes = vec![(
            board.name.clone(),
            Aabb {
                low: [x, front, z + slack],
                high: [x + board.size[0], rear, z + board.size[1] - slack],
            },
        )];
        for body in &board.bodies {
            // What has no height is on the rear face only.
            let face = if body.height > 0.0 {
                front - body.height
            } else {
                rear
            };
            let low = [x + body.low[0], face, z + body.low[1]];
            let high = [x + body.high[0], rear + body.below, z + body.high[1]];
            boxes.push((body.name.clone(), Aabb { low, high }));
        }
        let size = self.rack.socket;
        for (index, at) in sockets.iter().enumerate() {
            let (half, across) = (size.length / 2.0, size.width / 2.0);
            let low = [x + at[0] - half, front - size.height, z + at[1] - across];
            let high = [x + at[0] + half, front, z + at[1] + across];
            boxes.push((format!("socket {}", index + 1), Aabb { low, high }));
        }
        boxes
    }

    /// A switch in its bay.
    #[must_use]
    pub fn switch(&self, switch: &Switch) -> Aabb {
        let [w, d, h] = switch.size;
        let (left, z) = ((self.width - w) / 2.0, self.rack.case.clearance);
        Aabb {
            low: [left, SWITCH_Y, z],
            high: [left + w, SWITCH_Y + d, z + h],
        }
    }

    /// What the plug of its power takes behind it: where the jack is along its width is not known, so all of that.
    #[must_use]
    pub fn power_plug(&self, switch: &Aabb) -> Aabb {
        let middle = f64::midpoint(switch.low[2], switch.high[2]);
        Aabb {
            low: [switch.low[0] + 5.0, switch.high[1], middle - 5.5],
            high: [
                switch.high[0] - 5.0,
                switch.high[1] + self.rack.bay.jack,
                middle + 5.5,
            ],
        }
    }

    /// The fans on the left wall.
    #[must_use]
    pub fn fan_boxes(&self) -> Vec<(String, Aabb)> {
        let rack = &self.rack;
        let mut boxes = Vec::new();
        let (half, x) = (rack.fan.size / 2.0, rack.case.wall + rack.print.fit);
        for (index, z) in self.fan_z().into_iter().enumerate() {
            let low = [x, self.fan_y() - half, z - half];
            let high = [x + rack.fan.thickness, self.fan_y() + half, z + half];
            boxes.push((format!("fan {}", index + 1), Aabb { low, high }));
        }
        boxes
    }

    fn fan_y(&self) -> f64 {
        // The processor of a Raspberry Pi is a third of its length from the SD card's edge.
        self.board_rear - 85.0 / 3.0
    }

    /// The fans' middles, as (y, z).
    pub fn fans(&self) -> impl Iterator<Item = [f64; 2]> + use<> {
        let y = self.fan_y();
        self.fan_z().into_iter().map(move |z| [y, z])
    }

    fn fan_z(&self) -> Vec<f64> {
        let count = self.rack.fan.count;
        let room = (self.height - self.deck_top()) / f64::from(count);
        (0..count)
            .map(|fan| self.deck_top() + (f64::from(fan) + 0.5) * room)
            .collect()
    }

    /// Where screws go through base and top.
    #[must_use]
    pub fn screws(&self) -> Vec<[f64; 2]> {
        let (wall, fit, half) = (self.rack.case.wall, self.rack.print.fit, BOSS / 2.0);
        let (near, far) = (wall + half, self.width - wall - half);
        let (front, rear) = (half + fit, self.depth - half);
        vec![
            [near, front],
            [far, front],
            [near + ASIDE, rear],
            [far - ASIDE, rear],
        ]
    }

    /// The parameters of the solids: of the rack, and of the host of a tray.
    #[must_use]
    pub fn parameters(&self, host: &Dimensions) -> String {
        let rack = &self.rack;
        let case = rack.case;
        let mut out = String::from(
            "// SPDX-License-Identifier: CERN-OHL-P-2.0\n// Written by racklet-enclosure from boards/.\n",
        );
        let mut put =
            |name: &str, value: String| writeln!(out, "{name} = {value};").expect("strings grow");
        let [backplane_x, backplane_z] = self.backplane_corner();
        for (name, value) in [
            ("p_slots", f64::from(rack.slots)),
            ("p_pitch", rack.pitch),
            ("p_width", self.width),
            ("p_height", self.height),
            ("p_depth", self.depth),
            ("p_zone_x", self.zone_x),
            ("p_deck_z", self.deck_z),
            ("p_deck_top", self.deck_top()),
            ("p_slot_z", self.slot_z),
            ("p_wall", case.wall),
            ("p_clear", case.clearance),
            ("p_rail", case.rail),
            ("p_ledge", case.ledge),
            ("p_rail_y", rack.tray.panel + case.clearance),
            ("p_side_y", self.board_rear),
            ("p_divider_y", self.backplane_y - case.clearance),
            (
                "p_backplane_rear",
                self.backplane_y + self.backplane.thickness,
            ),
            ("p_post", 2.0 * (rack.case.clearance * 7.0)),
            ("p_plate", rack.print.plate),
            ("p_groove", rack.print.groove),
            ("p_fit", rack.print.fit),
            ("p_skirt", SKIRT),
            ("p_boss", BOSS),
            ("p_boss_h", BOSS_HEIGHT),
            ("p_boss_y", rack.print.fit),
            ("p_fan", rack.fan.size),
            ("p_fan_holes", rack.fan.hole_pitch),
            ("p_fan_y", self.fan_y()),
            ("p_tray", rack.tray.width),
            ("p_tray_y", self.board_rear),
            ("p_plate_tray", rack.tray.plate),
            ("p_panel", rack.tray.panel),
            ("p_panel_h", rack.pitch - 2.0 * case.clearance),
            ("p_latch_face", rack.latch.face),
            ("p_latch_length", rack.latch.length),
            ("p_latch_thick", rack.latch.thickness),
            ("p_latch_catch", rack.latch.catch),
            ("p_latch_play", rack.latch.play),
            ("p_latch_stop", rack.latch.stop),
            ("p_latch_tab", rack.latch.tab),
            ("h_standoff", self.standoff(host)),
        ] {
            put(name, number(value));
        }
        put("p_fan_z", list(self.fan_z().into_iter().map(number)));
        put("p_screws", list(self.screws().iter().map(|at| vector(at))));
        let posts = self.backplane.holes.iter();
        let between = [case.wall + 2.0, self.zone_x - case.wall - 2.0];
        put("p_front_x", vector(&between));
        put("p_front_y", number(BOSS + 4.0 * rack.print.fit));
        let at_rear = self.screws();
        put(
            "p_rear_screws",
            list(at_rear[2..].iter().map(|at| number(at[0]))),
        );
        put(
            "p_backplane_holes",
            list(posts.map(|at| vector(&[backplane_x + at[0], backplane_z + at[1]]))),
        );
        let right = self
            .backplane
            .bodies
            .iter()
            .filter(|body| body.opening == Some(Wall::Right));
        let rear = self.backplane_y + self.backplane.thickness;
        put(
            "p_openings",
            list(right.map(|body| {
                let z = [
                    backplane_z + body.low[1] - AROUND,
                    backplane_z + body.high[1] + AROUND,
                ];
                vector(&[rear - AROUND, z[0], rear + body.below + AROUND, z[1]])
            })),
        );
        let left = (rack.tray.width - host.size[1]) / 2.0;
        let holes = host.holes.iter();
        put(
            "h_holes",
            list(holes.map(|at| vector(&[left + at[1], self.board_rear - at[0]]))),
        );
        let board = rack.tray.plate + self.standoff(host) + host.thickness;
        let front = host.bodies.iter().filter(|body| body.front);
        put(
            "h_front",
            list(front.map(|body| {
                vector(&[
                    left + body.low[1] - AROUND,
                    board - AROUND,
                    left + body.high[1] + AROUND,
                    board + body.height + AROUND,
                ])
            })),
        );
        out
    }
}

/// Numbers without the noise of binary fractions, so that files stay the same.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn vector(values: &[f64]) -> String {
    list(values.iter().map(|&value| number(value)))
}

fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}
