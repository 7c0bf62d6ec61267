// SPDX-License-Identifier: CERN-OHL-P-2.0
// Trays and case of a Racklet rack. Every part stands where it is in the rack: x to the right, y to the rear, z upwards from
// the base's upper face. `print` turns a part onto the bed. No dimension is written here that boards/ has: it comes from
// the parameters that racklet-enclosure writes (p_...). What is here is shape.
$fn = 32;
e = 0.01;
insert_d = 4.2;
screw_d = 3.4;

module rounded(w, h, r) { translate([r, r]) offset(r) square([w - 2 * r, h - 2 * r]); }

// Rows of hexagons that fill a field, none cut; flats face each other across the web.
module vents(w, h, d = 8, web = 2.4) {
    across = d * cos(30);
    step = across + web;
    rows = floor((h - d) / (step * cos(30))) + 1;
    for (row = [0 : rows - 1]) {
        shift = row % 2 == 0 ? 0 : step / 2;
        n = floor((w - across - shift) / step);
        for (i = [0 : n])
            translate([across / 2 + shift + i * step, d / 2 + row * step * cos(30)]) rotate(30) circle(d = d, $fn = 6);
    }
}

// A hole that lies on its side and prints without support: its crown is a roof.
module teardrop(d, l) {
    linear_extrude(l) union() { circle(d = d); rotate(45) square(d / 2); }
}

module writing(text, size) { text(text, size = size, font = "DejaVu Sans:style=Bold", halign = "center", valign = "center"); }

// A block with a hole for a heat-set insert along z; `roof` is where up is when it is printed, as an angle around z.
module boss(x, y, z, h, roof) {
    translate([x, y, z]) difference() {
        cube([p_boss, p_boss, h]);
        translate([p_boss / 2, p_boss / 2, -e]) rotate(roof - 45) teardrop(insert_d, h + 2 * e);
    }
}

// ---- The upright walls: flat on their outer face. Drawn as (y, z), standing at x.
module upright(x, t) { translate([x, 0, 0]) multmatrix([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]) linear_extrude(t) children(); }

module slot_vents() {
    for (s = [0 : p_slots - 1])
        translate([11, p_slot_z + s * p_pitch + 7]) vents(p_side_y - 2 - 11, p_pitch - 10, 6.4, 2.2);
}

// Ledges below and above the plate of each tray, from the wall's face at x towards the trays.
module rails(x, towards) {
    for (s = [0 : p_slots - 1]) for (z = [-p_clear - p_ledge, p_plate_tray + p_clear])
        translate([towards > 0 ? x - e : x - p_rail, p_rail_y, p_slot_z + s * p_pitch + z])
            cube([p_rail + e, p_side_y - p_rail_y - 12, p_ledge]);
}

module deck_ledge(x, towards) {
    translate([towards > 0 ? x - e : x - p_rail, 14, p_deck_z - p_fit - p_ledge]) cube([p_rail + e, p_depth - 30, p_ledge]);
}

// A ring and four spokes in front of the fan; closed where its hub is anyway.
module fan_grille() {
    outer = p_fan / 2 - 1.5;
    hub = p_fan / 5;
    ring = (outer + hub) / 2;
    difference() {
        circle(outer);
        difference() { circle(ring + 0.8); circle(ring - 0.8); }
        circle(hub);
        for (a = [45, 135]) rotate(a) square([p_fan, 2], center = true);
    }
}

module left_wall() {
    x = 0;
    difference() {
        union() {
            upright(x, p_wall) difference() {
                translate([0, -p_groove + p_fit]) square([p_depth - p_fit, p_height + 2 * (p_groove - p_fit)]);
                for (z = p_fan_z) translate([p_fan_y, z]) {
                    fan_grille();
                    for (a = [-1, 1]) for (b = [-1, 1]) translate([a, b] * p_fan_holes / 2) circle(d = 3.4);
                }
                translate([12, 6]) vents(p_depth - 24, p_deck_z - 14);
            }
            deck_ledge(p_wall, 1);
            for (z = [p_fit, p_height - p_fit - p_boss_h]) boss(p_wall - e, p_boss_y, z, p_boss_h, 0);
        }
        // The label's recess.
        translate([0.6, p_depth / 2, (p_fan_z[0] + p_fan_z[1]) / 2]) rotate([90, 0, -90]) linear_extrude(2) writing("Racklet", 13);
    }
}

module right_wall() {
    x = p_width - p_wall;
    difference() {
        union() {
            upright(x, p_wall) difference() {
                translate([0, -p_groove + p_fit]) square([p_depth - p_fit, p_height + 2 * (p_groove - p_fit)]);
                slot_vents();
                translate([12, 6]) vents(p_depth - 24, p_deck_z - 14);
                // What is plugged into the backplane.
                for (o = p_openings) translate([o[0], o[1]]) rounded(o[2] - o[0], o[3] - o[1], 1.5);
            }
            rails(x, -1);
            deck_ledge(x, -1);
            for (z = [p_fit, p_height - p_fit - p_boss_h]) boss(x - p_boss + e, p_boss_y, z, p_boss_h, 180);
        }
        // Where the trays' latches catch.
        for (s = [0 : p_slots - 1])
            translate([x - e, p_latch_face - p_latch_play, p_slot_z + s * p_pitch - p_clear])
                cube([p_wall + 2 * e, p_latch_play + 2 + p_latch_catch * 1.8, p_plate_tray + 2 * p_clear]);
        for (s = [0 : p_slots - 1])
            translate([p_width - 0.6, 5.6, p_slot_z + s * p_pitch + 14]) rotate([90, 0, 90]) linear_extrude(2) writing(str(p_slots - s), 9);
    }
}

module divider() {
    upright(p_zone_x - p_wall, p_wall) difference() {
        translate([0, p_deck_top - p_groove + p_fit]) square([p_divider_y, p_height - p_deck_top + 2 * (p_groove - p_fit)]);
        slot_vents();
    }
    rails(p_zone_x, 1);
}

module rear_wall() {
    difference() {
        translate([0, p_depth + p_wall, 0]) rotate([90, 0, 0]) linear_extrude(p_wall) difference() {
            translate([0, -p_groove + p_fit]) square([p_width, p_height + 2 * (p_groove - p_fit)]);
            translate([14, 8]) vents(p_zone_x - 22, p_deck_z - 16);
            // Cables of the switch and the fans.
            translate([p_zone_x + 12, 8]) rounded(40, p_deck_z - 14, 4);
        }
    }
    // The backplane's holder: posts that its screws cut their thread into.
    for (hole = p_backplane_holes) translate([hole[0], p_depth + e, hole[1]]) rotate([90, 0, 0]) difference() {
        cylinder(d = p_post, h = p_depth - p_backplane_rear - p_fit + e);
        translate([0, 0, 3]) cylinder(d = 2.6, h = 40);
    }
    for (z = [p_fit, p_height - p_fit - p_boss_h]) for (x = p_rear_screws)
        boss(x - p_boss / 2, p_depth - p_boss + e, z, p_boss_h, -90);
}

// Closes the fans' space to the front, behind the side wall's blocks, so that air comes across the trays.
module front() {
    low = [p_front_x[0], p_deck_top - p_groove + p_fit];
    difference() {
        translate([0, p_front_y + p_wall, 0]) rotate([90, 0, 0]) linear_extrude(p_wall)
            translate(low) square([p_front_x[1] - p_front_x[0], p_height + p_groove - p_fit - low[1]]);
        translate([(p_front_x[0] + p_front_x[1]) / 2, p_front_y + 0.6, p_height - 24]) rotate([90, 0, 0]) linear_extrude(2) writing("Racklet", 14);
    }
}

module front_groove(z) {
    translate([p_front_x[0] - p_fit, p_front_y - p_fit, z]) cube([p_front_x[1] - p_front_x[0] + 2 * p_fit, p_wall + 2 * p_fit, p_groove + e]);
}

// ---- Plates: flat on their outer face.
module grooves(z, h) {
    g = p_wall + 2 * p_fit;
    for (x = [0, p_width - p_wall]) translate([x - p_fit, -p_fit, z]) cube([g, p_depth + p_wall + 2 * p_fit, h]);
    translate([-p_fit, p_depth - p_fit, z]) cube([p_width + 2 * p_fit, g, h]);
}

module plate_screws(outer, inner) {
    for (at = p_screws) translate([at[0], at[1], 0]) {
        translate([0, 0, min(outer, inner) - e]) cylinder(d = screw_d, h = p_plate + 2 * e);
        // The countersink opens outwards.
        translate([0, 0, outer]) mirror([0, 0, outer > inner ? 1 : 0]) translate([0, 0, -e]) cylinder(d1 = 6.6, d2 = screw_d - 0.2, h = 1.75);
    }
}

module slab(z) { translate([-p_skirt, -p_skirt, z]) linear_extrude(p_plate) rounded(p_width + 2 * p_skirt, p_depth + p_wall + 2 * p_skirt, 6); }

module base() {
    difference() {
        slab(-p_plate);
        grooves(-p_groove, p_groove + e);
        plate_screws(-p_plate, 0);
    }
}

module top() {
    z = p_height;
    difference() {
        slab(z);
        grooves(z - e, p_groove + e);
        translate([p_zone_x - p_wall - p_fit, -p_fit, z - e]) cube([p_wall + 2 * p_fit, p_divider_y + 2 * p_fit, p_groove + e]);
        front_groove(z - e);
        plate_screws(z + p_plate, z);
        translate([p_zone_x / 2, p_depth / 2, z + p_plate - 0.6]) linear_extrude(2) writing("Racklet", 11);
    }
}

module deck() {
    difference() {
        translate([p_wall + p_clear, 0, p_deck_z]) linear_extrude(p_plate) difference() {
            rounded(p_width - 2 * p_wall - 2 * p_clear, p_depth - p_fit - 1, 2);
            // Power and fan cables, between switch and fans.
            translate([14, p_depth - 24]) rounded(24, 12, 4);
        }
        front_groove(p_deck_top - p_groove);
        translate([p_zone_x - p_wall - p_fit, -e, p_deck_top - p_groove]) cube([p_wall + 2 * p_fit, p_divider_y + p_fit, p_groove + e]);
    }
}

// ---- A tray, in the slot whose plate is at z = 0 and left edge at x = 0.

// The latch: an arm clamped at y = latch_root, its outer face on the tray's edge. s counts from the root to the front; a finger
// presses in the middle of the tab. The curve is that of a beam clamped at one end, with `d` at the catch.
latch_root = p_latch_face + p_latch_length;
latch_tab = latch_root + p_latch_tab * 0.6;
latch_end = latch_root + p_latch_tab;
latch_rest = p_tray - p_latch_thick;
function bend(s, d) = d / (p_latch_length * p_latch_length * (3 * latch_tab - p_latch_length))
    * (s < latch_tab ? s * s * (3 * latch_tab - s) : latch_tab * latch_tab * (3 * s - latch_tab));
function bent(points, d) = [for (p = points) [p[0] - bend(latch_root - p[1], d), p[1]]];

// The arm from the root to the end of the tab, and the catch with its ramp; a catch is straight while the arm bends.
module latch_outline(d) {
    n = 24;
    steps = [for (i = [0 : n]) latch_root + 1 - i / n * (latch_end + 1 - 1.5)];
    polygon(concat(
        bent([for (y = steps) [latch_rest, y]], d),
        bent([[latch_rest + 1.2, latch_root - latch_end], [p_tray - 1.2, latch_root - latch_end]], d),
        bent([for (i = [0 : n]) [p_tray, steps[n - i]]], d)));
    polygon(bent([
        [p_tray - 1, p_latch_face], [p_tray + p_latch_catch, p_latch_face], [p_tray + p_latch_catch, p_latch_face + 1.2],
        [p_tray, p_latch_face + 1.2 + p_latch_catch * 1.8], [p_tray - 1, p_latch_face + 1.2 + p_latch_catch * 1.8]], d));
}

module latch_arm(d) {
    difference() {
        union() {
            linear_extrude(p_plate_tray) latch_outline(d);
            // The tab is taller, for a finger; in front of the panel, and with the slope that the panel's corner has.
            intersection() {
                linear_extrude(9) latch_outline(d);
                translate([p_tray - 20, 1.2 - p_latch_tab - 2, 0]) cube([40, p_latch_tab, 9]);
                multmatrix([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]) translate([0, 0, p_tray - 20])
                    linear_extrude(40) polygon([[-p_latch_tab, 0], [-0.8, 0], [-0.8, p_plate_tray], [-p_latch_tab + 3.4, 9], [-p_latch_tab + 2, 9], [-p_latch_tab, 7]]);
            }
        }
        // Grip.
        for (i = [0 : 2]) translate([p_tray - bend(latch_tab, d) + 0.35, -4.4 - i * 2.2, -e]) cylinder(r = 0.8, h = 20);
    }
}

// What is cut out of the plate beside the arm: room for it to be pressed until the panel stops it, half a millimetre at the root.
module latch_gap() {
    most = p_latch_stop / bend(latch_root - p_panel / 2, 1);
    n = 24;
    steps = [for (i = [0 : n]) latch_root - i / n * (latch_root + e)];
    polygon(concat(
        [for (y = steps) [latch_rest - 0.8 - bend(latch_root - y, most), y]],
        [[latch_rest - 0.8 - bend(latch_root, most), -20], [p_tray + 10, -20], [p_tray + 10, latch_root]]));
    translate([latch_rest - 0.8, latch_root]) circle(d = 1.6);
}

// The panel's corner in front of the arm: open below 45 degrees, so that it prints without support.
module latch_corner() {
    low = latch_rest - p_latch_stop;
    translate([0, p_panel + e, 0]) rotate([90, 0, 0]) linear_extrude(p_panel + 2 * e)
        polygon([[low, -e], [low, p_plate_tray + 0.6], [p_tray + e, p_plate_tray + 0.6 + p_tray - low], [p_tray + e, -e]]);
}

module tray_without_latch() {
    difference() {
        union() {
            linear_extrude(p_plate_tray) difference() {
                rounded(p_tray, p_tray_y, 2.5);
                // Air from below, clear of the standoffs.
                translate([18, p_tray_y - 60]) vents(p_tray - 36, 50);
                latch_gap();
            }
            // The face, with rounded upper corners.
            translate([0, p_panel, 0]) rotate([90, 0, 0]) linear_extrude(p_panel) difference() {
                union() { rounded(p_tray, p_panel_h, 2.5); square([p_tray, 6]); }
                for (o = h_front) translate([o[0], o[1]]) square([o[2] - o[0], o[3] - o[1]]);
            }
            // Ribs hold the face upright.
            for (x = [p_rail + 1.5, latch_rest - p_latch_stop - 3]) translate([x, p_panel - e, p_plate_tray - e])
                rotate([90, 0, 90]) linear_extrude(2) polygon([[0, 0], [4, 0], [0, 5.6]]);
            // The handle: a lip to pull at.
            translate([p_tray / 2, e, 0]) linear_extrude(3) difference() {
                hull() for (x = [-1, 1]) { translate([x * 15, -8]) circle(r = 3); translate([x * 18, -1]) square(2, center = true); }
                hull() for (x = [-1, 1]) translate([x * 10, -5.5]) circle(r = 2);
            }
            difference() {
                for (hole = h_holes) translate([hole[0], hole[1], p_plate_tray - e]) cylinder(d1 = 8, d2 = 6.4, h = h_standoff + e);
                linear_extrude(20) latch_gap();
            }
        }
        for (hole = h_holes) translate([hole[0], hole[1], 1.2]) cylinder(d = 2.2, h = 20);
        // Room for labels of 10 x 4 mm: the tray's name, and the rack's.
        for (x = [4, p_tray / 2 + 12]) translate([x, -e, 3]) cube([10, 0.6 + e, 4]);
        latch_corner();
    }
}

module tray_body(d = 0) { tray_without_latch(); latch_arm(d); }

module at_slot(slot) { translate([p_zone_x + p_clear, 0, p_slot_z + (p_slots - slot) * p_pitch]) children(); }

// The arm where it moves.
module arm(d) { intersection() { latch_arm(d); translate([0, -50, -1]) cube([100, 50 + latch_root - 2, 30]); } }

// What checks move against each other: a tray with its catch drawn in, and its two halves.
module pressed(part) { at_slot(1) tray_body(p_latch_catch); }
module arm_pressed(part) { at_slot(1) arm(p_latch_catch); }
module body(part) { at_slot(1) tray_without_latch(); }

// ---- Onto the bed.
module print(part) {
    if (part == "left-wall") rotate([0, -90, 0]) left_wall();
    else if (part == "right-wall") rotate([0, 90, 0]) translate([-p_width, 0, 0]) right_wall();
    else if (part == "divider") rotate([0, -90, 0]) translate([p_wall - p_zone_x, 0, 0]) divider();
    else if (part == "front") rotate([90, 0, 0]) translate([0, -p_front_y, 0]) front();
    else if (part == "rear-wall") rotate([-90, 0, 0]) translate([0, -p_depth - p_wall, 0]) rear_wall();
    else if (part == "base") translate([0, 0, p_plate]) base();
    else if (part == "top") rotate([180, 0, 0]) translate([0, 0, -p_height - p_plate]) top();
    else if (part == "deck") translate([0, 0, -p_deck_z]) deck();
    else tray_body();
}

module place(part) {
    if (part == "left-wall") left_wall();
    else if (part == "right-wall") right_wall();
    else if (part == "divider") divider();
    else if (part == "front") front();
    else if (part == "rear-wall") rear_wall();
    else if (part == "base") base();
    else if (part == "top") top();
    else if (part == "deck") deck();
    else at_slot(1) tray_body();
}
