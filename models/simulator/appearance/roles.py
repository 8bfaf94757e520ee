"""What things are made of in each look: roles (floor, wall, leaf, …), their patterns and families of colours."""

# a choice of a role: pattern, three families, cell size ranges (m), amount range, gloss, glow
Range = tuple[float, float]
Choice = tuple[str, tuple[str, str, str], Range, Range, Range, float, float]


def _choice(
    pattern: str,
    families: str,
    size_s: Range = (1, 1),
    size_t: Range = (1, 1),
    amount: Range = (0.15, 0.35),
    gloss: float = 0.0,
    glow: float = 0.0,
) -> Choice:
    first, *others = families.split()
    second, third = (others + [first] * 2)[:2]
    return pattern, (first, second, third), size_s, size_t, amount, gloss, glow


COMMON: dict[str, list[Choice]] = {
    "ceiling": [
        _choice("plain", "white", amount=(0.05, 0.12)),
        _choice("concrete", "white light white", (0.6, 0.6), (0.6, 0.6), (0.1, 0.2)),
    ],
    "trim": [_choice("plain", "white"), _choice("plain", "walnut")],
    "metal": [_choice("plain", "grey", gloss=0.25), _choice("plain", "dark", gloss=0.2)],
    "black": [_choice("plain", "dark", gloss=0.1)],
    "screen": [_choice("plain", "dark", amount=(0.05, 0.1), gloss=0.35)],
    "shade": [_choice("plain", "cream", glow=1.6)],
    "lamp": [_choice("plain", "white", glow=5.0)],
    "pillow": [
        _choice("plain", "white"),
        _choice("stripes", "pastel white vivid", (0.08, 0.15)),
        _choice("plain", "vivid"),
    ],
    "books": [_choice("cells", "deep vivid cream", (0.025, 0.05), (0.6, 0.9), (0.4, 0.8))],
    "picture": [
        _choice("picture", "pastel deep vivid"),
        _choice("picture", "sand water leaf"),
        _choice("picture", "deep cream vivid"),
    ],
    "plant": [_choice("foliage", "leaf leaf grass", amount=(0.3, 0.5))],
    "water": [_choice("mottled", "water water white", amount=(0.1, 0.2), gloss=0.4)],
    "car": [
        _choice("plain", family, amount=(0.02, 0.05), gloss=0.25)
        for family in ("white", "dark", "grey", "vivid", "deep")
    ],
    "glass": [_choice("plain", "glass", amount=(0.1, 0.2), gloss=0.4)],
    "skin": [_choice("plain", "skin")],
    "cloth": [_choice("plain", "deep"), _choice("plain", "vivid"), _choice("plain", "dark"), _choice("plain", "light")],
    "marking": [_choice("mottled", "white light", amount=(0.1, 0.2))],
    "awning": [
        _choice("stripes", "vivid white white", (0.3, 0.5)),
        _choice("plain", "deep"),
        _choice("plain", "cream"),
    ],
    "sign": [_choice("picture", "vivid white white"), _choice("picture", "white deep vivid")],
    "asphalt": [_choice("asphalt", "asphalt asphalt dark", amount=(0.15, 0.35))],
    "rock": [_choice("mottled", "grey light", amount=(0.4, 0.7)), _choice("mottled", "sand soil", amount=(0.4, 0.7))],
}

SYNTHETIC: dict[str, list[Choice]] = {
    "floor": [
        _choice("planks", "oak walnut dark", (1.0, 1.8), (0.1, 0.18), (0.2, 0.4), 0.12),
        _choice("planks", "walnut walnut dark", (1.0, 1.8), (0.1, 0.18), (0.2, 0.4), 0.12),
        _choice("tiles", "cream light", (0.3, 0.6), (0.3, 0.6), (0.08, 0.2), 0.15),
        _choice("mottled", "pastel light", amount=(0.2, 0.3)),
    ],
    "wall": [_choice("plain", family, amount=(0.04, 0.12)) for family in ("white", "cream", "pastel", "light")]
    + [_choice("stripes", "cream pastel white", (0.2, 0.4), amount=(0.05, 0.1))],
    "door": [
        _choice("panel", "white light dark", (0.85, 0.9), (1.0, 1.1)),
        _choice("panel", "oak walnut dark", (0.85, 0.9), (2.1, 2.2)),
    ],
    "wood": [
        _choice("planks", "oak walnut walnut", (2, 3), (0.3, 0.6)),
        _choice("planks", "walnut dark dark", (2, 3), (0.3, 0.6)),
        _choice("plain", "white"),
    ],
    "fabric": [_choice("plain", family, amount=(0.15, 0.3)) for family in ("grey", "deep", "vivid", "cream")],
    "rug": [
        _choice("checker", "vivid cream", (0.3, 0.6), (0.3, 0.6)),
        _choice("stripes", "deep cream vivid", (0.2, 0.5)),
    ],
    "curtain": [_choice("plain", "pastel"), _choice("stripes", "cream vivid white", (0.15, 0.3))],
    "panel": [
        _choice("panel", "white light grey", (0.5, 0.6), (0.6, 0.75)),
        _choice("panel", "oak walnut dark", (0.45, 0.6), (0.6, 0.8)),
    ],
    "counter": [_choice("cells", "dark grey light", (0.01, 0.02), (0.01, 0.02), (0.2, 0.3), 0.2)],
    "pot": [_choice("plain", "terracotta"), _choice("plain", "white")],
    "carton": [_choice("plain", "sand")],
    "facade": [
        _choice("facade", "brick cream glass", (2.4, 3.4), (2.9, 3.3), (0.4, 0.55)),
        _choice("facade", "cream white glass", (2.2, 3.2), (2.9, 3.4), (0.4, 0.6)),
        _choice("facade", "pastel white glass", (2.2, 3.2), (2.9, 3.4), (0.4, 0.6)),
        _choice("glassfront", "glass grey white", (1.3, 1.8), (3.2, 3.6)),
    ],
    "roof": [_choice("tiles", "terracotta brick", (0.25, 0.35), (0.2, 0.3), (0.3, 0.5)), _choice("plain", "slate")],
    "pavement": [_choice("tiles", "light grey", (0.4, 0.8), (0.4, 0.8), (0.1, 0.25))],
    "plaza": [_choice("tiles", "light grey", (0.8, 1.2), (0.8, 1.2), (0.1, 0.2))],
    "grass": [_choice("ground", "grass leaf soil", amount=(0.25, 0.4))],
    "path": [_choice("mottled", "sand light", amount=(0.2, 0.3))],
    "leaf": [
        _choice("foliage", "leaf leaf grass", amount=(0.3, 0.5)),
        _choice("foliage", "grass leaf leaf", amount=(0.3, 0.5)),
    ],
    "trunk": [_choice("planks", "walnut dark dark", (0.6, 1.0), (0.06, 0.1), (0.4, 0.6))],
    "pole": [_choice("plain", "dark"), _choice("plain", "grey")],
    "fence": [_choice("planks", "oak walnut dark", (2, 2), (0.15, 0.2))],
    "masonry": [_choice("brick", "brick light", (0.3, 0.5), (0.1, 0.2), (0.3, 0.5))],
}

FIELD: dict[str, list[Choice]] = {
    "floor": [
        _choice("herringbone", "oak walnut dark", (0.1, 0.16), (0.08, 0.14), (0.3, 0.6), 0.1),
        _choice("cells", "light cream grey", (0.015, 0.03), (0.015, 0.03), (0.2, 0.4), 0.25),
        _choice("checker", "white dark", (0.3, 0.5), (0.3, 0.5), (0.15, 0.3), 0.15),
        _choice("cells", "deep dark slate", (0.02, 0.05), (0.02, 0.05), (0.2, 0.5)),
        _choice("concrete", "grey dark light", (3, 5), (3, 5), (0.3, 0.6), 0.15),
        _choice("damask", "deep rust", (0.5, 1.2), (0.5, 1.2), (0.2, 0.4)),
    ],
    "wall": [
        _choice("damask", "cream sand", (0.3, 0.6), (0.4, 0.8), (0.1, 0.2)),
        _choice("brick", "brick light", (0.22, 0.3), (0.07, 0.1), (0.4, 0.7)),
        _choice("concrete", "light dark grey", (1.2, 2.4), (1.0, 2.5), (0.2, 0.4)),
        _choice("planks", "oak walnut dark", (2.0, 3.0), (0.1, 0.2), (0.3, 0.5)),
        _choice("mottled", "sand cream", amount=(0.1, 0.25)),
        _choice("plain", "deep", amount=(0.1, 0.25)),
        _choice("mottled", "white light", amount=(0.1, 0.2)),
    ],
    "door": [
        _choice("panel", "deep dark grey", (0.85, 0.9), (0.7, 1.1)),
        _choice("panel", "walnut dark sand", (0.85, 0.9), (1.0, 1.1)),
    ],
    "wood": [
        _choice("planks", "walnut dark dark", (1, 2), (0.1, 0.3), (0.3, 0.6)),
        _choice("mottled", "oak sand"),
        _choice("plain", "dark"),
    ],
    "fabric": [
        _choice("damask", "deep sand", (0.15, 0.3), (0.15, 0.3)),
        _choice("cells", "grey dark light", (0.02, 0.04), (0.02, 0.04)),
        _choice("plain", "walnut"),
        _choice("stripes", "dark vivid cream", (0.1, 0.2)),
    ],
    "rug": [
        _choice("damask", "rust sand", (0.3, 0.7), (0.3, 0.7)),
        _choice("damask", "deep cream", (0.3, 0.7), (0.3, 0.7)),
    ],
    "curtain": [
        _choice("damask", "deep rust", (0.2, 0.4), (0.3, 0.5)),
        _choice("plain", "deep"),
        _choice("plain", "white"),
    ],
    "panel": [
        _choice("panel", "grey dark light", (0.4, 0.9), (0.3, 0.5)),
        _choice("panel", "deep dark sand", (0.4, 0.6), (0.8, 1.0)),
        _choice("corrugated", "grey rust", (0.08, 0.1)),
    ],
    "counter": [_choice("mottled", "white grey", gloss=0.2), _choice("planks", "oak walnut dark", (1, 2), (0.05, 0.1))],
    "pot": [_choice("concrete", "grey light dark"), _choice("plain", "dark")],
    "carton": [_choice("mottled", "sand oak", amount=(0.2, 0.4)), _choice("plain", "vivid")],
    "facade": [
        _choice("facade", "sand light glass", (1.8, 4.5), (2.8, 4.2), (0.35, 0.75)),
        _choice("facade", "grey dark glass", (1.8, 4.5), (2.8, 3.6), (0.45, 0.8)),
        _choice("facade", "rust sand dark", (1.6, 2.6), (3.0, 4.2), (0.35, 0.55)),
        _choice("facade", "deep cream glass", (2.0, 3.0), (2.8, 3.4), (0.4, 0.6)),
        _choice("glassfront", "water dark light", (0.9, 2.5), (3.0, 4.5)),
        _choice("stones", "sand soil grey", (0.5, 0.9), (0.3, 0.5), (0.4, 0.7)),
        _choice("concrete", "light dark grey", (2.5, 4.0), (3.0, 3.6), (0.3, 0.5)),
    ],
    "roof": [
        _choice("tiles", "slate dark", (0.3, 0.5), (0.2, 0.3), (0.3, 0.6)),
        _choice("corrugated", "rust grey", (0.2, 0.3), amount=(0.8, 1)),
        _choice("tiles", "rust brick", (0.2, 0.3), (0.15, 0.25), (0.5, 0.8)),
    ],
    "pavement": [
        _choice("stones", "grey dark light", (0.15, 0.3), (0.12, 0.2), (0.4, 0.6)),
        _choice("concrete", "light dark grey", (1.5, 2.5), (1.5, 2.5)),
        _choice("herringbone", "brick light dark", (0.06, 0.08), (0.06, 0.1)),
    ],
    "plaza": [
        _choice("stones", "grey dark sand", (0.2, 0.4), (0.2, 0.4), (0.3, 0.6)),
        _choice("checker", "sand light", (1.5, 3), (1.5, 3)),
        _choice("stones", "sand soil light", (0.6, 1.2), (0.4, 0.8), (0.3, 0.5)),
    ],
    "grass": [
        _choice("ground", "dry grass soil", amount=(0.3, 0.5)),
        _choice("ground", "leaf soil sand", amount=(0.35, 0.55)),
        _choice("ground", "sand dry soil", amount=(0.2, 0.4)),
        _choice("ground", "white light soil", amount=(0.1, 0.25)),
    ],
    "path": [
        _choice("ground", "soil sand grey", amount=(0.2, 0.4)),
        _choice("cells", "grey sand light", (0.03, 0.06), (0.03, 0.06), (0.3, 0.5)),
    ],
    "leaf": [
        _choice("foliage", "autumn rust leaf", amount=(0.35, 0.6)),
        _choice("foliage", "leaf dark dry", amount=(0.4, 0.6)),
        _choice("foliage", "dry leaf autumn", amount=(0.35, 0.6)),
    ],
    "trunk": [
        _choice("mottled", "light dark", amount=(0.4, 0.7)),
        _choice("planks", "soil dark dark", (0.4, 0.8), (0.05, 0.08), (0.5, 0.8)),
    ],
    "pole": [_choice("mottled", "rust grey"), _choice("plain", "leaf"), _choice("concrete", "light dark grey")],
    "fence": [
        _choice("planks", "light dark dark", (2, 2), (0.1, 0.14)),
        _choice("corrugated", "grey rust", (0.1, 0.2)),
        _choice("plain", "dark"),
    ],
    "masonry": [
        _choice("stones", "sand soil grey", (0.3, 0.6), (0.2, 0.35), (0.4, 0.7)),
        _choice("concrete", "grey dark light", (2, 3), (1, 2)),
    ],
}

LOOKS: dict[str, dict[str, list[Choice]]] = {"synthetic": COMMON | SYNTHETIC, "field": COMMON | FIELD}
