# SPDX-License-Identifier: Apache-2.0
"""Fills the zones of a board with KiCad's own filler and prints the areas: zone's UUID, then x and y in nanometres."""
import sys

import pcbnew

board = pcbnew.LoadBoard(sys.argv[1])
zones = [zone for zone in board.Zones() if not zone.GetIsRuleArea()]
pcbnew.ZONE_FILLER(board).Fill(board.Zones())
for zone in zones:
    areas = zone.GetFilledPolysList(zone.GetLayer())
    for i in range(areas.OutlineCount()):
        outline = areas.Outline(i)
        points = [outline.CPoint(j) for j in range(outline.PointCount())]
        print(zone.m_Uuid.AsString(), *(f"{p.x} {p.y}" for p in points))
