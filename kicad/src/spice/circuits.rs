// SPDX-License-Identifier: Apache-2.0
//! The runs of the BMC board's power path, from the busbar to the Raspberry Pi.
//!
//! Passive values are the design's. What stands in for the integrated circuits, from their data sheets and not checked on a bench:
//! the eFuse's ramp is 50 uA / C(dVdT), its limit 18 V / R(ILIM), its path 31 mohm, and it opens a microsecond after 45 A pass (its
//! short-circuit comparator); the buck is averaged over its cycles as a current source with a fifth of the switching frequency of
//! bandwidth, commanded by a proportional-integral amplifier with a crossover of 25 kHz.

use super::{
    Bound, Measure, Probe, Simulation, ValueError,
    values::{Passive, between, one},
};
use crate::design::Design;

const EFUSE_IN: &str = "EFUSE_IN";
const BUCK_IN: &str = "VIN_BUCK";
const PI: &str = "PI_5V";
const FEEDBACK: &str = "BUCK_FB";
const GROUND: &str = "GND";

/// The source on the backplane: 20 V behind 0.5 uH and 40 mohm of cable and contacts.
const SOURCE: &str = "Vsource source 0 20\nRsource source s1 40m\nLsource s1 supply 0.5u\n";

/// The surge clamp, SMAJ24CA: 28 V where it begins, 38.9 V at 10.3 A. It does the same the other way round, which these runs never see.
const CLAMP: &str = "Dclamp 0 busbar clamp\n.model clamp D(BV=28 IBV=1m RS=1.06 IS=1e-12 N=1.5)\n";

fn volts(expression: &'static str, label: &'static str) -> Probe {
    Probe {
        expression,
        label,
        unit: "V",
    }
}

fn amperes(expression: &'static str, label: &'static str) -> Probe {
    Probe {
        expression,
        label,
        unit: "A",
    }
}

/// Capacitance between a net and ground, in farads.
fn to_ground(design: &Design, net: &'static str) -> Result<f64, ValueError> {
    Ok(between(design, Passive::Capacitor, net, GROUND)?
        .iter()
        .map(|(_, farads)| farads)
        .sum())
}

/// Volts a second at the eFuse's output.
fn ramp(design: &Design) -> Result<f64, ValueError> {
    Ok(1.0 / (20.8e3 * one(design, Passive::Capacitor, "EFUSE_DVDT", GROUND)?))
}

/// Amperes that the eFuse lets through for long.
fn limit(design: &Design) -> Result<f64, ValueError> {
    Ok(18e3 / one(design, Passive::Resistor, "EFUSE_ILIM", GROUND)?)
}

/// The tray meets the busbar's fingers.
pub(super) fn hot_plug(design: &Design) -> Result<Simulation, ValueError> {
    let input = to_ground(design, EFUSE_IN)?;
    let always_on = to_ground(design, "AON_IN")?;
    let netlist = format!(
        "{SOURCE}\
         Vcontact contact 0 PULSE(0 1 1u 10n 10n 1 2)\n\
         Scontact supply busbar contact 0 fingers\n\
         .model fingers SW(RON=15m ROFF=10meg VT=0.5 VH=0.1)\n\
         Rbleed busbar 0 250k\n\
         {CLAMP}\
         Dblock busbar efuse body\n\
         .model body D(IS=1e-9 RS=8m N=1.2)\n\
         Cinput efuse 0 {input:e}\n\
         Ralways busbar aon1 1.4\n\
         Dalways aon1 aon schottky\n\
         .model schottky D(IS=1e-6 RS=50m N=1.05)\n\
         Calways aon 0 {always_on:e}\n\
         Raon aon 0 300\n"
    );
    Ok(Simulation {
        name: "hot-plug",
        title: "Hot-plug: the tray meets a busbar of 20 V",
        model: "The eFuse is still open: presence mates last. Capacitors at their nominal values.",
        netlist,
        step: 10e-9,
        end: 60e-6,
        probes: vec![
            volts("v(busbar)", "busbar on the tray"),
            volts("v(aon)", "input of the 3.3 V supply"),
            amperes("i(Lsource)", "through the busbar's fingers"),
        ],
        bounds: vec![
            Bound {
                what: "highest voltage on the busbar",
                probe: 0,
                from: 0.0,
                measure: Measure::Largest,
                least: 20.0,
                most: 38.9,
                why: "what the clamp lets through at 10 A; the transistor bears 60 V",
            },
            Bound {
                what: "highest voltage at the 3.3 V supply",
                probe: 1,
                from: 0.0,
                measure: Measure::Largest,
                least: 19.0,
                most: 32.0,
                why: "it is specified up to 32 V",
            },
            Bound {
                what: "highest current through the fingers",
                probe: 2,
                from: 0.0,
                measure: Measure::Largest,
                least: 0.0,
                most: 40.0,
                why: "a microsecond: 0.2 mJ in all resistances together when 1 uF is charged",
            },
        ],
    })
}

/// When the overload begins, in seconds, and how long the TPS26631 passes twice its limit (TPS2663 datasheet, 8.3.7.1.2;
/// the time from memory).
const OVERLOAD: f64 = 25e-3;
const PULSE: f64 = 25e-3;

/// The eFuse ramps up into the buck's capacitors, which nothing else loads before [`OVERLOAD`].
fn ramped(design: &Design) -> Result<String, ValueError> {
    let (ramp, limit) = (ramp(design)?, limit(design)?);
    let load = to_ground(design, BUCK_IN)?;
    Ok(format!(
        "{SOURCE}\
         Vsense supply efuse 0\n\
         Cinput efuse 0 {:e}\n\
         Bramp ramp 0 V = min({ramp:e}*max(time-1m,0), v(efuse))\n\
         Bpass efuse fused I = min(max((v(ramp)-v(fused))/31m, 0), {limit:e}*(time<{:e} ? 2 : 1))\n\
         Rshunt fused buck 10m\n\
         Cload buck 0 {load:e}\n\
         Rload buck 0 100k\n",
        to_ground(design, EFUSE_IN)?,
        OVERLOAD + PULSE,
    ))
}

/// The eFuse, seated and enabled, charges what is behind it.
pub(super) fn inrush(design: &Design) -> Result<Simulation, ValueError> {
    let netlist = ramped(design)?;
    Ok(Simulation {
        name: "inrush",
        title: "Inrush: the eFuse ramps up its output",
        model: "The buck is off (the controller has not started). Capacitors at their nominal values: the worst case here.",
        netlist,
        step: 5e-6,
        end: 40e-3,
        probes: vec![
            volts("v(fused)", "behind the eFuse"),
            amperes("i(Vsense)", "from the busbar"),
        ],
        bounds: vec![
            Bound {
                what: "highest current from the busbar",
                probe: 1,
                from: 0.5e-3,
                measure: Measure::Largest,
                least: 1e-3,
                most: 0.1,
                why: "neighbours on the busbar must not notice",
            },
            Bound {
                what: "time until 95 % are reached",
                probe: 0,
                from: 1e-3,
                measure: Measure::Reaches(19.0),
                least: 10e-3,
                most: 30e-3,
                why: "slow enough for the contacts, faster than the controller starts",
            },
        ],
    })
}

/// The 20 V node behind the eFuse is shorted while the tray draws an ampere.
pub(super) fn short(design: &Design) -> Result<Simulation, ValueError> {
    let load = to_ground(design, BUCK_IN)?;
    let always_on = to_ground(design, "AON_IN")?;
    let netlist = format!(
        "{SOURCE}\
         Cbulk supply b1 220u IC=20\n\
         Rbulk b1 0 40m\n\
         Lslot supply busbar 60n\n\
         {CLAMP}\
         Ralways busbar aon1 1.4\n\
         Dalways aon1 aon schottky\n\
         Calways aon 0 {always_on:e} IC=19.7\n\
         Raon aon 0 300\n\
         Rblock busbar efuse 8.1m\n\
         Cinput efuse ci {:e} IC=20\n\
         Rinput ci 0 5m\n\
         Vsense efuse pass 0\n\
         Btrip 0 trip I = (i(Vsense)>45 || v(trip)>1) ? 1m : -1e-3*v(trip)\n\
         Ctrip trip 0 1n IC=0\n\
         Bpass pass fused I = (v(pass)-v(fused))/(31m + 200*min(max(v(trip)-1,0),1))\n\
         Dfree 0 fused schottky\n\
         .model schottky D(IS=1e-6 RS=30m N=1.05)\n\
         Rshunt fused buck 10m\n\
         Cload buck b2 {load:e} IC=19.9\n\
         Resr b2 0 3m\n\
         Rload buck 0 20\n\
         Lshort buck s2 50n\n\
         Sshort s2 0 short 0 wire\n\
         Vshort short 0 PULSE(0 1 10u 10n 10n 1 2)\n\
         .model wire SW(RON=5m ROFF=10meg VT=0.5 VH=0.1)\n",
        to_ground(design, EFUSE_IN)?
    );
    Ok(Simulation {
        name: "short",
        title: "A short of 5 mohm behind the eFuse",
        model: "60 nH for slot and tracks, 220 uF on the backplane; the short meets the discharge of the buck's capacitors too. Behind the eFuse it swings below ground for three microseconds.",
        netlist,
        step: 5e-9,
        end: 40e-6,
        probes: vec![
            volts("v(fused)", "behind the eFuse"),
            volts("v(supply)", "busbar on the backplane"),
            volts("v(aon)", "input of the 3.3 V supply"),
            volts("v(efuse)", "at the eFuse's input"),
            amperes("i(Vsense)", "through the eFuse"),
        ],
        bounds: vec![
            Bound {
                what: "highest current through the eFuse",
                probe: 4,
                from: 9e-6,
                measure: Measure::Largest,
                least: 45.0,
                most: 200.0,
                why: "for two microseconds: 0.05 A2s, a thousandth of what opens a track",
            },
            Bound {
                what: "time until the eFuse is open",
                probe: 4,
                from: 10e-6,
                measure: Measure::LeavesFor(1.0),
                least: 0.5e-6,
                most: 8e-6,
                why: "before anything warms up",
            },
            Bound {
                what: "highest voltage at the eFuse and its transistor",
                probe: 3,
                from: 9e-6,
                measure: Measure::Largest,
                least: 19.0,
                most: 54.0,
                why: "the transistor bears 60 V, a tenth is kept",
            },
            Bound {
                what: "highest voltage at the 3.3 V supply",
                probe: 2,
                from: 9e-6,
                measure: Measure::Largest,
                least: 19.0,
                most: 32.0,
                why: "it is specified up to 32 V",
            },
            Bound {
                what: "lowest voltage for the neighbours",
                probe: 1,
                from: 9e-6,
                measure: Measure::Smallest,
                least: 9.0,
                most: 20.0,
                why: "their eFuses stay closed above 8 V",
            },
        ],
    })
}

/// More load than the eFuse lets through.
pub(super) fn overload(design: &Design) -> Result<Simulation, ValueError> {
    let netlist = ramped(design)?
        + "Bload buck 0 I = v(over)*min(max(v(buck),0),1)\n\
           Vover over 0 PWL(0 0 25m 0 25.1m 5 80m 5)\n";
    Ok(Simulation {
        name: "overload",
        title: "Overload: 5 A are asked of the eFuse",
        model: "This variant of the eFuse passes twice its limit for about 25 ms, for loads that start hard. Its protection against heat, which opens it later and tries again, is left out.",
        netlist,
        step: 10e-6,
        end: 60e-3,
        probes: vec![
            volts("v(fused)", "behind the eFuse"),
            amperes("i(Vsense)", "from the busbar"),
        ],
        bounds: vec![
            Bound {
                what: "current that it is limited to",
                probe: 1,
                from: 55e-3,
                measure: Measure::Last,
                least: 2.6,
                most: 3.3,
                why: "a full tray at 9 V takes 2.5 A; the slot's fingers bear 3.3 A",
            },
            Bound {
                what: "highest current",
                probe: 1,
                from: 20e-3,
                measure: Measure::Largest,
                least: 4.8,
                most: 6.6,
                why: "what is asked for, below twice the highest limit; the slot's fingers bear 8.8 A together",
            },
        ],
    })
}

/// The Pi's supply starts at the lowest input and is loaded at once.
pub(super) fn buck_start(design: &Design) -> Result<Simulation, ValueError> {
    let upper = one(design, Passive::Resistor, PI, FEEDBACK)?;
    let lower = one(design, Passive::Resistor, FEEDBACK, GROUND)?;
    let forward = one(design, Passive::Capacitor, PI, FEEDBACK)?;
    // Ceramic keeps about two thirds of its value at 5 V; the polymer keeps all, with its resistance.
    let (bulk, ceramic): (Vec<_>, Vec<_>) = between(design, Passive::Capacitor, PI, GROUND)?
        .into_iter()
        .partition(|(_, farads)| *farads > 100e-6);
    let sum = |list: &[(&str, f64)]| list.iter().map(|(_, farads)| farads).sum::<f64>();
    let (bulk, ceramic) = (sum(&bulk), sum(&ceramic) * 0.64);
    let divider = lower / (upper + lower);
    let gain = 25e3 * std::f64::consts::TAU * (bulk + ceramic) / divider;
    let integral = gain * std::f64::consts::TAU * 2.5e3;
    let lag = 1.0 / (std::f64::consts::TAU * 80e3 * 1e3);
    let netlist = format!(
        "Bref ref 0 V = min(max(time-0.5m,0)/4.5m, 1)\n\
         Rupper out fb {upper:e}\n\
         Cforward out fb {forward:e}\n\
         Rlower fb 0 {lower:e}\n\
         Berror error 0 V = v(ref)-v(fb)\n\
         Bint 0 int I = ((v(cmd)>5.5 && v(error)>0) || (v(cmd)<-1 && v(error)<0)) ? 0 : 1e-6*{integral:e}*v(error)\n\
         Cint int 0 1u IC=0\n\
         Rint int 0 1g\n\
         Bcmd cmd 0 V = {gain:e}*v(error)+v(int)\n\
         Blim lim 0 V = min(max(v(cmd),-1),5.5)\n\
         Rlag lim coil 1k\n\
         Clag coil 0 {lag:e} IC=0\n\
         Bcoil 0 out I = v(coil)\n\
         Bin in 0 V = max(v(out),0)*v(coil)/(0.91*9)\n\
         Cceramic out c1 {ceramic:e} IC=0\n\
         Rceramic c1 0 2m\n\
         Cbulk out c2 {bulk:e} IC=0\n\
         Rbulk c2 0 15m\n\
         Rload out 0 10\n\
         Iload out 0 PWL(0 0 10m 0 10.002m 3 14m 3 14.002m 0 20m 0)\n"
    );
    Ok(Simulation {
        name: "buck-start",
        title: "The Pi's 5.1 V start at a busbar of 9 V, then 3 A more and 3 A less",
        model: "Averaged: ripple, dead time and the exact compensation inside the LMR33640 are left out; soft start 4.5 ms, current limit 5.5 A.",
        netlist,
        step: 1e-6,
        end: 18e-3,
        probes: vec![
            volts("v(out)", "at the Pi's header"),
            amperes("v(coil)", "in the inductor"),
            amperes("v(in)", "from the busbar"),
        ],
        bounds: vec![
            Bound {
                what: "highest voltage for the Pi",
                probe: 0,
                from: 0.0,
                measure: Measure::Largest,
                least: 5.03,
                most: 5.25,
                why: "USB's upper limit of 5 V + 5 %",
            },
            Bound {
                what: "time until 5.0 V",
                probe: 0,
                from: 0.5e-3,
                measure: Measure::Reaches(5.0),
                least: 3e-3,
                most: 8e-3,
                why: "soft start",
            },
            Bound {
                what: "lowest voltage when 3 A more are drawn",
                probe: 0,
                from: 9e-3,
                measure: Measure::Smallest,
                least: 4.75,
                most: 5.25,
                why: "USB's lower limit of 5 V - 5 %",
            },
            Bound {
                what: "voltage in the end",
                probe: 0,
                from: 0.0,
                measure: Measure::Last,
                least: 5.08,
                most: 5.15,
                why: "the divider's 5.115 V",
            },
            Bound {
                what: "highest current in the inductor",
                probe: 1,
                from: 0.0,
                measure: Measure::Largest,
                least: 0.5,
                most: 5.5,
                why: "the converter's limit; the inductor saturates above 9 A",
            },
            Bound {
                what: "highest current from the busbar",
                probe: 2,
                from: 0.0,
                measure: Measure::Largest,
                least: 0.1,
                most: 2.75,
                why: "the eFuse's lowest limit is 2.75 A",
            },
        ],
    })
}
