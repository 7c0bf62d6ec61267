// SPDX-License-Identifier: CERN-OHL-P-2.0
// Trays and case of a Racklet rack. Every part stands where it is in the rack: x to the right, y to the rear, z upwards from
// the base's upper face. `print` turns a part onto the bed. No dimension is written here that boards/ has: it comes from
// the parameters that racklet-enclosure writes (p_...). What is here is shape.
$fn = 32;
e = 0.01;
insert_d = 4.2;
screw_d = 3.4;

module rounded(w, h, r) { translate([r, r]) offset(r) square([w - 2 * r, h - 2 * r]); }

// Rows of hexagons that fill a field, none cut.
module vents(w, h, d = 8, web = 2.4) {
    step = d + web;
    rows = floor((h - d) / (step * 0.866)) + 1;
    for (row = [0 : rows - 1]) {
        shift = row % 2 == 0 ? 0 : step / 2;
        n = floor((w - d - shift) / step);
        for (i = [0 : n])
            translate([d / 2 + shift + i * step, d / 2 + row * step * 0.866]) circle(d = d, $fn = 6);
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
        translate([11, p_slot_z + s * p_pitch + 7]) vents(p_side_y - 18 - 11, p_pitch - 10);
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

module left_wall() {
    x = 0;
    difference() {
        union() {
            upright(x, p_wall) difference() {
                translate([0, -p_groove + p_fit]) square([p_depth - p_fit, p_height + 2 * (p_groove - p_fit)]);
                for (z = p_fan_z) translate([p_fan_y, z]) {
                    // A grille of rings and spokes over the fan.
                    intersection() {
                        circle(d = p_fan - 3);
                        translate([-p_fan / 2, -p_fan / 2]) vents(p_fan, p_fan, 7, 1.8);
                    }
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
module tray_body() {
    difference() {
        union() {
            linear_extrude(p_plate_tray) difference() {
                rounded(p_tray, p_tray_y, 2.5);
                // Air from below, clear of the standoffs.
                translate([18, p_tray_y - 60]) vents(p_tray - 36, 50);
            }
            // The face, with rounded upper corners.
            translate([0, p_panel, 0]) rotate([90, 0, 0]) linear_extrude(p_panel) difference() {
                union() { rounded(p_tray, p_panel_h, 2.5); square([p_tray, 6]); }
                for (o = h_front) translate([o[0], o[1]]) square([o[2] - o[0], o[3] - o[1]]);
            }
            // Ribs hold the face upright.
            for (x = [p_rail + 1.5, p_tray - p_rail - 3.5]) translate([x, p_panel - e, p_plate_tray - e])
                rotate([90, 0, 90]) linear_extrude(2) polygon([[0, 0], [4, 0], [0, 6]]);
            // The handle: a lip to pull at.
            translate([p_tray / 2, e, 0]) linear_extrude(3) difference() {
                hull() for (x = [-1, 1]) { translate([x * 15, -8]) circle(r = 3); translate([x * 18, -1]) square(2, center = true); }
                hull() for (x = [-1, 1]) translate([x * 10, -5.5]) circle(r = 2);
            }
            for (hole = h_holes) translate([hole[0], hole[1], p_plate_tray - e]) cylinder(d1 = 8, d2 = 6.4, h = h_standoff + e);
        }
        for (hole = h_holes) translate([hole[0], hole[1], 1.2]) cylinder(d = 2.2, h = 20);
        // Room for labels of 14 x 4.4 mm: the tray's name, and the rack's.
        for (x = [5, p_tray - 19]) translate([x, -e, 2.2]) cube([14, 0.6 + e, 4.4]);
    }
}

module tray(slot) { translate([p_zone_x + p_clear, 0, p_slot_z + (p_slots - slot) * p_pitch]) tray_body(); }

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
    else tray(1);
}
